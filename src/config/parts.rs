//! Sections that several experiments share: optimiser, schedule, adapter, sampling, generated documents.

use crate::file_name::MOST;
use serde::{Deserialize, Serialize};

/// An impossible value: its key, and the message that says what was expected and got.
pub type Problem = (String, String);

/// Whether a flag has its default.
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// Whether a count has its default.
pub(super) fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Whether a factor has its default.
pub(super) fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// Fails below `low`.
pub(super) fn at_least(key: &str, value: usize, low: usize) -> Result<(), Problem> {
    if value < low { Err((key.into(), format!("expected at least {low}, got {value}"))) } else { Ok(()) }
}

/// Fails unless finite and at least 0.
pub(super) fn not_negative(key: &str, value: f64) -> Result<(), Problem> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err((key.into(), format!("expected a finite number of at least 0, got {value}")))
}

/// Fails unless in [0, 1).
pub(super) fn below_one(key: &str, value: f64) -> Result<(), Problem> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err((key.into(), format!("expected a number in [0, 1), got {value}"))),
    }
}

/// Fails unless `name` can name a folder.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(is_safe) {
        return Err(("name".into(), format!("expected a name of letters, digits and `._+-`, got {name:?}")));
    }
    match name.len() {
        0..=MOST => Ok(()),
        length => Err(("name".into(), format!("expected a name of at most {MOST} characters, got {length}"))),
    }
}

/// Puts the key of a problem under its section.
pub(super) fn under(section: &'static str) -> impl Fn(Problem) -> Problem {
    move |(key, message)| (format!("{section}.{key}"), message)
}

/// Knobs of an optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    #[serde(default = "default_beta1")]
    pub beta1: f64,
    /// Decay of the second moment.
    #[serde(default = "default_beta2")]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Decoupled decay of matrices.
    #[serde(default)]
    pub weight_decay: f64,
    /// Gradient norm above which the gradient is scaled down.
    #[serde(default = "default_clip")]
    pub max_grad_norm: f64,
    /// Steps over which the learning rate rises linearly from 0.
    #[serde(default)]
    pub warmup_steps: usize,
}

fn default_beta1() -> f64 {
    0.9
}
fn default_beta2() -> f64 {
    0.99
}
fn default_eps() -> f64 {
    1e-8
}
fn default_clip() -> f64 {
    1.0
}

impl OptimConfig {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> std::result::Result<(), Problem> {
        for (key, value, low, high) in [
            ("lr", self.lr, 0.0, f64::MAX),
            ("beta1", self.beta1, 0.0, 1.0),
            ("beta2", self.beta2, 0.0, 1.0),
            ("eps", self.eps, 0.0, 1.0),
            ("weight_decay", self.weight_decay, 0.0, f64::MAX),
            ("max_grad_norm", self.max_grad_norm, f64::MIN_POSITIVE, f64::MAX),
        ] {
            if !(value >= low && value <= high && value.is_finite()) || (high == 1.0 && value == 1.0) {
                return Err((key.into(), format!("expected a finite number of at least {low:e}, got {value}")));
            }
        }
        Ok(())
    }
}

/// Factor on the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// 1 throughout.
    Constant {},
    /// Half a cosine from 1 to `floor`.
    Cosine {
        /// Factor at the end.
        #[serde(default)]
        floor: f64,
    },
    /// Warm-up, stable, then a linear decay to `floor` over the last `decay_frac` of the steps.
    Wsd {
        /// Share of the steps that decay.
        #[serde(default = "default_decay_frac")]
        decay_frac: f64,
        /// Factor at the end.
        #[serde(default)]
        floor: f64,
    },
}

fn default_decay_frac() -> f64 {
    0.33
}

impl Schedule {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> std::result::Result<(), Problem> {
        match *self {
            Schedule::Constant {} => Ok(()),
            Schedule::Cosine { floor } => not_negative("floor", floor),
            Schedule::Wsd { decay_frac, floor } => {
                if !(0.0..=1.0).contains(&decay_frac) {
                    return Err(("decay_frac".into(), format!("expected a number in [0, 1], got {decay_frac}")));
                }
                not_negative("floor", floor)
            }
        }
    }

