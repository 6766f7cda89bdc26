//! Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) over one frozen base: y = x Wᵀ + (α/r)·(x Aᵀ) Bᵀ, A ~ Kaiming
//! uniform, B = 0; saved and loaded in PEFT's layout ([`crate::model::peft`]).
//!
//! An adapter also owns the rows of the three control tokens, which lie beyond the base vocabulary: end-of-gist `V`,
//! start-of-gist `V + 1`, separator `V + 2` as inputs, and one output row for end-of-gist; a compressor's may own the
//! rows of a copy head ([`crate::model::copy_head`]) or the heads of an extractive one ([`crate::model::heads`]). The base
//! vocabulary, and so the teacher's distribution, has no control token at all.

use crate::config::parts::{LoraConfig, Projection};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::copy_head;
use crate::model::encoder::{Encoder, LORA};
use crate::model::encoder_base::EncoderBase;
use crate::model::evidence_head::EvidenceHead;
use crate::model::heads::{self, Heads};
use crate::model::params::FlatParams;
use crate::model::projections::Projections;
use crate::model::tape::{Dropout, Tape};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// One low-rank pair: `a [r, in]`, `b [out, r]`.
pub struct LoraPair {
    /// Down-projection.
    pub a: Tensor,
    /// Up-projection, times α / r.
    pub b: Tensor,
}

/// A named set of low-rank weights and control rows, held as one flat leaf.
pub struct Adapter {
    pub(super) config: LoraConfig,
    pub(super) params: FlatParams,
    /// An encoder in place of low-rank weights (see [`crate::model::encoder_adapter`]).
    pub(super) encoder: Option<EncoderBase>,
}

/// Options for activating an adapter.
#[derive(Clone, Copy)]
pub(super) struct Activation {
    /// Kind of number that the base computes in; the weights are cast to it once.
    pub kind: Kind,
    /// Whether dropout is on.
    pub training: bool,
    /// Whether forward passes are noted on a tape.
    pub checkpointing: bool,
}

/// Views of an adapter for one forward pass.
pub struct ActiveAdapter {
    /// For each block, the pair of each projection that has one; no blocks where an encoder stands in the base's place.
    pub layers: Vec<Projections<Option<LoraPair>>>,
    /// Outside training none.
    pub dropout: Option<Dropout>,
    /// Input rows of the control tokens `[3, H]`.
    pub control: Tensor,
    /// Output row of end-of-gist `[1, H]`.
    pub end: Tensor,
    /// Output rows of the copy head, if there is one.
    pub copy: Option<Tensor>,
    /// Heads of an extractive compressor, f32, if it is one.
    pub heads: Option<Heads>,
    /// Head of an encoder that finds evidence, f32, if it is one.
    pub evidence: Option<EvidenceHead>,
    /// The encoder of an extractive compressor that has its own.
    pub encoder: Option<Encoder>,
    /// Under activation checkpointing, what the passes leave for backward.
    pub tape: Option<Tape>,
}

pub(super) const CONTROL: &str = "gist.control_tokens.weight";
pub(super) const END: &str = "gist.end_head.weight";
pub(super) const COPY: &str = "gist.copy_head.weight";
pub(super) const HEADS: &str = "gist.extractive.";

/// Parameters of a compressor's adapter beside low-rank weights and control rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// No further parameters, as in a reader's adapter.
    Nothing,
    /// A copy head of so many rows (none when 0).
    CopyHead(usize),
    /// The heads of an extractive compressor.
    Heads {
        /// Features of a unit beside those that the base gives.
        hints: i64,
    },
}

fn pair_names(layer: i64, projection: Projection) -> (String, String) {
    let (module, name) = (projection.module(), projection.name());
    let stem = format!("base_model.model.model.layers.{layer}.{module}.{name}");
    (format!("{stem}.lora_A.weight"), format!("{stem}.lora_B.weight"))
}

/// Whether a projection gets low-rank weights.
fn is_target(lora: &LoraConfig, projection: Projection) -> bool {
    lora.target_modules.iter().any(|name| name == projection.name())
}

