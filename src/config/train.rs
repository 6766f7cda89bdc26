//! Schema of an experiment that warm-starts, co-trains and evaluates (`kind = "train"`).

use crate::base;
use crate::config::bos::Bos;
use crate::config::choices::{AlgoConfig, BudgetConfig, Condition, RewardConfig, TokenCredit};
use crate::config::compressors::CompressorConfig;
use crate::config::distill::Distill;
use crate::config::eval::{EvalConfig, ExamSplit};
use crate::config::hardware::Hardware;
use crate::config::lora::RoleLoras;
use crate::config::parallel::Parallel;
use crate::config::parts::{OptimConfig, RecallSection, Schedule, is_false, is_one};
use crate::config::questions::{FactsSection, QaSection};
use crate::config::reader::ReaderSection;
use crate::config::warm_start::WarmStart;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Experiment file of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Always `train`.
    pub kind: String,
    /// Run directory: `runs/<name>/seed=<seed>`.
    pub name: String,
    /// Seed from which every random number derives.
    #[serde(default)]
    pub seed: u64,
    /// Base model, in Hugging Face layout.
    pub model: ModelSection,
    /// Text, or generated documents.
    pub data: DataSection,
    /// Input of a compressor besides the prefix.
    #[serde(default)]
    pub condition: Condition,
    /// Frame round the texts that teacher and readers read.
    #[serde(default, skip_serializing_if = "ReaderSection::is_plain")]
    pub reader: ReaderSection,
    /// The compressor that learns.
    #[serde(default)]
    pub compressor: CompressorConfig,
    /// Hard cap on the tokens of a gist.
    pub budget: BudgetConfig,
    /// Supervised start of compressor and generator.
    #[serde(default)]
    pub warm_start: WarmStart,
    /// Supervised start of an extractive compressor, in place of imitation.
    #[serde(default)]
    pub distill: Distill,
    /// Co-training by policy gradient.
    pub train: TrainLoop,
    /// Sampling of gists during training.
    #[serde(default)]
    pub rollout: Rollout,
    /// Reward of a gist.
    #[serde(default)]
    pub reward: RewardConfig,
    /// Estimator of the policy gradient.
    #[serde(default)]
    pub algo: AlgoSection,
    /// Gists that the generator learns from.
    #[serde(default)]
    pub generator: GeneratorConfig,
    /// Optimisers.
    pub optim: Optim,
    /// Evaluation on held-out windows.
    #[serde(default)]
    pub eval: EvalConfig,
    /// Device, threads and kind of number of the run.
    #[serde(default)]
    pub hardware: Hardware,
    /// Parts of a step that several processes may share.
    #[serde(default, skip_serializing_if = "Parallel::is_default")]
    pub parallel: Parallel,
}

/// The base and its adapters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Folder with `config.json`, `tokenizer.json` and safetensors, a GGUF file or a folder with one, or a repository of the
    /// Hugging Face Hub (`owner/name`).
    pub path: PathBuf,
    /// Branch, tag or commit of that repository; absent = main, as it is in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Whether every row that the base reads begins with its beginning-of-text token, whatever the role: `true`, `false`, or
    /// `"auto"`, as its tokenizer has it ([`crate::tokenizer::begin`]). An adapter is read the way it was trained, or refused.
    #[serde(default, skip_serializing_if = "Bos::is_auto")]
    pub bos: Bos,
    /// Adapter of each role; those of `warm_start.from` must have the same ranks, scaling and targets.
    #[serde(default)]
    pub lora: RoleLoras,
    /// Longest match that the compressor's copy head tells apart; 0 = no copy head. Adapters of `warm_start.from` bring
    /// their own.
    #[serde(default)]
    pub copy_lengths: usize,
    /// Text as whose tokens, on the mean, start-of-gist begins in the compressor (soft prompts begun from words, Lester et
    /// al. 2021, arXiv 2104.08691); empty = near the mean embedding. Adapters of `warm_start.from` bring their own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub start_like: String,
}

impl ModelSection {
    /// Folder or GGUF file of the base.
    pub fn folder(&self) -> Result<PathBuf> {
        base::folder(&self.path, self.revision.as_deref())
    }
}

/// Documents of the three splits and the shape of a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// Training documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<PathBuf>,
    /// Documents for validation and calibration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<PathBuf>,
    /// Documents for the final figures; never used before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// Documents for figures that are published (`eval.split = "final"`); read then only, and each reading is counted.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub last: Option<PathBuf>,
    /// Generated documents in place of the three files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<RecallSection>,
    /// Facts set into the documents of the three files, and probes that ask for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<FactsSection>,
    /// The three files are rows of contexts with questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qa: Option<QaSection>,
    /// Refuse a document that is in two splits, word for word or nearly; otherwise it is warned of.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_splits: bool,
    /// P: tokens of the prefix.
    pub prefix_tokens: usize,
    /// L: tokens of the local window.
    pub local_tokens: usize,
    /// F: tokens of the future.
    pub future_tokens: usize,
}

impl DataSection {
    /// The file of the split that a run is judged on; none where its documents are generated.
    pub fn judged(&self, split: ExamSplit) -> &Option<PathBuf> {
        match split {
            ExamSplit::Test => &self.test,
            ExamSplit::Valid => &self.valid,
            ExamSplit::Final => &self.last,
        }
    }
}

