//! Distillation of an extractive encoder from texts of which somebody said what to keep ([`crate::data::LabelledText`]): no
//! teacher, no reader, no windows. The query stands before or behind the text, as the encoder has it; no loss is taken
//! there.

use crate::compressor::Compressor;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::scorers::evidence::RECORD;
use crate::config::compressors::CompressorConfig;
use crate::config::labelled::LabelledConfig;
use crate::data::{self, LabelledText};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::encoder_record::EncoderRecord;
use crate::model::lora::Adapter;
use crate::model::peft::Base;
use crate::model::row_head::RowHead;
use crate::models::{BaseName, Models};
use crate::retention::{Recovered, recovered};
use crate::rng::{self, Stream};
use crate::run_dir::RunDir;
use crate::tensor::mean;
use crate::train::inputs::model_files;
use crate::train::labels::example::LabelledExample;
use crate::train::labels::rankers::Ranker;
use crate::train::labels::step::{LabelBatch, LabelUpdate, LabelledPrefix, label_step};
use crate::train::roles::{ROLES, fresh_encoder, fresh_heads, fresh_rows};
use crate::train::stage::{HeldOut, Learner, Ledger, Stage, Updated, ValidationRhythm};
use crate::train::trainee::{Trainee, Update};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tch::Device;

/// Smallest share of a unit's tokens that must be labelled for the unit to be worth more than 0.
const HALF: f64 = 0.5;
/// Name of the compressor that learned.
pub const DISTILLED: &str = "distilled";
/// Name of what the budget allows.
pub const LABELLED: &str = "labelled";
/// Name of that compressor before its first update.
pub const UNDISTILLED: &str = "undistilled";

/// Counts of the rows of a file, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    /// Rows in the file.
    pub read: usize,
    /// Rows that became examples.
    pub kept: usize,
    /// Rows left out, counted by reason.
    pub dropped: BTreeMap<String, usize>,
}

impl RowCounts {
    fn add(&mut self, other: RowCounts) {
        self.read += other.read;
        self.kept += other.kept;
        other.dropped.into_iter().for_each(|(why, count)| *self.dropped.entry(why).or_default() += count);
    }
}

/// The base, its tokenizer and the examples of an experiment.
pub struct Examples<'a> {
    /// The experiment.
    pub config: &'a LabelledConfig,
    /// The base that reads, and its tokenizer.
    pub models: Models,
    /// Examples to learn from.
    pub train: Vec<LabelledExample>,
    /// Examples for validation while learning.
    pub valid: Vec<LabelledExample>,
    /// Examples for the final figures, by data set.
    pub test: BTreeMap<String, Vec<LabelledExample>>,
    /// Counts of the rows of each file: `train`, `valid` and the data sets.
    pub rows: BTreeMap<String, RowCounts>,
}

impl<'a> Examples<'a> {
    /// Reads everything, and says on stderr which labels do not fit.
    pub fn load(config: &'a LabelledConfig, device: Device) -> Result<Self> {
        let model = &config.model;
        let base = BaseName { name: &model.path, folder: &model.folder()?, bos: model.bos };
        let models = Models::load(base, config.hardware.kind(), device)?;
        let (train, valid, test, rows) = (Vec::new(), Vec::new(), BTreeMap::new(), BTreeMap::new());
        let mut examples = Examples { config, models, train, valid, test, rows };
        let data = &config.data;
        let mut counts = RowCounts::default();
        for path in data.train.paths() {
            let (rows, own) = examples.read(path)?;
            examples.train.extend(rows);
            counts.add(own);
        }
        examples.rows.insert("train".into(), counts);
        let (rows, counts) = examples.read(&data.valid)?;
        examples.valid = rows;
        examples.rows.insert("valid".into(), counts);
        for (name, path) in data.test.named() {
            let (rows, counts) = examples.read(path)?;
            examples.test.insert(name.into(), rows);
            examples.rows.insert(name.into(), counts);
        }
        examples.fresh()?;
        Ok(examples)
    }

    /// Files that a run depends on, for its provenance.
    pub fn inputs(config: &LabelledConfig) -> Result<Vec<PathBuf>> {
        let mut all = model_files(&config.model.folder()?);
        all.extend_from_slice(config.data.train.paths());
        all.push(config.data.valid.clone());
        all.extend(config.data.test.named().into_iter().map(|(_, path)| path.to_path_buf()));
        if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor {
            all.extend(model_files(&encoder.folder()?));
        }
        Ok(all)
    }

