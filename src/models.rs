//! The base, its tokenizer, and the compressors over them: all that a trained compressor needs to be used, and no text.

use crate::base;
use crate::chat::{self, Frame, ReaderFrame};
use crate::compressor::budget::Controller;
use crate::compressor::evidence::EvidenceEncoder;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::foreign::Foreign;
use crate::compressor::gist::GistPolicy;
use crate::compressor::policy::Policy;
use crate::compressor::prompted::{Prompt, Prompted};
use crate::compressor::scored::Scorer;
use crate::compressor::scorers::Parts;
use crate::compressor::scorers::bm25::Bm25;
use crate::compressor::scorers::embedding::Embedding;
use crate::compressor::{Compressor, baselines};
use crate::config::bos::Bos;
use crate::config::compressors::{CompressorConfig, EncoderSection, Hint};
use crate::config::reader::ReaderSection;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::peft::Base;
use crate::tokenizer::{Tokenizer, begin};
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// A base as an experiment names it.
#[derive(Clone, Copy, Debug)]
pub struct BaseName<'a> {
    /// Name of the base in its adapters: the folder or repository as the user wrote it.
    pub name: &'a Path,
    /// Folder with its configuration, weights and tokenizer.
    pub folder: &'a Path,
    /// Whether its rows begin with a beginning-of-text token.
    pub bos: Bos,
}

/// A frozen base with its tokenizer.
pub struct Models {
    /// The base: teacher, readers and compressors are this with different adapters.
    pub decoder: Decoder,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
    /// Ids that no compressor may write: special tokens, and rows of the base beyond the tokenizer.
    pub forbidden: Vec<u32>,
    name: String,
    folder: PathBuf,
}

impl Models {
    /// Loads the base that is named, with its tokenizer. Each mismatch is an error that names its file.
    pub fn load(base: BaseName, kind: Kind, device: Device) -> Result<Self> {
        Self::over(Decoder::load(base.folder, device, kind)?, base)
    }

    /// A base that is there already, with the tokenizer and the chat template of the folder or GGUF file that is named.
    pub fn over(decoder: Decoder, named: BaseName) -> Result<Self> {
        let BaseName { name, folder, bos } = named;
        let tokenizer = Tokenizer::load(&base::file(folder, base::TOKENIZER))?;
        tokenizer.check_model(&base::file(folder, base::CONFIG), decoder.config().vocab_size)?;
        let decoder = decoder.beginning(begin(&base::file(folder, base::TOKENIZER), bos)?)?;
        let beyond = tokenizer.vocab_size() as u32..decoder.config().vocab_size as u32;
        let forbidden = tokenizer.special_ids().iter().copied().chain(beyond).collect();
        Ok(Self { decoder, tokenizer, forbidden, name: name.display().to_string(), folder: folder.to_path_buf() })
    }

    /// These models with or without activation checkpointing in backward passes.
    pub fn checkpointed(self, yes: bool) -> Self {
        Self { decoder: self.decoder.checkpointed(yes), ..self }
    }

    /// The base, as adapters name it.
    pub fn base(&self) -> Base {
        let (sha256, begin) = (self.decoder.identity().map(String::from), self.decoder.begin().to_vec());
        Base { name: self.name.clone(), sha256, begin }
    }

    /// `config.json` of the base, or the GGUF file that holds it.
    pub fn config_file(&self) -> PathBuf {
        base::file(&self.folder, base::CONFIG)
    }

    /// The instruction around what a compressor of this kind reads, behind what every row of the base begins with.
    pub fn frame(&self, compressor: &CompressorConfig) -> Result<Frame> {
        Ok(Frame::of(compressor, &self.folder, &self.tokenizer)?.behind(self.decoder.begin()))
    }

    /// The frame round what teacher and readers of this base read; `plain` where the experiment says none.
    pub fn reader_frame(&self, section: &ReaderSection, plain: &str) -> Result<ReaderFrame> {
        ReaderFrame::new(&self.folder, &self.tokenizer, self.decoder.begin(), section, plain)
    }

