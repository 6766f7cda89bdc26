//! `config.json` of a decoder: Llama and its relatives (SmolLM, SmolLM2), Mistral, Qwen2 and 2.5, Qwen3, under Hugging
//! Face key names. They are one network; what differs is in the configuration.

use crate::config::parts::Projection;
use crate::error::{Error, Result};
use crate::gguf::{Gguf, is_gguf};
use crate::model::dialects;
use crate::model::rope::Scaling;
use crate::run_dir::read_json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The architectures that load.
pub const MODEL_TYPES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// Architecture of a decoder; field names are those of Hugging Face's configurations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Class that transformers instantiates.
    #[serde(default = "llama_architectures")]
    pub architectures: Vec<String>,
    /// One of [`MODEL_TYPES`].
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
    /// Older spelling of a scaled RoPE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<serde_json::Value>,
    /// Spelling of transformers 5: holds `rope_theta` and `rope_type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<serde_json::Value>,
    /// Positions that the model was made for; a scaled RoPE may reach further ([`ModelConfig::positions`]).
    pub max_position_embeddings: i64,
    /// Whether the output head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Biases in attention; Qwen2 has those of queries, keys and values whatever this says.
    #[serde(default)]
    pub attention_bias: bool,
    /// Biases in the MLP.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Tokens that a token sees, itself included, in blocks that have a window. Null, unlike nothing, means none to every tool.
    #[serde(default)]
    pub sliding_window: Option<i64>,
    /// Qwen: whether there is a window at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_sliding_window: Option<bool>,
    /// Qwen: blocks before the first that has a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_window_layers: Option<i64>,
    /// Spelling of transformers 5: `full_attention` or `sliding_attention` for each block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<String>>,
    /// Activation; only `silu`.
    #[serde(default = "silu")]
    pub hidden_act: String,
    /// Beginning-of-text id.
    #[serde(default)]
    pub bos_token_id: Option<i64>,
    /// End-of-text id, or several.
    #[serde(default)]
    pub eos_token_id: Option<Ids>,
    /// Standard deviation of fresh weights.
    #[serde(default = "default_init")]
    pub initializer_range: f64,
    /// Kind of the stored weights.
    #[serde(default = "float32")]
    pub torch_dtype: String,
}