    fn read(&self, path: &Path) -> Result<(Vec<LabelledExample>, RowCounts)> {
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
            _ => Ok((examples, RowCounts { read, kept, dropped })),
        }
    }

    /// The text as an example, or why it cannot be one.
    fn example(
        &self,
        text: &LabelledText,
        policy: &ExtractivePolicy,
    ) -> Result<std::result::Result<LabelledExample, &'static str>> {
        let (prefix, bytes) = self.models.tokenizer.aligned(&text.text)?;
        let query = self.models.tokenizer.encode(&text.query)?;
        let touches =
            |&(start, end): &(usize, usize)| text.keep.iter().any(|keep| keep.start < end && start < keep.end);
        let touched: Vec<bool> = bytes.iter().map(touches).collect();
        let decoded = self.models.tokenizer.read(&prefix)?;
        // A character of several tokens is labelled as a whole.
        let label = |group: Range<usize>| vec![touched[group.clone()].contains(&true); group.len()];
        let wanted: Vec<bool> = decoded.groups().flat_map(label).collect();
        let budget = self.config.budget.tokens(prefix.len()).min(prefix.len());
        let worth: Vec<f64> = (policy.unit.cut(&decoded).iter())
            .map(|unit| wanted[unit.clone()].iter().filter(|wanted| **wanted).count() as f64 / unit.len() as f64)
            .map(|share| if share >= HALF { share } else { 0.0 })
            .collect();
        Ok(match worth.iter().any(|worth| *worth > 0.0) {
            false => Err("no unit that is labelled by half"),
            true if budget == 0 => Err("no budget"),
            true => Ok(LabelledExample {
                id: text.id.clone(),
                document: text.document.clone(),
                prefix,
                query,
                wanted,
                budget,
                worth,
            }),
        })
    }

    /// Network and actions of the compressor.
    pub fn policy(&self) -> Result<ExtractivePolicy<'_>> {
        let none = || Error::invalid("compressor.type: expected \"extractive\", got another");
        let policy = self.models.extractive_policy(&self.config.compressor)?.ok_or_else(none)?;
        // The examples are in memory, and read once an epoch.
        let evidence = policy.evidence.map(|evidence| Box::new(evidence.remembering()));
        Ok(ExtractivePolicy { evidence, ..policy })
    }

    /// The adapter of an evidence encoder in `folder`, over the encoder of the experiment if that stayed as it is.
    pub fn taught(&self, folder: &Path) -> Result<Adapter> {
        match &self.config.compressor {
            CompressorConfig::Extractive { encoder: Some(encoder), evidence: true, .. } => {
                Adapter::load_rows(folder, RowHead::Evidence, &encoder.folder()?, self.models.decoder.device())
            }
            CompressorConfig::Extractive { .. } | CompressorConfig::Gist { .. } => {
                Err(Error::invalid("compressor.evidence: expected true beside --evaluate, got false"))
            }
        }
    }

    /// The model that the adapter is made for.
    fn base(&self) -> Base {
        match &self.config.compressor {
            CompressorConfig::Extractive { encoder: Some(encoder), evidence: true, .. } => {
                Base { name: encoder.path.display().to_string(), ..Base::default() }
            }
            CompressorConfig::Extractive { .. } | CompressorConfig::Gist { .. } => self.models.base(),
        }
    }

    /// The compressor before its first update.
    pub fn fresh(&self) -> Result<Trainee> {
        let (config, decoder) = (self.config, &self.models.decoder);
        match &config.compressor {
            CompressorConfig::Extractive { encoder: Some(encoder), hints, evidence, .. } => {
                let adapter = match evidence {
                    true => fresh_rows(encoder, RowHead::Evidence, decoder.device(), config.seed)?,
                    false => fresh_encoder(encoder, hints.len(), decoder, config.seed)?,
                };
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
        let config = self.config;
        let per_epoch = self.train.len().div_ceil(config.train.batch);
        let updates = config.train.epochs * per_epoch;
        let mut student = Student::open(self, run, stop)?;
        let stage = Stage {
            title: "distill",
            updates: 0..updates,
            run_seed: config.seed,
            validation: Some(ValidationRhythm { every: config.train.eval_every, from: 0 }),
            before: None,
            tokens: None,
        };
        stage.run(&mut student, |student, number| {
            let lr_factor = config.train.schedule.factor(number, updates, config.optim.warmup_steps);
            student.learn(&self.batch(number, per_epoch), number, lr_factor)
        })?;
        student.compressor.save_adapter(run.root(), &self.base())?;
        if let CompressorConfig::Extractive { encoder: Some(encoder), evidence: true, .. } = &config.compressor {
            EncoderRecord::save(encoder, &run.root().join(ROLES[0]).join(RECORD))?;
        }
        Ok(student.compressor.adapter)
    }

    /// The examples of an update: each epoch has an order of its own.
    fn batch(&self, number: usize, per_epoch: usize) -> Vec<usize> {
        let (count, size) = (self.train.len(), self.config.train.batch);
        let (epoch, batch) = (number / per_epoch, number % per_epoch);
        let order = rng::choose(&mut rng::rng(self.config.seed, Stream::Data, epoch as u64, 0, 0), count, count);
        order.into_iter().skip(batch * size).take(size).collect()
    }
}

/// The compressor that learns from examples.
struct Student<'a> {
    examples: &'a Examples<'a>,
    policy: ExtractivePolicy<'a>,
    compressor: Trainee,
    run: &'a RunDir,
    ledger: Ledger<'a>,
}

