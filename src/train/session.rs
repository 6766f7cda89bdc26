//! The state of a run between steps: three roles that learn, the frozen ones, prices and counters; saved and restored.

use crate::algo::{Lambda, MovingBaseline};
use crate::compressor::policy::Policy;
use crate::config::compressors::CompressorConfig;
use crate::config::warm_start::OutputRank;
use crate::error::{Error, Result};
use crate::metrics::ShardSeconds;
use crate::model::lora::Adapter;
use crate::parallel::ranks::Ranks;
use crate::reading::Taught;
use crate::run_dir::{RunDir, read_json, write_json_atomic};
use crate::train::checkpoint::{self, Groups};
use crate::train::companions::Companions;
use crate::train::inputs::Inputs;
use crate::train::roles::{ROLES, WarmStarted, first_roles};
use crate::train::shards::Shards;
use crate::train::stage::{CheckpointRhythm, Counters, HeldOut, Learner, Ledger};
use crate::train::trainee::Trainee;
use crate::train::validation::{Validated, Validation, validate};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tch::Kind;

/// Numbers that a run carries from step to step beside its weights.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingState {
    /// Price of length.
    pub lambda: Lambda,
    /// Moving baseline of `reinforce`.
    pub baseline: MovingBaseline,
    /// D_ref of the reward in nats a token: validation context value before policy gradient; none before co-training.
    pub d_ref: Option<f64>,
}

/// `state.json` of a checkpoint.
#[derive(Serialize, Deserialize)]
struct SavedState {
    #[serde(flatten)]
    counters: Counters,
    #[serde(flatten)]
    state: TrainingState,
}

/// The record beside warm-started adapters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WarmRecord {
    /// Experiment that made them.
    pub experiment: String,
    /// Seed of that experiment.
    pub seed: u64,
    /// Updates of each reader.
    pub updates: usize,
    /// Most tokens of a gist that they were trained with; absent in records of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<usize>,
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
    /// Adapters that follow them; none before co-training.
    companions: Option<Companions>,
    /// Prices and baselines.
    pub state: TrainingState,
    /// Shards of a co-training step.
    pub shards: Shards<'a>,
    ledger: Ledger<'a>,
    valid: OnceCell<Taught<'a>>,
    validated: Cell<Option<([usize; 3], Validation)>>,
}

impl<'a> Session<'a> {
    /// Fresh roles, or those of `warm_start.from`, or the run's last checkpoint.
    pub fn open(inputs: Inputs<'a>, run: &'a RunDir, stop: &'a AtomicBool) -> Result<Self> {
        let (config, models) = (inputs.config, inputs.models);
        let found = checkpoint::latest(&run.checkpoints())?;
        let SavedState { counters, state } = match &found {
            Some((_, folder)) => checkpoint::state(folder)?,
            None => SavedState {
                counters: Counters::default(),
                state: TrainingState {
                    lambda: Lambda::new(&config.reward.length),
                    baseline: MovingBaseline::default(),
                    d_ref: None,
                },
            },
        };
        let pause = Duration::try_from_secs_f64(config.train.checkpoint_minutes * 60.0).ok();
        let rhythm = CheckpointRhythm { every: Some(config.train.checkpoint_every), pause };
        let supervised = counters.update < config.supervised_updates();
        let optim = if supervised { &config.optim.imitation } else { &config.optim.compressor };
        let [compressor, generator, empty_reader] = first_roles(config, models)?;
        let factor = match &config.compressor {
            CompressorConfig::Extractive { encoder: Some(encoder), .. } => encoder.lr_factor,
            CompressorConfig::Extractive { encoder: None, .. } | CompressorConfig::Gist { .. } => 1.0,
        };
        let mut session = Self {
            inputs,
            run,
            policy: models.policy(&config.compressor)?,
            compressor: Trainee::new(ROLES[0], compressor, optim).with_encoder_factor(factor, optim),
            generator: Trainee::new(ROLES[1], generator, &config.optim.generator),
            empty_reader: Trainee::new(ROLES[2], empty_reader, &config.optim.generator),
            companions: None,
            state,
            shards: Shards::new(config.seed, config.parallel.grad_shards),
            ledger: Ledger::new(Some(run), counters, rhythm, stop),
            valid: OnceCell::new(),
            validated: Cell::new(None),
        };
        if let Some((_, folder)) = found {
            for role in [&mut session.compressor, &mut session.generator, &mut session.empty_reader] {
                role.restore(&folder, &models.decoder)?;
            }
            if counters.update > config.supervised_updates() {
                session.companions = Some(Companions::load(&folder, config, &models.decoder)?);
                session.d_ref().map_err(|error| Error::file(folder.join("state.json"), error.to_string()))?;
            }
        }
        Ok(session)
    }

