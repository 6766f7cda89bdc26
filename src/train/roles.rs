//! The three roles as adapters, fresh or from a folder, and the policy that goes with the experiment's compressor.

use crate::compressor::budget::Controller;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::foreign::Foreign;
use crate::compressor::gist::GistPolicy;
use crate::compressor::policy::Policy;
use crate::config::compressors::{CompressorConfig, EncoderSection};
use crate::config::parts::LoraConfig;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::copy_head;
use crate::model::decoder::Decoder;
use crate::model::encoder::Encoder;
use crate::model::lora::{Adapter, Extra};
use crate::rng::{self, Stream};
use crate::tensor::ids_2d;
use crate::tokenizer::Tokenizer;
use crate::train::setup::Setup;
use std::path::Path;

/// Names of the roles that learn, and of their folders.
pub const ROLES: [&str; 3] = ["compressor", "generator", "empty_reader"];

/// Loads the adapters of the three roles from a folder; the compressor's must be of the experiment's kind.
pub fn load_roles(folder: &Path, setup: &Setup) -> Result<[Adapter; 3]> {
    let load = |role: &str| Adapter::load(&folder.join(role), setup.decoder.config(), setup.decoder.device());
    let compressor = load(ROLES[0])?;
    let kind = |extractive: bool| if extractive { "an extractive" } else { "a gist" };
    let expected = matches!(setup.config.compressor, CompressorConfig::Extractive { .. });
    if compressor.is_extractive() != expected {
        let (expected, got) = (kind(expected), kind(compressor.is_extractive()));
        let message = format!("expected the adapter of {expected} compressor, got that of {got} one");
        return Err(Error::file(folder.join(ROLES[0]), message));
    }
    Ok([compressor, load(ROLES[1])?, load(ROLES[2])?])
}

/// The roles that an experiment starts from: fresh ones, or those of `warm_start.from`.
pub fn first_roles(setup: &Setup) -> Result<[Adapter; 3]> {
    let warm = &setup.config.warm_start;
    let load =
        |from: &Path, role: &str| Adapter::load(&from.join(role), setup.decoder.config(), setup.decoder.device());
    match &warm.from {
        Some(from) if warm.fresh_compressor => {
            Ok([fresh_compressor(setup)?, load(from, ROLES[1])?, load(from, ROLES[2])?])
        }
        Some(from) => load_roles(from, setup),
        None => Ok([fresh_compressor(setup)?, fresh_reader(setup)?, fresh_reader(setup)?]),
    }
}

fn fresh(setup: &Setup, role: u64, extra: Extra) -> Result<Adapter> {
    rng::seed_torch(setup.config.seed, Stream::Init, 0, role);
    Adapter::with_extra(setup.decoder.config(), &setup.config.model.lora, setup.decoder.embedding(), extra)
}

/// A reader that knows nothing yet.
pub fn fresh_reader(setup: &Setup) -> Result<Adapter> {
    fresh(setup, 1, Extra::Nothing)
}

/// What the adapter of a compressor has beside low-rank weights; nothing of the base for one with an encoder of its own.
pub fn extra(config: &TrainConfig, model: &ModelConfig) -> Option<Extra> {
    match &config.compressor {
        CompressorConfig::Gist { .. } => Some(Extra::CopyHead(copy_head::rows(config.model.copy_lengths, model))),
        CompressorConfig::Extractive { encoder: None, .. } => Some(Extra::Heads),
        CompressorConfig::Extractive { encoder: Some(_), .. } => None,
    }
}

/// A compressor that knows nothing yet.
pub fn fresh_compressor(setup: &Setup) -> Result<Adapter> {
    let (model, decoder) = (&setup.config.model, &setup.decoder);
    if let CompressorConfig::Extractive { encoder: Some(section), .. } = &setup.config.compressor {
        return fresh_encoder(section, decoder, setup.config.seed);
    }
    let extra = extra(setup.config, decoder.config()).unwrap_or(Extra::Nothing);
    let compressor = fresh(setup, 0, extra)?;
    match setup.tokenizer.encode(&model.start_like)?.as_slice() {
        [] => Ok(compressor),
        like => {
            let ids = ids_2d(&[like], setup.decoder.device())?.squeeze_dim(0);
            compressor.starting_like(&setup.decoder.embedding().index_select(0, &ids))
        }
    }
}

/// An extractive compressor that knows nothing yet but what its encoder brings, beside the base that reads.
pub fn fresh_encoder(section: &EncoderSection, decoder: &Decoder, seed: u64) -> Result<Adapter> {
    let (config, weights) = Encoder::read(&section.folder()?)?;
    rng::seed_torch(seed, Stream::Init, 0, 0);
    Adapter::of_encoder(&config, weights, copy_head::features(decoder.config()), decoder.device())
}

/// The same where the base itself is the encoder, under a fresh adapter.
pub fn fresh_heads(lora: &LoraConfig, decoder: &Decoder, seed: u64) -> Result<Adapter> {
    rng::seed_torch(seed, Stream::Init, 0, 0);
    Adapter::with_extra(decoder.config(), lora, decoder.embedding(), Extra::Heads)
}

/// Network and actions of an extractive compressor beside the base that reads; nothing for one that writes.
pub fn extractive_policy<'a>(
    compressor: &CompressorConfig,
    decoder: &'a Decoder,
    tokenizer: &'a Tokenizer,
) -> Result<Option<ExtractivePolicy<'a>>> {
    let CompressorConfig::Extractive { unit, encoder, blocks } = compressor else { return Ok(None) };
    let (unit, blocks) = (*unit, *blocks);
    let most = decoder.config().num_hidden_layers as usize;
    if let Some(more) = blocks.filter(|&blocks| blocks > most) {
        return Err(Error::invalid(format!("compressor.blocks: expected at most the base's {most}, got {more}")));
    }
    let load = |e: &EncoderSection| Foreign::load(&e.folder()?.join("tokenizer.json")).map(Box::new);
    let foreign = encoder.as_ref().map(load).transpose()?;
    let controller = Controller::default();
    Ok(Some(ExtractivePolicy { decoder, tokenizer, unit, foreign, blocks, controller }))
}

/// Network and actions of a compressor over this base.
pub fn policy<'a>(compressor: &CompressorConfig, setup: &'a Setup) -> Result<Policy<'a>> {
    Ok(match extractive_policy(compressor, &setup.decoder, &setup.tokenizer)? {
        Some(policy) => Policy::Extractive(policy),
        None => Policy::Gist(GistPolicy::new(&setup.decoder, &setup.forbidden_ids()).framed(setup.frame.clone())),
    })
}
