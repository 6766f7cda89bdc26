//! Statistics over several runs (seeds), from their `windows.jsonl` alone. A cluster (a document, or a source) is resampled
//! with its windows of all runs, or crossed with the runs; differences are paired by run and window.

use crate::config::eval::Cluster;
use crate::error::{Error, Result};
use crate::eval::crossed::{self, Cell, Crossed, Grid};
use crate::eval::schema::windows::WindowRow;
use crate::eval::stats::{self, Interval};
use std::collections::{BTreeMap, BTreeSet};

/// KL of one compressor under one reader, over all windows of some runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    kl: Vec<f64>,
    context: Vec<f64>,
    /// Run, window, document.
    places: Vec<(usize, usize, String)>,
    /// Cluster of each window.
    labels: Vec<String>,
}

impl Series {
    /// [`Series::over`] with documents as clusters.
    pub fn new(runs: &[Vec<WindowRow>], compressor: &str, reader: &str) -> Result<Self> {
        Self::over(runs, compressor, reader, Cluster::Document)
    }

    /// Pools the rows of the runs; an error when a run lacks the compressor, or its reading by that reader. Windows that the
    /// compressor did not see are left out.
    pub fn over(runs: &[Vec<WindowRow>], compressor: &str, reader: &str, cluster: Cluster) -> Result<Self> {
        let mut series = Self { kl: Vec::new(), context: Vec::new(), places: Vec::new(), labels: Vec::new() };
        for (run, rows) in runs.iter().enumerate() {
            let before = series.kl.len();
            for row in rows {
                if let Some(kl) = row.compressors.get(compressor).and_then(|figures| figures.kl_of(reader)) {
                    series.kl.push(kl);
                    series.context.push(row.context_value_kl);
                    series.places.push((run, row.window, row.document.clone()));
                    series.labels.push(row.cluster(cluster)?.to_string());
                }
            }
            if series.kl.len() == before {
                let message = format!("run {}: expected `{compressor}` read by `{reader}`, got none", run + 1);
                return Err(Error::invalid(message));
            }
        }
        Ok(series)
    }

    /// Windows, each counted once however many runs saw it.
    pub fn windows(&self) -> usize {
        self.places.iter().map(|(_, window, _)| window).collect::<BTreeSet<_>>().len()
    }

    /// Documents that the windows come from, each counted once.
    pub fn documents(&self) -> usize {
        self.places.iter().map(|(.., document)| document).collect::<BTreeSet<_>>().len()
    }

    fn clusters(&self) -> Vec<usize> {
        numbered(self.labels.iter().map(String::as_str))
    }

    /// Clusters that are resampled.
    pub fn n_clusters(&self) -> usize {
        self.labels.iter().collect::<BTreeSet<_>>().len()
    }

    /// gap_closed of each run, in order.
    pub fn by_run(&self) -> Vec<f64> {
        let grid = self.grid();
        let sum = |row: &[Cell], of: fn(&Cell) -> f64| row.iter().map(of).sum::<f64>();
        grid.iter().map(|row| 1.0 - sum(row, |cell| cell.above) / sum(row, |cell| cell.below)).collect()
    }

    fn grid(&self) -> Grid {
        let (clusters, runs) = (self.clusters(), self.places.iter().map(|(run, ..)| run + 1).max().unwrap_or(0));
        let mut grid = vec![vec![Cell::default(); clusters.iter().max().map_or(0, |last| last + 1)]; runs];
        for (i, (run, ..)) in self.places.iter().enumerate() {
            let cell = &mut grid[*run][clusters[i]];
            cell.above += self.kl[i];
            cell.below += self.context[i];
        }
        grid
    }

    /// Pooled gap_closed with an interval over runs and clusters, or over clusters alone.
    pub fn crossed(&self, over_runs: bool, resamples: usize, seed: u64) -> Crossed {
        crossed::bootstrap(&self.grid(), None, over_runs, resamples, seed)
    }

    /// The difference of [`Series::minus`] with an interval over runs and clusters, or over clusters alone.
    pub fn crossed_minus(&self, other: &Series, over_runs: bool, resamples: usize, seed: u64) -> Result<Crossed> {
        self.check_paired(other)?;
        Ok(crossed::bootstrap(&self.grid(), Some(&other.grid()), over_runs, resamples, seed))
    }

    fn check_paired(&self, other: &Series) -> Result<()> {
        if self.places == other.places && self.labels == other.labels {
            return Ok(());
        }
        let expected = format!("the same {} windows", self.places.len());
        Err(Error::shape("runs to compare", expected, format!("{} others", other.places.len())))
    }

    /// Pooled gap_closed.
    pub fn gap_closed(&self, resamples: usize, seed: u64) -> Interval {
        stats::gap_closed(&self.kl, &self.context, &self.clusters(), resamples, seed)
    }

