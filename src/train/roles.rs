//! The three roles as adapters, fresh or from a folder.

use crate::config::compressors::{CompressorConfig, EncoderSection};
use crate::config::parts::LoraConfig;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::copy_head;
use crate::model::decoder::Decoder;
use crate::model::encoder::Encoder;
use crate::model::lora::{Adapter, Extra};
use crate::model::row_head::RowHead;
use crate::models::Models;
use crate::rng::{self, Stream};
use crate::tensor::ids_2d;
use std::collections::BTreeSet;
use std::path::Path;
use tch::Device;

/// Names of the roles that learn, and of their folders.
pub const ROLES: [&str; 3] = ["compressor", "generator", "empty_reader"];

/// Loads the adapters of the three roles from a folder; the compressor's must be of the experiment's kind.
pub fn load_roles(folder: &Path, config: &TrainConfig, models: &Models) -> Result<[Adapter; 3]> {
    let reader = |role| load_role(folder, role, config, models);
    Ok([load_compressor(folder, config, models)?, reader(ROLES[1])?, reader(ROLES[2])?])
}

fn load_compressor(folder: &Path, config: &TrainConfig, models: &Models) -> Result<Adapter> {
    let compressor = load_role(folder, ROLES[0], config, models)?;
    let kind = |extractive: bool| if extractive { "an extractive" } else { "a gist" };
    let expected = matches!(config.compressor, CompressorConfig::Extractive { .. });
    if compressor.is_extractive() != expected {
        let (expected, got) = (kind(expected), kind(compressor.is_extractive()));
        let message = format!("expected the adapter of {expected} compressor, got that of {got} one");
        return Err(Error::file(folder.join(ROLES[0]), message));
    }
    Ok(compressor)
}

/// The roles as the warm start left them.
pub struct WarmStarted {
    /// The compressor.
    pub compressor: Adapter,
    /// The generator.
    pub generator: Adapter,
}

impl WarmStarted {
    /// Loads them from a folder.
    pub fn load(folder: &Path, config: &TrainConfig, models: &Models) -> Result<Self> {
        let [compressor, generator, _] = load_roles(folder, config, models)?;
        Ok(Self { compressor, generator })
    }
}

/// Loads the adapter of a role, which must be what the experiment asks for; its dropout is the experiment's.
fn load_role(folder: &Path, role: &str, config: &TrainConfig, models: &Models) -> Result<Adapter> {
    let (folder, lora) = (folder.join(role), &config.model.lora);
    let (key, asked) = if role == ROLES[0] { ("compressor", &lora.compressor) } else { ("generator", &lora.generator) };
    let adapter = models.decoder.load_adapter(&folder)?;
    let Some(found) = adapter.low_rank() else { return Ok(adapter) };
    let modules = |lora: &LoraConfig| -> BTreeSet<String> { lora.target_modules.iter().cloned().collect() };
    let differs = [
        ("r", "rank", asked.rank.to_string(), found.rank.to_string()),
        ("lora_alpha", "alpha", asked.alpha.to_string(), found.alpha.to_string()),
        ("target_modules", "target_modules", format!("{:?}", modules(asked)), format!("{:?}", modules(found))),
    ];
    if let Some((theirs, ours, asked, found)) = differs.iter().find(|(.., asked, found)| asked != found) {
        let message =
            format!("`{theirs}`: expected {asked} (model.lora.{key}.{ours}, or model.lora.{ours}), got {found}");
        return Err(Error::file(folder.join("adapter_config.json"), message));
    }
    Ok(adapter.with_dropout(asked.dropout))
}

/// The roles that an experiment starts from: fresh ones, or those of `warm_start.from`.
pub fn first_roles(config: &TrainConfig, models: &Models) -> Result<[Adapter; 3]> {
    let warm = &config.warm_start;
    match &warm.from {
        Some(from) if warm.fresh_compressor => Ok([
            fresh_compressor(config, models)?,
            load_role(from, ROLES[1], config, models)?,
            load_role(from, ROLES[2], config, models)?,
        ]),
        Some(from) if warm.fresh_readers => {
            Ok([load_compressor(from, config, models)?, fresh_reader(config, models)?, fresh_reader(config, models)?])
        }
        Some(from) => load_roles(from, config, models),
        None => Ok([fresh_compressor(config, models)?, fresh_reader(config, models)?, fresh_reader(config, models)?]),
    }
}

