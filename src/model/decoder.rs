//! The Llama-family decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU; biases, normed heads and a sliding window where
//! the configuration has them (Qwen2, Qwen3, Mistral). One frozen set of weights serves every
//! role; the adapter is an argument of each forward pass. Outputs are hidden states after the last norm: logits are made
//! in chunks by [`crate::model::vocab`].

use crate::config::parts::PROJECTIONS;
use crate::error::{Error, Result};
use crate::model::attention::{self, PrefixKeys};
use crate::model::config::ModelConfig;
use crate::model::lora::{ActiveAdapter, Adapter, LoraPair};
use crate::model::peft;
use crate::model::rope::{Rope, rotate};
use crate::model::weights;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

struct Layer {
    input_norm: Tensor,
    post_norm: Tensor,
    /// Weight, and bias if it has one, in the order of [`PROJECTIONS`].
    projections: Vec<(Tensor, Option<Tensor>)>,
    /// Of queries and of keys, where heads are normed.
    head_norms: [Option<Tensor>; 2],
    /// Tokens that a token sees; all where there is no window.
    window: Option<i64>,
}

/// A decoder with its weights.
pub struct Decoder {
    config: ModelConfig,
    embed: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Option<Tensor>,
    rope: Rope,
    identity: Option<String>,
}

/// Keys and values of a processed prefix, to be shared by branches.
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    lengths: Vec<i64>,
    bias: Option<Tensor>,
}

/// Keys and values that G branches per row have added after the shared prefix: `[N, G, Hkv, S, D]` a layer.
#[derive(Default)]
pub struct BranchCache {
    layers: Vec<(Tensor, Tensor)>,
    len: i64,
}

/// What else a forward pass over whole rows does.
#[derive(Default)]
struct Pass<'a> {
    /// Every token sees every other, not only those before it.
    both_ways: bool,
    /// Only the first so many blocks.
    blocks: Option<usize>,
    /// Keys and values are kept.
    keep: bool,
    /// From how many last tokens attention is watched, and where it goes, a tensor a block.
    watched: Option<(i64, &'a mut Vec<Tensor>)>,
}

