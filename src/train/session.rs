//! The state of a run between steps: three roles that learn, the frozen ones, prices and counters; saved and restored.

use crate::algo::{Baseline, Lambda};
use crate::compressor::budget::recent;
use crate::compressor::policy::{Policy, Trained};
use crate::compressor::{Compressed, Compressor};
use crate::config::compressors::CompressorConfig;
use crate::config::parts::Sampling;
use crate::error::{Error, Result};
use crate::model::lora::Adapter;
use crate::reading::{Taught, compressed_context, request};
use crate::run_dir::{Log, RunDir, read_json, write_json_atomic};
use crate::tensor::mean;
use crate::train::checkpoint::{self, Groups};
use crate::train::inputs::Inputs;
use crate::train::roles::{ROLES, first_roles};
use crate::train::trainee::Trainee;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Numbers that a checkpoint carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Updates done: supervised ones first, then policy-gradient steps.
    pub update: usize,
    /// Seconds of training so far, over all sittings.
    pub seconds: f64,
    /// Price of length.
    pub lambda: Lambda,
    /// Moving baseline of `reinforce`.
    pub baseline: Baseline,
    /// Unit of the reward: validation context value before policy gradient.
    pub d_ref: Option<f64>,
}

/// What lies beside warm-started adapters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WarmRecord {
    /// Experiment that made them.
    pub experiment: String,
    /// Its seed.
    pub seed: u64,
    /// Updates of every role.
    pub updates: usize,
    /// Seconds it took.
    pub seconds: f64,
    /// Validation context value.
    pub context_value: f64,
    /// Validation KL of the greedy gist.
    pub kl: f64,
}

/// The three roles that learn, with what is frozen beside them.
pub struct Session<'a> {
    /// Experiment, models and windows.
    pub inputs: Inputs<'a>,
    /// Run directory.
    pub run: &'a RunDir,
    /// Network and actions of the compressor.
    pub policy: Policy<'a>,
    /// The compressor.
    pub compressor: Trainee,
    /// The generator.
    pub generator: Trainee,
    /// The generator's twin that only ever reads nothing: the measure of what a context is worth.
    pub empty_reader: Trainee,
    /// Moving average of the generator, when the reward asks for it.
    pub averaged: Option<Adapter>,
    /// The compressor some steps ago.
    pub stale: Option<Adapter>,
    /// Moving average of the compressor, when the experiment asks for it.
    pub smoothed: Option<Adapter>,
    /// Counters and prices.
    pub state: State,
    log: Option<Log>,
    valid: OnceCell<Taught<'a>>,
    validated: Cell<Option<([usize; 3], Validation)>>,
    stop: &'a AtomicBool,
    started: Instant,
    seconds_before: f64,
}

impl<'a> Session<'a> {
    /// Fresh roles, or those of `warm_start.from`, or the run's last checkpoint.
    pub fn open(inputs: Inputs<'a>, run: &'a RunDir, stop: &'a AtomicBool) -> Result<Self> {
        let (config, models) = (inputs.config, inputs.models);
        let found = checkpoint::latest(&run.checkpoints())?;
        if found.is_some() {
            checkpoint::prune(&run.checkpoints(), checkpoint::KEPT)?;
        }
        let state: State = match &found {
            Some((_, folder)) => checkpoint::state(folder)?,
            None => State {
                update: 0,
                seconds: 0.0,
                lambda: Lambda::new(&config.reward.length),
                baseline: Baseline::default(),
                d_ref: None,
            },
        };
        let optim =
            if state.update < config.supervised_updates() { &config.optim.imitation } else { &config.optim.compressor };
        let [compressor, generator, empty_reader] = first_roles(config, models)?;
        let factor = match &config.compressor {
            CompressorConfig::Extractive { encoder: Some(encoder), .. } => encoder.lr_factor,
            _ => 1.0,
        };
        let mut session = Self {
            inputs,
            run,
            policy: models.policy(&config.compressor)?,
            compressor: Trainee::new(ROLES[0], compressor, optim).with_encoder_factor(factor, optim),
            generator: Trainee::new(ROLES[1], generator, &config.optim.generator),
            empty_reader: Trainee::new(ROLES[2], empty_reader, &config.optim.generator),
            averaged: None,
            stale: None,
            smoothed: None,
            log: None,
            valid: OnceCell::new(),
            validated: Cell::new(None),
            seconds_before: state.seconds,
            state,
            stop,
            started: Instant::now(),
        };
        if let Some((_, folder)) = found {
            for role in [&mut session.compressor, &mut session.generator, &mut session.empty_reader] {
                role.restore(&folder, &models.decoder)?;
            }
            let (averaged, stale) = (&mut session.averaged, &mut session.stale);
            for (name, slot) in [("averaged", averaged), ("stale", stale), ("smoothed", &mut session.smoothed)] {
                let saved = folder.join(name);
                if saved.exists() {
                    *slot = Some(models.decoder.load_adapter(&saved)?);
                }
            }
        }
        Ok(session)
    }

