//! Schema of an experiment that trains a base model and its tokenizer (`kind = "pretrain"`).

use crate::base;
use crate::config::bos::Bos;
use crate::config::parts::{
    OptimConfig, Problem, RecallSection, Schedule, at_least, check_name, is_false, not_negative, under,
};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Experiment file of a pretraining run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Always `pretrain`.
    pub kind: String,
    /// Run directory: `runs/<name>`.
    pub name: String,
    /// Seed from which every random number derives.
    #[serde(default)]
    pub seed: u64,
    /// Folder that receives the finished model in Hugging Face layout.
    pub output: PathBuf,
    /// A finished base to go on from, tokenizer included, as `model.path` of other experiments names it; absent = fresh
    /// weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Text.
    pub data: PretrainData,
    /// Tokenizer to train, or to take.
    #[serde(default)]
    pub tokenizer: TokenizerConfig,
    /// Architecture.
    pub model: Architecture,
    /// Training rows.
    #[serde(default)]
    pub rows: RowsSection,
    /// AdamW for embeddings and vectors.
    pub optim: OptimConfig,
    /// Muon for the matrices inside the blocks; absent = AdamW for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muon: Option<Muon>,
    /// Learning-rate schedule.
    #[serde(default = "default_schedule")]
    pub schedule: Schedule,
    /// Length and rhythm of the run.
    pub train: PretrainLoop,
    /// Device, threads and kind of number of the run.
    #[serde(default)]
    pub hardware: super::hardware::Hardware,
}

/// Text to train and evaluate on: files or folders of `.txt` / `.jsonl`, optionally `.zst` / `.gz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainData {
    /// Training documents.
    #[serde(default)]
    pub train: Vec<PathBuf>,
    /// Held-out documents.
    #[serde(default)]
    pub valid: Vec<PathBuf>,
    /// Refuse a document that is in two splits, word for word or nearly; otherwise it is warned of.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_splits: bool,
    /// Generated documents besides, or instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<RecallSection>,
}

/// The tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    /// An existing `tokenizer.json`; absent = train a byte-level BPE on the training text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Entries of a trained vocabulary, `<|endoftext|>` included.
    #[serde(default = "default_vocab")]
    pub vocab_size: usize,
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self { path: None, vocab_size: default_vocab() }
    }
}

/// Shape of the base; key names of Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Architecture {
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    pub num_key_value_heads: i64,
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    pub max_position_embeddings: i64,
    #[serde(default = "yes")]
    pub tie_word_embeddings: bool,
    /// Whether every row begins with a beginning-of-text token: `true` (of a tokenizer that is trained here, the end-of-text),
    /// `false`, or `"auto"`, as the tokenizer that is taken has it. The finished base's tokenizer says which.
    #[serde(default, skip_serializing_if = "Bos::is_auto")]
    pub bos: Bos,
}

/// Training rows: packed documents, some with an early span repeated later, which makes induction appear early.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsSection {
    /// Tokens of a row.
    #[serde(default = "default_row_tokens")]
    pub tokens: usize,
    /// Whether rows are cut from all documents end to end; if not, each is the beginning of a document, and documents too
    /// short for a row are left out.
    #[serde(default = "default_packed")]
    pub packed: bool,
    /// Share of rows in which an earlier span returns.
    #[serde(default = "default_repeated")]
    pub repeated_span_frac: f64,
    /// Share of rows in which a span of random tokens is put, and returns.
    #[serde(default)]
    pub repeated_noise_frac: f64,
    /// Share of rows whose second half is made of spans of the first.
    #[serde(default)]
    pub collage_frac: f64,
}

impl Default for RowsSection {
    fn default() -> Self {
        Self {
            tokens: default_row_tokens(),
            packed: default_packed(),
            repeated_span_frac: default_repeated(),
            repeated_noise_frac: 0.0,
            collage_frac: 0.0,
        }
    }
}

/// The Muon optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Muon {
    /// Learning rate at the scale of AdamW's (update RMS 0.2).
    pub lr: f64,
}

/// Length and rhythm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainLoop {
    /// Optimiser steps.
    pub steps: usize,
    /// Rows of a step.
    pub batch_rows: usize,
    /// Rows of one forward pass; gradients accumulate over a step.
    #[serde(default = "default_micro")]
    pub micro_rows: usize,
    /// Steps between evaluations.
    #[serde(default = "default_eval")]
    pub eval_every: usize,
    /// Held-out rows of an evaluation.
    #[serde(default = "default_eval_rows")]
    pub eval_rows: usize,
    /// Minutes between checkpoints.
    #[serde(default = "default_minutes")]
    pub checkpoint_minutes: f64,
    /// Steps between checkpoints, besides the clock; absent = the clock alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<usize>,
}

