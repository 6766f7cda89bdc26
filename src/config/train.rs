//! (in progress)
use serde::{Deserialize, Serialize};

/// Where a run computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// `cpu` or `cuda`.
    #[serde(default = "default_device")]
    pub device: String,
    /// CPU threads; results depend on it, so it is part of the run's configuration.
    #[serde(default = "default_threads")]
    pub threads: i32,
    /// Kind of the frozen weights and activations: `float32` or `bfloat16`.
    #[serde(default = "default_dtype")]
    pub dtype: String,
}

fn default_device() -> String {
    "cpu".into()
}
fn default_threads() -> i32 {
    2
}
fn default_dtype() -> String {
    "float32".into()
}

impl Default for Hardware {
    fn default() -> Self {
        Self { device: default_device(), threads: default_threads(), dtype: default_dtype() }
    }
}

impl Hardware {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), super::parts::Problem> {
        if !["cpu", "cuda"].contains(&self.device.as_str()) {
            return Err(("device".into(), format!("expected \"cpu\" or \"cuda\", got {:?}", self.device)));
        }
        if !["float32", "bfloat16"].contains(&self.dtype.as_str()) {
            return Err(("dtype".into(), format!("expected \"float32\" or \"bfloat16\", got {:?}", self.dtype)));
        }
        if self.threads < 1 {
            return Err(("threads".into(), format!("expected at least 1, got {}", self.threads)));
        }
        Ok(())
    }
}