    /// Updates done: supervised ones first, then policy-gradient steps.
    pub fn update(&self) -> usize {
        self.ledger.update()
    }

    /// Opens the rows of the run and cuts those that no checkpoint covers: an evaluation must not ask for it.
    pub fn open_log(&mut self) -> Result<()> {
        if self.update() > 0 {
            checkpoint::prune(&self.run.checkpoints(), checkpoint::KEPT)?;
        }
        self.ledger.open_log()
    }

    /// Shares the steps from here on with the other ranks of a group.
    pub fn join(&mut self, group: &'a Ranks) {
        self.shards = self.shards.clone().shared(group);
        self.ledger.join(group);
    }

    /// Whether this process writes the run, validates and evaluates: the only one, or the first of several.
    pub fn leads(&self) -> bool {
        self.ledger.leads()
    }

    /// Fails unless all ranks have the same weights after step `number` of co-training, where it is time to compare them.
    pub fn check_replicas(&self, number: usize) -> Result<()> {
        let every = self.inputs.config.parallel.replica_check_every_steps;
        let Some(group) = self.shards.group().filter(|_| (number + 1).is_multiple_of(every)) else { return Ok(()) };
        let mut hashes = String::new();
        for role in [&self.compressor, &self.generator, &self.empty_reader] {
            hashes.push_str(&role.hash()?);
            hashes.push('\n');
        }
        let differ = |error: Error| Error::Rank(format!("the ranks have parted: {error}"));
        group.same(&format!("weights after step {number}"), &hashes).map_err(differ)
    }

    /// Seconds of training so far.
    pub fn seconds(&self) -> f64 {
        self.ledger.seconds()
    }