    /// Pooled gap_closed of this less that of `other`, each against its own run's context value; `other` may come from
    /// other runs on the same windows.
    pub fn minus(&self, other: &Series, resamples: usize, seed: u64) -> Result<Interval> {
        self.check_paired(other)?;
        let gap = |s: &Series, windows: &[usize]| {
            let sum = |values: &[f64]| windows.iter().map(|&w| values[w]).sum::<f64>();
            1.0 - sum(&s.kl) / sum(&s.context)
        };
        let difference = |windows: &[usize]| gap(self, windows) - gap(other, windows);
        Ok(stats::bootstrap(&self.clusters(), resamples, seed, difference))
    }
}

/// A number for each name, in order of first appearance.
pub fn numbered<'a>(names: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut of = |name| {
        let next = known.len();
        *known.entry(name).or_insert(next)
    };
    names.map(&mut of).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::eval::schema::readers::{ADAPTED, GENERATOR};
    use crate::eval::schema::windows::WindowFigures;

    fn run(kls: &[f64], offset: f64) -> Vec<WindowRow> {
        let figures = |kl: f64| WindowFigures { tokens: 3, kl, nll: 1.0, kl_base: 2.0 * kl, kl_adapted: None };
        let row = |(window, &kl): (usize, &f64)| WindowRow {
            window,
            document: format!("d{}", window / 2),
            source: Some(format!("s{}", window / 4)),
            context_value_kl: 1.0,
            levels: None,
            compressors: [("gist".to_string(), figures(kl)), ("recent".to_string(), figures(kl + offset))].into(),
        };
        kls.iter().enumerate().map(row).collect()
    }

    #[test]
    fn seeds_are_pooled_and_documents_stay_together() {
        let runs = [run(&[0.2, 0.4, 0.6, 0.8], 0.1), run(&[0.4, 0.6, 0.8, 1.0], 0.1)];
        let gist = Series::new(&runs, "gist", GENERATOR).unwrap();
        assert!((gist.gap_closed(100, 0).mean - 0.4).abs() < 1e-12);
        assert_eq!(gist.clusters(), [0, 0, 1, 1, 0, 0, 1, 1]);
        assert_eq!((gist.windows(), gist.documents()), (4, 2));
        let recent = Series::new(&runs, "recent", GENERATOR).unwrap();
        let diff = gist.minus(&recent, 200, 0).unwrap();
        assert!((diff.low - 0.1).abs() < 1e-12 && (diff.high - 0.1).abs() < 1e-12);
        assert_eq!(gist.minus(&gist, 200, 0).unwrap().high, 0.0);
    }

    #[test]
    fn seeds_and_clusters_are_crossed() {
        let runs = [run(&[0.2, 0.4, 0.6, 0.8, 0.5, 0.5], 0.1), run(&[0.4, 0.6, 0.8, 1.0, 0.7, 0.7], 0.1)];
        let gist = Series::new(&runs, "gist", GENERATOR).unwrap();
        assert!(gist.by_run().iter().zip([0.5, 0.3]).all(|(a, b)| (a - b).abs() < 1e-12));
        let wide = gist.crossed(true, 2000, 0);
        assert!((wide.interval.mean - gist.gap_closed(10, 0).mean).abs() < 1e-12);
        assert!(wide.se > gist.crossed(false, 2000, 0).se);
        let recent = Series::new(&runs, "recent", GENERATOR).unwrap();
        let found = gist.crossed_minus(&recent, true, 500, 0).unwrap();
        assert!((found.interval.low - 0.1).abs() < 1e-12 && (found.interval.high - 0.1).abs() < 1e-12);
        let sources = Series::over(&runs, "gist", GENERATOR, Cluster::Source).unwrap();
        assert_eq!((gist.n_clusters(), sources.n_clusters(), sources.documents()), (3, 2, 3));
        let mut old = runs.to_vec();
        old[1][0].source = None;
        let said = Series::over(&old, "gist", GENERATOR, Cluster::Source).unwrap_err().to_string();
        assert!(said.contains("window 0 of document `d0`"), "{said}");
    }

    #[test]
    fn what_cannot_be_paired_is_refused() {
        let runs = [run(&[0.2, 0.4], 0.0)];
        assert!(Series::new(&runs, "random", GENERATOR).is_err());
        assert!(Series::new(&runs, "gist", ADAPTED).is_err());
        let longer = [run(&[0.2, 0.4, 0.6], 0.0)];
        let (a, b) = (Series::new(&runs, "gist", GENERATOR).unwrap(), Series::new(&longer, "gist", GENERATOR).unwrap());
        assert!(a.minus(&b, 10, 0).is_err());
    }

    #[test]
    fn rows_survive_their_file() {
        let rows = run(&[0.25, 0.5], 0.125);
        let text: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        assert!(
            text[0]
                .starts_with(r#"{"window":0,"document":"d0","source":"s0","context_value_kl":1.0,"gist":{"tokens":3,"#)
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("windows.jsonl");
        std::fs::write(&path, text.join("\n")).unwrap();
        assert_eq!(crate::eval::schema::windows::read_windows(&path).unwrap(), rows);
    }
}
