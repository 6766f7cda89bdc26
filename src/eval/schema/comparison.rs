//! The schema of `comparison.json`: what was compared, every point of the rate–distortion curves, slices, speed, winners,
//! examples. Unknown keys are refused. A figure that is undefined (NaN) is `null` in the file.

use crate::eval::schema::summary::WindowLengths;
use crate::eval::schema::undefined::{number, pair};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `comparison.json`. KL and NLL are means in nats per future token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Names of the compared experiments, joined.
    pub name: String,
    /// The runs.
    pub runs: Vec<ComparedRun>,
    /// Terms that all runs share: condition, windows, hashes of base, tokenizer and data.
    pub terms: BTreeMap<String, String>,
    /// The program that compared, in words; empty in files of older versions.
    #[serde(default)]
    pub program: String,
    /// Differences from what the runs and readers were made from, in words, that were accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// Updates of every reader.
    pub updates: usize,
    /// Seed of the readers.
    pub seed: u64,
    /// Device in words.
    pub device: String,
    /// Window lengths in tokens.
    pub windows: WindowLengths,
    /// Windows evaluated.
    pub n_windows: usize,
    /// Documents they come from; intervals resample these.
    pub n_documents: usize,
    /// KL of the reader adapted to the empty gist.
    #[serde(deserialize_with = "number")]
    pub context_value: f64,
    /// 95 % interval of `context_value`.
    #[serde(deserialize_with = "pair")]
    pub context_value_ci95: [f64; 2],
    /// The budgets, ascending.
    pub budgets: Vec<Budget>,
    /// The budget nearest to the one that the first run was trained for; the gallery's.
    pub own_budget_tokens: usize,
    /// The compressors, in the order of the tables.
    pub compressors: Vec<Contestant>,
    /// Compressor × budget × reader.
    pub points: Vec<Point>,
    /// The best at each budget under each reader.
    pub winners: Vec<Winner>,
    /// The points again, on parts of the windows.
    pub slices: Vec<Slice>,
    /// Least KL that any gist of a rate leaves, as (keep_ratio, KL), where it is known.
    pub bound: Option<Vec<[f64; 2]>>,
    /// Windows with what each compressor made of them at `own_budget_tokens`.
    pub examples: Vec<Compared>,
}

/// A run that takes part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedRun {
    /// Directory of the run, as it was named.
    pub path: String,
    /// Experiment of the run.
    pub experiment: String,
    /// Seed of the run.
    pub seed: u64,
    /// Last step of the run.
    pub step: usize,
    /// SHA-256 of the compressor's weights.
    pub weights: String,
}

/// A budget that is asked of every compressor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Share of the prefix, as asked for.
    pub requested: f64,
    /// Hard cap, in tokens.
    pub tokens: usize,
}

/// A compressor that takes part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contestant {
    /// Name of the compressor.
    pub name: String,
    /// Seeds of its runs; none for one that was not trained.
    pub seeds: Vec<u64>,
    /// Speed of the compressor, by budget.
    pub speed: Vec<Speed>,
}

impl Contestant {
    /// Whether it comes from a run.
    pub fn trained(&self) -> bool {
        !self.seeds.is_empty()
    }
}

/// Speed of a compressor: its throughput with all windows at hand at once, its latency with one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Hard cap, in tokens.
    pub budget_tokens: usize,
    /// Milliseconds a window.
    #[serde(deserialize_with = "number")]
    pub ms_per_window: f64,
    /// Tokens of prefixes read in a second.
    #[serde(deserialize_with = "number")]
    pub prefix_tokens_per_second: f64,
    /// Milliseconds from one window to its gist, where it comes alone; the median of some.
    #[serde(default = "unknown", deserialize_with = "number")]
    pub latency_ms: f64,
}

/// Latency in files that were written before it was measured.
fn unknown() -> f64 {
    f64::NAN
}