    /// The base as a compressor that is asked for a summary or notes.
    pub fn prompted(&self, prompt: Prompt) -> Result<Prompted<'_>> {
        let frame = Frame::new(&self.folder, &self.tokenizer, chat::PLACE)?.behind(self.decoder.begin());
        Prompted::new(prompt, &self.decoder, &self.tokenizer, &self.forbidden, frame)
    }

    /// The prompted baselines of every table: none over a base without a chat template, which has not learned to do what it is
    /// told.
    pub fn prompted_baselines(&self) -> Result<Vec<Prompted<'_>>> {
        match chat::has_template(&self.folder)? {
            true => Prompt::ALL.into_iter().map(|prompt| self.prompted(prompt)).collect(),
            false => Ok(Vec::new()),
        }
    }

    /// The baselines of every table over this base.
    pub fn baselines<'a>(&'a self, parts: Parts<'a>, controller: &Controller) -> Result<Vec<Box<dyn Compressor + 'a>>> {
        let mut all = baselines(parts, &self.tokenizer, &self.forbidden, controller);
        for prompted in self.prompted_baselines()? {
            all.push(Box::new(prompted));
        }
        Ok(all)
    }

    /// Network and actions of a compressor over this base.
    pub fn policy(&self, compressor: &CompressorConfig) -> Result<Policy<'_>> {
        if let Some(policy) = self.extractive_policy(compressor)? {
            return Ok(Policy::Extractive(policy));
        }
        let policy = GistPolicy::new(&self.decoder, &self.forbidden).framed(self.frame(compressor)?);
        Ok(Policy::Gist(match compressor {
            CompressorConfig::Gist { likeliest, .. } => policy.searching(*likeliest),
            CompressorConfig::Extractive { .. } => policy,
        }))
    }

    /// Network and actions of an extractive compressor beside the base that reads; none for one that writes.
    pub fn extractive_policy(&self, compressor: &CompressorConfig) -> Result<Option<ExtractivePolicy<'_>>> {
        let CompressorConfig::Extractive { unit, aggregate, encoder, blocks, hints, evidence } = compressor else {
            return Ok(None);
        };
        let (decoder, tokenizer) = (&self.decoder, &self.tokenizer);
        let most = decoder.config().num_hidden_layers as usize;
        if let Some(more) = blocks.filter(|&blocks| blocks > most) {
            return Err(Error::invalid(format!("compressor.blocks: expected at most the base's {most}, got {more}")));
        }
        let load = |e: &EncoderSection| Foreign::load(&e.folder()?.join("tokenizer.json")).map(Box::new);
        let foreign = encoder.as_ref().filter(|_| !evidence).map(load).transpose()?;
        let finds = |e: &EncoderSection| EvidenceEncoder::load(&e.folder()?, decoder.device()).map(Box::new);
        let evidence = encoder.as_ref().filter(|_| *evidence).map(finds).transpose()?;
        let hint = |hint: &Hint| -> Result<Box<dyn Scorer>> {
            match (hint, encoder) {
                (Hint::Bm25, _) => Ok(Box::new(Bm25)),
                (Hint::Embedding, Some(encoder)) => {
                    Ok(Box::new(Embedding::load(&encoder.folder()?, decoder.device())?))
                }
                (Hint::Embedding, None) => {
                    Err(Error::invalid("compressor.hints: \"embedding\" expects a compressor.encoder, got none"))
                }
            }
        };
        let hints = hints.iter().map(hint).collect::<Result<_>>()?;
        Ok(Some(ExtractivePolicy {
            decoder,
            tokenizer,
            unit: *unit,
            aggregate: *aggregate,
            foreign,
            blocks: *blocks,
            hints,
            evidence,
            controller: Controller::default(),
        }))
    }
}
