//! Schema of an experiment that teaches an encoder to point at answers (`kind = "span_reader"`): a reader that says whether a
//! question still finds its answer in what a compressor keeps.

use crate::config::compressors::EncoderSection;
use crate::config::hardware::Hardware;
use crate::config::labelled::{LabelledLoop, default_resamples};
use crate::config::parts::{OptimConfig, Problem, at_least, check_name, is_false, under};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Experiment file of a span reader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanReaderConfig {
    /// Always `span_reader`.
    pub kind: String,
    /// Run directory: `runs/<name>/seed=<seed>`.
    pub name: String,
    /// Seed from which every random number derives.
    #[serde(default)]
    pub seed: u64,
    /// The encoder that learns to read.
    pub encoder: EncoderSection,
    /// Rank to which low-rank weights are cut when training is done, and rounded to bfloat16; absent = they stay as trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_rank: Option<i64>,
    /// Questions with answers.
    pub data: SpanData,
    /// Optimiser.
    pub optim: OptimConfig,
    /// Length of training, and how often it is validated and saved; a text is a row of the encoder: a question with a window of a
    /// context.
    #[serde(default)]
    pub train: LabelledLoop,
    /// Bootstrap resamples of the final figures.
    #[serde(default = "default_resamples")]
    pub resamples: usize,
    /// Device, threads and kind of number of the run.
    #[serde(default)]
    pub hardware: Hardware,
}

/// Files of questions, each by the name of the benchmark whose form it has (`gist benchmark list`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanData {
    /// Questions to learn from.
    pub train: BTreeMap<String, PathBuf>,
    /// Questions for validation while learning.
    pub valid: BTreeMap<String, PathBuf>,
    /// Questions for the final figures; never used before.
    pub test: BTreeMap<String, PathBuf>,
    /// Share of the training questions that are also asked of another context of their document, which has no answer: the reader
    /// learns to say so, and its scores of several contexts can be compared.
    #[serde(default = "default_unanswerable")]
    pub unanswerable: f64,
    /// Refuse a context that is in two splits, word for word or nearly; otherwise it is warned of.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_splits: bool,
}

fn default_unanswerable() -> f64 {
    0.2
}

impl SpanReaderConfig {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        if self.kind != "span_reader" {
            return Err(("kind".into(), format!("expected \"span_reader\", got {:?}", self.kind)));
        }
        check_name(&self.name)?;
        self.encoder.check().map_err(under("encoder"))?;
        if let Some(last) = self.final_rank.filter(|last| !(1..=self.encoder.rank.unwrap_or(0)).contains(last)) {
            let rank = self.encoder.rank.map_or("none".to_string(), |rank| rank.to_string());
            return Err(("final_rank".into(), format!("expected 1 to encoder.rank, which is {rank}, got {last}")));
        }
        for (key, files) in
            [("data.train", &self.data.train), ("data.valid", &self.data.valid), ("data.test", &self.data.test)]
        {
            at_least(key, files.len(), 1)?;
        }
        let share = self.data.unanswerable;
        if !(0.0..=1.0).contains(&share) {
            return Err(("data.unanswerable".into(), format!("expected 0 to 1, got {share}")));
        }
        self.optim.check().map_err(under("optim"))?;
        self.train.check().map_err(under("train"))?;
        at_least("resamples", self.resamples, 100)
    }
}
