//! From per-window measurements to the figures of `summary.json`.

use crate::error::{Error, Result};
use crate::eval::ledger::Accounts;
use crate::eval::schema::ledger::KlLedger;
use crate::eval::schema::readers::{ADAPTED, BASE, GENERATOR};
use crate::eval::schema::summary::{Entry, Evaluation, GapDifference, NamedDifference};
use crate::eval::stats::{self, Interval};
use crate::eval::table::{Evaluated, Measured, Standing};
use crate::reading::Reading;
use crate::retention::{self, Retention};
use crate::tensor::mean;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Name of the greedy policy: the primary figure.
pub const GIST: &str = "gist";

/// The greedy gist with the generator of the same run, per window, at earlier stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Earlier {
    /// Readings before any training.
    pub untrained: Vec<Reading>,
    /// KL, nats a token, after the warm start, before co-training.
    pub warm_started: Vec<f64>,
}

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

    fn entry(&self, row: &Measured, reader: &str) -> Option<Entry> {
        let readings = row.readings.get(reader)?;
        let (resamples, seed) = (self.job.resamples, self.job.seed);
        let clusters = at(&self.clusters, &row.windows);
        let kl = column(readings, |r| r.kl);
        let kl_mean = stats::mean(&kl, &clusters, resamples, seed);
        let gap = stats::gap_closed(&kl, &at(&self.levels.context, &row.windows), &clusters, resamples, seed);
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
            cheating: row.standing == Standing::Hindsight,
            leak_control: row.standing == Standing::LeakControl,
            search: row.standing == Standing::Search,
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
        let honest = self.rows.iter().filter(|row| row.standing == Standing::Baseline && !row.is_identity());
        let (name, best) = honest
            .filter_map(|row| Some((&row.name, column(row.readings.get(reader)?, |r| r.kl))))
            .min_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1)))?;
        let found = self.paired(&own, &best);
        Some(NamedDifference { name: name.clone(), gap_closed_diff: found.mean, ci95: found.ci95() })
    }

    /// The greedy gist against another KL per window (of the same windows), such as that of the warm start.
    pub fn gist_minus(&self, other_kl: &[f64]) -> Result<GapDifference> {
        let own = self.kl(GIST)?;
        if own.len() != other_kl.len() {
            return Err(Error::shape("KL to compare with", format!("{} windows", own.len()), other_kl.len()));
        }
        let found = self.paired(&own, other_kl);
        Ok(GapDifference { gap_closed_diff: found.mean, ci95: found.ci95() })
    }

    fn paired(&self, a: &[f64], b: &[f64]) -> Interval {
        stats::gap_closed_diff(a, b, &self.levels.context, &self.clusters, self.job.resamples, self.job.seed)
    }

    /// Surface figures of each compressor's output (numbers, names, identifiers, answers kept), means over its windows.
    pub fn retention(&self) -> BTreeMap<String, Retention> {
        let of = |row: &Measured| {
            let each: Vec<Retention> = (0..row.windows.len())
                .map(|i| {
                    let (window, ids) = (row.windows[i], &row.compressed[i].ids);
                    retention::retention(&self.prefixes[window], &row.texts[i])
                        .with_ids(&self.job.windows[window].prefix, ids)
                        .with_answers(&self.answers[window], &row.texts[i])
                })
                .collect();
            (row.name.clone(), retention::mean(&each))
        };
        self.rows.iter().map(of).collect()
    }

    fn ledger(&self, earlier: Option<&Earlier>) -> Option<KlLedger> {
        let rows = self.window_rows(earlier);
        let (resamples, seed) = (self.job.resamples, self.job.seed);
        let accounts = Accounts::of(rows.iter(), GIST)?;
        Some(accounts.ledger(|statistic| stats::bootstrap(&self.clusters, resamples, seed, statistic)))
    }

    /// The `eval` part of `summary.json`, with the figures of the same run at earlier stages where they were measured.
    pub fn evaluation(&self, earlier: Option<&Earlier>) -> Result<Evaluation> {
        let context_value = self.context_value();
        let compressors = self.entries(GENERATOR);
        let readers = [BASE, ADAPTED].into_iter().map(|reader| (reader.to_string(), self.entries(reader)));
        let mut readers: BTreeMap<String, BTreeMap<String, Entry>> =
            readers.filter(|(_, entries)| !entries.is_empty()).collect();
        readers.insert(GENERATOR.into(), compressors.clone());
        Ok(Evaluation {
            n_windows: self.job.windows.len(),
            n_documents: self.job.windows.iter().map(|w| w.document).collect::<BTreeSet<_>>().len(),
            cluster: self.job.cluster,
            n_clusters: self.clusters.iter().collect::<BTreeSet<_>>().len(),
            budget_tokens: self.job.budget,
            context_value: context_value.mean,
            context_value_ci95: context_value.ci95(),
            context_value_unadapted: mean(&column(&self.levels.unadapted, |r| r.kl)),
            kl_start: earlier.map_or(f64::NAN, |earlier| mean(&column(&earlier.untrained, |r| r.kl))),
            kl_warm_start: earlier.map_or(f64::NAN, |earlier| mean(&earlier.warm_started)),
            ledger: self.ledger(earlier),
            compressors,
            readers,
            gist_minus_best: self.gist_minus_best(GENERATOR),
            gist_minus_warm_start: earlier.map(|earlier| self.gist_minus(&earlier.warm_started)).transpose()?,
            retention: self.retention(),
        })
    }
}
