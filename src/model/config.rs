//! `config.json` of a Llama-family checkpoint, under Hugging Face key names.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Architecture of a decoder; field names are those of Hugging Face's `LlamaConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Class that transformers instantiates.
    #[serde(default = "llama_architectures")]
    pub architectures: Vec<String>,
    /// Only `llama` is supported here.
    #[serde(default = "llama")]
    pub model_type: String,
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width inside the SwiGLU.
    pub intermediate_size: i64,
    /// Blocks.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key/value heads (grouped-query attention); absent = as many as query heads.
    #[serde(default)]
    pub num_key_value_heads: Option<i64>,
    /// Width of a head; absent = hidden_size / num_attention_heads.
    #[serde(default)]
    pub head_dim: Option<i64>,
    /// Added to the variance in RMSNorm.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Older spelling of a scaled RoPE; only absent or `default` is supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<serde_json::Value>,
    /// Spelling of transformers 5: holds `rope_theta` and `rope_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<serde_json::Value>,
    /// Longest position the model was made for.
    pub max_position_embeddings: i64,
    /// Whether the output head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Biases in attention; not supported.
    #[serde(default)]
    pub attention_bias: bool,
    /// Biases in the MLP; not supported.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Activation; only `silu`.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// Beginning-of-text id.
    #[serde(default)]
    pub bos_token_id: Option<i64>,
    /// End-of-text id.
    #[serde(default)]
    pub eos_token_id: Option<i64>,
    /// Standard deviation of fresh weights.
    #[serde(default = "default_init")]
    pub initializer_range: f64,
    /// Kind of the stored weights.
    #[serde(default = "float32")]
    pub torch_dtype: String,
}

fn llama_architectures() -> Vec<String> {
    vec!["LlamaForCausalLM".into()]
}
fn llama() -> String {
    "llama".into()
}
fn silu() -> String {
    "silu".into()
}
fn float32() -> String {
    "float32".into()
}
fn default_eps() -> f64 {
    1e-6
}
fn default_theta() -> f64 {
    10_000.0
}
fn default_init() -> f64 {
    0.02
}

impl ModelConfig {
    /// Reads and checks `config.json`.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let mut config: Self = serde_json::from_str(&text).map_err(|e| Error::file(path, e.to_string()))?;
        if let Some(theta) = config.rope_parameters.as_ref().and_then(|p| p.get("rope_theta")).and_then(|t| t.as_f64())
        {
            config.rope_theta = theta;
        }
        config.check().map_err(|message| Error::file(path, message))?;
        Ok(config)
    }

    /// Key/value heads.
    pub fn kv_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head.
    pub fn head_width(&self) -> i64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// Says what is impossible or unsupported, naming the key.
    pub fn check(&self) -> std::result::Result<(), String> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.kv_heads()),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((key, value)) = positive.iter().find(|(_, v)| *v <= 0) {
            return Err(format!("`{key}`: expected a positive integer, got {value}"));
        }
        if self.num_attention_heads % self.kv_heads() != 0 {
            return Err(format!(
                "`num_key_value_heads`: expected a divisor of num_attention_heads = {}, got {}",
                self.num_attention_heads,
                self.kv_heads()
            ));
        }
        if self.head_width() % 2 != 0 || self.head_width() == 0 {
            return Err(format!("`head_dim`: expected an even number, got {}", self.head_width()));
        }
        if self.model_type != "llama" {
            return Err(format!("`model_type`: expected \"llama\", got {:?}", self.model_type));
        }
        if self.hidden_act != "silu" {
            return Err(format!("`hidden_act`: expected \"silu\", got {:?}", self.hidden_act));
        }
        if self.attention_bias || self.mlp_bias {
            return Err("`attention_bias` / `mlp_bias`: expected false, got true".into());
        }
        for (key, value) in [("rope_scaling", &self.rope_scaling), ("rope_parameters", &self.rope_parameters)] {
            let kind = value.as_ref().and_then(|v| v.get("rope_type").or(v.get("type"))).and_then(|v| v.as_str());
            if kind.is_some_and(|k| k != "default") {
                return Err(format!("`{key}`: expected rope_type \"default\", got {:?}", kind.unwrap_or("")));
            }
        }
        Ok(())
    }

    /// Every weight under its Hugging Face name, in storage order.
    pub fn parameters(&self) -> Vec<(String, Vec<i64>)> {
        let (h, f, d) = (self.hidden_size, self.intermediate_size, self.head_width());
        let (q, kv) = (self.num_attention_heads * d, self.kv_heads() * d);
        let mut all = vec![("model.embed_tokens.weight".to_string(), vec![self.vocab_size, h])];
        for i in 0..self.num_hidden_layers {
            let p = format!("model.layers.{i}");
            all.push((format!("{p}.input_layernorm.weight"), vec![h]));
            all.push((format!("{p}.post_attention_layernorm.weight"), vec![h]));
            for (name, shape) in [
                ("self_attn.q_proj", [q, h]),
                ("self_attn.k_proj", [kv, h]),
                ("self_attn.v_proj", [kv, h]),
                ("self_attn.o_proj", [h, q]),
                ("mlp.gate_proj", [f, h]),
                ("mlp.up_proj", [f, h]),
                ("mlp.down_proj", [h, f]),
            ] {
                all.push((format!("{p}.{name}.weight"), shape.to_vec()));
            }
        }
        all.push(("model.norm.weight".into(), vec![h]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".into(), vec![self.vocab_size, h]));
        }
        all
    }
}
