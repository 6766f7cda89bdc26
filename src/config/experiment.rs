//! Experiments: the kinds of configuration that `gist` runs, read from TOML and checked; one trait gives the name,
//! device and models of each.

use crate::base;
use crate::config::bos::Bos;
use crate::config::compressors::CompressorConfig;
use crate::config::hardware::Hardware;
use crate::config::labelled::LabelledConfig;
use crate::config::merge::{self, Tree};
use crate::config::parts::Problem;
use crate::config::pretrain::PretrainConfig;
use crate::config::span_reader::SpanReaderConfig;
use crate::config::submit::SubmitConfig;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

/// The configuration of one kind of run.
pub trait Experiment: Serialize + DeserializeOwned {
    /// Value of the key `kind`.
    const KIND: &'static str;
    /// Run directory, below the folder of all runs.
    fn name(&self) -> String;
    /// Device, threads and kind of number.
    fn hardware(&self) -> &Hardware;
    /// Mutable [`Experiment::hardware`], to replace `auto` by this machine's values.
    fn hardware_mut(&mut self) -> &mut Hardware;
    /// Whether it trades speed for memory.
    fn saves_memory(&self) -> bool {
        false
    }
    /// Says what is impossible, naming the key; `hardware` is checked apart.
    fn check(&self) -> std::result::Result<(), Problem>;
    /// Folder or repository of each model that it reads, with the revision asked for.
    fn models(&self) -> Vec<NamedModel<'_>>;
    /// `model.bos`, and the file with the tokenizer that decides where it is `"auto"`, none where a tokenizer is trained; none of
    /// an experiment without a base. An error where the model is neither a folder nor in the cache.
    fn bos(&mut self) -> Result<Option<(&mut Bos, Option<PathBuf>)>>;
}

/// A model that an experiment names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedModel<'a> {
    /// Folder, or repository of the Hugging Face Hub (`owner/name`).
    pub path: &'a Path,
    /// Branch, tag or commit of the repository; absent = main.
    pub revision: Option<&'a str>,
}

/// The methods that are the same code for every kind.
macro_rules! common {
    ($config:ty) => {
        fn hardware(&self) -> &Hardware {
            &self.hardware
        }
        fn hardware_mut(&mut self) -> &mut Hardware {
            &mut self.hardware
        }
        fn check(&self) -> std::result::Result<(), Problem> {
            <$config>::check(self)
        }
    };
}

impl Experiment for PretrainConfig {
    const KIND: &'static str = "pretrain";
    fn name(&self) -> String {
        self.name.clone()
    }
    common!(PretrainConfig);
    fn models(&self) -> Vec<NamedModel<'_>> {
        Vec::new()
    }
    fn bos(&mut self) -> Result<Option<(&mut Bos, Option<PathBuf>)>> {
        let tokenizer = self.given_tokenizer()?;
        Ok(Some((&mut self.model.bos, tokenizer)))
    }
}

impl Experiment for TrainConfig {
    const KIND: &'static str = "train";
    fn name(&self) -> String {
        format!("{}/seed={}", self.name, self.seed)
    }
    common!(TrainConfig);
    fn saves_memory(&self) -> bool {
        self.train.checkpoint_activations
    }
    fn models(&self) -> Vec<NamedModel<'_>> {
        let base = NamedModel { path: &self.model.path, revision: self.model.revision.as_deref() };
        let frozen = (self.eval.encoders.iter())
            .map(|scorer| NamedModel { path: &scorer.path, revision: scorer.revision.as_deref() });
        std::iter::once(base).chain(encoder(&self.compressor)).chain(frozen).collect()
    }
    fn bos(&mut self) -> Result<Option<(&mut Bos, Option<PathBuf>)>> {
        let tokenizer = base::file(&self.model.folder()?, base::TOKENIZER);
        Ok(Some((&mut self.model.bos, Some(tokenizer))))
    }
}

impl Experiment for LabelledConfig {
    const KIND: &'static str = "distill";
    fn name(&self) -> String {
        format!("{}/seed={}", self.name, self.seed)
    }
    common!(LabelledConfig);
    fn models(&self) -> Vec<NamedModel<'_>> {
        let base = NamedModel { path: &self.model.path, revision: self.model.revision.as_deref() };
        std::iter::once(base).chain(encoder(&self.compressor)).collect()
    }
    fn bos(&mut self) -> Result<Option<(&mut Bos, Option<PathBuf>)>> {
        let tokenizer = base::file(&self.model.folder()?, base::TOKENIZER);
        Ok(Some((&mut self.model.bos, Some(tokenizer))))
    }
}

impl Experiment for SpanReaderConfig {
    const KIND: &'static str = "span_reader";
    fn name(&self) -> String {
        format!("{}/seed={}", self.name, self.seed)
    }
    common!(SpanReaderConfig);
    fn models(&self) -> Vec<NamedModel<'_>> {
        vec![NamedModel { path: &self.encoder.path, revision: self.encoder.revision.as_deref() }]
    }
    fn bos(&mut self) -> Result<Option<(&mut Bos, Option<PathBuf>)>> {
        Ok(None)
    }
}

/// The encoder of a compressor that has one of its own.
fn encoder(compressor: &CompressorConfig) -> Option<NamedModel<'_>> {
    match compressor {
        CompressorConfig::Gist { .. } => None,
        CompressorConfig::Extractive { encoder, .. } => {
            encoder.as_ref().map(|encoder| NamedModel { path: &encoder.path, revision: encoder.revision.as_deref() })
        }
    }
}

/// Reads an experiment file, applies `--set` overrides and checks the result.
pub fn load<T: Experiment>(path: &Path, set: &[String]) -> Result<T> {
    let mut tree = merge::load_tree(path, set)?;
    SubmitConfig::take(&mut tree)?;
    resolve(&tree)
}

/// The experiment that a merged file describes; an error names the file and key at fault.
pub fn resolve<T: Experiment>(tree: &Tree) -> Result<T> {
    match tree.get_str("kind") {
        Some(kind) if kind != T::KIND => return Err(wrong_kind(tree, &format!("{:?}", T::KIND))),
        _ => {}
    }
    let config: T = tree.resolve()?;
    config.check().map_err(|(key, message)| tree.invalid(&key, message))?;
    config.hardware().check().map_err(|(key, message)| tree.invalid(&format!("hardware.{key}"), message))?;
    Ok(config)
}

/// An error about `kind` that says which values were `expected`.
pub fn wrong_kind(tree: &Tree, expected: &str) -> Error {
    let got = tree.get("kind").map_or("nothing".to_string(), ToString::to_string);
    tree.invalid("kind", format!("expected {expected}, got {got}"))
}
