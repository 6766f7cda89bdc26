//! What every training stage works with: the base, the tokenizer, the tokenised splits and their windows.

use crate::base;
use crate::chat::Frame;
use crate::compressor::controls::donors;
use crate::config::compressors::CompressorConfig;
use crate::config::train::{DataSection, TrainConfig};
use crate::data::{self, Document, Eligible, Split, Window, WindowShape};
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::peft::Base;
use crate::model::weights;
use crate::rollout::{Imagined, Taught};
use crate::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use tch::Device;

/// Base, tokenizer, text and windows of one experiment.
pub struct Setup<'a> {
    /// The experiment.
    pub config: &'a TrainConfig,
    /// The frozen base.
    pub decoder: Decoder,
    /// Text ↔ ids.
    pub tokenizer: Tokenizer,
    /// P, L, F.
    pub shape: WindowShape,
    /// Cap of a gist.
    pub budget: usize,
    /// Training documents as ids.
    pub train: Vec<Vec<u32>>,
    eligible: Eligible,
    /// Validation windows.
    pub valid: Vec<Window>,
    /// Test windows.
    pub test: Vec<Window>,
    /// Test documents, for names.
    pub test_documents: Vec<Document>,
}

impl<'a> Setup<'a> {
    /// Loads everything; each mismatch is an error that names its file.
    pub fn load(config: &'a TrainConfig, device: Device) -> Result<Self> {
        let decoder = Decoder::load(&config.model.folder()?, device, config.hardware.kind())?;
        Self::over(config, decoder)
    }

    /// The same over a base that is there already; tokenizer and text as the experiment says.
    pub fn over(config: &'a TrainConfig, decoder: Decoder) -> Result<Self> {
        let folder = &config.model.folder()?;
        let decoder = decoder.checkpointed(config.train.checkpoint_activations);
        let tokenizer = Tokenizer::load(&base::file(folder, base::TOKENIZER))?;
        tokenizer.check_model(&base::file(folder, base::CONFIG), decoder.config().vocab_size)?;
        let d = &config.data;
        let shape = WindowShape { prefix: d.prefix_tokens, local: d.local_tokens, future: d.future_tokens };
        let budget = config.budget_tokens();
        let frame = Frame::of(&config.compressor, folder, &tokenizer)?;
        // The longest row: prefix, local as condition, what stands around them, two control tokens, gist.
        let longest = (shape.total() + 1).max(frame.len() + shape.prefix + shape.local + 2 + budget) as i64;
        let limit = decoder.config().max_position_embeddings;
        if longest > limit {
            let path = base::file(folder, base::CONFIG);
            return Err(Error::file(
                path,
                format!("max_position_embeddings: expected at least {longest}, got {limit}"),
            ));
        }
        let (train, _) = encode(&tokenizer, d, &d.train, Split::Train)?;
        let (valid, _) = encode(&tokenizer, d, &d.valid, Split::Valid)?;
        let (test, test_documents) = encode(&tokenizer, d, &d.test, Split::Test)?;
        let eligible = Eligible::new(&train, shape).map_err(at(&d.train))?;
        let (e, per_document) = (&config.eval, config.eval.windows_per_document);
        // The windows of a split do not depend on the run's seed: seeds differ in training, not in the exam.
        let valid = data::held_out_windows(&valid, shape, e.valid_windows, per_document, 0).map_err(at(&d.valid))?;
        let test = data::held_out_windows(&test, shape, e.windows, per_document, 0).map_err(at(&d.test))?;
        donors(&test, 0).map_err(at(&d.test))?;
        Ok(Self { config, decoder, tokenizer, shape, budget, train, eligible, valid, test, test_documents })
    }

    /// The windows of a training step; `step` is any number that names it.
    pub fn training_windows(&self, step: u64, count: usize) -> Vec<Window> {
        (0..count as u64)
            .map(|i| data::training_window(&self.train, &self.eligible, self.shape, self.config.seed, step, i))
            .collect()
    }

    /// Training windows with the futures that they are judged by: the true one, and those that the teacher imagines.
    pub fn taught<'w>(&self, step: u64, windows: &'w [Window]) -> Result<Taught<'w>> {
        match self.config.train.imagined_futures {
            0 => Taught::new(&self.decoder, windows),
            samples => {
                let how = Imagined { samples, beside_true: true, run_seed: self.config.seed, step };
                Taught::imagined(&self.decoder, windows, how)
            }
        }
    }

    /// Ids that no compressor may write: special tokens, and rows beyond the tokenizer.
    pub fn forbidden_ids(&self) -> Vec<u32> {
        let beyond = self.tokenizer.vocab_size() as u32..self.decoder.config().vocab_size as u32;
        self.tokenizer.special_ids().iter().copied().chain(beyond).collect()
    }

    /// The base, as adapters name it.
    pub fn base(&self) -> Base {
        let sha256 = self.decoder.identity().map(String::from);
        Base { name: self.config.model.path.display().to_string(), sha256 }
    }

    /// Files that a run depends on, and folders of such, for its provenance.
    pub fn inputs(config: &TrainConfig) -> Result<Vec<PathBuf>> {
        let mut all = model_files(&config.model.folder()?);
        let files = [&config.data.train, &config.data.valid, &config.data.test];
        all.extend(files.into_iter().flatten().cloned());
        if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor {
            all.extend(model_files(&encoder.folder()?));
        }
        for frozen in &config.eval.encoders {
            all.extend(model_files(&frozen.folder()?));
        }
        if let Some(from) = config.warm_start.from.as_ref().filter(|_| !config.warm_start.fresh_compressor) {
            all.push(from.join("compressor/adapter_model.safetensors"));
        }
        if let Some(from) = &config.warm_start.from {
            for role in ["generator", "empty_reader"] {
                all.push(from.join(role).join("adapter_model.safetensors"));
            }
        }
        let teacher = config.distill.teacher.iter().map(|folder| folder.join("adapter_model.safetensors"));
        // Whoever loads one that is not there, or is of another kind, says so.
        all.extend(teacher.filter(|path| path.exists()));
        all.extend(config.distill.labels_from.clone());
        Ok(all)
    }
}

/// Weights, configuration and tokenizer of a model: three files or more, or the one of GGUF.
pub fn model_files(folder: &Path) -> Vec<PathBuf> {
    let mut all = weights::files(folder);
    all.extend([base::CONFIG, base::TOKENIZER].map(|name| base::file(folder, name)));
    all.dedup();
    all
}

fn encode(
    tokenizer: &Tokenizer,
    section: &DataSection,
    file: &Option<PathBuf>,
    split: Split,
) -> Result<(Vec<Vec<u32>>, Vec<Document>)> {
    let documents = data::split_documents(file.as_deref(), section.recall.as_ref(), split)?;
    let texts: Vec<&str> = documents.iter().map(|d| d.text.as_str()).collect();
    Ok((tokenizer.encode_all(&texts)?, documents))
}

/// Names the file in an error about its documents.
fn at(file: &Option<PathBuf>) -> impl Fn(Error) -> Error {
    move |error| match (file, error) {
        (Some(path), error @ (Error::Shape { .. } | Error::Invalid(_))) => Error::file(path, error.to_string()),
        (_, error) => error,
    }
}
