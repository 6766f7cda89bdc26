//! An extractive compressor that is an encoder of its own (BERT, RoBERTa, ModernBERT: [`crate::model::encoder`]) with heads
//! ([`crate::model::heads`], or [`crate::model::row_head`] over a question and a text), in place of low-rank weights over the
//! base.
//!
//! Where all of it is trained it is saved as a Hugging Face folder: `config.json` and `model.safetensors` with the encoder under
//! its own names, which other tools load, and the heads as `gist.*`, which they ignore. One that reads questions may stay as it
//! is, with low-rank weights beside those of every projection in its blocks; these are saved in PEFT's layout
//! ([`crate::model::peft`]), the heads as `gist.*` among them.

use crate::config::parts::LoraConfig;
use crate::error::{Error, Result};
use crate::model::encoder::{Encoder, EncoderConfig, LORA};
use crate::model::encoder_base::{EncoderBase, PEFT, projections, targets};
use crate::model::evidence_head::{self, EvidenceHead};
use crate::model::heads;
use crate::model::lora::{ActiveAdapter, Adapter, END, HEADS, take};
use crate::model::params::FlatParams;
use crate::model::peft;
use crate::model::row_head::RowHead;
use crate::model::span_head::AnswerHead;
use crate::model::weights::{self, ADAPTER};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Learning rate of the weights of the terms, in those of the layers of an evidence head.
const TERMS_FACTOR: f64 = 20.0;

/// Names and shapes of low-rank weights and a head over an encoder that stays as it is.
fn low_rank_specs(config: &EncoderConfig, rank: i64, head: RowHead) -> Vec<(String, Vec<i64>)> {
    let pair = |(name, shape): (String, Vec<i64>)| {
        let [down, up] = LORA.map(|end| format!("{PEFT}{name}.{end}"));
        [(down, vec![rank, shape[1]]), (up, vec![shape[0], rank])]
    };
    projections(config).into_iter().flat_map(pair).chain(head.parameters(config.hidden_size)).collect()
}

/// Heads over the encoder.
#[derive(Clone, Copy)]
enum EncoderHeads {
    /// Worth of tokens, spans and units with so many features.
    Units(i64),
    /// A question and a text in one row.
    Row(RowHead),
}

/// Names and shapes of its parameters.
fn specs(config: &EncoderConfig, heads: EncoderHeads) -> Vec<(String, Vec<i64>)> {
    let (h, mut all) = (config.hidden_size, config.parameters());
    match heads {
        EncoderHeads::Units(features) => {
            let own = heads::parameters(h, features).into_iter();
            all.extend(own.map(|(name, shape)| (format!("{HEADS}{name}"), shape)));
            all.push((END.into(), vec![1, h]));
        }
        EncoderHeads::Row(head) => all.extend(head.parameters(h)),
    }
    all
}

impl Adapter {
    /// Adapter from an encoder's weights, with fresh heads that see `known` features of each place (see
    /// [`crate::model::copy_head::features`]) and, behind them, `hints` features that count from the start; draws from
    /// libtorch's generator.
    pub fn of_encoder(
        config: &EncoderConfig,
        weights: BTreeMap<String, Tensor>,
        known: i64,
        hints: i64,
        device: Device,
    ) -> Result<Self> {
        let (mut named, features) = (weights, known + hints);
        let own = heads::initial(config.hidden_size, features, hints, Device::Cpu).into_iter();
        named.extend(own.map(|(name, tensor)| (format!("{HEADS}{name}"), tensor)));
        named.insert(END.into(), Tensor::zeros([1, config.hidden_size], (Kind::Float, Device::Cpu)));
        Self::pack_encoder(config, &named, EncoderHeads::Units(features), device)
    }

    /// Adapter from an encoder's weights, with a fresh head over rows; draws from libtorch's generator.
    pub fn of_rows(
        config: &EncoderConfig,
        weights: BTreeMap<String, Tensor>,
        head: RowHead,
        device: Device,
    ) -> Result<Self> {
        let mut named = weights;
        named.extend(head.initial(config.hidden_size));
        Self::pack_encoder(config, &named, EncoderHeads::Row(head), device)
    }

