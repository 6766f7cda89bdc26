//! An extractive compressor that is an encoder of its own (BERT, RoBERTa, ModernBERT: [`crate::model::encoder`]) with heads,
//! all of it trained, in place of low-rank weights over the base. Saved as a Hugging Face folder: `config.json` and
//! `model.safetensors` with the encoder under its own names, which other tools load, and the heads as `gist.*`, which they
//! ignore.

use crate::config::parts::LoraConfig;
use crate::error::{Error, Result};
use crate::model::encoder::{Encoder, EncoderConfig};
use crate::model::heads;
use crate::model::lora::{ActiveAdapter, Adapter, END, HEADS, take};
use crate::model::params::FlatParams;
use crate::model::weights;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Names and shapes of its parameters.
fn specs(config: &EncoderConfig, features: i64) -> Vec<(String, Vec<i64>)> {
    let own = heads::parameters(config.hidden_size, features).into_iter();
    let mut all = config.parameters();
    all.extend(own.map(|(name, shape)| (format!("{HEADS}{name}"), shape)));
    all.push((END.into(), vec![1, config.hidden_size]));
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
        Self::pack_encoder(config, &named, features, device)
    }

    fn pack_encoder(
        config: &EncoderConfig,
        named: &BTreeMap<String, Tensor>,
        features: i64,
        device: Device,
    ) -> Result<Self> {
        let find = |(name, shape): (String, Vec<i64>)| match named.get(&name) {
            Some(tensor) => Ok((name, tensor.shallow_clone())),
            None => Err(Error::shape(name, format!("a tensor {shape:?}"), "none")),
        };
        let all = specs(config, features).into_iter().map(find).collect::<Result<Vec<_>>>()?;
        let config = Some(config.clone());
        Ok(Self { config: LoraConfig::default(), params: FlatParams::pack(&all, device)?, encoder: config })
    }

    /// Views for a forward pass of the encoder in this `kind`; the base has no use for them.
    pub(super) fn activate_encoder(&self, config: &EncoderConfig, kind: Kind) -> Result<ActiveAdapter> {
        let mut views = self.params.views_in(kind);
        let end = take(&mut views, END)?;
        let own = views.into_iter().filter(|(name, _)| !name.starts_with("gist."));
        Ok(ActiveAdapter {
            layers: Vec::new(),
            dropout: None,
            control: Tensor::zeros([0, config.hidden_size], (kind, self.params.leaf().device())),
            end,
            copy: None,
            heads: self.heads()?,
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
        let features = heads::stored_features(&named, HEADS).max(least);
        weights::check_exact(&path, &named, &specs(&config, features))?;
        Self::pack_encoder(&config, &named, features, device)
    }

    /// Factors on the learning rate, as flat as the parameters: `factor` for an encoder's own weights, which are pretrained,
    /// and 1 for its heads. None for low-rank weights.
    pub fn lr_factors(&self, factor: f64) -> Option<Tensor> {
        self.encoder.as_ref()?;
        let factors = self.params.leaf().detach().ones_like();
        for (_, offset, shape) in self.params.layout().into_iter().filter(|(name, ..)| !name.starts_with("gist.")) {
            let _ = factors.narrow(0, offset, shape.iter().product()).fill_(factor);
        }
        Some(factors)
    }
}
