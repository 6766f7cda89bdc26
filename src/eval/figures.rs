//! From per-window measurements to the figures of `summary.json`.

use crate::error::{Error, Result};
use crate::eval::intrinsic::{ADAPTED, BASE, Evaluated, GENERATOR, Part, Row};
use crate::eval::stats::{self, Interval};
use crate::eval::summary::{Difference, Entry, Evaluation, NamedDifference};
use crate::reading::Reading;
use crate::retention::{self, Retention};
use crate::tensor::mean;
use std::collections::{BTreeMap, BTreeSet};

/// Name of the greedy policy: the primary figure.
pub const GIST: &str = "gist";

fn column(readings: &[Reading], figure: fn(&Reading) -> f64) -> Vec<f64> {
    readings.iter().map(figure).collect()
}

fn at<T: Copy>(values: &[T], windows: &[usize]) -> Vec<T> {
    windows.iter().map(|&w| values[w]).collect()
}

impl Evaluated<'_> {
    /// Every compressor under `reader`, as far as it was read by it.
    pub fn entries(&self, reader: &str) -> BTreeMap<String, Entry> {
        let made = self.rows.iter().filter_map(|row| Some((row.name.clone(), self.entry(row, reader)?)));
        made.collect()
    }

    fn entry(&self, row: &Row, reader: &str) -> Option<Entry> {
        let readings = row.readings.get(reader)?;
        let (resamples, seed) = (self.job.resamples, self.job.seed);
        let clusters = at(&self.clusters, &row.windows);
        let kl = column(readings, |r| r.kl);
        let kl_mean = stats::mean(&kl, &clusters, resamples, seed);
        let gap = stats::gap_closed(&kl, &at(&self.context, &row.windows), &clusters, resamples, seed);
        let share = |tokens: Vec<usize>| {
            let shares = tokens.iter().zip(&row.windows).map(|(&n, &w)| n as f64 / self.prefix_len(w));
            mean(&shares.collect::<Vec<f64>>())
        };
        let decoded = row.decoded.as_ref().filter(|_| reader == GENERATOR);
        Some(Entry {
            reader: reader.into(),
            keep_ratio: share(row.compressed.iter().map(|c| c.ids.len()).collect()),
            kl: kl_mean.mean,
            kl_ci95: kl_mean.ci95(),
            nll: mean(&column(readings, |r| r.nll)),
            gap_closed: gap.mean,
            gap_closed_ci95: gap.ci95(),
            top1_agreement: mean(&column(readings, |r| r.top1_agreement)),
            keep_ratio_decoded: decoded.map(|d| share(d.iter().map(|(tokens, _)| *tokens).collect())),
            kl_decoded: decoded.map(|d| mean(&d.iter().map(|(_, kl)| *kl).collect::<Vec<f64>>())),
            cheating: row.part == Part::Hindsight,
            leak_control: row.part == Part::LeakControl,
            search: row.part == Part::Search,
            n_windows: row.windows.len(),
        })
    }

    pub(super) fn prefix_len(&self, window: usize) -> f64 {
        self.job.windows[window].prefix.len().max(1) as f64
    }

    /// The greedy gist against the strongest honest baseline under `reader`: the one with the lowest mean KL. None when
    /// either is missing.
    pub fn gist_minus_best(&self, reader: &str) -> Option<NamedDifference> {
        let gist = self.rows.iter().find(|row| row.name == GIST)?;
        let own = column(gist.readings.get(reader)?, |r| r.kl);
        let honest = self.rows.iter().filter(|row| row.part == Part::Baseline && !row.is_identity());
        let (name, best) = honest
            .filter_map(|row| Some((&row.name, column(row.readings.get(reader)?, |r| r.kl))))
            .min_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1)))?;
        let found = self.paired(&own, &best);
        Some(NamedDifference { name: name.clone(), gap_closed_diff: found.mean, ci95: found.ci95() })
    }

    /// The greedy gist against another KL per window (of the same windows), such as that of the warm start.
    pub fn gist_minus(&self, other_kl: &[f64]) -> Result<Difference> {
        let own = self.kl(GIST)?;
        if own.len() != other_kl.len() {
            return Err(Error::shape("KL to compare with", format!("{} windows", own.len()), other_kl.len()));
        }
        let found = self.paired(&own, other_kl);
        Ok(Difference { gap_closed_diff: found.mean, ci95: found.ci95() })
    }

    fn paired(&self, a: &[f64], b: &[f64]) -> Interval {
        stats::gap_closed_diff(a, b, &self.context, &self.clusters, self.job.resamples, self.job.seed)
    }

    /// What each compressor keeps on the surface, mean over its windows.
    pub fn retention(&self) -> BTreeMap<String, Retention> {
        let of = |row: &Row| {
            let each: Vec<Retention> = (0..row.windows.len())
                .map(|i| {
                    let (window, ids) = (row.windows[i], &row.compressed[i].ids);
                    retention::retention(&self.prefixes[window], &row.texts[i])
                        .with_ids(&self.job.windows[window].prefix, ids)
                })
                .collect();
            (row.name.clone(), retention::mean(&each))
        };
        self.rows.iter().map(of).collect()
    }

    /// The `eval` part of `summary.json`. `kl_start` and `kl_warm_start`: mean KL with the gist before any training and
    /// after the warm start; `warm_start_kl`: the latter per window, to compare with.
    pub fn evaluation(&self, kl_start: f64, kl_warm_start: f64, warm_start_kl: Option<&[f64]>) -> Result<Evaluation> {
        let context_value = self.context_value();
        let compressors = self.entries(GENERATOR);
        let readers = [BASE, ADAPTED].into_iter().map(|reader| (reader.to_string(), self.entries(reader)));
        let mut readers: BTreeMap<String, BTreeMap<String, Entry>> =
            readers.filter(|(_, entries)| !entries.is_empty()).collect();
        readers.insert(GENERATOR.into(), compressors.clone());
        Ok(Evaluation {
            n_windows: self.job.windows.len(),
            n_documents: self.clusters.iter().collect::<BTreeSet<_>>().len(),
            budget_tokens: self.job.budget,
            context_value: context_value.mean,
            context_value_ci95: context_value.ci95(),
            context_value_unadapted: mean(&self.unadapted),
            kl_start,
            kl_warm_start,
            compressors,
            readers,
            gist_minus_best: self.gist_minus_best(GENERATOR),
            gist_minus_warm_start: warm_start_kl.map(|kl| self.gist_minus(kl)).transpose()?,
            retention: self.retention(),
        })
    }
}
