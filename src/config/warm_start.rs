//! Supervised start of compressor and generator: the `[warm_start]` section.

use crate::config::pair_start::PairStart;
use crate::config::parts::is_false;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Supervised start: gists found by search on training windows, imitated by the compressor, read by the generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmStart {
    /// Folder with adapters `compressor`, `generator`, `empty_reader` to start from; absent = fresh ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Whether the compressor is fresh all the same, and only the readers come from there.
    #[serde(skip_serializing_if = "is_false")]
    pub fresh_compressor: bool,
    /// Whether the readers are fresh all the same, and only the compressor comes from there.
    #[serde(skip_serializing_if = "is_false")]
    pub fresh_readers: bool,
    /// Folder that receives the warm-started adapters, as bfloat16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
    /// Ranks that the adapters written there are cut to, by singular values.
    #[serde(skip_serializing_if = "OutputRank::is_none")]
    pub output_rank: OutputRank,
    /// Pairs of texts and their shorter forms that the compressor imitates before the first round (`gist sft`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairStart>,
    /// Compressor updates that teach copying before the first round: imitation of random spans, which need no search.
    pub copy_updates: usize,
    /// Gists of a window in each of them.
    pub copy_gists: usize,
    /// Rounds of search and imitation; 0 = none. From the second on, the policy's own samples are candidates too.
    pub rounds: usize,
    /// Training windows searched in a round.
    pub windows: usize,
    /// Tokens of a candidate span.
    pub span_tokens: usize,
    /// Tokens between the starts of candidate spans.
    pub stride: usize,
    /// Best single spans that the greedy search combines.
    pub shortlist: usize,
    /// Samples of the policy among the candidates of later rounds.
    pub samples: usize,
    /// Best gists of a window that are imitated, each with a weight ∝ exp(−KL / `temperature`).
    pub gists: usize,
    /// Nats a token of KL that make a gist e times less worth imitating.
    pub temperature: f64,
    /// Share of the imitation that is the most recent tokens whatever they are worth, so that the policy begins from the
    /// baseline that is hardest to beat.
    pub recent: f64,
    /// Passes over a round's windows.
    pub epochs: usize,
    /// Windows of a supervised step.
    pub batch: usize,
    /// The readers take a step at every so many of a round's updates; the compressor at each.
    pub readers_every: usize,
    /// Updates of the readers alone behind the rounds: they read the greedy gists of a compressor that stays as it is.
    pub reader_updates: usize,
    /// Share of the windows of those updates whose evidence is read in place of a gist: known without writing, which is
    /// most of the time of such an update. The data must have evidence.
    pub reader_evidence: f64,
}

/// Lower ranks than those that were trained; absent = as trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputRank {
    /// Rank of the compressor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressor: Option<i64>,
    /// Rank of both readers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<i64>,
}

impl OutputRank {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for WarmStart {
    fn default() -> Self {
        Self {
            from: None,
            fresh_compressor: false,
            fresh_readers: false,
            output: None,
            output_rank: OutputRank::default(),
            pairs: None,
            copy_updates: 0,
            copy_gists: 8,
            rounds: 0,
            windows: 1000,
            span_tokens: 8,
            stride: 4,
            shortlist: 8,
            samples: 8,
            gists: 8,
            temperature: 0.05,
            recent: 0.0,
            epochs: 3,
            batch: 24,
            readers_every: 1,
            reader_updates: 0,
            reader_evidence: 0.0,
        }
    }
}

impl WarmStart {
    /// Updates on pairs.
    pub fn pair_updates(&self) -> usize {
        self.pairs.as_ref().map_or(0, |pairs| pairs.updates)
    }

    /// Updates of one round of imitation.
    pub fn round_updates(&self) -> usize {
        self.epochs * self.windows.div_ceil(self.batch)
    }

    /// Updates of each reader.
    pub fn updates_of_readers(&self) -> usize {
        self.rounds * self.round_updates().div_ceil(self.readers_every) + self.reader_updates
    }
}
