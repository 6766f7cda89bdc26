//! PEFT's `adapter_config.json`: the part that matters here, and the variants of LoRA that are refused.

use crate::error::{Error, Result};
use crate::run_dir::read_json;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file.
pub(super) const CONFIG: &str = "adapter_config.json";
/// Key of peft's trainable tokens.
pub(super) const TOKENS: &str = "trainable_token_indices";
/// Table of what a model reads.
pub(super) const EMBEDDING: &str = "embed_tokens";
/// Table of what it writes.
pub(super) const HEAD: &str = "lm_head";

/// The part of PEFT's `adapter_config.json` that matters here.
#[derive(Serialize, Deserialize)]
pub(super) struct PeftConfig {
    pub peft_type: String,
    pub task_type: Option<String>,
    pub base_model_name_or_path: Option<String>,
    pub r: i64,
    pub lora_alpha: f64,
    #[serde(default)]
    pub lora_dropout: f64,
    pub bias: String,
    #[serde(default)]
    pub fan_in_fan_out: bool,
    #[serde(default)]
    pub inference_mode: bool,
    pub target_modules: Vec<String>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, Value>,
}

/// Variants of LoRA that peft knows and this module does not: each must be absent, null, false or empty.
const UNSUPPORTED: [&str; 17] = [
    "alora_invocation_tokens",
    "arrow_config",
    "exclude_modules",
    "kasa_config",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
    "velora_config",
    "use_dora",
    "use_rslora",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layers_to_transform",
    "layer_replication",
];

/// Names of projections out of paths of modules (`model.layers.0.self_attn.q_proj`, as EVA writes them), each once. A block
/// without one of them lacks its weights.
pub(super) fn last_names(modules: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in modules.iter().filter_map(|module| module.rsplit('.').next()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    names
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

/// Values of `init_lora_weights` that leave the base as it is.
const INITS: [&str; 4] = ["eva", "gaussian", "mica", "orthogonal"];
/// Beginnings of those after which the base is another.
const CHANGING: [&str; 5] = ["pissa", "olora", "corda", "lora_ga", "loftq"];
const INIT: &str = "init_lora_weights";

/// Fails where the adapter belongs to a base that was changed when it was begun, or may have been.
fn check_init(value: Option<&Value>) -> std::result::Result<(), String> {
    let value = match value {
        None | Some(Value::Null | Value::Bool(_)) => return Ok(()),
        Some(value) => value,
    };
    let name = value.as_str().unwrap_or_default().to_lowercase();
    if INITS.contains(&name.as_str()) {
        return Ok(());
    }
    Err(match CHANGING.iter().find(|changing| name.starts_with(**changing)) {
        Some(&"loftq") => {
            format!("`{INIT}`: expected an adapter of the base as it is, got {value}: LoftQ quantised it")
        }
        Some(_) => format!(
            "`{INIT}`: expected an adapter of the base as it is, got {value}, whose beginning was subtracted from the \
             base; peft's save_pretrained makes a plain one of it with path_initial_model_for_weight_conversion"
        ),
        None => format!("`{INIT}`: expected true, false or one of {INITS:?}, got {value}"),
    })
}

impl PeftConfig {
    /// Reads the configuration of a folder and refuses what is not plain LoRA.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let peft: Value = read_json(&path)?;
        let refuse = |message: String| Error::file(&path, message);
        if let Some(pattern @ Value::String(_)) = peft.get("target_modules") {
            return Err(refuse(format!("`target_modules`: expected a list of names, got {pattern}")));
        }
        let peft: PeftConfig = serde_json::from_value(peft).map_err(|error| refuse(error.to_string()))?;
        peft.check().map_err(refuse)?;
        Ok(peft)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.peft_type != "LORA" {
            return Err(format!("`peft_type`: expected \"LORA\", got {:?}", self.peft_type));
        }
        if self.bias != "none" {
            return Err(format!("`bias`: expected \"none\", got {:?}", self.bias));
        }
        if self.fan_in_fan_out {
            return Err("`fan_in_fan_out`: expected false, got true".into());
        }
        check_init(self.rest.get(INIT))?;
        for key in UNSUPPORTED {
            if let Some(value) = self.rest.get(key).filter(|value| !is_unset(value)) {
                return Err(format!("`{key}`: expected it unset, got {value}"));
            }
        }
        Ok(())
    }

    /// Ids of the trainable tokens of each table that has some; a bare list is of the embedding.
    pub fn trained_tokens(&self) -> std::result::Result<BTreeMap<String, Vec<i64>>, String> {
        let Some(value) = self.rest.get(TOKENS).filter(|value| !is_unset(value)) else { return Ok(BTreeMap::new()) };
        let by_table = if value.is_array() { json!({EMBEDDING: value}) } else { value.clone() };
        let lists: BTreeMap<String, Vec<i64>> = serde_json::from_value(by_table)
            .map_err(|_| format!("`{TOKENS}`: expected a list of ids, or one for each table, got {value}"))?;
        let table = |name: String| name.rsplit('.').next().map(String::from).unwrap_or_default();
        let lists: BTreeMap<String, Vec<i64>> = lists.into_iter().map(|(name, ids)| (table(name), ids)).collect();
        match lists.keys().find(|name| ![EMBEDDING, HEAD].contains(&name.as_str())) {
            Some(other) => Err(format!("`{TOKENS}`: expected {EMBEDDING:?} and {HEAD:?}, got {other:?}")),
            None => Ok(lists),
        }
    }
}
