//! Section `parallel` of an experiment that trains: into how many parts the gradient of a step is cut.

use crate::config::parts::Problem;
use serde::{Deserialize, Serialize};

/// Parts into which the work of a co-training step is cut. The number of processes that share it is no part of a configuration, since
/// results do not depend on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parallel {
    /// S: parts of a step's windows, each of which is computed by itself, in shapes of its own; their gradients are added in
    /// one order. A power of two that divides `train.windows_per_step`. Results depend on it as they do on threads, to
    /// rounding; at most so many processes share a run.
    pub grad_shards: usize,
    /// Seconds that a process waits for the others before all end, naming those that are missing.
    pub timeout_seconds: u64,
    /// Steps between comparisons of the weights of all processes.
    pub replica_check_every_steps: usize,
}

impl Default for Parallel {
    fn default() -> Self {
        Self { grad_shards: 1, timeout_seconds: 900, replica_check_every_steps: 50 }
    }
}

impl Parallel {
    /// Whether nothing is set, so that it is left out of a file.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Says what is impossible for steps of so many windows, naming the key.
    pub fn check(&self, windows_per_step: usize) -> Result<(), Problem> {
        let shards = self.grad_shards;
        if !shards.is_power_of_two() || !windows_per_step.is_multiple_of(shards) {
            let message = format!(
                "expected a power of two that divides train.windows_per_step ({windows_per_step}), got {shards}"
            );
            return Err(("grad_shards".into(), message));
        }
        let least = [
            ("timeout_seconds", self.timeout_seconds),
            ("replica_check_every_steps", self.replica_check_every_steps as u64),
        ];
        match least.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err((key.into(), "expected at least 1, got 0".into())),
            None => Ok(()),
        }
    }
}