    /// The rows of the run. Opening cuts those that no checkpoint covers, so an evaluation must not ask for it.
    pub fn log(&mut self) -> Result<&mut Log> {
        match &mut self.log {
            Some(log) => Ok(log),
            none => Ok(none.insert(Log::open(self.run, self.state.update)?)),
        }
    }

    /// Seconds of training so far.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Fails if the user asked to stop, between things that need no checkpoint.
    pub fn check_stop(&self) -> Result<()> {
        match self.stop.load(Ordering::SeqCst) {
            true => Err(Error::Interrupted { step: self.state.update }),
            false => Ok(()),
        }
    }

    /// After an update: counts it, saves when due or asked, stops when asked.
    pub fn advance(&mut self, due: bool) -> Result<()> {
        self.state.update += 1;
        self.state.seconds = self.seconds();
        let asked = self.stop.load(Ordering::SeqCst);
        if due || asked || self.state.update.is_multiple_of(self.inputs.config.train.checkpoint_every) {
            self.save()?;
        }
        if asked { Err(Error::Interrupted { step: self.state.update }) } else { Ok(()) }
    }

    fn save(&self) -> Result<()> {
        let mut groups = Groups::new();
        let roles = [&self.compressor, &self.generator, &self.empty_reader];
        for role in roles {
            role.groups(&mut groups);
        }
        let base = self.inputs.models.base();
        let folder = self.run.checkpoint(self.state.update);
        checkpoint::save(&folder, self.state.update, &groups, &self.state, |folder| {
            for role in roles {
                role.save_adapter(folder, &base)?;
            }
            let (averaged, stale) = (&self.averaged, &self.stale);
            for (name, adapter) in [("averaged", averaged), ("stale", stale), ("smoothed", &self.smoothed)] {
                if let Some(adapter) = adapter {
                    adapter.save(&folder.join(name), &base)?;
                }
            }
            Ok(())
        })?;
        checkpoint::prune(&self.run.checkpoints(), checkpoint::KEPT)
    }

    /// The compressor that is judged: the moving average if there is one.
    pub fn judged(&self) -> &Adapter {
        self.smoothed.as_ref().unwrap_or(&self.compressor.adapter)
    }

    /// Where the run keeps its warm-started adapters.
    pub fn warm_folder(run: &RunDir) -> PathBuf {
        run.root().join("warm_start")
    }

    /// Writes the three adapters as they are now, the record last.
    pub fn export_warm(&self, folder: &Path, record: &WarmRecord) -> Result<()> {
        for role in [&self.compressor, &self.generator, &self.empty_reader] {
            role.save_adapter(folder, &self.inputs.models.base())?;
        }
        write_json_atomic(&folder.join("record.json"), record)
    }

    /// Mean validation figures: the empty-adapted reader on nothing; the generator on nothing, on greedy gists, on the most
    /// recent tokens; and those gists. Of weights that were validated already, what was found then.
    pub fn validate(&self) -> Result<Validation> {
        let steps = [&self.compressor, &self.generator, &self.empty_reader].map(Trainee::steps);
        if let Some((_, found)) = self.validated.get().filter(|(at, _)| *at == steps) {
            return Ok(found);
        }
        let found = self.measure()?;
        self.validated.set(Some((steps, found)));
        Ok(found)
    }