    /// An adapter with a fresh head over rows and low-rank weights of this rank, α twice that, beside those of the encoder, which
    /// stay as they are.
    pub fn of_low_rank_rows(
        config: &EncoderConfig,
        weights: BTreeMap<String, Tensor>,
        head: RowHead,
        rank: i64,
        device: Device,
    ) -> Result<Self> {
        let mut drawn = head.initial(config.hidden_size);
        let fresh = |(name, shape): (String, Vec<i64>)| {
            let zeros = Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu));
            let bound = || 1.0 / (shape[1] as f64).sqrt();
            let value = match drawn.remove(&name) {
                Some(value) => value,
                None if name.ends_with(LORA[0]) => zeros.empty_like().uniform_(-bound(), bound()),
                None => zeros,
            };
            (name, value)
        };
        let named = low_rank_specs(config, rank, head).into_iter().map(fresh).collect();
        let lora = LoraConfig { rank, alpha: 2.0 * rank as f64, dropout: 0.0, target_modules: targets(config) };
        Self::pack_low_rank(config, weights, lora, named, device)
    }

    fn pack_low_rank(
        config: &EncoderConfig,
        weights: BTreeMap<String, Tensor>,
        lora: LoraConfig,
        named: Vec<(String, Tensor)>,
        device: Device,
    ) -> Result<Self> {
        let frozen = weights.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect();
        let encoder = Some(EncoderBase::frozen(config, frozen));
        Ok(Self { config: lora, params: FlatParams::pack(&named, device)?, encoder })
    }

    /// Reads the folder of a trained encoder with this head, over the encoder in `base` if that stayed as it is.
    pub fn load_rows(folder: &Path, head: RowHead, base: &Path, device: Device) -> Result<Self> {
        let adapter = match folder.join(ADAPTER).exists() {
            true => {
                let (config, weights) = Encoder::read(base)?;
                let lora = peft::low_rank(folder)?;
                let path = folder.join(ADAPTER);
                let mut found = weights::read(&path)?;
                let specs = low_rank_specs(&config, lora.rank, head);
                weights::check_exact(&path, &found, &specs)?;
                let named = specs.into_iter().filter_map(|(name, _)| found.remove_entry(&name)).collect();
                Self::pack_low_rank(&config, weights, lora, named, device)?
            }
            false => Self::load_encoder(folder, 0, device)?,
        };
        match adapter.row_head() == Some(head) {
            true => Ok(adapter),
            false => Err(Error::file(folder, format!("expected weights named `{}*`, got other heads", head.prefix()))),
        }
    }

    /// Its head over rows, if it has one.
    fn row_head(&self) -> Option<RowHead> {
        RowHead::of(self.params.specs().iter().map(|(name, _)| name.as_str()))
    }

    /// Views of an encoder in this `kind`, and of its head over rows in f32.
    fn rows(&self, head: RowHead, kind: Kind) -> Result<(Encoder, BTreeMap<String, Tensor>)> {
        let none =
            || Error::invalid(format!("expected an encoder with weights named `{}*`, got another", head.prefix()));
        let base = self.encoder.as_ref().filter(|_| self.row_head() == Some(head)).ok_or_else(none)?;
        let frozen = base.frozen.iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(kind)));
        let scaling = self.config.alpha / self.config.rank as f64;
        let learning = self.params.views_in(kind).into_iter().filter(|(name, _)| !name.starts_with("gist."));
        let learning = learning.map(|(name, view)| match (name.strip_prefix(PEFT), name.ends_with(LORA[1])) {
            (Some(plain), true) => (plain.to_string(), view * scaling),
            (Some(plain), false) => (plain.to_string(), view),
            (None, _) => (name, view),
        });
        let views = self.params.views().into_iter();
        let own = views.filter_map(|(name, view)| Some((name.strip_prefix(head.prefix())?.to_string(), view)));
        Ok((Encoder::from_named(&base.config, frozen.chain(learning).collect())?, own.collect()))
    }

    /// The encoder in this `kind`, and the head in f32, of an adapter that finds evidence.
    pub fn evidence(&self, kind: Kind) -> Result<(Encoder, EvidenceHead)> {
        let (encoder, head) = self.rows(RowHead::Evidence, kind)?;
        Ok((encoder, EvidenceHead::from_named(head)?))
    }

    /// The encoder in this `kind`, and the head in f32, of an adapter that finds answers.
    pub fn spans(&self, kind: Kind) -> Result<(Encoder, AnswerHead)> {
        let (encoder, head) = self.rows(RowHead::Span, kind)?;
        Ok((encoder, AnswerHead::from_named(head)?))
    }

    /// The weights in `folder` of an adapter like this one, whose encoder stays as it is; none if it is another.
    pub fn saved_beside_encoder(&self, folder: &Path) -> Result<Option<BTreeMap<String, Tensor>>> {
        match &self.encoder {
            Some(encoder) if !encoder.learns() => weights::read(&folder.join(ADAPTER)).map(Some),
            _ => Ok(None),
        }
    }

    fn pack_encoder(
        config: &EncoderConfig,
        named: &BTreeMap<String, Tensor>,
        heads: EncoderHeads,
        device: Device,
    ) -> Result<Self> {
        let find = |(name, shape): (String, Vec<i64>)| match named.get(&name) {
            Some(tensor) => Ok((name, tensor.shallow_clone())),
            None => Err(Error::shape(name, format!("a tensor {shape:?}"), "none")),
        };
        let all = specs(config, heads).into_iter().map(find).collect::<Result<Vec<_>>>()?;
        let encoder = Some(EncoderBase::learning(config));
        Ok(Self { config: LoraConfig::default(), params: FlatParams::pack(&all, device)?, encoder })
    }

    /// Views for a forward pass of the encoder in this `kind`; the base has no use for them.
    pub(super) fn activate_encoder(&self, config: &EncoderConfig, kind: Kind) -> Result<ActiveAdapter> {
        let nothing = || Tensor::zeros([0, config.hidden_size], (kind, self.params.leaf().device()));
        if self.row_head() == Some(RowHead::Evidence) {
            let (encoder, head) = self.evidence(kind)?;
            return Ok(ActiveAdapter {
                layers: Vec::new(),
                dropout: None,
                control: nothing(),
                end: nothing(),
                copy: None,
                heads: None,
                evidence: Some(head),
                encoder: Some(encoder),
                tape: None,
            });
        }
        let mut views = self.params.views_in(kind);
        let end = take(&mut views, END)?;
        let own = views.into_iter().filter(|(name, _)| !name.starts_with("gist."));
        Ok(ActiveAdapter {
            layers: Vec::new(),
            dropout: None,
            control: nothing(),
            end,
            copy: None,
            heads: self.heads()?,
            evidence: None,
            encoder: Some(Encoder::from_named(config, own.collect())?),
            tape: None,
        })
    }

    pub(super) fn save_encoder(&self, config: &EncoderConfig, folder: &Path) -> Result<()> {
        weights::write(&folder.join("model.safetensors"), &self.params.named())?;
        config.save(&folder.join("config.json"))
    }

    pub(super) fn load_encoder(folder: &Path, least: i64, device: Device) -> Result<Self> {
        let config = EncoderConfig::load(&folder.join("config.json"))?;
        let path = folder.join("model.safetensors");
        let named = weights::read(&path)?;
        let heads = match RowHead::of(named.keys().map(String::as_str)) {
            Some(head) => EncoderHeads::Row(head),
            None => EncoderHeads::Units(heads::stored_features(&named, HEADS).max(least)),
        };
        weights::check_exact(&path, &named, &specs(&config, heads))?;
        Self::pack_encoder(&config, &named, heads, device)
    }

    /// Factors on the learning rate, as flat as the parameters: `factor` for an encoder's own weights, which are pretrained,
    /// and 1 for its heads, but for the weights of the terms of an evidence head, which are three numbers. None for low-rank
    /// weights.
    pub fn lr_factors(&self, factor: f64) -> Option<Tensor> {
        self.encoder.as_ref()?;
        let factors = self.params.leaf().detach().ones_like();
        let terms = format!("{}{}", RowHead::Evidence.prefix(), evidence_head::WEIGHTS);
        for (name, offset, shape) in self.params.layout() {
            let own = match name.starts_with("gist.") {
                false => factor,
                true if name == terms => TERMS_FACTOR,
                true => continue,
            };
            let _ = factors.narrow(0, offset, shape.iter().product()).fill_(own);
        }
        Some(factors)
    }
}