    /// Set when the user asks to stop.
    pub fn stop(&self) -> &'a AtomicBool {
        self.ledger.stop()
    }

    /// Fails if the user asked to stop, between things that need no checkpoint.
    pub fn check_stop(&self) -> Result<()> {
        self.ledger.check_stop()
    }

    /// D_ref of the reward, nats a token; an error before co-training.
    pub fn d_ref(&self) -> Result<f64> {
        let none = "d_ref: expected a number once co-training has begun, got none";
        self.state.d_ref.ok_or_else(|| Error::invalid(none))
    }

    /// The adapters that follow the roles; an error before co-training.
    pub fn companions(&self) -> Result<&Companions> {
        self.companions.as_ref().ok_or_else(no_companions)
    }

    /// Has the companions follow the roles after step `number` of co-training, which counts from 0.
    pub fn follow(&mut self, number: usize) -> Result<()> {
        let companions = self.companions.as_mut().ok_or_else(no_companions)?;
        companions.follow(&self.compressor.adapter, &self.generator.adapter, self.inputs.config, number);
        Ok(())
    }

    /// Begins co-training, with rewards in units of `d_ref` nats a token and the first companions.
    pub fn begin_cotraining(&mut self, frozen: &WarmStarted, d_ref: f64) {
        self.state.d_ref = Some(d_ref);
        self.companions = Some(Companions::begin(frozen, self.inputs.config));
    }

    /// The compressor that is judged: the moving average where the experiment asks for one, once co-training has begun.
    pub fn judged(&self) -> &Adapter {
        let smoothed = self.companions.as_ref().and_then(Companions::smoothed);
        smoothed.unwrap_or(&self.compressor.adapter)
    }

    /// Folder of a run for its warm-started adapters.
    pub fn warm_folder(run: &RunDir) -> PathBuf {
        run.root().join("warm_start")
    }

    /// Writes the three adapters as they are now, in this kind of number and of these ranks, the record last.
    pub fn export_warm(&self, folder: &Path, kind: Kind, ranks: OutputRank, record: &WarmRecord) -> Result<()> {
        let OutputRank { compressor, generator } = ranks;
        for (role, rank) in
            [(&self.compressor, compressor), (&self.generator, generator), (&self.empty_reader, generator)]
        {
            role.save_adapter_as(folder, &self.inputs.models.base(), kind, rank)?;
        }
        write_json_atomic(&folder.join("record.json"), record)
    }

    /// Mean validation figures: the empty-adapted reader on nothing; the generator on nothing, on greedy gists, on the most
    /// recent tokens; and those gists. Of several ranks the first measures, and the others are told.
    pub fn validate(&self) -> Result<Validation> {
        let Some(group) = self.shards.group() else { return self.measured() };
        let found = group.from_first("validation", || Ok(self.measured()?.numbers().to_vec()))?;
        let torn = || Error::shape("validation of rank 0", "5 numbers", found.len());
        found.as_slice().try_into().map(Validation::of_numbers).map_err(|_| torn())
    }

    /// The figures of the weights as they are; of weights that were validated already, what was found then.
    fn measured(&self) -> Result<Validation> {
        let steps = [&self.compressor, &self.generator, &self.empty_reader].map(Trainee::steps);
        if let Some((_, found)) = self.validated.get().filter(|(at, _)| *at == steps) {
            return Ok(found);
        }
        let found = self.measure()?;
        self.validated.set(Some((steps, found)));
        Ok(found)
    }

    fn measure(&self) -> Result<Validation> {
        let roles = Validated {
            policy: &self.policy,
            compressor: self.judged(),
            generator: &self.generator.adapter,
            empty_reader: &self.empty_reader.adapter,
        };
        validate(self.inputs, &self.valid, &roles)
    }
}

fn no_companions() -> Error {
    Error::invalid("expected a session whose co-training has begun, got one before that")
}

impl<'a> Learner<'a> for Session<'a> {
    fn ledger(&mut self) -> &mut Ledger<'a> {
        &mut self.ledger
    }

    fn shard_seconds(&mut self) -> ShardSeconds {
        self.shards.take_seconds()
    }

    fn validate(&mut self) -> Result<HeldOut> {
        let found = Session::validate(self)?;
        Ok(HeldOut { metrics: found.metrics(), said: found.to_string() })
    }

    fn save(&mut self) -> Result<()> {
        if !self.leads() {
            return Ok(());
        }
        let roles = [&self.compressor, &self.generator, &self.empty_reader];
        let mut groups = Groups::new();
        roles.iter().for_each(|role| role.groups(&mut groups));
        let (base, update) = (self.inputs.models.base(), self.update());
        let state = SavedState { counters: self.ledger.counters(), state: self.state.clone() };
        checkpoint::save(&self.run.checkpoint(update), update, &groups, &state, |folder| {
            for role in roles {
                role.save_adapter(folder, &base)?;
            }
            self.companions.iter().try_for_each(|companions| companions.save(folder, &base))
        })?;
        checkpoint::prune(&self.run.checkpoints(), checkpoint::KEPT)
    }
}

/// The record beside warm-started adapters.
pub fn warm_record(folder: &Path) -> Result<WarmRecord> {
    read_json(&folder.join("record.json"))
}
