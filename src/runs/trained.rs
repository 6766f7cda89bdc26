//! A run that was trained: its experiment, where its weights lie, and its roles over a base that is loaded.

use crate::compressor::budget::Controller;
use crate::compressor::policy::{Policy, Trained};
use crate::compressor::{Compressed, Compressor, Request};
use crate::config::experiment;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::hash::FileHash;
use crate::model::lora::Adapter;
use crate::models::Models;
use crate::run_dir::{RunDir, State, Status};
use crate::train::checkpoint;
use crate::train::inputs;
use crate::train::roles::{ROLES, fresh_compressor, fresh_reader, load_roles};
use crate::train::session::{Session, WarmRecord, warm_record};
use std::path::{Path, PathBuf};
use tch::Device;

/// A run with weights to use. It need not be finished.
#[derive(Clone, Debug)]
pub struct TrainedRun {
    dir: RunDir,
    config: TrainConfig,
    step: usize,
    folder: PathBuf,
}

impl TrainedRun {
    /// Opens the run in the folder `root`: its last checkpoint, or else its warm-started weights. An error where its
    /// configuration is not that of `gist train`, a checkpoint is damaged, or nothing was trained yet.
    pub fn open(root: &Path) -> Result<Self> {
        let dir = RunDir::at(root)?;
        let config = experiment::load::<TrainConfig>(&dir.config(), &[])?;
        let (step, folder) = match checkpoint::latest(&dir.checkpoints())? {
            Some(found) => found,
            None => {
                warm_started(&dir)?;
                (0, Session::warm_folder(&dir))
            }
        };
        Ok(Self { dir, config, step, folder })
    }

    /// Opens a run that must be finished: trained to its end and evaluated.
    pub fn open_finished(root: &Path) -> Result<Self> {
        let dir = RunDir::at(root)?;
        let status = Status::read(&dir)?;
        if status.state != State::Done {
            let message = format!("expected a finished run, got one that is {:?}", status.state).to_lowercase();
            return Err(Error::file(dir.status(), message));
        }
        Self::open(root)
    }

    /// The run, locked: an error that names the holder when another process works in it.
    pub fn locked(self) -> Result<Self> {
        Ok(Self { dir: self.dir.locked()?, ..self })
    }

    /// The run under another name than its experiment's.
    pub fn called(mut self, name: &str) -> Self {
        self.config.name = name.to_string();
        self
    }

    /// Directory of the run.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// Configuration of the run's experiment, as the run recorded it.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Updates that its weights have had, supervised ones included; 0 where nothing but the warm start of another run is there.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The folder of a role's adapter, one of [`ROLES`]; of the compressor the one that is judged: the moving average of its
    /// weights, if the experiment asks for one and co-training has begun.
    pub fn adapter_folder(&self, role: &str) -> PathBuf {
        let co_trained = self.step > self.config.supervised_updates();
        let averaged = role == ROLES[0] && co_trained && self.config.train.average_decay > 0.0;
        self.folder.join(if averaged { "smoothed" } else { role })
    }

    /// SHA-256 of the weights of the compressor that is judged.
    pub fn weights(&self) -> Result<String> {
        // Low-rank weights over the base, or an encoder of its own.
        let folder = self.adapter_folder(ROLES[0]);
        let files = ["adapter_model.safetensors", "model.safetensors"].map(|file| folder.join(file));
        Ok(FileHash::of(files.iter().find(|file| file.exists()).unwrap_or(&files[0]))?.sha256)
    }

    /// Updates that its generator has had, the warm start included; an error where the warm start has not ended.
    pub fn reader_updates(&self) -> Result<usize> {
        let warm = warm_started(&self.dir)?;
        Ok(warm.updates + self.step.saturating_sub(self.config.supervised_updates()))
    }

    /// Seconds that it was trained for, over all sittings.
    pub fn seconds(&self) -> Result<f64> {
        match self.folder.join("state.json").exists() {
            true => {
                let state: serde_json::Value = checkpoint::state(&self.folder)?;
                Ok(state["seconds"].as_f64().unwrap_or(f64::NAN))
            }
            false => Ok(warm_record(&self.folder)?.seconds),
        }
    }

    /// Loads the base and the tokenizer that it was trained over.
    pub fn models(&self, device: Device) -> Result<Models> {
        inputs::models(&self.config, device)
    }

    /// The adapter of a role, one of [`ROLES`], as [`TrainedRun::adapter_folder`] says.
    pub fn adapter(&self, role: &str, models: &Models) -> Result<Adapter> {
        models.decoder.load_adapter(&self.adapter_folder(role))
    }

    /// The roles that are judged: compressor, generator, and the reader that was adapted to nothing.
    pub fn judged(&self, models: &Models) -> Result<[Adapter; 3]> {
        let [compressor, generator, empty_reader] = ROLES;
        Ok([self.adapter(compressor, models)?, self.adapter(generator, models)?, self.adapter(empty_reader, models)?])
    }

    /// The compressor that is judged, taking its most likely action.
    pub fn compressor<'a>(&self, models: &'a Models) -> Result<TrainedCompressor<'a>> {
        let adapter = self.adapter(ROLES[0], models)?;
        Ok(TrainedCompressor {
            name: self.config.name.clone(),
            policy: models.policy(&self.config.compressor)?,
            adapter,
        })
    }

    /// Compressor and generator as the warm start left them.
    pub fn warm_started(&self, models: &Models) -> Result<[Adapter; 2]> {
        let [compressor, generator, _] = load_roles(&Session::warm_folder(&self.dir), &self.config, models)?;
        Ok([compressor, generator])
    }

    /// Compressor and generator before any training.
    pub fn untrained(&self, models: &Models) -> Result<[Adapter; 2]> {
        Ok([fresh_compressor(&self.config, models)?, fresh_reader(&self.config, models)?])
    }
}

/// The record of the warm start of a run; an error where it has not ended.
fn warm_started(run: &RunDir) -> Result<WarmRecord> {
    let expected = |error| Error::file(run.root(), format!("expected a run past its warm start: {error}"));
    warm_record(&Session::warm_folder(run)).map_err(expected)
}

/// The compressor of a run, taking its most likely action.
pub struct TrainedCompressor<'a> {
    name: String,
    policy: Policy<'a>,
    adapter: Adapter,
}

impl TrainedCompressor<'_> {
    /// Replaces the controller of a compressor that extracts; one that writes knows no controller.
    pub fn controlled(mut self, controller: &Controller) -> Self {
        if let Policy::Extractive(extractive) = &mut self.policy {
            extractive.controller = controller.clone();
        }
        self
    }
}

impl Compressor for TrainedCompressor<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        Trained::greedy(&self.name, &self.policy, &self.adapter, 0).compress(requests, budget)
    }

    fn most(&self, budget: usize) -> usize {
        match &self.policy {
            Policy::Gist(_) => budget,
            Policy::Extractive(policy) => policy.controller.most(budget),
        }
    }

    fn calibrate(&mut self, requests: &[Request], budgets: &[usize]) -> Result<bool> {
        match &mut self.policy {
            Policy::Gist(_) => Ok(false),
            Policy::Extractive(policy) => policy.calibrate(&self.adapter, requests, budgets).map(|()| true),
        }
    }
}
