//! Finished runs that are to be compared: read, found to agree on what they are judged by, and their compressors.

use anyhow::Context;
use gist::compressor::budget::Controller;
use gist::compressor::policy::{Policy, Trained};
use gist::compressor::{Compressed, Compressor, Request};
use gist::config::merge;
use gist::config::parts::{Sampling, check_name};
use gist::config::train::TrainConfig;
use gist::error::{Error, Result};
use gist::eval::comparison::ComparedRun;
use gist::eval::terms::{self, Terms};
use gist::model::lora::Adapter;
use gist::models::Models;
use gist::run_dir::{RunDir, State, Status, read_json};
use gist::train::checkpoint::{self, sha256_file};
use gist::train::session::{Session, warm_record};
use std::path::{Path, PathBuf};

/// A finished run.
pub struct Finished {
    run: RunDir,
    /// Its experiment.
    pub config: TrainConfig,
    /// Its last step.
    step: usize,
    /// Adapter of the compressor that is judged.
    adapter: PathBuf,
}

/// The names of the experiments, each once, in order.
pub fn joined(found: &[Finished]) -> String {
    let mut names: Vec<&str> = Vec::new();
    found.iter().map(|run| run.config.name.as_str()).for_each(|name| {
        if !names.contains(&name) {
            names.push(name);
        }
    });
    names.join("+")
}

/// Opens the runs; refuses one that is not finished, the same seed twice, seeds of an experiment that differ in more than
/// the seed, and runs that are not judged by the same things, naming the keys that differ.
pub fn find(roots: &[PathBuf]) -> anyhow::Result<Vec<Finished>> {
    let found = roots.iter().map(|root| Finished::open(root)).collect::<anyhow::Result<Vec<_>>>()?;
    for (i, run) in found.iter().enumerate() {
        for other in found[..i].iter().filter(|other| other.config.name == run.config.name) {
            let (here, there) = (run.run.root().display(), other.run.root().display());
            if other.config.seed == run.config.seed {
                anyhow::bail!(
                    "--runs: expected each run once, got `{}` with seed {} twice: {there} and {here}",
                    run.config.name,
                    run.config.seed
                );
            }
            let keys = merge::differences(&merge::to_toml(&other.config)?, &merge::to_toml(&run.config)?)?;
            let keys: Vec<String> = keys
                .into_iter()
                .map(|(key, ..)| key)
                .filter(|key| key != "seed" && !key.starts_with("hardware."))
                .collect();
            if !keys.is_empty() {
                anyhow::bail!(
                    "--runs: expected the runs of `{}` to differ in their seed only, got other values of `{}` in {there} and {here}",
                    run.config.name,
                    keys.join("`, `")
                );
            }
        }
    }
    let first = found[0].terms()?;
    for run in &found {
        let own = terms::recorded(&run.run, &run.config)?;
        terms::check(found[0].run.root(), &first, run.run.root(), &own)?;
    }
    Ok(found)
}

impl Finished {
    /// `argument` is the run's directory, or `NAME=` and that: what it is called in place of its experiment.
    fn open(argument: &Path) -> anyhow::Result<Self> {
        let text = argument.to_str().filter(|_| !argument.exists());
        let named = text.and_then(|text| text.split_once('=')).filter(|(name, _)| check_name(name).is_ok());
        let run = RunDir::at(named.map_or(argument, |(_, root)| Path::new(root)))?;
        let mut config = gist::config::experiment::load::<TrainConfig>(&run.config(), &[])?;
        if let Some((name, _)) = named {
            config.name = name.to_string();
        }
        let status: Status = read_json(&run.status())?;
        if status.state != State::Done {
            let message = format!("expected a finished run, got one that is {:?}", status.state).to_lowercase();
            return Err(Error::file(run.status(), message).into());
        }
        let (step, folder) = match checkpoint::latest(&run.checkpoints())? {
            Some((step, folder)) => (step, folder),
            None => (0, Session::warm_folder(&run)),
        };
        let averaged = folder.join("smoothed");
        let adapter = if averaged.exists() { averaged } else { folder.join("compressor") };
        Ok(Self { run, config, step, adapter })
    }

    /// The greedy compressor that the run was judged by; one that extracts, under `controller`.
    pub fn compressor<'a>(&self, models: &'a Models, controller: &Controller) -> Result<Box<dyn Compressor + 'a>> {
        let adapter = models.decoder.load_adapter(&self.adapter)?;
        let mut policy = models.policy(&self.config.compressor)?;
        if let Policy::Extractive(extractive) = &mut policy {
            extractive.controller = controller.clone();
        }
        Ok(Box::new(Greedy { name: self.config.name.clone(), policy, adapter }))
    }

    /// SHA-256 of the weights of its compressor.
    pub fn weights(&self) -> Result<String> {
        // Low-rank weights over the base, or an encoder of its own.
        let files = ["adapter_model.safetensors", "model.safetensors"].map(|file| self.adapter.join(file));
        Ok(sha256_file(files.iter().find(|file| file.exists()).unwrap_or(&files[0]))?.1)
    }

    /// Updates that its generator had, the warm start included.
    pub fn updates(&self) -> anyhow::Result<usize> {
        let warm = warm_record(&Session::warm_folder(&self.run)).context("--updates: its default is the run's own")?;
        let updates = warm.updates + self.step.saturating_sub(self.config.supervised_updates());
        anyhow::ensure!(
            updates > 0,
            "--updates: expected at least 1, got {updates} from {}",
            self.run.root().display()
        );
        Ok(updates)
    }

    /// For `comparison.json`.
    pub fn describe(&self) -> Result<ComparedRun> {
        Ok(ComparedRun {
            path: self.run.root().display().to_string(),
            experiment: self.config.name.clone(),
            seed: self.config.seed,
            step: self.step,
            weights: self.weights()?,
        })
    }

    /// What it is judged by, with the hashes of the files as they are now.
    pub fn terms(&self) -> Result<Terms> {
        terms::of(&self.config, |path| Ok(sha256_file(path)?.1))
    }
}

/// A trained policy that takes its most likely action.
struct Greedy<'a> {
    name: String,
    policy: Policy<'a>,
    adapter: Adapter,
}

impl Compressor for Greedy<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let (name, policy) = (self.name.clone(), &self.policy);
        Trained { name, policy, adapter: &self.adapter, sampling: Sampling::greedy(), seed: 0 }
            .compress(requests, budget)
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