/// One compressor at one budget under one reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Name of the compressor.
    pub compressor: String,
    /// `shared` or `adapted`.
    pub reader: String,
    /// Share of the prefix that was asked for.
    pub requested: f64,
    /// Hard cap, in tokens.
    pub budget_tokens: usize,
    /// Kept over original tokens, mean: what was achieved.
    #[serde(deserialize_with = "number")]
    pub keep_ratio: f64,
    /// KL from teacher to reader.
    #[serde(deserialize_with = "number")]
    pub kl: f64,
    /// 95 % interval of `kl`.
    #[serde(deserialize_with = "pair")]
    pub kl_ci95: [f64; 2],
    /// 1 − kl / context_value.
    #[serde(deserialize_with = "number")]
    pub gap_closed: f64,
    /// 95 % interval of `gap_closed`.
    #[serde(deserialize_with = "pair")]
    pub gap_closed_ci95: [f64; 2],
    /// Negative log-likelihood of the true future.
    #[serde(deserialize_with = "number")]
    pub nll: f64,
    /// Share of future tokens for which reader and teacher have the same most likely token.
    #[serde(deserialize_with = "number")]
    pub top1_agreement: f64,
}

/// The best at one budget under one reader, by mean KL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Winner {
    /// `shared` or `adapted`.
    pub reader: String,
    /// Share of the prefix that was asked for.
    pub requested: f64,
    /// Hard cap, in tokens.
    pub budget_tokens: usize,
    /// Name of the best.
    pub compressor: String,
    /// Name of the second; none when there is only one.
    pub runner_up: Option<String>,
    /// gap_closed of the best less that of the second, paired.
    #[serde(deserialize_with = "number")]
    pub gap_closed_diff: f64,
    /// 95 % interval of the difference.
    #[serde(deserialize_with = "pair")]
    pub ci95: [f64; 2],
    /// Everyone whose paired difference to the best has an interval that includes 0.
    pub not_separable: Vec<String>,
}

impl Winner {
    /// Whether the best is told from the second.
    pub fn separable(&self) -> bool {
        self.ci95[0] > 0.0
    }
}

/// One compressor at one budget under one reader, on a part of the windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// Property that divides the windows, such as `source`.
    pub by: String,
    /// Value or range of that property.
    pub part: String,
    /// Number of windows in the part.
    pub n_windows: usize,
    /// KL of the reader adapted to the empty gist, on the part.
    #[serde(deserialize_with = "number")]
    pub context_value: f64,
    /// Name of the compressor.
    pub compressor: String,
    /// `shared` or `adapted`.
    pub reader: String,
    /// Hard cap, in tokens.
    pub budget_tokens: usize,
    /// KL from teacher to reader.
    #[serde(deserialize_with = "number")]
    pub kl: f64,
    /// 1 − kl / context_value of the part.
    #[serde(deserialize_with = "number")]
    pub gap_closed: f64,
    /// 95 % interval of `gap_closed`.
    #[serde(deserialize_with = "pair")]
    pub gap_closed_ci95: [f64; 2],
}

/// A window and what each compressor made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// Index of the held-out window.
    pub window: usize,
    /// Id of the document.
    pub document: String,
    /// The prefix token by token ([`crate::tokenizer::Decoded::pieces`]): together its text.
    pub prefix_tokens: Vec<String>,
    /// Text of the local window.
    pub local: String,
    /// Text of the future.
    pub future: String,
    /// KL without any gist.
    #[serde(deserialize_with = "number")]
    pub context_value: f64,
    /// Outputs in the order of the compressors; of several seeds the first.
    pub gists: Vec<ComparedGist>,
}

/// Output of one compressor for a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedGist {
    /// Name of the compressor.
    pub compressor: String,
    /// Token by token, as the prefix.
    pub tokens: Vec<String>,
    /// Ascending positions of the prefix that were kept, for one that only deletes.
    pub kept: Option<Vec<usize>>,
    /// KL under the shared reader (or its own, where there is no shared one), nats per token.
    #[serde(deserialize_with = "number")]
    pub kl: f64,
}