/// One id, or a list of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Ids {
    /// One.
    One(i64),
    /// Several.
    Many(Vec<i64>),
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
    /// Reads and checks `config.json`, or what a GGUF file says in its place.
    /// Ids that end a text or a turn: `eos_token_id`, one or several; empty for a model that states none.
    pub fn end_ids(&self) -> &[i64] {
        match &self.eos_token_id {
            Some(Ids::One(id)) => std::slice::from_ref(id),
            Some(Ids::Many(ids)) => ids,
            None => &[],
        }
    }

    /// Reads and checks `config.json`, in any of the spellings that tools write (`dialects.rs`).
    pub fn load(path: &Path) -> Result<Self> {
        let refuse = |message: String| Error::file(path, message);
        let told = if is_gguf(path) { Gguf::open(path)?.config()? } else { read_json(path)? };
        let Value::Object(told) = told else { return Err(refuse(format!("expected an object, got {told}"))) };
        let plain = dialects::plain(told).map_err(refuse)?;
        let config: Self = serde_json::from_value(plain.into()).map_err(|e| refuse(e.to_string()))?;
        config.check().map_err(refuse)?;
        Ok(config)
    }

    /// Number of positions that it can be read at. A RoPE that is stretched by a factor is there for more than the stated
    /// maximum: `linear` and `yarn` reach that factor times the positions of the first training, as other engines have it. The
    /// maximum of `llama3` is stated stretched.
    pub fn positions(&self) -> i64 {
        let stretched = match self.rope_scaling() {
            Ok(Scaling::Linear { factor }) => factor * self.max_position_embeddings as f64,
            Ok(Scaling::Yarn { factor, original, .. }) => factor * original,
            Ok(Scaling::None | Scaling::Llama3 { .. }) | Err(_) => 0.0,
        };
        self.max_position_embeddings.max(stretched as i64)
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
        if !MODEL_TYPES.contains(&self.model_type.as_str()) {
            return Err(format!("`model_type`: expected one of {MODEL_TYPES:?}, got {:?}", self.model_type));
        }
        if self.hidden_act != "silu" {
            return Err(format!("`hidden_act`: expected \"silu\", got {:?}", self.hidden_act));
        }
        if let Some(window) = self.sliding_window.filter(|&window| window < 1) {
            return Err(format!("`sliding_window`: expected at least 1, got {window}"));
        }
        if let Some(kinds) = &self.layer_types {
            let known = ["full_attention", "sliding_attention"];
            if let Some(other) = kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
                return Err(format!("`layer_types`: expected {known:?}, got {other:?}"));
            }
            if kinds.len() as i64 != self.num_hidden_layers {
                let (expected, got) = (self.num_hidden_layers, kinds.len());
                return Err(format!("`layer_types`: expected one for each of {expected} blocks, got {got}"));
            }
            if self.sliding_window.is_none() && kinds.iter().any(|kind| kind == known[1]) {
                let message = "expected no \"sliding_attention\" without `use_sliding_window` and a `sliding_window`";
                return Err(format!("`layer_types`: {message}, got {kinds:?}"));
            }
        }
        self.rope_scaling().map(drop)
    }

    /// Scaling of the rotary frequencies; the error is a message that names the key.
    pub fn rope_scaling(&self) -> std::result::Result<Scaling, String> {
        for (key, value) in [("rope_parameters", &self.rope_parameters), ("rope_scaling", &self.rope_scaling)] {
            match Scaling::from_json(value.as_ref()).map_err(|message| format!("`{key}`: {message}"))? {
                Scaling::None => continue,
                scaling => return Ok(scaling),
            }
        }
        Ok(Scaling::None)
    }

    /// Tokens that a token sees in block `layer`; all where there is no window.
    pub fn window(&self, layer: i64) -> Option<i64> {
        let window = self.sliding_window?;
        if let Some(kinds) = &self.layer_types {
            return kinds.get(layer as usize).is_some_and(|kind| kind == "sliding_attention").then_some(window);
        }
        let has = match self.model_type.as_str() {
            "mistral" => true,
            "qwen2" | "qwen3" => self.use_sliding_window == Some(true) && layer >= self.max_window_layers.unwrap_or(28),
            _ => false,
        };
        has.then_some(window)
    }

    /// Whether a projection has a bias.
    pub fn has_bias(&self, projection: Projection) -> bool {
        match projection {
            Projection::Q | Projection::K | Projection::V => self.attention_bias || self.model_type == "qwen2",
            Projection::O => self.attention_bias && self.model_type != "qwen2",
            Projection::Gate | Projection::Up | Projection::Down => self.mlp_bias,
        }
    }

    /// Whether queries and keys are normed, each head on its own.
    pub fn has_head_norms(&self) -> bool {
        self.model_type == "qwen3"
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
            for projection in Projection::ALL {
                let shape = match projection {
                    Projection::Q => [q, h],
                    Projection::K | Projection::V => [kv, h],
                    Projection::O => [h, q],
                    Projection::Gate | Projection::Up => [f, h],
                    Projection::Down => [h, f],
                };
                let name = format!("{p}.{}.{}", projection.module(), projection.name());
                all.push((format!("{name}.weight"), shape.to_vec()));
                if self.has_bias(projection) {
                    all.push((format!("{name}.bias"), vec![shape[0]]));
                }
            }
            if self.has_head_norms() {
                all.push((format!("{p}.self_attn.q_norm.weight"), vec![d]));
                all.push((format!("{p}.self_attn.k_norm.weight"), vec![d]));
            }
        }
        all.push(("model.norm.weight".into(), vec![h]));
        if !self.tie_word_embeddings {
            all.push(("lm_head.weight".into(), vec![self.vocab_size, h]));
        }
        all
    }
}
