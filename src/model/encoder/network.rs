//! An encoder over views of its weights, and the Hugging Face folder that it is read from.

use crate::error::{Error, Result};
use crate::model::encoder::bert::{self, Bert};
use crate::model::encoder::config::EncoderConfig;
use crate::model::encoder::modern::{self, ModernBert};
use crate::model::encoder::named::NamedWeights;
use crate::model::weights;
use crate::run_dir::read_json;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Prefixes of weights that are not the encoder's: heads (those of a trained compressor too), poolers, buffers.
const OTHERS: [&str; 16] = [
    "pooler.",
    "cls.",
    "classifier.",
    "pre_classifier.",
    "qa_outputs.",
    "vocab_transform.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "lm_head.",
    "head.",
    "decoder.",
    "token_head.",
    "span_conv.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "gist.",
];

impl EncoderConfig {
    /// Names and shapes of all weights.
    pub fn parameters(&self) -> Vec<(String, Vec<i64>)> {
        match &self.modern {
            Some(modern) => modern::parameters(self, modern),
            None => bert::parameters(self),
        }
    }
}

/// Whether the folder of a sentence encoder says that a text's embedding is that of its first token (`1_Pooling/config.json`
/// of sentence-transformers), not the mean over its tokens.
pub fn pools_first(folder: &Path) -> Result<bool> {
    let path = folder.join("1_Pooling/config.json");
    if !path.exists() {
        return Ok(false);
    }
    let pooling: Value = read_json(&path)?;
    let is = |way: &str, key: &str| pooling["pooling_mode"] == way || pooling[key] == true;
    match (is("cls", "pooling_mode_cls_token"), is("mean", "pooling_mode_mean_tokens")) {
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        _ => Err(Error::file(path, format!("expected pooling by the first token or by the mean, got {pooling}"))),
    }
}

/// A Hugging Face folder with an encoder in it, in f32.
pub(in crate::model) struct Checkpoint {
    /// Architecture of the encoder.
    pub config: EncoderConfig,
    /// The encoder's weights, without the prefix that a head over them brings.
    pub encoder: BTreeMap<String, Tensor>,
    /// Heads and whatever else belongs to other tasks.
    pub others: BTreeMap<String, Tensor>,
    /// The file of the weights, or its index.
    pub path: PathBuf,
}

impl Checkpoint {
    /// Reads configuration and weights, in one file or in shards. Every weight of the encoder must be there in its shape;
    /// what is neither one nor of a known head is an error.
    pub fn read(folder: &Path) -> Result<Self> {
        let config = EncoderConfig::load(&folder.join("config.json"))?;
        let (path, all) = weights::read_folder(folder, Kind::Float, Device::Cpu)?;
        let plain = all.into_iter().map(|(name, tensor)| (config.plain(&name).to_string(), tensor));
        let is_other = |name: &str| OTHERS.iter().any(|other| name.starts_with(other));
        let (others, encoder): (BTreeMap<_, _>, BTreeMap<_, _>) = plain.partition(|(name, _)| is_other(name));
        weights::check_exact(&path, &encoder, &config.parameters())?;
        Ok(Self { config, encoder, others, path })
    }
}

enum Network {
    Bert(Bert),
    Modern(Box<ModernBert>),
}

/// An encoder over views of its weights.
pub struct Encoder {
    config: EncoderConfig,
    words: Tensor,
    network: Network,
}

impl Encoder {
    /// Encoder with these tensors as weights, which may require gradients.
    pub fn from_named(config: &EncoderConfig, named: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut named = NamedWeights(named);
        let (words, network) = match &config.modern {
            Some(modern) => {
                (named.tensor(modern::WORDS)?, Network::Modern(Box::new(ModernBert::take(config, modern, &mut named)?)))
            }
            None => (named.tensor(bert::WORDS)?, Network::Bert(Bert::take(config, &mut named)?)),
        };
        Ok(Self { config: config.clone(), words, network })
    }

    /// Reads a Hugging Face folder: its configuration and the encoder's weights in f32, under their names without the
    /// model's prefix. Heads of other tasks are passed over; anything else unknown is an error.
    pub fn read(folder: &Path) -> Result<(EncoderConfig, BTreeMap<String, Tensor>)> {
        let checkpoint = Checkpoint::read(folder)?;
        Ok((checkpoint.config, checkpoint.encoder))
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
    /// their segments `[N, T]` (all 0 when none are given, and where the encoder knows none). What stands at padding means
    /// nothing.
    pub fn forward(&self, ids: &Tensor, lengths: &[i64], segments: Option<&Tensor>) -> Result<Tensor> {
        let (n, t) = ids.size2()?;
        if lengths.len() as i64 != n || lengths.iter().any(|&length| length < 1 || length > t) {
            return Err(Error::shape("lengths", format!("{n} in 1..={t}"), format!("{lengths:?}")));
        }
        if t > self.config.longest {
            return Err(Error::shape("row", format!("at most {}", self.config.longest), t));
        }
        let (low, high) = (ids.min().int64_value(&[]), ids.max().int64_value(&[]));
        if low < 0 || high >= self.config.vocab_size {
            let got = if low < 0 { low } else { high };
            return Err(Error::shape("token id", format!("0..{}", self.config.vocab_size), got));
        }
        let padded = lengths.iter().any(|&length| length < t);
        let real = padded.then(|| real(lengths, t, self.device()));
        let words = Tensor::embedding(&self.words, ids, -1, false, false);
        match &self.network {
            Network::Modern(network) => network.forward(&self.config, &words, real.as_ref()),
            Network::Bert(network) => network.forward(&self.config, &words, real.as_ref(), segments),
        }
    }
}

/// `[N, T]`, true at the first `lengths[n]` tokens of row n.
pub fn real(lengths: &[i64], tokens: i64, device: Device) -> Tensor {
    let steps = Tensor::arange(tokens, (Kind::Int64, device));
    steps.lt_tensor(&Tensor::from_slice(lengths).to_device(device).unsqueeze(1))
}
