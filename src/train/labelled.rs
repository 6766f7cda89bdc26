//! Distillation of an extractive encoder from texts of which somebody said what to keep ([`crate::data::LabelledText`]): no
//! teacher, no reader, no windows. The query stands before or behind the text, as the encoder has it; no loss is taken
//! there.

use crate::base;
use crate::compressor::budget::Controller;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::{Compressed, Compressor, Request};
use crate::config::compressors::CompressorConfig;
use crate::config::labelled::LabelledConfig;
use crate::data::{self, LabelledText};
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::lora::Adapter;
use crate::model::peft::Base;
use crate::retention::{Recovered, recovered};
use crate::rng::{self, Stream};
use crate::run_dir::{Log, RunDir};
use crate::tensor::mean;
use crate::tokenizer::Tokenizer;
use crate::train::checkpoint::{self, Groups};
use crate::train::distill::{Lesson, update};
use crate::train::progress::Progress;
use crate::train::roles::{ROLES, extractive_policy, fresh_encoder, fresh_heads};
use crate::train::setup::model_files;
use crate::train::trainee::{Place, Trainee};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tch::Device;

/// Of a unit's tokens at least this share must be labelled for it to be worth anything.
const HALF: f64 = 0.5;
/// Name of the compressor that learned.
pub const DISTILLED: &str = "distilled";
/// Name of the same before its first update.
pub const UNDISTILLED: &str = "undistilled";
/// Texts scored at once.
const TEXTS_AT_ONCE: usize = 16;

/// A labelled text in tokens of the reading model.
pub struct Example {
    /// Name of the row.
    pub id: String,
    /// The text.
    pub prefix: Vec<u32>,
    /// What it is wanted for.
    pub query: Vec<u32>,
    /// Which tokens are labelled.
    pub wanted: Vec<bool>,
    /// Tokens that may be kept.
    pub budget: usize,
    /// What each unit is worth: the share of its tokens that is labelled, 0 below a half.
    worth: Vec<f64>,
}

impl Example {
    /// What a compressor is asked.
    pub fn request(&self, key: u64) -> Request<'_> {
        Request { prefix: &self.prefix, local: &[], query: &self.query, key }
    }
}

/// What became of the rows of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Rows in the file.
    pub read: usize,
    /// Those that are examples.
    pub kept: usize,
    /// The others, by reason.
    pub dropped: BTreeMap<String, usize>,
}

/// The base, its tokenizer and the examples of an experiment.
pub struct Examples<'a> {
    /// The experiment.
    pub config: &'a LabelledConfig,
    /// The base that reads.
    pub decoder: Decoder,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// To learn from.
    pub train: Vec<Example>,
    /// To look at while learning.
    pub valid: Vec<Example>,
    /// For the final figures.
    pub test: Vec<Example>,
    /// What became of the rows of `train`, `valid` and `test`.
    pub rows: BTreeMap<&'static str, Rows>,
}

/// Where a resumed run continues.
#[derive(Serialize, Deserialize)]
struct State {
    update: usize,
    seconds: f64,
}

impl<'a> Examples<'a> {
    /// Reads everything, and says on stderr which labels do not fit.
    pub fn load(config: &'a LabelledConfig, device: Device) -> Result<Self> {
        let folder = &config.model.folder()?;
        let decoder = Decoder::load(folder, device, config.hardware.kind())?;
        let tokenizer = Tokenizer::load(&base::file(folder, base::TOKENIZER))?;
        tokenizer.check_model(&base::file(folder, base::CONFIG), decoder.config().vocab_size)?;
        let (train, valid, test, rows) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        let mut examples = Examples { config, decoder, tokenizer, train, valid, test, rows };
        let d = &config.data;
        let read = |path: &Path| examples.read(path);
        let (train, valid, test) = (read(&d.train)?, read(&d.valid)?, read(&d.test)?);
        (examples.train, examples.valid, examples.test) = (train.0, valid.0, test.0);
        examples.rows = [("train", train.1), ("valid", valid.1), ("test", test.1)].into();
        examples.fresh()?;
        Ok(examples)
    }

    /// Files that a run depends on, for its provenance.
    pub fn inputs(config: &LabelledConfig) -> Result<Vec<PathBuf>> {
        let mut all = model_files(&config.model.folder()?);
        all.extend([&config.data.train, &config.data.valid, &config.data.test].map(PathBuf::clone));
        if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor {
            all.extend(model_files(&encoder.folder()?));
        }
        Ok(all)
    }