    fn measure(&self) -> Result<Validation> {
        let greedy = Trained {
            name: "gist".into(),
            policy: &self.policy,
            adapter: self.judged(),
            sampling: Sampling::greedy(),
            seed: self.inputs.config.seed,
        };
        let (inputs, windows) = (self.inputs, &self.inputs.windows.valid);
        let (decoder, budget) = (&inputs.models.decoder, inputs.budget());
        let requests: Vec<_> =
            windows.iter().enumerate().map(|(i, w)| request(w, inputs.config.condition, i as u64)).collect();
        let taught = match self.valid.get() {
            Some(taught) => taught,
            None => {
                let taught = Taught::new(decoder, windows)?;
                self.valid.get_or_init(|| taught)
            }
        };
        let read = |adapter: &Adapter, contexts: &[Vec<u32>]| -> Result<f64> {
            let rows: Vec<(usize, &[u32])> = contexts.iter().map(Vec::as_slice).enumerate().collect();
            let readings = taught.measure(decoder, Some(&decoder.activate(adapter, false)?), &rows)?;
            Ok(mean(&readings.iter().map(|r| r.kl).collect::<Vec<_>>()))
        };
        let generator = &self.generator.adapter;
        let v = decoder.config().vocab_size;
        let contexts = |made: &[Compressed]| made.iter().map(|c| compressed_context(c, true, v)).collect::<Vec<_>>();
        let gists = greedy.compress(&requests, budget)?;
        let recent: Vec<Compressed> = (windows.iter())
            .map(|w| Compressed { ids: recent(&w.prefix, budget).to_vec(), ..Compressed::default() })
            .collect();
        let nothing = vec![Vec::new(); windows.len()];
        let tokens: usize = gists.iter().map(|g| g.ids.len()).sum();
        Ok(Validation {
            context_value: read(&self.empty_reader.adapter, &nothing)?,
            kl_empty: read(generator, &nothing)?,
            kl_recent: read(generator, &contexts(&recent))?,
            kl: read(generator, &contexts(&gists))?,
            keep_ratio: tokens as f64 / (windows.len() * inputs.windows.shape.prefix) as f64,
        })
    }
}

/// Means over the validation windows.
#[derive(Clone, Copy, Debug)]
pub struct Validation {
    /// KL of the reader adapted to nothing, reading nothing.
    pub context_value: f64,
    /// KL of the generator reading nothing.
    pub kl_empty: f64,
    /// KL of the generator reading the most recent tokens of the prefix, as many as the budget: hard to beat.
    pub kl_recent: f64,
    /// KL of the generator reading the greedy gist.
    pub kl: f64,
    /// Kept tokens of the greedy gist.
    pub keep_ratio: f64,
}

impl Validation {
    /// 1 − kl / context_value.
    pub fn gap_closed(&self) -> f64 {
        1.0 - self.kl / self.context_value
    }

    /// The same of the most recent tokens.
    pub fn gap_closed_recent(&self) -> f64 {
        1.0 - self.kl_recent / self.context_value
    }

    /// As metrics.
    pub fn row(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("eval/context_value", self.context_value),
            ("eval/kl_empty", self.kl_empty),
            ("eval/kl", self.kl),
            ("eval/gap_closed", self.gap_closed()),
            ("eval/gap_closed_recent", self.gap_closed_recent()),
            ("eval/keep_ratio", self.keep_ratio),
        ]
    }
}

impl std::fmt::Display for Validation {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            f,
            "validation: gap_closed {:.3} (recent tokens {:.3}) · KL {:.4} with gist, {:.4} without, context value {:.4} · \
             keep_ratio {:.3}",
            self.gap_closed(),
            self.gap_closed_recent(),
            self.kl,
            self.kl_empty,
            self.context_value,
            self.keep_ratio
        )
    }
}

/// The record beside warm-started adapters.
pub fn warm_record(folder: &Path) -> Result<WarmRecord> {
    read_json(&folder.join("record.json"))
}
