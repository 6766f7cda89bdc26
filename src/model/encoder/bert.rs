//! The post-norm network of BERT, DistilBERT and RoBERTa: learned positions, attention to every token of the row, a norm
//! after each half of a block.

use crate::error::Result;
use crate::model::encoder::config::{EncoderConfig, EncoderFamily};
use crate::model::encoder::named::{Affine, NamedWeights};
use tch::{Kind, Tensor};

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
/// Name of the word embedding `[V, H]`.
pub const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";
const TYPES: &str = "embeddings.token_type_embeddings.weight";
const NORM: &str = "embeddings.LayerNorm";

fn modules(config: &EncoderConfig, layer: i64) -> [String; 8] {
    let (stem, names) = match config.family {
        EncoderFamily::DistilBert => ("transformer.layer", DISTILBERT),
        EncoderFamily::Bert | EncoderFamily::Roberta | EncoderFamily::XlmRoberta | EncoderFamily::ModernBert => {
            ("encoder.layer", BERT)
        }
    };
    names.map(|name| format!("{stem}.{layer}.{name}"))
}

/// Names and shapes of all weights.
pub fn parameters(config: &EncoderConfig) -> Vec<(String, Vec<i64>)> {
    let (h, wide) = (config.hidden_size, config.intermediate_size);
    let mut all = vec![(WORDS.to_string(), vec![config.vocab_size, h])];
    all.push((POSITIONS.into(), vec![config.positions, h]));
    if config.type_vocab_size > 0 {
        all.push((TYPES.into(), vec![config.type_vocab_size, h]));
    }
    let mut module = |name: &str, weight: Vec<i64>| {
        all.push((format!("{name}.bias"), vec![weight[0]]));
        all.push((format!("{name}.weight"), weight));
    };
    module(NORM, vec![h]);
    for layer in 0..config.num_hidden_layers {
        let [q, k, v, out, attention_norm, up, down, norm] = modules(config, layer);
        [q, k, v, out].iter().for_each(|name| module(name, vec![h, h]));
        module(&attention_norm, vec![h]);
        module(&up, vec![wide, h]);
        module(&down, vec![h, wide]);
        module(&norm, vec![h]);
    }
    all
}

/// The network without its word embedding.
pub struct Bert {
    positions: Tensor,
    types: Option<Tensor>,
    norm: Affine,
    layers: Vec<[Affine; 8]>,
}

impl Bert {
    /// Takes its weights out of `named`.
    pub fn take(config: &EncoderConfig, named: &mut NamedWeights) -> Result<Self> {
        let first = config.first_position;
        let positions = named.tensor(POSITIONS)?.narrow(0, first, config.longest);
        let types = (config.type_vocab_size > 0).then(|| named.tensor(TYPES)).transpose()?;
        let norm = named.affine(NORM, true)?;
        let mut layers = Vec::new();
        for layer in 0..config.num_hidden_layers {
            let [a, b, c, d, e, f, g, h] = modules(config, layer);
            let mut take = |name: &str| named.affine(name, true);
            layers.push([take(&a)?, take(&b)?, take(&c)?, take(&d)?, take(&e)?, take(&f)?, take(&g)?, take(&h)?]);
        }
        Ok(Self { positions, types, norm, layers })
    }

    /// Hidden states `[N, T, H]` of embedded words; `real` `[N, T]` is false at padding, and absent where there is none.
    pub fn forward(
        &self,
        config: &EncoderConfig,
        words: &Tensor,
        real: Option<&Tensor>,
        segments: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (n, t, _) = words.size3()?;
        let (heads, eps) = (config.num_attention_heads, config.eps);
        let mut xs = words + self.positions.narrow(0, 0, t);
        if let Some(types) = &self.types {
            let zeros = || Tensor::zeros([n, t], (Kind::Int64, words.device()));
            let segments = segments.map_or_else(zeros, Tensor::shallow_clone);
            xs = xs + Tensor::embedding(types, &segments, -1, false, false);
        }
        xs = self.norm.norm(&xs, eps);
        let mask = real.map(|real| real.view([n, 1, 1, t])); // keys that are no padding
        for [q, k, v, out, attention_norm, up, down, norm] in &self.layers {
            let split = |affine: &Affine| affine.linear(&xs).view([n, t, heads, -1]).transpose(1, 2);
            let (q, k, v) = (split(q), split(k), split(v));
            let mixed = Tensor::scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), 0.0, false, None::<f64>, false);
            let mixed = mixed.transpose(1, 2).reshape([n, t, -1]);
            xs = attention_norm.norm(&(&xs + out.linear(&mixed)), eps);
            xs = norm.norm(&(&xs + down.linear(&up.linear(&xs).gelu("none"))), eps);
        }
        Ok(xs)
    }
}
