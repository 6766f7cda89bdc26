//! Schema of an experiment that distils an extractive encoder from texts of which somebody said what to keep
//! (`kind = "distill"`): supporting facts, what a larger model's shortened version kept, anybody's spans.

use crate::base;
use crate::config::bos::Bos;
use crate::config::choices::BudgetConfig;
use crate::config::compressors::CompressorConfig;
use crate::config::distill::DistillLoss;
use crate::config::hardware::Hardware;
use crate::config::parts::{LoraConfig, OptimConfig, Problem, Schedule, at_least, check_name, is_false, under};
use crate::error;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Experiment file of a distillation from labelled texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledConfig {
    /// Always `distill`.
    pub kind: String,
    /// Run directory: `runs/<name>/seed=<seed>`.
    pub name: String,
    /// Seed from which every random number derives.
    #[serde(default)]
    pub seed: u64,
    /// The reading model, whose tokens are counted.
    pub model: ReadingModel,
    /// Labelled texts.
    pub data: LabelledData,
    /// The compressor that learns; `type = "extractive"`.
    pub compressor: CompressorConfig,
    /// Cap on the tokens kept of a text.
    pub budget: BudgetConfig,
    /// Further caps of the final figures, as shares of a text's tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep_ratios: Vec<f64>,
    /// Loss of the distillation.
    pub loss: DistillLoss,
    /// Optimiser of the compressor.
    pub optim: OptimConfig,
    /// Length of training, and how often it is validated and saved.
    #[serde(default)]
    pub train: LabelledLoop,
    /// Bootstrap resamples of the final figures.
    #[serde(default = "default_resamples")]
    pub resamples: usize,
    /// Device, threads and kind of number of the run.
    #[serde(default)]
    pub hardware: Hardware,
}

/// The base that reads what is kept; what it attends to is among the features of a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingModel {
    /// Folder with `config.json`, `tokenizer.json` and safetensors, a GGUF file or a folder with one, or a repository of the
    /// Hugging Face Hub (`owner/name`).
    pub path: PathBuf,
    /// Branch, tag or commit of that repository; absent = main, as it is in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whether every row that the base reads begins with its beginning-of-text token, whatever the role: `true`, `false`, or
    /// `"auto"`, as its tokenizer has it ([`crate::tokenizer::begin`]). What was trained one way is not read the other.
    #[serde(default, skip_serializing_if = "Bos::is_auto")]
    pub bos: Bos,
    /// Adapter of a compressor that is the base itself.
    #[serde(default)]
    pub lora: LoraConfig,
}

impl ReadingModel {
    /// Folder or GGUF file of the reading model.
    pub fn folder(&self) -> error::Result<PathBuf> {
        base::folder(&self.path, self.revision.as_deref())
    }
}

/// A file, or several whose rows are taken together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a path or a list of paths")]
pub enum Files {
    /// A file.
    One(PathBuf),
    /// Several, in this order.
    Several(Vec<PathBuf>),
}

impl Files {
    /// Their paths.
    pub fn paths(&self) -> &[PathBuf] {
        match self {
            Files::One(path) => std::slice::from_ref(path),
            Files::Several(paths) => paths,
        }
    }
}

/// A data set, or several by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a path or a table of paths by name")]
pub enum DataSets {
    /// A file of one, which is called `test`.
    One(PathBuf),
    /// A file of each.
    Named(BTreeMap<String, PathBuf>),
}

impl DataSets {
    /// Their names and paths.
    pub fn named(&self) -> Vec<(&str, &Path)> {
        match self {
            DataSets::One(path) => vec![("test", path)],
            DataSets::Named(paths) => paths.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect(),
        }
    }
}

/// Files of labelled texts (`.jsonl`, optionally `.zst` or `.gz`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledData {
    /// Texts to learn from.
    pub train: Files,
    /// Texts for validation while learning.
    pub valid: PathBuf,
    /// Texts for the final figures; never used before.
    pub test: DataSets,
    /// Refuse a document that is in two splits, word for word or nearly; otherwise it is warned of.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_splits: bool,
}

/// Length and rhythm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelledLoop {
    /// Passes over the training texts.
    pub epochs: usize,
    /// Texts of an update.
    pub batch: usize,
    /// Texts of one forward pass; gradients accumulate over an update.
    pub micro: usize,
    /// Schedule of the learning rate.
    pub schedule: Schedule,
    /// Updates between validations.
    pub eval_every: usize,
    /// Updates between checkpoints.
    pub checkpoint_every: usize,
}

impl Default for LabelledLoop {
    fn default() -> Self {
        let schedule = Schedule::Wsd { decay_frac: 0.33, floor: 0.0 };
        Self { epochs: 3, batch: 8, micro: 4, schedule, eval_every: 25, checkpoint_every: 25 }
    }
}

impl LabelledLoop {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        self.schedule.check().map_err(under("schedule"))?;
        at_least("epochs", self.epochs, 1)?;
        at_least("batch", self.batch, 1)?;
        at_least("micro", self.micro, 1)?;
        at_least("eval_every", self.eval_every, 1)?;
        at_least("checkpoint_every", self.checkpoint_every, 1)
    }
}

pub(super) fn default_resamples() -> usize {
    2000
}

/// A text long enough for any sensible share of it to be a token.
const LONG_TEXT: usize = 1_000_000;

impl LabelledConfig {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        if self.kind != "distill" {
            return Err(("kind".into(), format!("expected \"distill\", got {:?}", self.kind)));
        }
        check_name(&self.name)?;
        let CompressorConfig::Extractive { .. } = self.compressor else {
            return Err(("compressor.type".into(), "expected \"extractive\", got \"gist\"".into()));
        };
        self.compressor.check().map_err(under("compressor"))?;
        self.budget.check(LONG_TEXT).map_err(under("budget"))?;
        at_least("data.train", self.data.train.paths().len(), 1)?;
        at_least("data.test", self.data.test.named().len(), 1)?;
        for (i, &share) in self.keep_ratios.iter().enumerate() {
            let further = BudgetConfig { tokens: None, keep_ratio: Some(share) };
            further.check(LONG_TEXT).map_err(|(_, message)| (format!("keep_ratios[{i}]"), message))?;
        }
        self.loss.check().map_err(under("loss"))?;
        self.optim.check().map_err(under("optim"))?;
        self.model.lora.check().map_err(under("model.lora"))?;
        self.train.check().map_err(under("train"))?;
        at_least("resamples", self.resamples, 100)
    }
}
