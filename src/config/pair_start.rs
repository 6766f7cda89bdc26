//! Supervised fine-tuning on pairs: the `[warm_start.pairs]` section.

use crate::config::parts::{Problem, at_least};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Pairs of a text and its shorter form, which the compressor imitates before anything else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairStart {
    /// Pairs to learn from, as `gist pairs` leaves them.
    pub train: PathBuf,
    /// Pairs by whose loss the best weights are chosen.
    pub valid: PathBuf,
    /// Updates at most, of `warm_start.batch` pairs each.
    pub updates: usize,
    /// Updates between two looks at the loss on `valid`.
    #[serde(default = "default_eval")]
    pub eval_every: usize,
    /// Pairs of `valid` at most, the first ones.
    #[serde(default = "default_valid")]
    pub valid_pairs: usize,
    /// Looks without a lower loss after which training ends; 0 = it goes on to its last update.
    #[serde(default = "default_patience")]
    pub patience: usize,
}

fn default_eval() -> usize {
    25
}
fn default_valid() -> usize {
    200
}
fn default_patience() -> usize {
    3
}

impl PairStart {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        at_least("updates", self.updates, 1)?;
        at_least("eval_every", self.eval_every, 1)?;
        at_least("valid_pairs", self.valid_pairs, 1)
    }
}
