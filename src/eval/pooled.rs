//! Statistics over several runs (seeds), from their `windows.jsonl` alone. A document is resampled with its windows of all
//! runs; differences are paired by run and window.

use crate::error::{Error, Result};
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
}

impl Series {
    /// Pools the rows of the runs; an error when a run lacks the compressor, or its reading by that reader. Windows that the
    /// compressor did not see are left out.
    pub fn new(runs: &[Vec<WindowRow>], compressor: &str, reader: &str) -> Result<Self> {
        let mut series = Self { kl: Vec::new(), context: Vec::new(), places: Vec::new() };
        for (run, rows) in runs.iter().enumerate() {
            let before = series.kl.len();
            for row in rows {
                if let Some(kl) = row.compressors.get(compressor).and_then(|figures| figures.kl_of(reader)) {
                    series.kl.push(kl);
                    series.context.push(row.context_value_kl);
                    series.places.push((run, row.window, row.document.clone()));
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
        let mut known: BTreeMap<&str, usize> = BTreeMap::new();
        let mut of = |document| {
            let next = known.len();
            *known.entry(document).or_insert(next)
        };
        self.places.iter().map(|(_, _, document)| of(document.as_str())).collect()
    }

    /// Pooled gap_closed.
    pub fn gap_closed(&self, resamples: usize, seed: u64) -> Interval {
        stats::gap_closed(&self.kl, &self.context, &self.clusters(), resamples, seed)
    }

    /// Pooled gap_closed of this less that of `other`, each against its own run's context value; `other` may come from
    /// other runs on the same windows.
    pub fn minus(&self, other: &Series, resamples: usize, seed: u64) -> Result<Interval> {
        if self.places != other.places {
            let expected = format!("the same {} windows", self.places.len());
            return Err(Error::shape("runs to compare", expected, format!("{} others", other.places.len())));
        }
        let gap = |s: &Series, windows: &[usize]| {
            let sum = |values: &[f64]| windows.iter().map(|&w| values[w]).sum::<f64>();
            1.0 - sum(&s.kl) / sum(&s.context)
        };
        let difference = |windows: &[usize]| gap(self, windows) - gap(other, windows);
        Ok(stats::bootstrap(&self.clusters(), resamples, seed, difference))
    }
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
            context_value_kl: 1.0,
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
        assert!(text[0].starts_with(r#"{"window":0,"document":"d0","context_value_kl":1.0,"gist":{"tokens":3,"#));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("windows.jsonl");
        std::fs::write(&path, text.join("\n")).unwrap();
        assert_eq!(crate::eval::schema::windows::read_windows(&path).unwrap(), rows);
    }
}
