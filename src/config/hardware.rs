//! Hardware settings of a run: device, CPU threads, kind of number.

use crate::config::parts::Problem;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// Device, threads and kind of number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hardware {
    /// `cpu`, `cuda`, `cuda:N`, or `auto`: a GPU where there is one. A run records what `auto` came to.
    pub device: String,
    /// CPU threads; results depend on it, so it is part of the run's configuration.
    pub threads: i32,
    /// Kind of the frozen weights and activations: `float32`, `bfloat16`, `float16` (for GPUs without bfloat16; a CPU takes
    /// a hundred times as long, and activations must stay below 65,504), or `auto`: bfloat16 where the machine multiplies it
    /// faster, never float16. What learns, and every loss, is always kept in float32. A run records what `auto` came to.
    pub dtype: String,
}

impl Hardware {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        if self.device != "auto" && self.device().is_none() {
            let message = format!("expected \"cpu\", \"cuda\", \"cuda:N\" or \"auto\", got {:?}", self.device);
            return Err(("device".into(), message));
        }
        if !["float32", "bfloat16", "float16", "auto"].contains(&self.dtype.as_str()) {
            let message = format!("expected \"float32\", \"bfloat16\", \"float16\" or \"auto\", got {:?}", self.dtype);
            return Err(("dtype".into(), message));
        }
        if self.threads < 1 {
            return Err(("threads".into(), format!("expected at least 1, got {}", self.threads)));
        }
        Ok(())
    }

    /// Replaces `auto` by what this machine is best at: a GPU if it `has_gpu`; bfloat16 there or on a CPU with AVX512-BF16,
    /// else float32.
    pub fn settle(&mut self, has_gpu: bool) {
        if self.device == "auto" {
            self.device = if has_gpu { "cuda" } else { "cpu" }.into();
        }
        if self.dtype == "auto" {
            let gpu = self.device().is_some_and(Device::is_cuda);
            self.dtype = if gpu || multiplies_bfloat16() { "bfloat16" } else { "float32" }.into();
        }
    }

    /// The device that `device` names; none for `auto` and for what names none.
    pub fn device(&self) -> Option<Device> {
        match self.device.as_str() {
            "cpu" => Some(Device::Cpu),
            "cuda" => Some(Device::Cuda(0)),
            other => other.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Device::Cuda),
        }
    }

    /// The kind that `dtype` names.
    pub fn kind(&self) -> Kind {
        match self.dtype.as_str() {
            "bfloat16" => Kind::BFloat16,
            "float16" => Kind::Half,
            _ => Kind::Float,
        }
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
