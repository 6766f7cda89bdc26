//! A base before its first step: architecture and beginning of rows from the experiment, weights from the run's seed.

use crate::config::bos::Bos;
use crate::config::pretrain::PretrainConfig;
use crate::error::{Error, Result};
use crate::model::config::{Ids, ModelConfig};
use crate::tokenizer::{END_OF_TEXT, Tokenizer, begin};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// The tokens that every row begins with, and the tokenizer, whose file is to say so. An error where rows of `rows.tokens`
/// behind them are longer than the base.
pub fn beginning(config: &PretrainConfig, tokenizer: Tokenizer) -> Result<(Tokenizer, Vec<u32>)> {
    let (found, own) = match config.given_tokenizer()? {
        Some(path) => (begin(&path, config.model.bos)?, begin(&path, Bos::Auto)?),
        None if config.model.bos == Bos::Yes => (vec![tokenizer.require_end_of_text()?], Vec::new()),
        None => (Vec::new(), Vec::new()),
    };
    let (longest, limit) = (config.rows.tokens + found.len(), config.model.max_position_embeddings);
    if longest as i64 > limit {
        let message =
            format!("model.max_position_embeddings: expected at least {longest} (with model.bos), got {limit}");
        return Err(Error::Invalid(message));
    }
    let tokenizer = if found == own { tokenizer } else { tokenizer.beginning(&found)? };
    Ok((tokenizer, found))
}

/// `tokenizer_config.json` of the finished base.
pub fn tokenizer_config(tokenizer: &Tokenizer, begin: &[u32]) -> Result<Value> {
    let mut told = json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT,
        "bos_token": END_OF_TEXT, "clean_up_tokenization_spaces": false});
    if let Some((token, _)) = tokenizer.named(begin)?.first() {
        told["bos_token"] = token.as_str().into();
        told["add_bos_token"] = true.into();
    }
    Ok(told)
}

/// The architecture of `config` with the tokenizer's vocabulary, whose rows begin with `begin`.
pub fn model_config(config: &PretrainConfig, tokenizer: &Tokenizer, begin: &[u32]) -> ModelConfig {
    let a = &config.model;
    let end = tokenizer.end_of_text().map(i64::from);
    ModelConfig {
        architectures: vec!["LlamaForCausalLM".into()],
        model_type: "llama".into(),
        vocab_size: tokenizer.vocab_size() as i64,
        hidden_size: a.hidden_size,
        intermediate_size: a.intermediate_size,
        num_hidden_layers: a.num_hidden_layers,
        num_attention_heads: a.num_attention_heads,
        num_key_value_heads: Some(a.num_key_value_heads),
        head_dim: None,
        rms_norm_eps: a.rms_norm_eps,
        rope_theta: a.rope_theta,
        rope_scaling: None,
        rope_parameters: None,
        max_position_embeddings: a.max_position_embeddings,
        tie_word_embeddings: a.tie_word_embeddings,
        attention_bias: false,
        mlp_bias: false,
        sliding_window: None,
        use_sliding_window: None,
        max_window_layers: None,
        layer_types: None,
        hidden_act: "silu".into(),
        bos_token_id: begin.first().map(|&id| i64::from(id)).or(end),
        eos_token_id: end.map(Ids::One),
        initializer_range: 0.02,
        torch_dtype: "float32".into(),
    }
}

/// Fresh weights: normal with the initialiser's deviation, residual outputs scaled by 1/√(2 layers), norms 1.
pub fn initial(model: &ModelConfig, device: Device) -> Vec<(String, Tensor)> {
    let residual = 1.0 / (2.0 * model.num_hidden_layers as f64).sqrt();
    let make = |(name, shape): (String, Vec<i64>)| {
        let value = if shape.len() == 1 {
            Tensor::ones(shape.as_slice(), (Kind::Float, device))
        } else {
            let scale = if name.contains("o_proj") || name.contains("down_proj") { residual } else { 1.0 };
            Tensor::randn(shape.as_slice(), (Kind::Float, device)) * (model.initializer_range * scale)
        };
        (name, value)
    };
    model.parameters().into_iter().map(make).collect()
}