/// Takes a view out of those of an adapter; an error if it is not there.
pub(super) fn take(views: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Tensor> {
    views.remove(name).ok_or_else(|| Error::shape(format!("adapter weight `{name}`"), "a tensor", "none"))
}

/// Names and shapes of the parameters of an adapter over `model`.
pub fn specs(model: &ModelConfig, lora: &LoraConfig, extra: Extra) -> Vec<(String, Vec<i64>)> {
    let shapes: BTreeMap<String, Vec<i64>> = model.parameters().into_iter().collect();
    let mut all = Vec::new();
    for layer in 0..model.num_hidden_layers {
        for projection in Projection::ALL.into_iter().filter(|&projection| is_target(lora, projection)) {
            let (a, b) = pair_names(layer, projection);
            let stem = a.trim_start_matches("base_model.model.").trim_end_matches(".lora_A.weight").to_string();
            if let Some(shape) = shapes.get(&format!("{stem}.weight")) {
                all.push((a, vec![lora.rank, shape[1]]));
                all.push((b, vec![shape[0], lora.rank]));
            }
        }
    }
    all.push((CONTROL.into(), vec![3, model.hidden_size]));
    all.push((END.into(), vec![1, model.hidden_size]));
    match extra {
        Extra::Nothing | Extra::CopyHead(0) => {}
        Extra::CopyHead(rows) => all.push((COPY.into(), vec![rows as i64, model.hidden_size])),
        Extra::Heads { hints } => {
            let own = heads::parameters(model.hidden_size, copy_head::features(model) + hints);
            all.extend(own.into_iter().map(|(name, shape)| (format!("{HEADS}{name}"), shape)));
        }
    }
    all
}

impl ActiveAdapter {
    /// The number of a forward pass that begins.
    pub(super) fn begin_pass(&self) -> u64 {
        self.dropout.as_ref().map_or(0, Dropout::begin_pass)
    }

    /// Seeds what block `block` of a pass drops, or what comes behind its last (`usize::MAX`).
    pub(super) fn seed_dropout(&self, pass: u64, block: usize) {
        self.dropout.iter().for_each(|dropout| dropout.seed(pass, block));
    }
}

impl Adapter {
    /// A fresh adapter that changes nothing: B = 0. Control rows start at the mean embedding plus noise. Draws from
    /// libtorch's generator: seed it first.
    pub fn fresh(model: &ModelConfig, lora: &LoraConfig, embedding: &Tensor) -> Result<Self> {
        Self::with_extra(model, lora, embedding, Extra::Nothing)
    }

    /// A fresh adapter with a compressor's parameters `extra`: a copy head starts at 0, heads start at small draws.
    pub fn with_extra(model: &ModelConfig, lora: &LoraConfig, embedding: &Tensor, extra: Extra) -> Result<Self> {
        let device = embedding.device();
        let mut named = Vec::new();
        for (name, shape) in specs(model, lora, extra) {
            let value = if name.ends_with("lora_A.weight") {
                let bound = 1.0 / (shape[1] as f64).sqrt();
                Tensor::empty(shape.as_slice(), (Kind::Float, device)).uniform_(-bound, bound)
            } else if name == CONTROL {
                let mean = embedding.to_kind(Kind::Float).mean_dim([0i64].as_slice(), true, Kind::Float);
                let spread = embedding.to_kind(Kind::Float).std(false).double_value(&[]);
                mean + Tensor::randn(shape.as_slice(), (Kind::Float, device)) * spread
            } else {
                Tensor::zeros(shape.as_slice(), (Kind::Float, device))
            };
            named.push((name, value));
        }
        if let Extra::Heads { hints } = extra {
            let own = heads::initial(model.hidden_size, copy_head::features(model) + hints, hints, device);
            let own: BTreeMap<String, Tensor> = own.into_iter().map(|(n, t)| (format!("{HEADS}{n}"), t)).collect();
            named.iter_mut().for_each(|(name, value)| {
                if let Some(initial) = own.get(name) {
                    *value = initial.shallow_clone();
                }
            });
        }
        Ok(Self { config: lora.clone(), params: FlatParams::pack(&named, device)?, encoder: None })
    }

    /// Replaces the row of start-of-gist by the mean of these embeddings `[N, H]`.
    pub fn starting_like(mut self, embeddings: &Tensor) -> Result<Self> {
        let mut named: BTreeMap<String, Tensor> = self.params.named().into_iter().collect();
        if let Some(rows) = named.get_mut(CONTROL) {
            let start = embeddings.to_kind(Kind::Float).mean_dim([0i64].as_slice(), true, Kind::Float);
            *rows = Tensor::cat(&[rows.narrow(0, 0, 1), start, rows.narrow(0, 2, 1)], 0);
        }
        self.params.load(&named)?;
        Ok(self)
    }

    /// Rank, scaling and targets.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Rank, scaling and targets of low-rank weights over the base; none of an adapter with an encoder.
    pub fn low_rank(&self) -> Option<&LoraConfig> {
        self.encoder.is_none().then_some(&self.config)
    }

    /// Sets the dropout on the input of the low-rank weights while training.
    pub fn with_dropout(mut self, dropout: f64) -> Self {
        self.config.dropout = dropout;
        self
    }

    /// The trainable leaf.
    pub fn params(&self) -> &FlatParams {
        &self.params
    }

    /// The trainable leaf, to load or overwrite.
    pub fn params_mut(&mut self) -> &mut FlatParams {
        &mut self.params
    }

    /// This adapter with its low-rank weights cut to a lower rank, α twice that: of each pair's product the nearest of that rank
    /// (Eckart & Young 1936).
    ///
    /// # Errors
    /// The rank is not below that of the adapter, or it has an encoder that learns in the place of low-rank weights.
    pub fn reduced(&self, rank: i64) -> Result<Self> {
        let (most, encoder) = (self.config.rank, self.encoder.as_ref());
        if encoder.is_some_and(EncoderBase::learns) || !(1..=most).contains(&rank) {
            return Err(Error::invalid(format!("expected low-rank weights of rank {rank} or more, got rank {most}")));
        }
        let _guard = tch::no_grad_guard();
        let mut known: BTreeMap<String, Tensor> = self.params.named().into_iter().collect();
        let (scaling, new_scaling) = (self.config.alpha / most as f64, 2.0);
        let mut named = Vec::new();
        for (name, _) in self.params.specs() {
            let Some(stem) = name.strip_suffix(LORA[0]) else {
                if !name.ends_with(LORA[1]) {
                    named.extend(known.remove_entry(name));
                }
                continue;
            };
            let [down, up] = LORA.map(|end| format!("{stem}{end}"));
            let product = take(&mut known, &up)?.matmul(&take(&mut known, &down)?) * scaling;
            let (left, values, right) = product.f_svd(true, true)?;
            let root = values.narrow(0, 0, rank).sqrt();
            named.push((down, right.tr().narrow(0, 0, rank) * root.unsqueeze(1)));
            named.push((up, left.narrow(1, 0, rank) * root / new_scaling));
        }
        let device = self.params.leaf().device();
        let config = LoraConfig { rank, alpha: new_scaling * rank as f64, ..self.config.clone() };
        Ok(Self { config, params: FlatParams::pack(&named, device)?, encoder: encoder.map(EncoderBase::duplicate) })
    }

    /// An independent copy (for a frozen, averaged or stale policy).
    pub fn duplicate(&self) -> Self {
        Self {
            config: self.config.clone(),
            params: self.params.duplicate(),
            encoder: self.encoder.as_ref().map(EncoderBase::duplicate),
        }
    }

    /// The weights as forward passes over a base need them; each must be there.
    pub(super) fn activate(&self, model: &ModelConfig, how: Activation) -> Result<ActiveAdapter> {
        let Activation { kind, training, checkpointing } = how;
        if let Some(encoder) = &self.encoder {
            return self.activate_encoder(&encoder.config, kind);
        }
        let mut views = self.params.views_in(kind);
        let tape = checkpointing.then(Tape::default);
        let own = |view: Tensor| match &tape {
            Some(tape) => tape.leaf(view),
            None => view,
        };
        let scaling = self.config.alpha / self.config.rank as f64;
        let mut layers = Vec::new();
        for layer in 0..model.num_hidden_layers {
            layers.push(Projections::try_from_fn(|projection| -> Result<Option<LoraPair>> {
                if !is_target(&self.config, projection) {
                    return Ok(None);
                }
                let (a, b) = pair_names(layer, projection);
                let a = own(take(&mut views, &a)?);
                Ok(Some(LoraPair { a, b: own(take(&mut views, &b)? * scaling) }))
            })?);
        }
        Ok(ActiveAdapter {
            layers,
            dropout: (training && self.config.dropout > 0.0).then(|| Dropout::drawn(self.config.dropout)),
            control: own(take(&mut views, CONTROL)?),
            end: own(take(&mut views, END)?),
            copy: views.remove(COPY).map(own),
            heads: self.heads()?,
            evidence: None,
            encoder: None,
            tape,
        })
    }

    /// Views of the heads in f32, whatever the base computes in; none of an adapter without heads.
    pub(super) fn heads(&self) -> Result<Option<Heads>> {
        if !self.is_extractive() {
            return Ok(None);
        }
        let views = self.params.views().into_iter();
        let named = views.filter_map(|(name, view)| Some((name.strip_prefix(HEADS)?.to_string(), view)));
        Heads::from_named(named.collect()).map(Some)
    }

    /// Whether it has the heads of an extractive compressor.
    pub fn is_extractive(&self) -> bool {
        self.params.specs().iter().any(|(name, _)| name.starts_with(HEADS))
    }
}