fn fresh(config: &TrainConfig, models: &Models, role: u64, extra: Extra) -> Result<Adapter> {
    rng::seed_torch(config.seed, Stream::Init, 0, role);
    let loras = &config.model.lora;
    let lora = if role == 0 { &loras.compressor } else { &loras.generator };
    Adapter::with_extra(models.decoder.config(), lora, models.decoder.embedding(), extra)
}

/// A reader that knows nothing yet.
pub fn fresh_reader(config: &TrainConfig, models: &Models) -> Result<Adapter> {
    fresh(config, models, 1, Extra::Nothing)
}

/// Parts of a compressor's adapter beside its low-rank weights over the base; none for one with an encoder of its own,
/// which has no such weights.
pub fn extra(config: &TrainConfig, model: &ModelConfig) -> Option<Extra> {
    match &config.compressor {
        CompressorConfig::Gist { .. } => Some(Extra::CopyHead(copy_head::rows(config.model.copy_lengths, model))),
        CompressorConfig::Extractive { encoder: None, hints, .. } => Some(Extra::Heads { hints: hints.len() as i64 }),
        CompressorConfig::Extractive { encoder: Some(_), .. } => None,
    }
}

/// A compressor that knows nothing yet.
pub fn fresh_compressor(config: &TrainConfig, models: &Models) -> Result<Adapter> {
    let decoder = &models.decoder;
    if let CompressorConfig::Extractive { encoder: Some(section), hints, .. } = &config.compressor {
        return fresh_encoder(section, hints.len(), decoder, config.seed);
    }
    let none = || Error::invalid("compressor: expected one with an adapter over the base, got one with an encoder");
    let extra = extra(config, decoder.config()).ok_or_else(none)?;
    let compressor = fresh(config, models, 0, extra)?;
    match models.tokenizer.encode(&config.model.start_like)?.as_slice() {
        [] => Ok(compressor),
        like => {
            let ids = ids_2d(&[like], models.decoder.device())?.squeeze_dim(0);
            compressor.starting_like(&models.decoder.embedding().index_select(0, &ids))
        }
    }
}

/// An extractive compressor that knows nothing yet but what its encoder and so many hints bring, beside the base that reads.
pub fn fresh_encoder(section: &EncoderSection, hints: usize, decoder: &Decoder, seed: u64) -> Result<Adapter> {
    let (config, weights) = Encoder::read(&section.folder()?)?;
    rng::seed_torch(seed, Stream::Init, 0, 0);
    let known = copy_head::features(decoder.config());
    Adapter::of_encoder(&config, weights, known, hints as i64, decoder.device())
}

/// An encoder under a fresh head over rows; a fresh evidence head scores as the untaught sum does.
pub fn fresh_rows(section: &EncoderSection, head: RowHead, device: Device, seed: u64) -> Result<Adapter> {
    let (config, weights) = Encoder::read(&section.folder()?)?;
    rng::seed_torch(seed, Stream::Init, 0, 0);
    match section.rank {
        Some(rank) => Adapter::of_low_rank_rows(&config, weights, head, rank, device),
        None => Adapter::of_rows(&config, weights, head, device),
    }
}

/// An extractive compressor that knows nothing yet, where the base itself is the encoder, under a fresh adapter.
pub fn fresh_heads(lora: &LoraConfig, hints: usize, decoder: &Decoder, seed: u64) -> Result<Adapter> {
    rng::seed_torch(seed, Stream::Init, 0, 0);
    Adapter::with_extra(decoder.config(), lora, decoder.embedding(), Extra::Heads { hints: hints as i64 })
}