impl<'a> Student<'a> {
    /// A fresh one, or that of the run's last checkpoint.
    fn open(examples: &'a Examples<'a>, run: &'a RunDir, stop: &'a AtomicBool) -> Result<Self> {
        let (policy, mut compressor) = (examples.policy()?, examples.fresh()?);
        let restore = |folder: &Path| compressor.restore(folder, &examples.models.decoder);
        let ledger = Ledger::open(run, examples.config.train.checkpoint_every, stop, restore)?;
        Ok(Self { examples, policy, compressor, run, ledger })
    }

    /// Makes one update on the examples of these numbers.
    fn learn(&mut self, picked: &[usize], number: usize, lr_factor: f64) -> Result<Updated> {
        let (config, train) = (self.examples.config, &self.examples.train);
        let prefix = |&i: &usize| {
            let example = &train[i];
            LabelledPrefix { request: example.request(i as u64), worth: &example.worth, budget: example.budget }
        };
        let prefixes: Vec<LabelledPrefix> = picked.iter().map(prefix).collect();
        let names: Vec<&str> = picked.iter().map(|&i| train[i].id.as_str()).collect();
        let batch = LabelBatch { prefixes: &prefixes, loss: config.loss, micro: config.train.micro };
        let update = Update { number, lr_factor, root: self.run.root(), batch: &names };
        let LabelUpdate { loss, captured } = label_step(&self.policy, &mut self.compressor, &batch, &update)?;
        let metrics = Metrics::from([("distill/loss", loss), ("distill/captured", captured)]);
        Ok(Updated { metrics, live: format!("loss {loss:.3}  captured {captured:.2}") })
    }
}

impl<'a> Learner<'a> for Student<'a> {
    fn ledger(&mut self) -> &mut Ledger<'a> {
        &mut self.ledger
    }

    fn validate(&mut self) -> Result<HeldOut> {
        let ranker = Ranker::new(DISTILLED, &self.policy, &self.compressor.adapter)?;
        let mut found = Vec::new();
        for (i, example) in self.examples.valid.iter().enumerate() {
            let made = ranker.compress(&[example.request(i as u64)], example.budget)?;
            found.extend(made.iter().map(|c| recovered(c.kept.as_deref().unwrap_or(&[]), &example.wanted)));
        }
        let of = |value: fn(&Recovered) -> f64| mean(&found.iter().map(value).collect::<Vec<_>>());
        let (recall, whole) = (of(|found| found.recall), of(|found| f64::from(found.whole)));
        let metrics = Metrics::from([("eval/recall", recall), ("eval/whole", whole)]);
        Ok(HeldOut { metrics, said: format!("validation recall {recall:.3}, whole {whole:.3}") })
    }

    fn save(&mut self) -> Result<()> {
        self.compressor.checkpoint(self.run, self.ledger.counters(), &self.examples.base())
    }
}