impl Decoder {
    /// Loads `config.json` and the weights (one file, or shards with their index) from a Hugging Face folder; they must match
    /// exactly.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let config = ModelConfig::load(&folder.join("config.json"))?;
        let named = weights::read_model(folder, &config, kind, device)?;
        let identity = Some(weights::identity(folder, &config)?);
        Ok(Self { identity, ..Self::from_named(&config, named)? })
    }

    /// [`weights::identity`] of what was loaded; none for a model that is not from a folder.
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    /// The adapter in a folder, which must fit this base and, if it says which one it was made for, be this one's.
    pub fn load_adapter(&self, folder: &Path) -> Result<Adapter> {
        if let Some(own) = &self.identity {
            peft::check_base(folder, own)?;
        }
        Adapter::load(folder, &self.config, self.device())
    }

    /// Builds from tensors under Hugging Face names; shapes must already be right.
    pub fn from_named(config: &ModelConfig, mut named: BTreeMap<String, Tensor>) -> Result<Self> {
        config.check().map_err(Error::Invalid)?;
        let mut take = |name: String, shape: &[i64]| -> Result<Tensor> {
            let tensor =
                named.remove(&name).ok_or_else(|| Error::shape(&name, format!("a tensor {shape:?}"), "none"))?;
            crate::tensor::check_shape(&name, &tensor, shape)?;
            Ok(tensor)
        };
        let mut weights = BTreeMap::new();
        for (name, shape) in config.parameters() {
            weights.insert(name.clone(), take(name, &shape)?);
        }
        let mut next = |name: String| {
            let none = || Error::invalid(format!("{name}: expected a weight of this architecture, got none"));
            weights.remove(&name).ok_or_else(none)
        };
        let embed = next("model.embed_tokens.weight".into())?;
        let mut layers = Vec::new();
        for i in 0..config.num_hidden_layers {
            let mut part = |name: &str| next(format!("model.layers.{i}.{name}"));
            let mut projections = Vec::new();
            for (index, name) in PROJECTIONS.iter().enumerate() {
                let module = if index < 4 { "self_attn" } else { "mlp" };
                let weight = part(&format!("{module}.{name}.weight"))?;
                let bias = config.has_bias(index).then(|| part(&format!("{module}.{name}.bias"))).transpose()?;
                projections.push((weight, bias));
            }
            let head_norms = match config.has_head_norms() {
                true => [Some(part("self_attn.q_norm.weight")?), Some(part("self_attn.k_norm.weight")?)],
                false => [None, None],
            };
            let (input_norm, post_norm) = (part("input_layernorm.weight")?, part("post_attention_layernorm.weight")?);
            layers.push(Layer { input_norm, post_norm, projections, head_norms, window: config.window(i) });
        }
        let norm = next("model.norm.weight".into())?;
        let head = if config.tie_word_embeddings { None } else { Some(next("lm_head.weight".into())?) };
        let rotation = (config.rope_theta, config.rope_scaling().map_err(Error::Invalid)?);
        let rope =
            Rope::new(config.max_position_embeddings, config.head_width(), rotation, embed.kind(), embed.device());
        Ok(Self { config: config.clone(), embed, layers, norm, head, rope, identity: None })
    }

    /// Rebinds the weights to new tensors (pretraining cuts fresh views each step); the rotary tables are kept.
    pub fn rebind(self, named: BTreeMap<String, Tensor>) -> Result<Self> {
        let fresh = Self::from_named_with(&self.config, named, self.rope)?;
        Ok(fresh)
    }

    fn from_named_with(config: &ModelConfig, named: BTreeMap<String, Tensor>, rope: Rope) -> Result<Self> {
        let mut fresh = Self::from_named(&ModelConfig { max_position_embeddings: 1, ..config.clone() }, named)?;
        fresh.config = config.clone();
        fresh.rope = rope;
        Ok(fresh)
    }

    /// The architecture.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Device of the weights.
    pub fn device(&self) -> Device {
        self.embed.device()
    }

    /// An adapter as a forward pass over these weights needs it; dropout is on only when `training`.
    pub fn activate(&self, adapter: &Adapter, training: bool) -> ActiveAdapter {
        adapter.activate(&self.config, self.embed.kind(), training)
    }

    /// Embedding `[V, H]`.
    pub fn embedding(&self) -> &Tensor {
        &self.embed
    }

    /// Output head `[V, H]` (the embedding when tied).
    pub fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    fn embed(&self, ids: &Tensor, adapter: Option<&ActiveAdapter>) -> Result<Tensor> {
        let v = self.config.vocab_size;
        let limit = if adapter.is_some() { v + 3 } else { v };
        let (low, high) = (ids.min().int64_value(&[]), ids.max().int64_value(&[]));
        if low < 0 || high >= limit {
            let got = if low < 0 { low } else { high };
            return Err(Error::shape("token id", format!("0..{limit}"), got));
        }
        let xs = Tensor::embedding(&self.embed, &ids.clamp_max(v - 1), -1, false, false);
        match adapter {
            Some(adapter) if high >= v => {
                let rows = adapter.control.index_select(0, &(ids - v).clamp_min(0).reshape([-1]));
                Ok(rows.view_as(&xs).where_self(&ids.ge(v).unsqueeze(-1), &xs))
            }
            _ => Ok(xs),
        }
    }

    fn norm(&self, xs: &Tensor, weight: &Tensor) -> Tensor {
        let wide = xs.to_kind(Kind::Float);
        let scale = (wide.square().mean_dim([-1i64].as_slice(), true, Kind::Float) + self.config.rms_norm_eps).rsqrt();
        (wide * scale).to_kind(xs.kind()) * weight
    }

    fn project(&self, xs: &Tensor, layer: usize, index: usize, adapter: Option<&ActiveAdapter>) -> Tensor {
        let (weight, bias) = &self.layers[layer].projections[index];
        let ys = xs.linear(weight, bias.as_ref());
        match adapter.and_then(|a| a.layers[layer][index].as_ref().map(|pair| (a, pair))) {
            Some((active, LoraPair { a, b })) => {
                let input = if active.dropout > 0.0 { xs.dropout(active.dropout, true) } else { xs.shallow_clone() };
                ys + input.linear(a, None::<Tensor>).linear(b, None::<Tensor>)
            }
            None => ys,
        }
    }

    /// Queries or keys `[.., heads, D]`, normed where the architecture norms them.
    fn heads(&self, xs: Tensor, layer: usize, index: usize) -> Tensor {
        match self.layers[layer].head_norms.get(index) {
            Some(Some(weight)) => self.norm(&xs, weight),
            _ => xs,
        }
    }

    fn mlp(&self, xs: &Tensor, layer: usize, adapter: Option<&ActiveAdapter>) -> Tensor {
        let gate = self.project(xs, layer, 4, adapter).silu();
        let up = self.project(xs, layer, 5, adapter);
        self.project(&(gate * up), layer, 6, adapter)
    }

    fn check_positions(&self, last: i64) -> Result<()> {
        if last > self.rope.positions() {
            return Err(Error::shape("sequence length", format!("at most {}", self.rope.positions()), last));
        }
        Ok(())
    }

    /// Hidden states `[N, T, H]` of left-padded rows: ids `[N, T]`, of which the first `pad[n]` of row n are padding.
    pub fn forward(&self, ids: &Tensor, pad: &[i64], adapter: Option<&ActiveAdapter>) -> Result<Tensor> {
        Ok(self.run(ids, pad, adapter, Pass::default())?.0)
    }

    /// Hidden states `[N, T, H]` of left-padded rows in which every token sees every other: the base as an encoder, of use
    /// once an adapter has learned to read that way (LLM2Vec, BehnamGhader et al. 2024, arXiv 2404.05961). With `blocks`,
    /// of its blocks only the first so many.
    pub fn encode(
        &self,
        ids: &Tensor,
        pad: &[i64],
        adapter: Option<&ActiveAdapter>,
        blocks: Option<usize>,
    ) -> Result<Tensor> {
        Ok(self.run(ids, pad, adapter, Pass { both_ways: true, blocks, ..Pass::default() })?.0)
    }

    /// How much each head of the base attends to every token from the last `queries` of its row, `[N, layers * Hq, T]`
    /// f32, layer by layer; no gradient.
    pub fn attention(&self, ids: &Tensor, pad: &[i64], queries: i64) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut weights = Vec::new();
        let _ = self.run(ids, pad, None, Pass { watched: Some((queries, &mut weights)), ..Pass::default() })?;
        Ok(Tensor::cat(&weights, 1))
    }

    /// Like [`Decoder::forward`], and keeps the keys and values.
    pub fn prefill(&self, ids: &Tensor, pad: &[i64], adapter: Option<&ActiveAdapter>) -> Result<(Tensor, KvCache)> {
        let (hidden, layers) = self.run(ids, pad, adapter, Pass { keep: true, ..Pass::default() })?;
        let t = ids.size()[1];
        let lengths: Vec<i64> = pad.iter().map(|p| t - p).collect();
        let bias = pad.iter().any(|&p| p > 0).then(|| {
            let pads = Tensor::from_slice(pad).to_device(self.device()).unsqueeze(1);
            let hidden_keys = Tensor::arange(t, (Kind::Int64, self.device())).unsqueeze(0).lt_tensor(&pads);
            Tensor::zeros([pad.len() as i64, t], (Kind::Float, self.device()))
                .masked_fill(&hidden_keys, f64::NEG_INFINITY)
                .view([pad.len() as i64, 1, 1, t])
        });
        Ok((hidden, KvCache { layers, lengths, bias }))
    }

    fn run(
        &self,
        ids: &Tensor,
        pad: &[i64],
        adapter: Option<&ActiveAdapter>,
        pass: Pass,
    ) -> Result<(Tensor, Vec<(Tensor, Tensor)>)> {
        let (n, t) = ids.size2()?;
        if pad.len() as i64 != n || pad.iter().any(|&p| p < 0 || p >= t) {
            return Err(Error::shape("padding", format!("{n} counts in 0..{t}"), format!("{pad:?}")));
        }
        self.check_positions(t)?;
        let (hq, hkv, d) = (self.config.num_attention_heads, self.config.kv_heads(), self.config.head_width());
        let Pass { both_ways, blocks, keep, mut watched } = pass;
        let mask = if both_ways { attention::padded_mask } else { attention::padded_causal_mask };
        let mask = mask(pad, t, self.device());
        let steps = Tensor::arange(t, (Kind::Int64, self.device()));
        let positions = match &mask {
            None => steps.unsqueeze(0),
            Some(_) => {
                (steps.unsqueeze(0) - Tensor::from_slice(pad).to_device(self.device()).unsqueeze(1)).clamp_min(0)
            }
        };
        let (cos, sin) = self.rope.at(&positions); // [N or 1, T, D]
        let (cos, sin) = (cos.unsqueeze(1), sin.unsqueeze(1));
        let mut xs = self.embed(ids, adapter)?; // [N, T, H]
        let mut kept = Vec::new();
        for (i, layer) in self.layers.iter().enumerate().take(blocks.unwrap_or(usize::MAX)) {
            let ys = self.norm(&xs, &layer.input_norm);
            let heads = |index: usize, h: i64| {
                self.heads(self.project(&ys, i, index, adapter).view([n, t, h, d]), i, index).transpose(1, 2)
            };
            let q = rotate(&heads(0, hq), &cos, &sin);
            let k = rotate(&heads(1, hkv), &cos, &sin);
            let v = heads(2, hkv);
            let near = layer.window.map(|w| attention::near(mask.as_ref(), t, w, !both_ways, self.device()));
            let mask = near.as_ref().map_or(mask.as_ref(), Option::as_ref);
            if let Some((queries, weights)) = &mut watched {
                weights.push(attention::last_weights(&q, &k, mask, pad, *queries));
            }
            let mixed = attention::within(&q, &k, &v, mask, !both_ways).transpose(1, 2).reshape([n, t, hq * d]);
            xs = xs + self.project(&mixed, i, 3, adapter);
            xs = &xs + self.mlp(&self.norm(&xs, &layer.post_norm), i, adapter);
            if keep {
                kept.push((k, v));
            }
        }
        Ok((self.norm(&xs, &self.norm), kept))
    }

    /// Hidden states `[N, G, T, H]` of G branches per row that continue the shared prefix: ids `[N, G, T]`. With a
    /// `grown` cache the new tokens come after those of earlier calls and are appended to it.
    pub fn branches(
        &self,
        ids: &Tensor,
        prefix: &KvCache,
        mut grown: Option<&mut BranchCache>,
        adapter: Option<&ActiveAdapter>,
    ) -> Result<Tensor> {
        let (n, g, t) = ids.size3()?;
        if n as usize != prefix.lengths.len() {
            return Err(Error::shape("branch rows", prefix.lengths.len(), n));
        }
        let past = grown.as_ref().map_or(0, |c| c.len);
        self.check_positions(prefix.lengths.iter().max().copied().unwrap_or(0) + past + t)?;
        let (hq, hkv, d) = (self.config.num_attention_heads, self.config.kv_heads(), self.config.head_width());
        let starts = Tensor::from_slice(&prefix.lengths).to_device(self.device()).view([n, 1]) + past;
        let positions = starts + Tensor::arange(t, (Kind::Int64, self.device())).unsqueeze(0);
        let (cos, sin) = self.rope.at(&positions); // [N, T, D]
        let (cos, sin) = (cos.view([n, 1, t, 1, d]), sin.view([n, 1, t, 1, d]));
        let mut xs = self.embed(ids, adapter)?; // [N, G, T, H]
        for (i, layer) in self.layers.iter().enumerate() {
            let ys = self.norm(&xs, &layer.input_norm);
            let heads =
                |index: usize, h: i64| self.heads(self.project(&ys, i, index, adapter).view([n, g, t, h, d]), i, index);
            let q = rotate(&heads(0, hq), &cos, &sin);
            let mut k = rotate(&heads(1, hkv), &cos, &sin).transpose(2, 3);
            let mut v = heads(2, hkv).transpose(2, 3);
            if let Some(cache) = grown.as_deref_mut() {
                if let Some((old_k, old_v)) = cache.layers.get(i) {
                    k = Tensor::cat(&[old_k, &k], 3);
                    v = Tensor::cat(&[old_v, &v], 3);
                    cache.layers[i] = (k.shallow_clone(), v.shallow_clone());
                } else {
                    cache.layers.push((k.shallow_clone(), v.shallow_clone()));
                }
            }
            let (prefix_k, prefix_v) = &prefix.layers[i];
            let p = prefix_k.size()[2];
            let far = layer.window.filter(|&w| past + p + t > w).map(|w| {
                let far = attention::far_prefix(t, p, past, w, g * hq / hkv, self.device());
                prefix.bias.as_ref().map_or_else(|| far.shallow_clone(), |bias| bias + &far)
            });
            let shared = PrefixKeys { k: prefix_k, v: prefix_v, bias: far.as_ref().or(prefix.bias.as_ref()) };
            let mixed = attention::branches(&q, &shared, &k, &v, layer.window);
            xs = xs + self.project(&mixed, i, 3, adapter);
            xs = &xs + self.mlp(&self.norm(&xs, &layer.post_norm), i, adapter);
        }
        if let Some(cache) = grown {
            cache.len += t;
        }
        Ok(self.norm(&xs, &self.norm))
    }
}