fn default_vocab() -> usize {
    4096
}
fn default_theta() -> f64 {
    10_000.0
}
fn default_eps() -> f64 {
    1e-6
}
fn yes() -> bool {
    true
}
fn default_row_tokens() -> usize {
    384
}
fn default_packed() -> bool {
    true
}

fn default_repeated() -> f64 {
    0.25
}
fn default_micro() -> usize {
    8
}
fn default_eval() -> usize {
    100
}
fn default_eval_rows() -> usize {
    64
}
fn default_minutes() -> f64 {
    10.0
}
fn default_schedule() -> Schedule {
    Schedule::Wsd { decay_frac: 0.33, floor: 0.0 }
}

/// Positions of the shortest held-out window that a base is measured on.
const MEASURED_POSITIONS: i64 = 65;

impl Architecture {
    fn check(&self) -> std::result::Result<(), Problem> {
        for (key, value, low) in [
            ("hidden_size", self.hidden_size, 1),
            ("intermediate_size", self.intermediate_size, 1),
            ("num_hidden_layers", self.num_hidden_layers, 1),
            ("num_attention_heads", self.num_attention_heads, 1),
            ("num_key_value_heads", self.num_key_value_heads, 1),
            ("max_position_embeddings", self.max_position_embeddings, MEASURED_POSITIONS),
        ] {
            if value < low {
                return Err((key.into(), format!("expected at least {low}, got {value}")));
            }
        }
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        if heads % groups != 0 {
            let message = format!("expected a divisor of num_attention_heads = {heads}, got {groups}");
            return Err(("num_key_value_heads".into(), message));
        }
        if self.hidden_size % (2 * heads) != 0 {
            let message =
                format!("expected a multiple of 2 num_attention_heads = {}, got {}", 2 * heads, self.hidden_size);
            return Err(("hidden_size".into(), message));
        }
        Ok(())
    }
}

impl PretrainConfig {
    /// Folder or GGUF file of the base to go on from, if there is one.
    pub fn init_folder(&self) -> Result<Option<PathBuf>> {
        self.init.as_deref().map(|path| base::folder(path, None)).transpose()
    }

    /// File of the tokenizer to use: that of the base to go on from, or else the one that is named.
    pub fn given_tokenizer(&self) -> Result<Option<PathBuf>> {
        let of_base = self.init_folder()?.map(|folder| base::file(&folder, base::TOKENIZER));
        Ok(of_base.or_else(|| self.tokenizer.path.clone()))
    }

    /// Says what is impossible, naming the key.
    pub fn check(&self) -> std::result::Result<(), Problem> {
        if self.kind != "pretrain" {
            return Err(("kind".into(), format!("expected \"pretrain\", got {:?}", self.kind)));
        }
        check_name(&self.name)?;
        if self.data.recall.is_none() && (self.data.train.is_empty() || self.data.valid.is_empty()) {
            return Err(("data".into(), "expected train and valid files, or data.recall, got neither".into()));
        }
        if self.init.is_some() && self.tokenizer.path.is_some() {
            let message = "expected none beside `init`, which brings its own tokenizer, got a path";
            return Err(("tokenizer.path".into(), message.into()));
        }
        at_least("train.steps", self.train.steps, 1)?;
        at_least("train.batch_rows", self.train.batch_rows, 1)?;
        at_least("train.micro_rows", self.train.micro_rows, 1)?;
        at_least("train.eval_every", self.train.eval_every, 1)?;
        at_least("train.eval_rows", self.train.eval_rows, 1)?;
        at_least("train.checkpoint_every", self.train.checkpoint_every.unwrap_or(1), 1)?;
        at_least("rows.tokens", self.rows.tokens, 64)?;
        at_least("tokenizer.vocab_size", self.tokenizer.vocab_size, 258)?;
        self.model.check().map_err(under("model"))?;
        if self.rows.tokens as i64 > self.model.max_position_embeddings {
            let limit = self.model.max_position_embeddings;
            return Err((
                "rows.tokens".into(),
                format!("expected at most model.max_position_embeddings = {limit}, got {}", self.rows.tokens),
            ));
        }
        let mut sum = 0.0;
        for (key, share) in [
            ("rows.repeated_span_frac", self.rows.repeated_span_frac),
            ("rows.repeated_noise_frac", self.rows.repeated_noise_frac),
            ("rows.collage_frac", self.rows.collage_frac),
        ] {
            sum += share;
            // Written so that NaN fails.
            if !(share >= 0.0 && sum <= 1.0) {
                let message =
                    format!("expected at least 0, and at most 1 together with the shares before, got {share}");
                return Err((key.into(), message));
            }
        }
        if let Some(muon) = &self.muon {
            not_negative("muon.lr", muon.lr)?;
        }
        self.schedule.check().map_err(under("schedule"))?;
        self.optim.check().map_err(under("optim"))
    }
}