    fn read(&self, path: &Path) -> Result<(Vec<Example>, Rows)> {
        let found = data::read_labelled(path)?;
        let policy = self.policy()?;
        let read = found.texts.len() + found.left_out.values().sum::<usize>();
        let (mut examples, mut dropped) = (Vec::new(), found.left_out);
        for text in &found.texts {
            match self.example(text, &policy)? {
                Ok(example) => examples.push(example),
                Err(why) => *dropped.entry(why.to_string()).or_default() += 1,
            }
        }
        for (why, count) in &dropped {
            eprintln!("{}: {count} of {read} texts left out: {why}", path.display());
        }
        let kept = examples.len();
        match kept {
            0 => Err(Error::file(path, "expected texts whose labels fit the units, got none")),
            _ => Ok((examples, Rows { read, kept, dropped })),
        }
    }

    /// The text as an example, or why it cannot be one.
    fn example(
        &self,
        text: &LabelledText,
        policy: &ExtractivePolicy,
    ) -> Result<std::result::Result<Example, &'static str>> {
        let (prefix, bytes) = self.tokenizer.aligned(&text.text)?;
        let query = self.tokenizer.encode(&text.query)?;
        let touches =
            |&(start, end): &(usize, usize)| text.keep.iter().any(|keep| keep.start < end && start < keep.end);
        let wanted: Vec<bool> = bytes.iter().map(touches).collect();
        let budget = self.config.budget.tokens(prefix.len()).min(prefix.len());
        let worth: Vec<f64> = (policy.units(&prefix)?.iter())
            .map(|unit| wanted[unit.clone()].iter().filter(|wanted| **wanted).count() as f64 / unit.len() as f64)
            .map(|share| if share >= HALF { share } else { 0.0 })
            .collect();
        Ok(match worth.iter().any(|worth| *worth > 0.0) {
            false => Err("no unit that is labelled by half"),
            true if budget == 0 => Err("no budget"),
            true => Ok(Example { id: text.id.clone(), prefix, query, wanted, budget, worth }),
        })
    }

    /// Network and actions of the compressor.
    pub fn policy(&self) -> Result<ExtractivePolicy<'_>> {
        let none = || Error::invalid("compressor.type: expected \"extractive\", got another");
        extractive_policy(&self.config.compressor, &self.decoder, &self.tokenizer)?.ok_or_else(none)
    }

    /// The compressor before its first update.
    pub fn fresh(&self) -> Result<Trainee> {
        let (config, decoder) = (self.config, &self.decoder);
        match &config.compressor {
            CompressorConfig::Extractive { encoder: Some(encoder), hints, .. } => {
                let adapter = fresh_encoder((encoder, hints.len()), decoder, config.seed)?;
                Ok(Trainee::new(ROLES[0], adapter, &config.optim).with_encoder_factor(encoder.lr_factor, &config.optim))
            }
            CompressorConfig::Extractive { hints, .. } => {
                let adapter = fresh_heads(&config.model.lora, hints.len(), decoder, config.seed)?;
                Ok(Trainee::new(ROLES[0], adapter, &config.optim))
            }
            CompressorConfig::Gist { .. } => {
                Err(Error::invalid("compressor.type: expected \"extractive\", got \"gist\""))
            }
        }
    }

    /// Trains, from the run's last checkpoint if there is one, and leaves the compressor in `<run>/compressor`.
    pub fn run(&self, run: &RunDir, stop: &AtomicBool) -> Result<Adapter> {
        let (config, policy, mut compressor) = (self.config, self.policy()?, self.fresh()?);
        let (per_epoch, count) = (self.train.len().div_ceil(config.train.batch), self.train.len());
        let updates = config.train.epochs * per_epoch;
        let mut state = State { update: 0, seconds: 0.0 };
        if let Some((_, folder)) = checkpoint::latest(&run.checkpoints())? {
            checkpoint::prune(&run.checkpoints(), checkpoint::KEPT)?;
            state = checkpoint::state(&folder)?;
            compressor.restore(&folder, &self.decoder)?;
        }
        let mut log = Log::open(run, state.update)?;
        let (started, before) = (Instant::now(), state.seconds);
        let progress = Progress::new("distill", updates, state.update);
        while state.update < updates {
            let (number, clock) = (state.update, Instant::now());
            let (epoch, batch) = (number / per_epoch, number % per_epoch);
            let order = rng::choose(&mut rng::rng(config.seed, Stream::Data, epoch as u64, 0, 0), count, count);
            let picked: Vec<usize> =
                order.into_iter().skip(batch * config.train.batch).take(config.train.batch).collect();
            let lesson = |&i: &usize| {
                let example = &self.train[i];
                Lesson { request: example.request(i as u64), worth: &example.worth, budget: example.budget }
            };
            let lessons: Vec<Lesson> = picked.iter().map(lesson).collect();
            let names: Vec<&str> = picked.iter().map(|&i| self.train[i].id.as_str()).collect();
            let factor = config.train.schedule.factor(number, updates, config.optim.warmup_steps);
            let place = Place { step: number, root: run.root(), batch: &names };
            rng::seed_torch(config.seed, Stream::Dropout, number as u64, 0);
            let done = update(&policy, &mut compressor, &lessons, (config.loss, config.train.micro), (factor, &place))?;
            let mut row = vec![("distill/loss", done.loss), ("distill/captured", done.captured)];
            let last = number + 1 == updates;
            if (number + 1).is_multiple_of(config.train.eval_every) || last {
                let found = self.validate(&policy, &compressor.adapter)?;
                let of = |value: fn(&Recovered) -> f64| mean(&found.iter().map(value).collect::<Vec<_>>());
                let (recall, whole) = (of(|found| found.recall), of(|found| f64::from(found.whole)));
                progress.note(&format!("update {}: validation recall {recall:.3}, whole {whole:.3}", number + 1));
                row.extend([("eval/recall", recall), ("eval/whole", whole)]);
            }
            log.metrics(number, &row)?;
            log.timings(number, &[("time/step_s", clock.elapsed().as_secs_f64())])?;
            progress.step(&format!("loss {:.3}  captured {:.2}", done.loss, done.captured));
            state = State { update: number + 1, seconds: before + started.elapsed().as_secs_f64() };
            let asked = stop.load(Ordering::SeqCst);
            if last || asked || state.update.is_multiple_of(config.train.checkpoint_every) {
                self.save(run, &compressor, &state)?;
            }
            if asked && !last {
                return Err(Error::Interrupted { step: state.update });
            }
        }
        progress.finish();
        compressor.save_adapter(run.root(), &self.base())?;
        Ok(compressor.adapter)
    }

    fn base(&self) -> Base {
        let sha256 = self.decoder.identity().map(String::from);
        Base { name: self.config.model.path.display().to_string(), sha256 }
    }

    fn save(&self, run: &RunDir, compressor: &Trainee, state: &State) -> Result<()> {
        let mut groups = Groups::new();
        compressor.groups(&mut groups);
        checkpoint::save(&run.checkpoint(state.update), state.update, &groups, state, |folder| {
            compressor.save_adapter(folder, &self.base())
        })?;
        checkpoint::prune(&run.checkpoints(), checkpoint::KEPT)
    }

    fn validate(&self, policy: &ExtractivePolicy, adapter: &Adapter) -> Result<Vec<Recovered>> {
        let ranker = Ranker { name: DISTILLED, policy, adapter };
        let mut all = Vec::new();
        for (i, example) in self.valid.iter().enumerate() {
            let made = ranker.compress(&[example.request(i as u64)], example.budget)?;
            all.extend(made.iter().map(|c| recovered(c.kept.as_deref().unwrap_or(&[]), &example.wanted)));
        }
        Ok(all)
    }
}

/// An extractive compressor that fills its budget: units by their worth, whatever it thinks of the end.
pub struct Ranker<'a> {
    /// Its name in tables.
    pub name: &'static str,
    /// The network.
    pub policy: &'a ExtractivePolicy<'a>,
    /// Its weights.
    pub adapter: &'a Adapter,
}

impl Compressor for Ranker<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let _guard = tch::no_grad_guard();
        let active = self.policy.decoder.activate(self.adapter, false);
        let mut all = Vec::with_capacity(requests.len());
        for batch in requests.chunks(TEXTS_AT_ONCE) {
            let scored = self.policy.scored(&active, batch)?;
            all.extend(scored.iter().map(|(prefix, scores)| Controller::default().keep(prefix, scores, budget)));
        }
        Ok(all)
    }
}
