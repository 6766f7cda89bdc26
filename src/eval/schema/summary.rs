//! The schema of `summary.json`: written by the evaluation of a run, read by the report. Unknown keys are refused. A figure
//! that is undefined (NaN) is `null` in the file.

use crate::config::eval::{Cluster, ExamSplit};
use crate::eval::schema::ledger::KlLedger;
use crate::eval::schema::undefined::{number, pair};
use crate::retention::Retention;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `summary.json`: the final figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Name of the experiment file.
    pub experiment: String,
    /// Name of the run within the experiment.
    pub run: String,
    /// Run seed.
    pub seed: u64,
    /// Training steps completed.
    pub steps: usize,
    /// Wall-clock seconds from start to report.
    pub seconds: f64,
    /// Peak resident memory.
    pub peak_rss_mib: f64,
    /// Device in words.
    pub device: String,
    /// Hard cap on a compressed prefix, in tokens.
    pub budget_tokens: usize,
    /// Window lengths in tokens.
    pub windows: WindowLengths,
    /// The frame round what teacher and readers read, in words; none where nothing stands round context and local window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// Split that the figures are of; files of older versions are all of the test split.
    #[serde(default)]
    pub split: ExamSplit,
    /// Times that this run has read the final split, this one included.
    #[serde(default, skip_serializing_if = "crate::run_dir::is_zero")]
    pub final_reads: usize,
    /// Held-out figures.
    pub eval: Evaluation,
}

/// Lengths of the three spans of a window, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowLengths {
    /// Tokens that are compressed.
    pub prefix: usize,
    /// Tokens that every reader sees as they are.
    pub local: usize,
    /// Tokens on which the KL is measured.
    pub future: usize,
}

/// Held-out figures. KL and NLL are means in nats per future token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Windows evaluated.
    pub n_windows: usize,
    /// Documents they come from.
    pub n_documents: usize,
    /// Clusters that intervals resample whole.
    #[serde(default)]
    pub cluster: Cluster,
    /// Clusters among the windows; 0 in files of older versions, which resampled documents.
    #[serde(default)]
    pub n_clusters: usize,
    /// Hard cap on a compressed prefix, in tokens.
    pub budget_tokens: usize,
    /// KL of the generator adapted to the empty gist: what there is to gain.
    #[serde(deserialize_with = "number")]
    pub context_value: f64,
    /// 95 % interval of `context_value`.
    #[serde(deserialize_with = "pair")]
    pub context_value_ci95: [f64; 2],
    /// KL of the base, not adapted, reading the local window only.
    #[serde(deserialize_with = "number")]
    pub context_value_unadapted: f64,
    /// KL with the gist before any training.
    #[serde(deserialize_with = "number")]
    pub kl_start: f64,
    /// KL with the gist after the warm start, before co-training.
    #[serde(deserialize_with = "number")]
    pub kl_warm_start: f64,
    /// The ledger; none in files of older versions, and where no gist was evaluated.
    #[serde(default)]
    pub ledger: Option<KlLedger>,
    /// Every compressor, read by the generator.
    pub compressors: BTreeMap<String, Entry>,
    /// Every compressor under each reader: `generator` (the same as `compressors`), `base`, `adapted`.
    #[serde(default)]
    pub readers: BTreeMap<String, BTreeMap<String, Entry>>,
    /// The greedy gist against the strongest honest baseline.
    pub gist_minus_best: Option<NamedDifference>,
    /// The greedy gist against that of the same run before co-training, each read by the generator of its time.
    pub gist_minus_warm_start: Option<GapDifference>,
    /// Surface figures of each compressor's output: numbers, names, identifiers kept.
    #[serde(default)]
    pub retention: BTreeMap<String, Retention>,
}

/// One compressor under one reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name of the reader: `generator`, `base` or `adapted`.
    pub reader: String,
    /// Kept over original tokens, mean.
    #[serde(deserialize_with = "number")]
    pub keep_ratio: f64,
    /// KL from teacher to reader.
    #[serde(deserialize_with = "number")]
    pub kl: f64,
    /// 95 % interval of `kl`.
    #[serde(deserialize_with = "pair")]
    pub kl_ci95: [f64; 2],
    /// Negative log-likelihood of the true future.
    #[serde(deserialize_with = "number")]
    pub nll: f64,
    /// 1 − kl / context_value.
    #[serde(deserialize_with = "number")]
    pub gap_closed: f64,
    /// 95 % interval of `gap_closed`.
    #[serde(deserialize_with = "pair")]
    pub gap_closed_ci95: [f64; 2],
    /// Share of future tokens for which reader and teacher have the same most likely token.
    #[serde(deserialize_with = "number")]
    pub top1_agreement: f64,
    /// `keep_ratio` after decoding to text and encoding again, where measured.
    pub keep_ratio_decoded: Option<f64>,
    /// `kl` after decoding to text and encoding again, where measured.
    pub kl_decoded: Option<f64>,
    /// True when the compressor saw the future (hindsight).
    pub cheating: bool,
    /// True for a gist that should not help: of another document, or shuffled.
    #[serde(default)]
    pub leak_control: bool,
    /// True when the compressor measured many candidates, without seeing the future.
    #[serde(default)]
    pub search: bool,
    /// Windows evaluated (a slow compressor may see fewer than the rest).
    pub n_windows: usize,
}

