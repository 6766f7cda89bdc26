//! A decoder's `config.json` in one spelling. Tools of different age write the same thing differently, or write two
//! spellings side by side; what comes out of [`plain`] is what the configuration classes of transformers 5.23 make of it:
//!
//! - `dtype` before `torch_dtype`;
//! - `rope_scaling`, unless null or empty, in place of `rope_parameters`; `rope_theta` in whichever counts before the one
//!   beside it; `rope_type` before `type`. (A null `rope_type` says nothing here; transformers fails on it.)
//! - the positions of the first training: `original_max_position_embeddings` beside the scaling, within it, or else
//!   `max_position_embeddings`;
//! - `layer_types` of a Mistral counts: transformers reads such a file as Ministral;
//! - what a family's class does not read is dropped, and what is absent has the family's default. Null is not absent: a null
//!   `sliding_window` is no window, a null `num_key_value_heads` as many as there are heads.

use serde_json::{Map, Value, json};

/// Keys that transformers reads in other families only.
const UNREAD: [(&str, &[&str]); 4] = [
    ("llama", &["sliding_window", "use_sliding_window", "max_window_layers", "layer_types"]),
    ("mistral", &["use_sliding_window", "max_window_layers", "attention_bias", "mlp_bias"]),
    ("qwen2", &["attention_bias", "mlp_bias"]),
    ("qwen3", &["mlp_bias"]),
];
/// Scalings that go by the positions of the first training.
const BY_ORIGINAL: [&str; 2] = ["llama3", "yarn"];
const ORIGINAL: &str = "original_max_position_embeddings";
const PARTIAL: &str = "partial_rotary_factor";

/// The defaults of a family's class, for keys whose default is not the same everywhere.
fn defaults(family: &str) -> &'static [(&'static str, i64)] {
    match family {
        "llama" => &[("max_position_embeddings", 2048)],
        "mistral" => &[("max_position_embeddings", 131_072), ("num_key_value_heads", 8), ("sliding_window", 4096)],
        "qwen2" | "qwen3" => &[
            ("max_position_embeddings", 32_768),
            ("num_key_value_heads", 32),
            ("sliding_window", 4096),
            ("max_window_layers", 28),
        ],
        _ => &[],
    }
}

/// The keys of `config.json` under one name each, without keys that have no effect. An error names the key.
pub fn plain(mut json: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let family = json.get("model_type").and_then(Value::as_str).unwrap_or("llama").to_string();
    for (key, value) in defaults(&family) {
        json.entry(*key).or_insert(json!(value));
    }
    json.retain(|_, value| !value.is_null());
    for key in UNREAD.iter().filter(|(name, _)| *name == family).flat_map(|(_, keys)| *keys) {
        json.remove(*key);
    }
    if let Some(kind) = json.remove("dtype") {
        json.insert("torch_dtype".into(), kind);
    }
    if family.starts_with("qwen") && json.get("use_sliding_window") != Some(&Value::Bool(true)) {
        json.remove("sliding_window");
    }
    if family == "qwen3" {
        json.entry("head_dim").or_insert(json!(128));
    }
    if json.contains_key("quantization_config") {
        return Err("`quantization_config`: expected it unset, quantised weights are not read, got one".into());
    }
    rotary(&mut json)?;
    Ok(json)
}

/// Leaves one table of rotary parameters, whole, and `rope_theta` beside it.
fn rotary(json: &mut Map<String, Value>) -> Result<(), String> {
    rotated_whole(json)?;
    let says = |key: &&str| json.get(*key).is_some_and(|value| value.as_object().is_none_or(|table| !table.is_empty()));
    let Some(key) = ["rope_scaling", "rope_parameters"].into_iter().find(says) else { return Ok(()) };
    let table = json.remove(key).unwrap_or_default();
    json.retain(|key, _| !["rope_scaling", "rope_parameters"].contains(&key.as_str()));
    let Value::Object(mut table) = table else { return Err(format!("`{key}`: expected a table, got {table}")) };
    if let Some((kind, _)) = table.iter().find(|(_, value)| value.is_object()) {
        return Err(format!("`{key}`: expected one table for all blocks, got one for {kind:?}"));
    }
    rotated_whole(&table)?;
    let is_ratio = table.get("factor").is_some_and(Value::is_null);
    table.retain(|_, value| !value.is_null());
    let kind = table.get("rope_type").or(table.get("type")).and_then(Value::as_str);
    if kind.is_some_and(|kind| BY_ORIGINAL.contains(&kind)) {
        let longest = json.get("max_position_embeddings").cloned().unwrap_or_default();
        let within = table.remove(ORIGINAL);
        let original = json.get(ORIGINAL).cloned().or(within).unwrap_or_else(|| longest.clone());
        if let Some((longest, original)) = longest.as_f64().zip(original.as_f64()).filter(|_| is_ratio) {
            table.insert("factor".into(), json!(longest / original));
        }
        table.insert(ORIGINAL.into(), original);
    }
    if let Some(theta) = table.get("rope_theta") {
        json.insert("rope_theta".into(), theta.clone());
    }
    json.insert(key.into(), Value::Object(table));
    Ok(())
}

