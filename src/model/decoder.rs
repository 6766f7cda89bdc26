//! The Llama-family decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU; biases, normed heads and a sliding window where
//! the configuration has them (Qwen2, Qwen3, Mistral). One frozen set of weights serves every role; the adapter is an
//! argument of each forward pass ([`crate::model::passes`]).

use crate::config::parts::Projection;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::kernels::{self, Weight};
use crate::model::lora::{Activation, ActiveAdapter, Adapter, LoraPair};
use crate::model::peft;
use crate::model::projections::Projections;
use crate::model::rope::Rope;
use crate::model::weights;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

pub(super) struct DecoderBlock {
    pub(super) input_norm: Tensor,
    pub(super) post_norm: Tensor,
    pub(super) projections: Projections<Linear>,
    /// Norms of the query and key heads, in architectures that have them.
    pub(super) head_norms: Option<HeadNorms>,
    /// Tokens that a token sees; all where there is no window.
    pub(super) window: Option<i64>,
}

/// Weight `[out, in]` and bias `[out]`.
pub(super) struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

/// Weights `[D]` of the norms over each head.
pub(super) struct HeadNorms {
    queries: Tensor,
    keys: Tensor,
}

/// A decoder with its weights.
pub struct Decoder {
    pub(super) config: ModelConfig,
    embed: Weight,
    pub(super) layers: Vec<DecoderBlock>,
    pub(super) norm: Tensor,
    head: Option<Weight>,
    pub(super) rope: Rope,
    begin: Vec<u32>,
    checkpointing: bool,
    identity: Option<String>,
}