/// Length and rhythm of co-training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainLoop {
    /// Policy-gradient steps; 0 = warm start and evaluation only.
    pub steps: usize,
    /// Windows of a step.
    pub windows_per_step: usize,
    /// Windows of one pass of an update (of a reader as many gists as they have); gradients accumulate over a step.
    #[serde(default = "default_micro")]
    pub micro_windows: usize,
    /// Whether an update keeps only the input of each block of the base and computes the rest again in backward (activation
    /// checkpointing, Chen et al. 2016, arXiv 1604.06174): less memory for about one more forward pass, the same gradients.
    /// An encoder beside the base keeps its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub checkpoint_activations: bool,
    /// Futures that the teacher samples beside the true one, on which training measures what a gist is worth and readers
    /// learn: one future alone says little about which gist is good on average. Evaluation knows only the true one.
    #[serde(default)]
    pub imagined_futures: usize,
    /// Schedule of both learning rates.
    #[serde(default = "constant")]
    pub schedule: Schedule,
    /// Whether the compressor learns (else it stays as warm-started, and only the generator is updated).
    #[serde(default = "yes")]
    pub compressor_learns: bool,
    /// Whether the generator learns.
    #[serde(default = "yes")]
    pub generator_learns: bool,
    /// Share that a moving average of the compressor's weights keeps each step (Polyak & Juditsky 1992); validation and
    /// evaluation use that average in place of the last weights. 0 = the last weights.
    #[serde(default)]
    pub average_decay: f64,
    /// Steps between validations.
    #[serde(default = "default_eval")]
    pub eval_every: usize,
    /// Steps between checkpoints.
    #[serde(default = "default_checkpoint")]
    pub checkpoint_every: usize,
    /// Minutes after which there is a checkpoint even so.
    #[serde(default = "default_minutes", skip_serializing_if = "is_default_minutes")]
    pub checkpoint_minutes: f64,
    /// Steps between files of rollouts.
    #[serde(default = "default_rollout_every")]
    pub log_rollouts_every: usize,
}

/// Sampling of gists in training: temperature 1, nothing truncated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// G: gists per window.
    pub group_size: usize,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { group_size: 8 }
    }
}

/// Policy gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlgoSection {
    /// Advantage estimator and loss.
    pub estimator: AlgoConfig,
    /// Weight of the entropy bonus, nats a token.
    pub entropy_coef: f64,
    /// Weight of KL(policy ‖ warm-started policy), nats a token.
    pub reference_kl_coef: f64,
    /// Spread of a gist's advantage over its tokens.
    pub token_credit: TokenCredit,
    /// Weight of the policy gradient itself, of the policy's own samples; 0 leaves what `recent_coef` adds, for a control.
    #[serde(skip_serializing_if = "is_one")]
    pub policy_coef: f64,
    /// Weight of self-imitation (Oh et al. 2018, arXiv 1806.05635) of the most recent tokens, a gist that the policy may
    /// hardly ever sample: where their reward is above the group's mean, they are imitated by as much.
    pub recent_coef: f64,
}

impl Default for AlgoSection {
    fn default() -> Self {
        Self {
            estimator: AlgoConfig::Rloo {},
            entropy_coef: 0.0,
            reference_kl_coef: 0.0,
            token_credit: TokenCredit::Uniform,
            policy_coef: 1.0,
            recent_coef: 0.0,
        }
    }
}

/// The gists a generator update reads, as shares that sum to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GeneratorConfig {
    /// Gists read per window and step.
    pub gists_per_window: usize,
    /// The compressor's gists of this step.
    pub current: f64,
    /// An empty context in place of a gist.
    pub empty: f64,
    /// Recent tokens or random spans, of any size up to the budget.
    pub extractive: f64,
    /// Gists of the warm-started compressor, or of the compressor some steps ago.
    pub stale: f64,
    /// Steps after which the stale compressor is replaced by the current one; absent = it stays the warm-started one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_refresh_steps: Option<usize>,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            gists_per_window: 3,
            current: 0.6,
            empty: 0.1,
            extractive: 0.2,
            stale: 0.1,
            stale_refresh_steps: Some(50),
        }
    }
}

/// Optimisers: one for each role, and one for the supervised stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optim {
    /// The compressor under policy gradient.
    pub compressor: OptimConfig,
    /// The generator, and every reader adapted for comparison.
    pub generator: OptimConfig,
    /// The compressor under imitation.
    pub imitation: OptimConfig,
}

const MOST_READER_ROWS: usize = 48;

fn default_micro() -> usize {
    4
}
fn constant() -> Schedule {
    Schedule::Constant {}
}
fn yes() -> bool {
    true
}
fn default_eval() -> usize {
    50
}
fn default_checkpoint() -> usize {
    50
}
fn default_minutes() -> f64 {
    5.0
}
fn is_default_minutes(minutes: &f64) -> bool {
    *minutes == default_minutes()
}
fn default_rollout_every() -> usize {
    50
}

impl TrainConfig {
    /// Rows of one pass of a reader's update.
    pub fn reader_rows(&self) -> usize {
        (self.train.micro_windows * self.generator.gists_per_window).clamp(1, MOST_READER_ROWS)
    }

    /// The budget as a number of tokens.
    pub fn budget_tokens(&self) -> usize {
        self.budget.tokens(self.data.prefix_tokens)
    }

    /// Updates of the whole warm start.
    pub fn supervised_updates(&self) -> usize {
        self.imitation_end() + self.warm_start.reader_updates
    }

    /// Updates of the warm start before those of the readers alone.
    pub fn imitation_end(&self) -> usize {
        self.compressor_updates() + self.warm_start.rounds * self.warm_start.round_updates()
    }

    /// Updates of the warm start that leave the readers as they are: copying, pairs, distillation.
    pub fn compressor_updates(&self) -> usize {
        self.warm_start.copy_updates + self.warm_start.pair_updates() + self.distill.updates()
    }
}
