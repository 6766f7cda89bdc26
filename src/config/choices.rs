//! Closed sets of variants as tagged enums; a variant's defaults are the vetted setting.

use crate::config::parts::{Problem, at_least, below_one, not_negative};
use serde::{Deserialize, Serialize};

/// Input of a compressor besides the prefix; one value for all compressors in a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The prefix alone.
    #[default]
    None,
    /// The prefix and the local window.
    Local,
    /// The query that the prefix is read for.
    Query,
}

/// The hard cap on a gist: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    /// Cap as a number of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<usize>,
    /// Cap as a share of the prefix's tokens, rounded down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_ratio: Option<f64>,
}

/// Signal that the quality of a gist is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Fall of KL(teacher ‖ generator) against the empty gist.
    Kl,
    /// Rise of the log-likelihood of the true future against the empty gist.
    Logprob,
}

/// Reader whose predictions the reward is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reader {
    /// The generator as it is now.
    Current {},
    /// An exponential moving average of the generator.
    Ema {
        /// Share of the old average kept each step.
        #[serde(default = "default_decay")]
        decay: f64,
    },
    /// The warm-started generator.
    Frozen {},
}

fn default_decay() -> f64 {
    0.98
}

/// The price λ of a kept share of the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LengthPenalty {
    /// λ keeps its value.
    Fixed {
        /// Price of keeping everything.
        lambda: f64,
    },
    /// λ rises while the mean keep_ratio is above the target and falls while below (dual ascent), never below 0.
    TargetKeepRatio {
        /// The mean to meet.
        target: f64,
        /// Step size of the ascent.
        #[serde(default = "default_dual_lr")]
        lr: f64,
        /// λ at the start.
        #[serde(default)]
        initial_lambda: f64,
    },
}

fn default_dual_lr() -> f64 {
    0.5
}

/// reward(g) = quality − λ · |g| / P.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardConfig {
    /// Signal that quality is measured by.
    pub signal: Signal,
    /// Reader whose predictions the reward is computed from.
    pub reader: Reader,
    /// The price of length.
    pub length: LengthPenalty,
}

impl Default for RewardConfig {
    fn default() -> Self {
        Self { signal: Signal::Kl, reader: Reader::Current {}, length: LengthPenalty::Fixed { lambda: 0.0 } }
    }
}

/// Estimator of the policy gradient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AlgoConfig {
    /// Leave-one-out baseline within the group (Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740).
    Rloo {},
    /// Group mean as baseline, each reward part divided by its own deviation within the group (after GDPO: dividing the
    /// sum would cancel λ).
    Grpo {
        /// Added to the deviation.
        #[serde(default = "default_grpo_eps")]
        eps: f64,
    },
    /// One moving average over all windows as baseline (Williams 1992).
    Reinforce {
        /// Share of the old baseline kept each step.
        #[serde(default = "default_baseline_decay")]
        baseline_decay: f64,
    },
    /// Leave-one-out advantages, clipped importance ratios, several updates a rollout (Schulman et al. 2017).
    Ppo {
        /// Lower clip of the importance ratio: 1 − this.
        #[serde(default = "default_clip")]
        clip_low: f64,
        /// Upper clip: 1 + this.
        #[serde(default = "default_clip")]
        clip_high: f64,
        /// Updates a rollout.
        #[serde(default = "default_epochs")]
        epochs: usize,
    },
}

fn default_grpo_eps() -> f64 {
    1e-4
}
fn default_baseline_decay() -> f64 {
    0.9
}
fn default_clip() -> f64 {
    0.2
}
fn default_epochs() -> usize {
    2
}

/// Spread of a gist's advantage over its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenCredit {
    /// Every action of the gist gets the gist's advantage.
    Uniform,
    /// The gist's advantage plus how much worse the gist reads without the token's block, centred over the gist.
    LeaveOneOut,
}

impl BudgetConfig {
    /// The cap for a prefix of this many tokens.
    pub fn tokens(&self, prefix_tokens: usize) -> usize {
        match (self.tokens, self.keep_ratio) {
            (Some(tokens), _) => tokens,
            (None, Some(share)) => (share * prefix_tokens as f64 + 1e-9).floor() as usize,
            (None, None) => 0,
        }
    }

    /// Says what is impossible, naming the key.
    pub fn check(&self, prefix_tokens: usize) -> Result<(), Problem> {
        let key = match (self.tokens, self.keep_ratio) {
            (Some(_), Some(_)) => {
                return Err(("tokens".into(), "expected either tokens or keep_ratio, got both".into()));
            }
            (None, None) => return Err(("tokens".into(), "expected tokens or keep_ratio, got neither".into())),
            (Some(_), None) => "tokens",
            (None, Some(_)) => "keep_ratio",
        };
        let tokens = self.tokens(prefix_tokens);
        if tokens == 0 {
            return Err((key.into(), "expected a budget of at least 1 token, got 0".into()));
        }
        if tokens >= prefix_tokens {
            let message = format!("expected a budget below the prefix's {prefix_tokens} tokens, got {tokens}");
            return Err((key.into(), message));
        }
        Ok(())
    }
}

impl AlgoConfig {
    /// Gists a group must have.
    pub fn smallest_group(&self) -> usize {
        match self {
            AlgoConfig::Reinforce { .. } => 1,
            AlgoConfig::Rloo {} | AlgoConfig::Grpo { .. } | AlgoConfig::Ppo { .. } => 2,
        }
    }

    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        match *self {
            AlgoConfig::Rloo {} => Ok(()),
            AlgoConfig::Grpo { eps } => not_negative("eps", eps),
            AlgoConfig::Reinforce { baseline_decay } => below_one("baseline_decay", baseline_decay),
            AlgoConfig::Ppo { clip_low, clip_high, epochs } => {
                below_one("clip_low", clip_low)?;
                at_least("epochs", epochs, 1)?;
                not_negative("clip_high", clip_high)
            }
        }
    }
}

impl RewardConfig {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        match self.reader {
            Reader::Ema { decay } => below_one("reader.decay", decay)?,
            Reader::Current {} | Reader::Frozen {} => {}
        }
        match self.length {
            LengthPenalty::Fixed { lambda } => not_negative("length.lambda", lambda),
            LengthPenalty::TargetKeepRatio { target, lr, initial_lambda } => {
                if !(target > 0.0 && target < 1.0) {
                    return Err(("length.target".into(), format!("expected a number in (0, 1), got {target}")));
                }
                not_negative("length.lr", lr)?;
                not_negative("length.initial_lambda", initial_lambda)
            }
        }
    }
}