/// A paired difference in `gap_closed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GapDifference {
    /// gap_closed of the gist less that of the other.
    #[serde(deserialize_with = "number")]
    pub gap_closed_diff: f64,
    /// Paired 95 % interval of `gap_closed_diff`.
    #[serde(deserialize_with = "pair")]
    pub ci95: [f64; 2],
}

/// A paired difference in `gap_closed` to a named compressor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedDifference {
    /// The other compressor.
    pub name: String,
    /// gap_closed of the gist less that of the other.
    #[serde(deserialize_with = "number")]
    pub gap_closed_diff: f64,
    /// Paired 95 % interval of `gap_closed_diff`.
    #[serde(deserialize_with = "pair")]
    pub ci95: [f64; 2],
}

/// The role of a row in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Honest and within the budget: takes part in the comparison.
    Contestant,
    /// Found by measuring many candidates, the future unseen: honest, but too dear to be a contestant.
    Search,
    /// Chosen with the future in sight.
    Hindsight,
    /// Keeps nothing, or more than the budget: an end point to compare with.
    Reference,
    /// A gist that should not help.
    LeakControl,
}

impl Summary {
    /// The role of `entry` in this run.
    pub fn role(&self, entry: &Entry) -> Role {
        let kept = entry.keep_ratio * self.windows.prefix as f64;
        if entry.leak_control {
            Role::LeakControl
        } else if entry.cheating {
            Role::Hindsight
        } else if entry.search {
            Role::Search
        } else if kept == 0.0 || kept > self.eval.budget_tokens as f64 + 1e-6 {
            Role::Reference
        } else {
            Role::Contestant
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entry(keep_ratio: f64, cheating: bool, leak_control: bool) -> Entry {
        Entry {
            reader: "generator".into(),
            keep_ratio,
            kl: 0.1,
            kl_ci95: [0.09, 0.11],
            nll: 2.5,
            gap_closed: 0.5,
            gap_closed_ci95: [0.4, 0.6],
            top1_agreement: 0.8,
            keep_ratio_decoded: Some(0.09),
            kl_decoded: None,
            cheating,
            leak_control,
            search: false,
            n_windows: 8,
        }
    }

    fn summary() -> Summary {
        Summary {
            experiment: "e".into(),
            run: "r".into(),
            seed: 0,
            steps: 1,
            seconds: 2.0,
            peak_rss_mib: 3.0,
            device: "cpu".into(),
            budget_tokens: 24,
            windows: WindowLengths { prefix: 256, local: 32, future: 32 },
            split: ExamSplit::Test,
            final_reads: 0,
            frame: None,
            eval: Evaluation {
                n_windows: 8,
                n_documents: 4,
                cluster: Cluster::Document,
                n_clusters: 4,
                budget_tokens: 24,
                context_value: 0.2,
                context_value_ci95: [0.1, 0.3],
                context_value_unadapted: 0.3,
                kl_start: 0.2,
                kl_warm_start: 0.15,
                ledger: None,
                compressors: [("gist".to_string(), entry(0.09, false, false))].into(),
                readers: BTreeMap::new(),
                gist_minus_best: None,
                gist_minus_warm_start: Some(GapDifference { gap_closed_diff: 0.1, ci95: [0.05, 0.15] }),
                retention: BTreeMap::new(),
            },
        }
    }

    #[test]
    fn round_trip_with_undefined_figures() {
        let mut written = summary();
        let json = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), written);
        written.eval.context_value = f64::NAN;
        written.eval.context_value_ci95 = [f64::NAN, 1.0];
        let read: Summary = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
        assert!(read.eval.context_value.is_nan() && read.eval.context_value_ci95[0].is_nan());
        assert_eq!(read.eval.context_value_ci95[1], 1.0);
    }

    #[test]
    fn summaries_of_older_versions_are_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/results/code-seed0.json.zst");
        let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
        let read: Summary = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((read.split, read.final_reads, read.eval.cluster), (ExamSplit::Test, 0, Cluster::Document));
        assert!(read.eval.ledger.is_none() && read.eval.n_clusters == 0);
    }

    #[test]
    fn unknown_and_missing_keys_are_named() {
        let mut json = serde_json::to_value(summary()).unwrap();
        json["eval"]["kl_strat"] = 1.0.into();
        assert!(serde_json::from_value::<Summary>(json.clone()).unwrap_err().to_string().contains("kl_strat"));
        let eval = json["eval"].as_object_mut().unwrap();
        eval.remove("kl_strat");
        eval.remove("context_value");
        assert!(serde_json::from_value::<Summary>(json).unwrap_err().to_string().contains("context_value"));
    }

    #[test]
    fn roles() {
        let s = summary();
        assert_eq!(s.role(&entry(24.0 / 256.0, false, false)), Role::Contestant);
        assert_eq!(s.role(&entry(25.0 / 256.0, false, false)), Role::Reference);
        assert_eq!(s.role(&entry(0.0, false, false)), Role::Reference);
        assert_eq!(s.role(&entry(0.05, true, false)), Role::Hindsight);
        assert_eq!(s.role(&entry(0.05, false, true)), Role::LeakControl);
    }
}