impl Decoder {
    /// Loads `config.json` and the weights (one file, or shards with their index) from a Hugging Face folder; they must match
    /// exactly.
    pub fn load(folder: &Path, device: Device, kind: Kind) -> Result<Self> {
        let config = weights::architecture(folder)?;
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
            peft::check_base(folder, own, &self.begin)?;
        }
        Adapter::load(folder, &self.config, self.device())
    }

    /// Random weights, to measure speed and memory: matrices drawn as those of a fresh model, from libtorch's generator (seed
    /// it first), norms 1, biases 0.
    pub fn random(config: &ModelConfig, device: Device, kind: Kind) -> Result<Self> {
        config.check().map_err(Error::Invalid)?;
        let draw = |(name, shape): (String, Vec<i64>)| {
            let mut weight = Tensor::empty(shape.as_slice(), (kind, device));
            let filled = match (shape.len(), name.ends_with("bias")) {
                (1, true) => weight.zero_(),
                (1, false) => weight.fill_(1.0),
                _ => weight.normal_(0.0, config.initializer_range),
            };
            (name, filled)
        };
        Self::from_named(config, config.parameters().into_iter().map(draw).collect())
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
            let projections = Projections::try_from_fn(|projection| -> Result<Linear> {
                let name = format!("{}.{}", projection.module(), projection.name());
                let weight = part(&format!("{name}.weight"))?.into();
                let bias = config.has_bias(projection).then(|| part(&format!("{name}.bias"))).transpose()?;
                Ok(Linear { weight, bias })
            })?;
            let head_norms = match config.has_head_norms() {
                true => {
                    let (queries, keys) = (part("self_attn.q_norm.weight")?, part("self_attn.k_norm.weight")?);
                    Some(HeadNorms { queries, keys })
                }
                false => None,
            };
            let (input_norm, post_norm) = (part("input_layernorm.weight")?, part("post_attention_layernorm.weight")?);
            layers.push(DecoderBlock { input_norm, post_norm, projections, head_norms, window: config.window(i) });
        }
        let norm = next("model.norm.weight".into())?;
        let head = if config.tie_word_embeddings { None } else { Some(next("lm_head.weight".into())?.into()) };
        let rotation = (config.rope_theta, config.rope_scaling().map_err(Error::Invalid)?);
        let rope = Rope::new(config.positions(), config.head_width(), rotation, embed.kind(), embed.device());
        let (config, begin, embed) = (config.clone(), Vec::new(), embed.into());
        Ok(Self { config, embed, layers, norm, head, rope, begin, checkpointing: false, identity: None })
    }

    /// This base with rows that all begin with the tokens `begin` ([`crate::tokenizer::begin`]), in every role. The passes of
    /// [`crate::model::passes`] take rows as they are; [`crate::model::read::rows`] puts the tokens before them.
    pub fn beginning(self, begin: Vec<u32>) -> Result<Self> {
        let v = self.config.vocab_size;
        match begin.iter().find(|&&id| i64::from(id) >= v) {
            Some(id) => Err(Error::shape("token at the beginning of a row (model.bos)", format!("0..{v}"), id)),
            None => Ok(Self { begin, ..self }),
        }
    }

    /// Tokens that every row begins with; as a rule one or none.
    pub fn begin(&self) -> &[u32] {
        &self.begin
    }

    /// Tokens that a row may hold behind those.
    pub fn room(&self) -> usize {
        (self.rope.positions() as usize).saturating_sub(self.begin.len())
    }

    /// Switches activation checkpointing of updates on or off ([`crate::model::checkpointing`]).
    pub fn checkpointed(self, checkpointing: bool) -> Self {
        Self { checkpointing, ..self }
    }

    /// Rebinds the weights to new tensors (pretraining cuts fresh views each step); the rotary tables are kept.
    pub fn rebind(self, named: BTreeMap<String, Tensor>) -> Result<Self> {
        Self::from_named_with(&self.config, named, self.rope)?.beginning(self.begin)
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

    /// An adapter as a forward pass over these weights needs it; dropout is on only when `training`. Fails on an adapter made
    /// for another architecture.
    pub fn activate(&self, adapter: &Adapter, training: bool) -> Result<ActiveAdapter> {
        let kind = self.embed.kind();
        adapter.activate(&self.config, Activation { kind, training, checkpointing: training && self.checkpointing })
    }

    /// Embedding `[V, H]`.
    pub fn embedding(&self) -> &Tensor {
        &self.embed
    }

    /// Output head `[V, H]` (the embedding when tied).
    pub fn head(&self) -> &Weight {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// Ids on the host are checked and sent to the device. Those that are on a GPU already were picked by the model or come
    /// from a checked text: looking at them would stop the host until everything before is computed.
    pub(super) fn embed(&self, ids: &Tensor, adapter: Option<&ActiveAdapter>) -> Result<Tensor> {
        let v = self.config.vocab_size;
        let mut has_control = adapter.is_some();
        if ids.device() == Device::Cpu {
            let limit = if adapter.is_some() { v + 3 } else { v };
            let (low, high) = (ids.min().int64_value(&[]), ids.max().int64_value(&[]));
            if low < 0 || high >= limit {
                let got = if low < 0 { low } else { high };
                return Err(Error::shape("token id", format!("0..{limit}"), got));
            }
            has_control = high >= v;
        }
        let ids = ids.to_device(self.device());
        let xs = Tensor::embedding(&self.embed, &ids.clamp_max(v - 1), -1, false, false);
        match adapter {
            Some(adapter) if has_control => {
                let rows = adapter.control.index_select(0, &(&ids - v).clamp_min(0).reshape([-1]));
                Ok(rows.view_as(&xs).where_self(&ids.ge(v).unsqueeze(-1), &xs))
            }
            _ => Ok(xs),
        }
    }

    pub(super) fn norm(&self, xs: &Tensor, weight: &Tensor) -> Tensor {
        kernels::norm(xs, weight, self.config.rms_norm_eps)
    }

    /// `xs` `[.., in]` through a projection of block `layer`, with what the adapter adds, `[.., out]`.
    pub(super) fn project(
        &self,
        xs: &Tensor,
        layer: usize,
        projection: Projection,
        adapter: Option<&ActiveAdapter>,
    ) -> Tensor {
        let Linear { weight, bias } = &self.layers[layer].projections[projection];
        let pair = adapter.and_then(|active| Some((active, active.layers[layer][projection].as_ref()?)));
        let Some((active, LoraPair { a, b })) = pair else {
            return weight.apply(xs, bias.as_ref());
        };
        let mut shape = xs.size();
        let flat = xs.reshape([-1, shape.pop().unwrap_or(0)]);
        let mut ys = weight.apply(&flat, bias.as_ref());
        let input = active.dropout.as_ref().map_or_else(|| flat.shallow_clone(), |d| flat.dropout(d.p, true));
        let ys = ys.addmm_(&input.linear(a, None::<Tensor>), &b.tr()); // no pass of its own to add what the adapter gives
        shape.push(weight.size()[0]);
        ys.view(shape.as_slice())
    }

    /// Queries, keys or values `[.., heads, D]`, normed where the architecture norms them.
    pub(super) fn heads(&self, xs: Tensor, layer: usize, projection: Projection) -> Tensor {
        match (&self.layers[layer].head_norms, projection) {
            (Some(norms), Projection::Q) => self.norm(&xs, &norms.queries),
            (Some(norms), Projection::K) => self.norm(&xs, &norms.keys),
            (Some(_), Projection::V | Projection::O | Projection::Gate | Projection::Up | Projection::Down)
            | (None, _) => xs,
        }
    }

    pub(super) fn mlp(&self, xs: &Tensor, layer: usize, adapter: Option<&ActiveAdapter>) -> Tensor {
        let gate = self.project(xs, layer, Projection::Gate, adapter).silu();
        let up = self.project(xs, layer, Projection::Up, adapter);
        self.project(&(gate * up), layer, Projection::Down, adapter)
    }

    pub(super) fn check_positions(&self, last: i64) -> Result<()> {
        if last > self.rope.positions() {
            return Err(Error::shape("sequence length", format!("at most {}", self.rope.positions()), last));
        }
        Ok(())
    }
}
