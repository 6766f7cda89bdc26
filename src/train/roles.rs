//! The three roles as adapters, fresh or from a folder, and the policy that goes with the experiment's compressor.

use crate::chat::Frame;
use crate::compressor::budget::Controller;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::foreign::Foreign;
use crate::compressor::gist::GistPolicy;
use crate::compressor::policy::Policy;
use crate::compressor::scorer::Scorer;
use crate::compressor::scorers::bm25::Bm25;
use crate::compressor::scorers::embedding::Embedding;
use crate::config::compressors::{CompressorConfig, EncoderSection, Hint};
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
use std::collections::BTreeSet;
use std::path::Path;

/// Names of the roles that learn, and of their folders.
pub const ROLES: [&str; 3] = ["compressor", "generator", "empty_reader"];

/// Loads the adapters of the three roles from a folder; the compressor's must be of the experiment's kind.
pub fn load_roles(folder: &Path, setup: &Setup) -> Result<[Adapter; 3]> {
    let compressor = load_role(folder, ROLES[0], setup)?;
    let kind = |extractive: bool| if extractive { "an extractive" } else { "a gist" };
    let expected = matches!(setup.config.compressor, CompressorConfig::Extractive { .. });
    if compressor.is_extractive() != expected {
        let (expected, got) = (kind(expected), kind(compressor.is_extractive()));
        let message = format!("expected the adapter of {expected} compressor, got that of {got} one");
        return Err(Error::file(folder.join(ROLES[0]), message));
    }
    Ok([compressor, load_role(folder, ROLES[1], setup)?, load_role(folder, ROLES[2], setup)?])
}

/// Loads the adapter of a role, which must be what the experiment asks for; its dropout is the experiment's.
fn load_role(folder: &Path, role: &str, setup: &Setup) -> Result<Adapter> {
    let (folder, lora) = (folder.join(role), &setup.config.model.lora);
    let (key, asked) = if role == ROLES[0] { ("compressor", &lora.compressor) } else { ("generator", &lora.generator) };
    let adapter = setup.decoder.load_adapter(&folder)?;
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
pub fn first_roles(setup: &Setup) -> Result<[Adapter; 3]> {
    let warm = &setup.config.warm_start;
    match &warm.from {
        Some(from) if warm.fresh_compressor => {
            Ok([fresh_compressor(setup)?, load_role(from, ROLES[1], setup)?, load_role(from, ROLES[2], setup)?])
        }
        Some(from) => load_roles(from, setup),
        None => Ok([fresh_compressor(setup)?, fresh_reader(setup)?, fresh_reader(setup)?]),
    }
}

fn fresh(setup: &Setup, role: u64, extra: Extra) -> Result<Adapter> {
    rng::seed_torch(setup.config.seed, Stream::Init, 0, role);
    let loras = &setup.config.model.lora;
    let lora = if role == 0 { &loras.compressor } else { &loras.generator };
    Adapter::with_extra(setup.decoder.config(), lora, setup.decoder.embedding(), extra)
}

/// A reader that knows nothing yet.
pub fn fresh_reader(setup: &Setup) -> Result<Adapter> {
    fresh(setup, 1, Extra::Nothing)
}

/// What the adapter of a compressor has beside low-rank weights; nothing of the base for one with an encoder of its own.
pub fn extra(config: &TrainConfig, model: &ModelConfig) -> Option<Extra> {
    match &config.compressor {
        CompressorConfig::Gist { .. } => Some(Extra::CopyHead(copy_head::rows(config.model.copy_lengths, model))),
        CompressorConfig::Extractive { encoder: None, hints, .. } => Some(Extra::Heads { hints: hints.len() as i64 }),
        CompressorConfig::Extractive { encoder: Some(_), .. } => None,
    }
}

/// A compressor that knows nothing yet.
pub fn fresh_compressor(setup: &Setup) -> Result<Adapter> {
    let (model, decoder) = (&setup.config.model, &setup.decoder);
    if let CompressorConfig::Extractive { encoder: Some(section), hints, .. } = &setup.config.compressor {
        return fresh_encoder((section, hints.len()), decoder, setup.config.seed);
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

/// An extractive compressor that knows nothing yet but what its encoder and so many hints bring, beside the base that reads.
pub fn fresh_encoder((section, hints): (&EncoderSection, usize), decoder: &Decoder, seed: u64) -> Result<Adapter> {
    let (config, weights) = Encoder::read(&section.folder()?)?;
    rng::seed_torch(seed, Stream::Init, 0, 0);
    let hints = hints as i64;
    let features = copy_head::features(decoder.config()) + hints;
    Adapter::of_encoder(&config, weights, (features, hints), decoder.device())
}

/// The same where the base itself is the encoder, under a fresh adapter.
pub fn fresh_heads(lora: &LoraConfig, hints: usize, decoder: &Decoder, seed: u64) -> Result<Adapter> {
    rng::seed_torch(seed, Stream::Init, 0, 0);
    Adapter::with_extra(decoder.config(), lora, decoder.embedding(), Extra::Heads { hints: hints as i64 })
}

/// Network and actions of an extractive compressor beside the base that reads; nothing for one that writes.
pub fn extractive_policy<'a>(
    compressor: &CompressorConfig,
    decoder: &'a Decoder,
    tokenizer: &'a Tokenizer,
) -> Result<Option<ExtractivePolicy<'a>>> {
    let CompressorConfig::Extractive { unit, aggregate, encoder, blocks, hints } = compressor else { return Ok(None) };
    let (unit, aggregate, blocks) = (*unit, *aggregate, *blocks);
    let most = decoder.config().num_hidden_layers as usize;
    if let Some(more) = blocks.filter(|&blocks| blocks > most) {
        return Err(Error::invalid(format!("compressor.blocks: expected at most the base's {most}, got {more}")));
    }
    let load = |e: &EncoderSection| Foreign::load(&e.folder()?.join("tokenizer.json")).map(Box::new);
    let foreign = encoder.as_ref().map(load).transpose()?;
    let hint = |hint: &Hint| -> Result<Box<dyn Scorer>> {
        Ok(match (hint, encoder) {
            (Hint::Embedding, Some(encoder)) => Box::new(Embedding::load(&encoder.folder()?, decoder.device())?),
            _ => Box::new(Bm25),
        })
    };
    let hints = hints.iter().map(hint).collect::<Result<_>>()?;
    let controller = Controller::default();
    Ok(Some(ExtractivePolicy { decoder, tokenizer, unit, aggregate, foreign, blocks, hints, controller }))
}

/// Network and actions of a compressor over this base.
pub fn policy<'a>(compressor: &CompressorConfig, setup: &'a Setup) -> Result<Policy<'a>> {
    Ok(match extractive_policy(compressor, &setup.decoder, &setup.tokenizer)? {
        Some(policy) => Policy::Extractive(policy),
        None => {
            // Not the setup's, which may be another experiment's.
            let frame = Frame::of(compressor, &setup.config.model.folder()?, &setup.tokenizer)?;
            let frame = frame.behind(setup.decoder.begin());
            Policy::Gist(GistPolicy::new(&setup.decoder, &setup.forbidden_ids()).framed(frame))
        }
    })
}
