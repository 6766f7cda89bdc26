//! Bidirectional encoders of the BERT family: BERT and MiniLM (Devlin et al. 2019, arXiv 1810.04805; Wang et al. 2020,
//! arXiv 2002.10957) and DistilBERT (Sanh et al. 2019, arXiv 1910.01108), weights under their Hugging Face names. Rows are
//! padded on the right, as these tokenizers do; every token of a row attends to every other.

use crate::error::{Error, Result};
use crate::model::weights;
use crate::run_dir::read_json;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The part of `config.json` that matters here; DistilBERT's own keys are read too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncoderConfig {
    /// `bert` or `distilbert`.
    pub model_type: String,
    /// Rows of the word embedding.
    pub vocab_size: i64,
    /// Width H.
    #[serde(alias = "dim")]
    pub hidden_size: i64,
    /// Blocks.
    #[serde(alias = "n_layers")]
    pub num_hidden_layers: i64,
    /// Heads a block.
    #[serde(alias = "n_heads")]
    pub num_attention_heads: i64,
    /// Width of the feed-forward layer.
    #[serde(alias = "hidden_dim")]
    pub intermediate_size: i64,
    /// Longest row.
    pub max_position_embeddings: i64,
    /// Kinds of segments; none in DistilBERT.
    #[serde(default)]
    pub type_vocab_size: i64,
    /// Activation of the feed-forward layer: `gelu` alone is known.
    #[serde(alias = "activation", default = "gelu")]
    pub hidden_act: String,
    /// Added to variances.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
}

fn gelu() -> String {
    "gelu".into()
}

fn layer_norm_eps() -> f64 {
    1e-12
}

/// Names of a block's modules, from queries to the last norm.
const BERT: [&str; 8] = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
];
const DISTILBERT: [&str; 8] = [
    "attention.q_lin",
    "attention.k_lin",
    "attention.v_lin",
    "attention.out_lin",
    "sa_layer_norm",
    "ffn.lin1",
    "ffn.lin2",
    "output_layer_norm",
];
/// What checkpoints hold beside the encoder: other heads (those of a trained compressor too), poolers, buffers.
const OTHERS: [&str; 9] = [
    "pooler.",
    "cls.",
    "classifier.",
    "pre_classifier.",
    "qa_outputs.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "gist.",
];

impl EncoderConfig {
    /// Says what is not supported or does not fit together.
    pub fn check(&self) -> std::result::Result<(), String> {
        let expect = |ok: bool, message: String| if ok { Ok(()) } else { Err(message) };
        let known = ["bert", "distilbert"].contains(&self.model_type.as_str());
        expect(known, format!("`model_type`: expected bert or distilbert, got {}", self.model_type))?;
        expect(self.hidden_act == "gelu", format!("`hidden_act`: expected gelu, got {}", self.hidden_act))?;
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        let sizes = [self.vocab_size, width, self.num_hidden_layers, heads, self.max_position_embeddings];
        expect(sizes.iter().all(|&size| size > 0), format!("expected sizes above 0, got {sizes:?}"))?;
        expect(width % heads == 0, format!("`hidden_size`: expected a multiple of {heads} heads, got {width}"))
    }

    fn modules(&self, layer: i64) -> [String; 8] {
        let (stem, names) = match self.model_type.as_str() {
            "distilbert" => ("transformer.layer", DISTILBERT),
            _ => ("encoder.layer", BERT),
        };
        names.map(|name| format!("{stem}.{layer}.{name}"))
    }

    /// Names and shapes of all weights.
    pub fn parameters(&self) -> Vec<(String, Vec<i64>)> {
        let (h, wide) = (self.hidden_size, self.intermediate_size);
        let mut all = vec![("embeddings.word_embeddings.weight".to_string(), vec![self.vocab_size, h])];
        all.push(("embeddings.position_embeddings.weight".into(), vec![self.max_position_embeddings, h]));
        if self.type_vocab_size > 0 {
            all.push(("embeddings.token_type_embeddings.weight".into(), vec![self.type_vocab_size, h]));
        }
        let mut module = |name: &str, weight: Vec<i64>| {
            all.push((format!("{name}.bias"), vec![weight[0]]));
            all.push((format!("{name}.weight"), weight));
        };
        module("embeddings.LayerNorm", vec![h]);
        for layer in 0..self.num_hidden_layers {
            let [q, k, v, out, attention_norm, up, down, norm] = self.modules(layer);
            [q, k, v, out].iter().for_each(|name| module(name, vec![h, h]));
            module(&attention_norm, vec![h]);
            module(&up, vec![wide, h]);
            module(&down, vec![h, wide]);
            module(&norm, vec![h]);
        }
        all
    }
}

/// Weight and bias.
struct Affine(Tensor, Tensor);