    /// Factor at `step` of `steps`, with a linear warm-up.
    pub fn factor(&self, step: usize, steps: usize, warmup: usize) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let done = step as f64 / steps.max(1) as f64;
        match *self {
            Schedule::Constant {} => 1.0,
            Schedule::Cosine { floor } => floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Schedule::Wsd { decay_frac, floor } => {
                let left = ((1.0 - done) / decay_frac.max(1e-9)).min(1.0);
                floor + (1.0 - floor) * left
            }
        }
    }
}

/// Rank, scaling and targets of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank r.
    #[serde(default = "default_rank")]
    pub rank: i64,
    /// α; the update is scaled by α / r.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// Dropout on the adapter's input while training.
    #[serde(default)]
    pub dropout: f64,
    /// Projections that get an adapter, by Hugging Face name.
    #[serde(default = "all_projections")]
    pub target_modules: Vec<String>,
}

/// A matrix of a decoder's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Output of attention.
    O,
    /// Gate of the SwiGLU.
    Gate,
    /// Up projection: the other input of the SwiGLU.
    Up,
    /// Down projection: the output of the SwiGLU.
    Down,
}

impl Projection {
    /// All projections, in forward order.
    pub const ALL: [Projection; 7] = [
        Projection::Q,
        Projection::K,
        Projection::V,
        Projection::O,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

    /// Name of the projection in Hugging Face's weights.
    pub fn name(self) -> &'static str {
        match self {
            Projection::Q => "q_proj",
            Projection::K => "k_proj",
            Projection::V => "v_proj",
            Projection::O => "o_proj",
            Projection::Gate => "gate_proj",
            Projection::Up => "up_proj",
            Projection::Down => "down_proj",
        }
    }

    /// The part of a block that it belongs to, in Hugging Face's weights.
    pub fn module(self) -> &'static str {
        match self {
            Projection::Q | Projection::K | Projection::V | Projection::O => "self_attn",
            Projection::Gate | Projection::Up | Projection::Down => "mlp",
        }
    }
}

fn default_rank() -> i64 {
    16
}
fn default_alpha() -> f64 {
    32.0
}
fn all_projections() -> Vec<String> {
    Projection::ALL.map(|projection| projection.name().to_string()).into()
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: default_rank(), alpha: default_alpha(), dropout: 0.0, target_modules: all_projections() }
    }
}

impl LoraConfig {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> std::result::Result<(), Problem> {
        if self.rank < 1 {
            return Err(("rank".into(), format!("expected at least 1, got {}", self.rank)));
        }
        not_negative("alpha", self.alpha)?;
        below_one("dropout", self.dropout)?;
        let names = Projection::ALL.map(Projection::name);
        if let Some(bad) = self.target_modules.iter().find(|target| !names.contains(&target.as_str())) {
            return Err(("target_modules".into(), format!("expected names among {names:?}, got {bad:?}")));
        }
        Ok(())
    }
}

/// Settings for sampling the next token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// 0 = greedy.
    #[serde(default = "one")]
    pub temperature: f64,
    /// Keep the smallest set of tokens whose probabilities sum to this.
    #[serde(default = "one")]
    pub top_p: f64,
    /// Drop tokens less likely than this share of the likeliest.
    #[serde(default)]
    pub min_p: f64,
    /// Keep this many tokens; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
}

fn one() -> f64 {
    1.0
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, min_p: 0.0, top_k: None }
    }
}

impl Sampling {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether the distribution is the model's own.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Says what is impossible, naming the key.
    pub fn check(&self) -> std::result::Result<(), Problem> {
        if self.temperature < 0.0 || !self.temperature.is_finite() {
            return Err(("temperature".into(), format!("expected a number of at least 0, got {}", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(("top_p".into(), format!("expected a number in (0, 1], got {}", self.top_p)));
        }
        below_one("min_p", self.min_p)?;
        if self.top_k.is_some_and(|k| k < 1) {
            return Err(("top_k".into(), format!("expected at least 1, got {}", self.top_k.unwrap_or(0))));
        }
        Ok(())
    }
}

/// Documents generated with known information content (see `data::RecallConfig`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallSection {
    /// Words of the inventory.
    pub words: usize,
    /// Words of a prefix.
    pub prefix: usize,
    /// Facts in a prefix.
    pub facts: usize,
    /// Times the facts are listed in a document.
    #[serde(default = "one_round")]
    pub rounds: usize,
    /// Training documents.
    pub train_documents: usize,
    /// Validation documents, and as many test documents.
    pub held_out_documents: usize,
}

fn one_round() -> usize {
    1
}
