//! Where a run computes.

use crate::config::parts::Problem;
use serde::{Deserialize, Serialize};
use tch::Kind;

/// Device, threads and kind of number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hardware {
    /// `cpu` or `cuda`.
    pub device: String,
    /// CPU threads; results depend on it, so it is part of the run's configuration.
    pub threads: i32,
    /// Kind of the frozen weights and activations: `float32`, `bfloat16`, or `auto`: bfloat16 where the machine multiplies
    /// it faster. What learns is always kept in float32. A run records what `auto` came to.
    pub dtype: String,
}

impl Hardware {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        if !["cpu", "cuda"].contains(&self.device.as_str()) {
            return Err(("device".into(), format!("expected \"cpu\" or \"cuda\", got {:?}", self.device)));
        }
        if !["float32", "bfloat16", "auto"].contains(&self.dtype.as_str()) {
            let message = format!("expected \"float32\", \"bfloat16\" or \"auto\", got {:?}", self.dtype);
            return Err(("dtype".into(), message));
        }
        if self.threads < 1 {
            return Err(("threads".into(), format!("expected at least 1, got {}", self.threads)));
        }
        Ok(())
    }

    /// Replaces `auto` by what this machine is best at: bfloat16 on a GPU or a CPU with AVX512-BF16, else float32.
    pub fn settle(&mut self) {
        if self.dtype == "auto" {
            self.dtype = if self.device == "cuda" || multiplies_bfloat16() { "bfloat16" } else { "float32" }.into();
        }
    }

    /// The kind that `dtype` names.
    pub fn kind(&self) -> Kind {
        if self.dtype == "bfloat16" { Kind::BFloat16 } else { Kind::Float }
    }
}

#[cfg(target_arch = "x86_64")]
fn multiplies_bfloat16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn multiplies_bfloat16() -> bool {
    false
}

impl Default for Hardware {
    fn default() -> Self {
        Self { device: "cpu".into(), threads: 2, dtype: "float32".into() }
    }
}