impl Affine {
    fn take(named: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Self> {
        let mut one = |part: &str| {
            let name = format!("{name}.{part}");
            named.remove(&name).ok_or_else(|| Error::shape("encoder weights", format!("`{name}`"), "none"))
        };
        Ok(Self(one("weight")?, one("bias")?))
    }

    fn linear(&self, xs: &Tensor) -> Tensor {
        xs.linear(&self.0, Some(&self.1))
    }

    fn norm(&self, xs: &Tensor, eps: f64) -> Tensor {
        xs.layer_norm([xs.size()[xs.dim() - 1]].as_slice(), Some(&self.0), Some(&self.1), eps, false)
    }
}

/// An encoder over views of its weights.
pub struct Encoder {
    config: EncoderConfig,
    words: Tensor,
    positions: Tensor,
    types: Option<Tensor>,
    norm: Affine,
    layers: Vec<[Affine; 8]>,
}

impl Encoder {
    /// Over these tensors, which may require gradients.
    pub fn from_named(config: &EncoderConfig, mut named: BTreeMap<String, Tensor>) -> Result<Self> {
        config.check().map_err(Error::Invalid)?;
        let mut embedding = |part: &str| {
            let name = format!("embeddings.{part}_embeddings.weight");
            named.remove(&name).ok_or_else(|| Error::shape("encoder weights", format!("`{name}`"), "none"))
        };
        let (words, positions) = (embedding("word")?, embedding("position")?);
        let types = (config.type_vocab_size > 0).then(|| embedding("token_type")).transpose()?;
        let norm = Affine::take(&mut named, "embeddings.LayerNorm")?;
        let mut layers = Vec::new();
        for layer in 0..config.num_hidden_layers {
            let [a, b, c, d, e, f, g, h] = config.modules(layer);
            let mut take = |name: &str| Affine::take(&mut named, name);
            layers.push([take(&a)?, take(&b)?, take(&c)?, take(&d)?, take(&e)?, take(&f)?, take(&g)?, take(&h)?]);
        }
        Ok(Self { config: config.clone(), words, positions, types, norm, layers })
    }

    /// Reads a Hugging Face folder: its configuration and the encoder's weights in f32, under their names with or without
    /// the model's prefix. Heads of other tasks are passed over; anything else unknown is an error.
    pub fn read(folder: &Path) -> Result<(EncoderConfig, BTreeMap<String, Tensor>)> {
        let path = folder.join("config.json");
        let config: EncoderConfig = read_json(&path)?;
        config.check().map_err(|message| Error::file(&path, message))?;
        let path = folder.join("model.safetensors");
        let prefix = format!("{}.", config.model_type);
        let named = weights::read(&path)?.into_iter().map(|(name, tensor)| {
            let name = name.strip_prefix(&prefix).map_or(name.clone(), String::from);
            (name, tensor.to_kind(Kind::Float))
        });
        let ours = |name: &str| !OTHERS.iter().any(|o| name.starts_with(o)) && name != "embeddings.position_ids";
        let named: BTreeMap<String, Tensor> = named.filter(|(name, _)| ours(name)).collect();
        weights::check_exact(&path, &named, &config.parameters())?;
        Ok((config, named))
    }

    /// Sizes.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Device of the weights.
    pub fn device(&self) -> Device {
        self.words.device()
    }

    /// Hidden states `[N, T, H]` of right-padded rows: ids `[N, T]`, of which the first `lengths[n]` of row n are real, and
    /// their segments `[N, T]` (all 0 when none are given). What stands at padding means nothing.
    pub fn forward(&self, ids: &Tensor, lengths: &[i64], segments: Option<&Tensor>) -> Result<Tensor> {
        let (n, t) = ids.size2()?;
        if lengths.len() as i64 != n || lengths.iter().any(|&length| length < 1 || length > t) {
            return Err(Error::shape("lengths", format!("{n} in 1..={t}"), format!("{lengths:?}")));
        }
        if t > self.config.max_position_embeddings {
            return Err(Error::shape("row", format!("at most {}", self.config.max_position_embeddings), t));
        }
        let (low, high) = (ids.min().int64_value(&[]), ids.max().int64_value(&[]));
        if low < 0 || high >= self.config.vocab_size {
            let got = if low < 0 { low } else { high };
            return Err(Error::shape("token id", format!("0..{}", self.config.vocab_size), got));
        }
        let (heads, eps, device) = (self.config.num_attention_heads, self.config.layer_norm_eps, self.device());
        let steps = Tensor::arange(t, (Kind::Int64, device));
        let mut xs = Tensor::embedding(&self.words, ids, -1, false, false) + self.positions.narrow(0, 0, t);
        if let Some(types) = &self.types {
            let zeros = || Tensor::zeros_like(ids);
            let segments = segments.map_or_else(zeros, Tensor::shallow_clone);
            xs = xs + Tensor::embedding(types, &segments, -1, false, false);
        }
        xs = self.norm.norm(&xs, eps);
        let lengths = Tensor::from_slice(lengths).to_device(device).view([n, 1, 1, 1]);
        let mask = steps.view([1, 1, 1, t]).lt_tensor(&lengths); // [N, 1, 1, T]: keys that are no padding
        for [q, k, v, out, attention_norm, up, down, norm] in &self.layers {
            let split = |affine: &Affine| affine.linear(&xs).view([n, t, heads, -1]).transpose(1, 2);
            let (q, k, v) = (split(q), split(k), split(v));
            let mixed = Tensor::scaled_dot_product_attention(&q, &k, &v, Some(&mask), 0.0, false, None::<f64>, false);
            let mixed = mixed.transpose(1, 2).reshape([n, t, -1]);
            xs = attention_norm.norm(&(&xs + out.linear(&mixed)), eps);
            xs = norm.norm(&(&xs + down.linear(&up.linear(&xs).gelu("none"))), eps);
        }
        Ok(xs)
    }
}
