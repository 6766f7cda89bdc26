//! The inputs of a training stage: the experiment, its models, its windows; and the files that they come from.

use crate::base;
use crate::config::compressors::{CompressorConfig, FrozenKind};
use crate::config::eval::ExamSplit;
use crate::config::train::TrainConfig;
use crate::data::Window;
use crate::error::Result;
use crate::gguf::is_gguf;
use crate::model::weights;
use crate::models::{BaseName, Models};
use crate::reading::{Imagined, Taught};
use crate::train::windows::Windows;
use std::path::{Path, PathBuf};
use tch::Device;

/// Experiment, models and windows.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The experiment.
    pub config: &'a TrainConfig,
    /// The base and its tokenizer.
    pub models: &'a Models,
    /// The text, cut.
    pub windows: &'a Windows,
}

/// The base of an experiment and its tokenizer.
pub fn models(config: &TrainConfig, device: Device) -> Result<Models> {
    let (model, kind) = (&config.model, config.hardware.kind());
    let base = BaseName { name: &model.path, folder: &model.folder()?, bos: model.bos };
    let models = Models::load(base, kind, device)?;
    Ok(models.checkpointed(config.train.checkpoint_activations))
}

impl<'a> Inputs<'a> {
    /// Cap of a gist, in tokens.
    pub fn budget(&self) -> usize {
        self.config.budget_tokens()
    }

    /// The windows of a training step; `step` is any number that names it.
    pub fn training_windows(&self, step: u64, count: usize) -> Result<Vec<Window>> {
        self.windows.training(self.models, self.config.seed, step, count)
    }

    /// Training windows with the futures that they are judged by: the true one, and those that the teacher imagines.
    pub fn taught<'w>(&self, step: u64, windows: &'w [Window]) -> Result<Taught<'w>> {
        self.taught_from(step, 0, windows)
    }

    /// [`Inputs::taught`], for windows of a step that come behind `first_example` others.
    pub fn taught_from<'w>(&self, step: u64, first_example: usize, windows: &'w [Window]) -> Result<Taught<'w>> {
        let decoder = &self.models.decoder;
        match self.config.train.imagined_futures {
            0 => Taught::new(decoder, windows),
            samples => {
                let how = Imagined { samples, beside_true: true, run_seed: self.config.seed, step, first_example };
                Taught::imagined(decoder, windows, how)
            }
        }
    }
}

/// Files that a run depends on, for its provenance.
pub fn files(config: &TrainConfig) -> Result<Vec<PathBuf>> {
    let mut all = model_files(&config.model.folder()?);
    let texts = [&config.data.train, &config.data.valid, &config.data.test];
    all.extend(texts.into_iter().flatten().cloned());
    if config.eval.split == ExamSplit::Final {
        all.extend(config.data.last.clone());
    }
    if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor {
        all.extend(model_files(&encoder.folder()?));
    }
    for frozen in &config.eval.encoders {
        let folder = frozen.folder()?;
        match frozen.kind {
            // Its tokenizer is that of the sentence encoder that its record names.
            FrozenKind::Evidence => all.extend(weights::files_or_adapter(&folder)),
            FrozenKind::Encoder | FrozenKind::Embedding => all.extend(model_files(&folder)),
        }
    }
    if let Some(pairs) = &config.warm_start.pairs {
        all.extend([pairs.train.clone(), pairs.valid.clone()]);
    }
    if let Some(from) = config.warm_start.from.as_ref().filter(|_| !config.warm_start.fresh_compressor) {
        all.push(from.join("compressor/adapter_model.safetensors"));
    }
    if let Some(from) = config.warm_start.from.as_ref().filter(|_| !config.warm_start.fresh_readers) {
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

/// Weights, configuration and tokenizer of a model, with the files that say what stands around a text (`model.bos`, a chat
/// template) where they are there; or its one GGUF file.
pub fn model_files(folder: &Path) -> Vec<PathBuf> {
    let mut all = weights::files(folder);
    if is_gguf(folder) {
        return all;
    }
    all.extend([base::CONFIG, base::TOKENIZER].map(|file| folder.join(file)));
    let around = [base::TOKENIZER_CONFIG, "special_tokens_map.json", "chat_template.jinja"];
    all.extend(around.map(|file| folder.join(file)).into_iter().filter(|path| path.exists()));
    all
}