/// Fails where only a part of a head is rotated.
fn rotated_whole(table: &Map<String, Value>) -> Result<(), String> {
    match table.get(PARTIAL) {
        Some(share) if !share.is_null() && share.as_f64() != Some(1.0) => {
            Err(format!("`{PARTIAL}`: expected 1, heads are rotated whole, got {share}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Value, String> {
        plain(value.as_object().cloned().unwrap()).map(Value::Object)
    }

    #[test]
    fn of_two_spellings_one_counts() {
        let both = read(json!({"model_type": "llama", "dtype": "bfloat16", "torch_dtype": "float16"})).unwrap();
        assert_eq!((&both["torch_dtype"], both.get("dtype")), (&json!("bfloat16"), None));
        let null = read(json!({"model_type": "llama", "dtype": null, "torch_dtype": "float16"})).unwrap();
        assert_eq!(null["torch_dtype"], "float16");
        let old = json!({"type": "linear", "factor": 2.0, "rope_type": null});
        let new = json!({"rope_type": "default", "rope_theta": 7.0});
        let both = read(json!({"rope_scaling": old, "rope_parameters": new, "rope_theta": 5.0})).unwrap();
        assert_eq!((&both["rope_theta"], both.get("rope_parameters")), (&json!(5.0), None));
        assert_eq!(both["rope_scaling"], json!({"type": "linear", "factor": 2.0}));
        let new = read(json!({"rope_scaling": {}, "rope_parameters": new, "rope_theta": 5.0})).unwrap();
        assert_eq!((&new["rope_theta"], new.get("rope_scaling")), (&json!(7.0), None));
    }

    #[test]
    fn the_positions_of_the_first_training_have_three_places() {
        let yarn = |more: Value, beside: Value| {
            let mut table = json!({"type": "yarn", "factor": 4.0});
            table.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            let mut config = json!({"max_position_embeddings": 64, "rope_scaling": table});
            config.as_object_mut().unwrap().extend(beside.as_object().cloned().unwrap());
            let scaling = read(config).unwrap()["rope_scaling"].clone();
            (scaling[ORIGINAL].as_f64().unwrap(), scaling["factor"].as_f64().unwrap())
        };
        assert_eq!(yarn(json!({}), json!({})), (64.0, 4.0));
        assert_eq!(yarn(json!({ORIGINAL: 16}), json!({})), (16.0, 4.0));
        assert_eq!(yarn(json!({ORIGINAL: 16}), json!({ORIGINAL: 8})), (8.0, 4.0));
        assert_eq!(yarn(json!({ORIGINAL: 32, "factor": null}), json!({})), (32.0, 2.0));
    }

    #[test]
    fn a_window_is_given_switched_off_or_the_familys() {
        let window = |value: Value| read(value).unwrap().get("sliding_window").cloned();
        assert_eq!(window(json!({"model_type": "mistral"})), Some(json!(4096)));
        assert_eq!(window(json!({"model_type": "mistral", "sliding_window": null})), None);
        assert_eq!(window(json!({"model_type": "llama", "sliding_window": 8})), None);
        assert_eq!(window(json!({"model_type": "qwen2", "sliding_window": 8})), None);
        assert_eq!(window(json!({"model_type": "qwen2", "use_sliding_window": true})), Some(json!(4096)));
        assert_eq!(window(json!({"model_type": "qwen3", "sliding_window": 8, "use_sliding_window": false})), None);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_key() {
        let nested = json!({"model_type": "qwen3", "rope_parameters": {"full_attention": {"rope_type": "default"}}});
        for (value, key) in [
            (json!({"rope_scaling": "yarn"}), "`rope_scaling`"),
            (json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor`"),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "`partial_rotary_factor`"),
            (json!({"quantization_config": {"quant_method": "awq"}}), "`quantization_config`"),
            (nested, "`rope_parameters`"),
        ] {
            let said = read(value).unwrap_err();
            assert!(said.starts_with(key), "{said}");
        }
    }
}
