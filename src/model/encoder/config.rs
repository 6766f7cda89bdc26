//! The part of an encoder's `config.json` that matters here, in every spelling that checkpoints have: DistilBERT's own keys,
//! ModernBERT's of transformers 4 and 5. The rest is kept, so that what is trained is saved as it was read.

use crate::error::{Error, Result};
use crate::model::rope::Scaling;
use crate::run_dir::{read_json, write_json_atomic};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A network that is known, by `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderFamily {
    /// `bert`, MiniLM among them.
    Bert,
    /// `distilbert`.
    DistilBert,
    /// `roberta`.
    Roberta,
    /// `xlm-roberta`.
    XlmRoberta,
    /// `modernbert`.
    ModernBert,
}

impl EncoderFamily {
    const ALL: [EncoderFamily; 5] = [
        EncoderFamily::Bert,
        EncoderFamily::DistilBert,
        EncoderFamily::Roberta,
        EncoderFamily::XlmRoberta,
        EncoderFamily::ModernBert,
    ];

    /// The family's `model_type` in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            EncoderFamily::Bert => "bert",
            EncoderFamily::DistilBert => "distilbert",
            EncoderFamily::Roberta => "roberta",
            EncoderFamily::XlmRoberta => "xlm-roberta",
            EncoderFamily::ModernBert => "modernbert",
        }
    }

    /// The family's class in transformers, without a head.
    fn class(self) -> &'static str {
        match self {
            EncoderFamily::Bert => "BertModel",
            EncoderFamily::DistilBert => "DistilBertModel",
            EncoderFamily::Roberta => "RobertaModel",
            EncoderFamily::XlmRoberta => "XLMRobertaModel",
            EncoderFamily::ModernBert => "ModernBertModel",
        }
    }

    /// Prefixes that models with a head put before the names of its weights.
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            EncoderFamily::Bert => &["bert."],
            EncoderFamily::DistilBert => &["distilbert."],
            EncoderFamily::Roberta | EncoderFamily::XlmRoberta => &["roberta."],
            EncoderFamily::ModernBert => &["model.", "encoder."],
        }
    }

    /// Whether rows of the position embedding before and at that of padding belong to no token.
    fn pads_positions(self) -> bool {
        match self {
            EncoderFamily::Roberta | EncoderFamily::XlmRoberta => true,
            EncoderFamily::Bert | EncoderFamily::DistilBert | EncoderFamily::ModernBert => false,
        }
    }

    /// Whether it has an embedding of segments.
    fn has_segments(self) -> bool {
        match self {
            EncoderFamily::Bert | EncoderFamily::Roberta | EncoderFamily::XlmRoberta => true,
            EncoderFamily::DistilBert | EncoderFamily::ModernBert => false,
        }
    }
}

/// Rotary bases of ModernBERT when nothing says otherwise: of blocks that see everything, and of those with a window.
const THETAS: [f64; 2] = [160_000.0, 10_000.0];
/// Kinds of its blocks, as transformers 5 names them.
const BLOCKS: [&str; 2] = ["full_attention", "sliding_attention"];

/// Sizes of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderConfig {
    /// Network.
    pub family: EncoderFamily,
    /// Rows of the word embedding.
    pub vocab_size: i64,
    /// Width H.
    pub hidden_size: i64,
    /// Blocks.
    pub num_hidden_layers: i64,
    /// Heads a block.
    pub num_attention_heads: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Tokens of the longest row.
    pub longest: i64,
    /// Kinds of segments; 0 where there is no embedding of them.
    pub type_vocab_size: i64,
    /// Added to variances.
    pub eps: f64,
    /// Rows of the position embedding.
    pub(super) positions: i64,
    /// The first of them that a token takes: RoBERTa's begin after the one of padding.
    pub(super) first_position: i64,
    /// Keys of ModernBERT alone.
    pub(super) modern: Option<Modern>,
    json: Map<String, Value>,
}

/// Attention and biases of ModernBERT.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Modern {
    /// Number of tokens to either side that a token sees in a block with a window.
    pub reach: i64,
    /// For each block, whether it has a window.
    pub local: Vec<bool>,
    /// Rotary base and scaling of blocks without and with a window.
    pub rotary: [(f64, Scaling); 2],
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub norm_bias: bool,
}

/// DistilBERT's own keys.
const ALIASES: [(&str, &str); 5] = [
    ("dim", "hidden_size"),
    ("n_layers", "num_hidden_layers"),
    ("n_heads", "num_attention_heads"),
    ("hidden_dim", "intermediate_size"),
    ("activation", "hidden_act"),
];

#[derive(Deserialize)]
struct Keys {
    vocab_size: i64,
    hidden_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    intermediate_size: i64,
    max_position_embeddings: i64,
    type_vocab_size: Option<i64>,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "gelu")]
    hidden_activation: String,
    layer_norm_eps: Option<f64>,
    norm_eps: Option<f64>,
    pad_token_id: Option<i64>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default = "window")]
    local_attention: i64,
    #[serde(default = "every")]
    global_attn_every_n_layers: i64,
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    norm_bias: bool,
}

fn gelu() -> String {
    "gelu".into()
}
fn window() -> i64 {
    128
}
fn every() -> i64 {
    3
}

impl EncoderConfig {
    /// Reads and checks `config.json`.
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_json(read_json(path)?).map_err(|message| Error::file(path, message))
    }

    /// Reads the keys of `config.json`; an error says what is not supported or does not fit together.
    pub fn from_json(json: Map<String, Value>) -> std::result::Result<Self, String> {
        let expect = |ok: bool, message: String| if ok { Ok(()) } else { Err(message) };
        let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("none");
        let family = EncoderFamily::ALL.into_iter().find(|family| family.name() == model_type).ok_or_else(|| {
            let names = EncoderFamily::ALL.map(EncoderFamily::name).join(", ");
            format!("`model_type`: expected one of {names}, got {model_type}")
        })?;
        let mut plain = json.clone();
        for (alias, key) in ALIASES {
            if let Some(value) = plain.remove(alias) {
                plain.insert(key.into(), value);
            }
        }
        // Python writes null for what is not set.
        plain.retain(|_, value| !value.is_null());
        let keys: Keys = serde_json::from_value(Value::Object(plain)).map_err(|e| e.to_string())?;
        let is_modern = family == EncoderFamily::ModernBert;
        // ModernBERT's configurations may have the keys of the others too, which then say nothing.
        let (key, act, eps, default) = match is_modern {
            true => ("hidden_activation", &keys.hidden_activation, keys.norm_eps, 1e-5),
            false => ("hidden_act", &keys.hidden_act, keys.layer_norm_eps, 1e-12),
        };
        expect(act == "gelu", format!("`{key}`: expected gelu, got {act}"))?;
        expect(!keys.is_decoder, "`is_decoder`: expected false, got true".into())?;
        let positions = keys.position_embedding_type.as_deref().unwrap_or("absolute");
        expect(positions == "absolute", format!("`position_embedding_type`: expected absolute, got {positions}"))?;
        let first_position = if family.pads_positions() { keys.pad_token_id.unwrap_or(1) + 1 } else { 0 };
        let longest = keys.max_position_embeddings - first_position;
        let (width, heads) = (keys.hidden_size, keys.num_attention_heads);
        let sizes = [keys.vocab_size, width, keys.num_hidden_layers, heads, keys.intermediate_size, longest];
        expect(sizes.iter().all(|&size| size > 0), format!("expected sizes above 0, got {sizes:?}"))?;
        let whole = width % heads == 0;
        expect(whole, format!("`hidden_size`: expected a multiple of {heads} heads, got {width}"))?;
        Ok(Self {
            vocab_size: keys.vocab_size,
            hidden_size: width,
            num_hidden_layers: keys.num_hidden_layers,
            num_attention_heads: heads,
            intermediate_size: keys.intermediate_size,
            longest,
            type_vocab_size: if family.has_segments() { keys.type_vocab_size.unwrap_or(2) } else { 0 },
            eps: eps.unwrap_or(default),
            positions: keys.max_position_embeddings,
            first_position,
            modern: if is_modern { Some(Modern::from_keys(&keys, &json)?) } else { None },
            family,
            json,
        })
    }

    /// Writes `config.json` as it was read, for weights in float32 without a head.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut json = self.json.clone();
        json.insert("architectures".into(), json!([self.family.class()]));
        json.remove("torch_dtype");
        json.insert("dtype".into(), "float32".into());
        write_json_atomic(path, &json)
    }

    /// Value of a key of `config.json` that does not describe the network.
    pub fn other(&self, key: &str) -> Option<&Value> {
        self.json.get(key)
    }

    /// A weight's name without what a model with a head puts before it.
    pub(super) fn plain<'a>(&self, name: &'a str) -> &'a str {
        self.family.prefixes().iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
    }
}

impl Modern {
    fn from_keys(keys: &Keys, json: &Map<String, Value>) -> std::result::Result<Self, String> {
        let (layers, every) = (keys.num_hidden_layers, keys.global_attn_every_n_layers);
        if every < 1 || keys.local_attention < 2 {
            let got = format!("got {every} and {}", keys.local_attention);
            return Err(format!("`global_attn_every_n_layers`, `local_attention`: expected at least 1 and 2, {got}"));
        }
        let local = match &keys.layer_types {
            None => (0..layers).map(|layer| layer % every > 0).collect(),
            Some(types) => types
                .iter()
                .map(|of| BLOCKS.iter().position(|block| block == of).map(|at| at == 1))
                .collect::<Option<Vec<bool>>>()
                .filter(|local| local.len() as i64 == layers)
                .ok_or_else(|| format!("`layer_types`: expected {layers} of {BLOCKS:?}, got {types:?}"))?,
        };
        let width = keys.hidden_size / keys.num_attention_heads;
        if width % 2 > 0 {
            return Err(format!("`hidden_size`: expected heads of an even width, got {width}"));
        }
        let given = |at: usize| json.get("rope_parameters").and_then(|all| all.get(BLOCKS[at]));
        let number = |value: Option<&Value>| value.and_then(Value::as_f64);
        let whole = number(given(0).and_then(|of| of.get("rope_theta"))).or(number(json.get("global_rope_theta")));
        let whole = whole.unwrap_or(THETAS[0]);
        // Null, unlike nothing, is the other's.
        let old = json.get("local_rope_theta").map_or(THETAS[1], |value| value.as_f64().unwrap_or(whole));
        let near = number(given(1).and_then(|of| of.get("rope_theta"))).unwrap_or(old);
        let scaling = |at: usize| -> std::result::Result<Scaling, String> {
            let (key, value) = match given(at) {
                Some(value) => (format!("rope_parameters.{}", BLOCKS[at]), Some(value)),
                None => ("rope_scaling".into(), json.get("rope_scaling")),
            };
            Scaling::from_json(value).map_err(|message| format!("`{key}`: {message}"))
        };
        Ok(Self {
            reach: keys.local_attention / 2,
            local,
            rotary: [(whole, scaling(0)?), (near, scaling(1)?)],
            attention_bias: keys.attention_bias,
            mlp_bias: keys.mlp_bias,
            norm_bias: keys.norm_bias,
        })
    }
}
