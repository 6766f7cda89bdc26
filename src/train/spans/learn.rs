//! The training loop of a span reader: cross-entropy of the first and of the last token of the answer, all of its occurrences
//! taken together (Clark & Gardner 2018, arXiv 1710.10723, §3.2).

use crate::compressor::foreign::{EncoderRow, Foreign};
use crate::config::span_reader::SpanReaderConfig;
use crate::data::task::TaskRow;
use crate::error::Result;
use crate::grading::Grade;
use crate::metrics::Metrics;
use crate::model::encoder::EncoderConfig;
use crate::model::encoder_record::EncoderRecord;
use crate::model::lora::Adapter;
use crate::model::peft::Base;
use crate::model::row_head::RowHead;
use crate::progress::Progress;
use crate::reading::span::{RECORD, SpanReader};
use crate::run_dir::RunDir;
use crate::tensor::mean;
use crate::train::inputs::model_files;
use crate::train::roles::fresh_rows;
use crate::train::spans::examples::{self, SpanExample};
use crate::train::stage::{HeldOut, Learner, Ledger, Stage, Updated, ValidationRhythm};
use crate::train::trainee::{Trainee, Update};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use tch::{Device, Kind, Tensor};

/// Folder of the reader in a run's directory.
pub const READER: &str = "reader";
/// Questions that are answered together.
const ASKED_AT_ONCE: usize = 32;

/// Everything that an experiment reads.
pub struct SpanInputs<'a> {
    /// The experiment.
    pub config: &'a SpanReaderConfig,
    /// Questions for validation.
    pub valid: Vec<TaskRow>,
    /// Questions for the final figures, by benchmark.
    pub test: BTreeMap<String, Vec<TaskRow>>,
    /// Number of questions to learn from.
    pub questions: usize,
    foreign: Rc<Foreign>,
    train: Vec<SpanExample>,
    device: Device,
}

impl<'a> SpanInputs<'a> {
    /// Reads questions and encoder.
    pub fn load(config: &'a SpanReaderConfig, device: Device) -> Result<Self> {
        let data = &config.data;
        let folder = config.encoder.folder()?;
        let foreign = Rc::new(Foreign::load(&folder.join("tokenizer.json"))?);
        let all =
            |key, files| -> Result<Vec<TaskRow>> { Ok(examples::read(key, files)?.into_values().flatten().collect()) };
        let (train, valid) = (all("data.train", &data.train)?, all("data.valid", &data.valid)?);
        let test = examples::read("data.test", &data.test)?;
        let longest = EncoderConfig::load(&folder.join("config.json"))?.longest;
        let rows = examples::examples(&train, &foreign, longest, data.unanswerable, config.seed)?;
        Ok(Self { config, valid, test, questions: train.len(), foreign, train: rows, device })
    }

    /// Files that a run depends on.
    pub fn files(config: &SpanReaderConfig) -> Result<Vec<PathBuf>> {
        let data = &config.data;
        let mut all = model_files(&config.encoder.folder()?);
        all.extend(examples::files([&data.train, &data.valid, &data.test]).into_iter().map(Path::to_path_buf));
        Ok(all)
    }

    /// Rows of the encoder in an epoch.
    pub fn rows(&self) -> usize {
        self.train.len()
    }

    /// Updates of the whole training.
    pub fn updates(&self) -> usize {
        self.config.train.epochs * self.train.len().div_ceil(self.config.train.batch)
    }

    /// The reader before its first update.
    pub fn fresh(&self) -> Result<Trainee> {
        let section = &self.config.encoder;
        let adapter = fresh_rows(section, RowHead::Span, self.device, self.config.seed)?;
        Ok(Trainee::new(READER, adapter, &self.config.optim).with_encoder_factor(section.lr_factor, &self.config.optim))
    }

    /// Grades of a reader's answers to questions; a question of a benchmark with unanswerable ones may get none.
    pub fn graded(&self, adapter: &Adapter, questions: &[TaskRow], title: Option<&str>) -> Result<Vec<Grade>> {
        let _guard = tch::no_grad_guard();
        let reader = SpanReader::new(Rc::clone(&self.foreign), adapter, self.config.hardware.kind())?;
        let progress = match title {
            Some(title) => Progress::new(title, questions.len().div_ceil(ASKED_AT_ONCE), 0),
            None => Progress::silent(),
        };
        let mut all = Vec::with_capacity(questions.len());
        for part in questions.chunks(ASKED_AT_ONCE) {
            let asked: Vec<(&str, &str)> = part.iter().map(|row| (row.query.as_str(), row.context.as_str())).collect();
            for (row, answer) in part.iter().zip(reader.answers(&asked)?) {
                all.push(row.grading.grade(answer.said(row.grading), &row.answers, &row.classes));
            }
            progress.step("");
        }
        progress.finish();
        Ok(all)
    }

    /// Trains, from the run's last checkpoint if there is one, and leaves the reader in `<run>/reader`.
    pub fn run(&self, run: &RunDir, stop: &AtomicBool) -> Result<Adapter> {
        let config = self.config;
        let updates = self.updates();
        let mut student = Student::open(self, run, stop)?;
        let stage = Stage {
            title: "span reader",
            updates: 0..updates,
            run_seed: config.seed,
            validation: Some(ValidationRhythm { every: config.train.eval_every, from: 0 }),
            before: None,
            tokens: None,
        };
        stage.run(&mut student, |student, number| {
            let lr_factor = config.train.schedule.factor(number, updates, config.optim.warmup_steps);
            student.learn(number, lr_factor)
        })?;
        let folder = run.root().join(READER);
        match config.final_rank {
            Some(rank) => student.reader.adapter.reduced(rank)?.save_as(&folder, &self.base(), Kind::BFloat16)?,
            None => student.reader.adapter.save(&folder, &self.base())?,
        }
        EncoderRecord::save(&config.encoder, &folder.join(RECORD))?;
        // As it was saved.
        self.saved(&folder)
    }

    /// The reader in a folder.
    fn saved(&self, folder: &Path) -> Result<Adapter> {
        Adapter::load_rows(folder, RowHead::Span, &self.config.encoder.folder()?, self.device)
    }

    /// The model that the adapter is made for.
    fn base(&self) -> Base {
        Base { name: self.config.encoder.path.display().to_string(), ..Base::default() }
    }
}

/// The reader that learns.
struct Student<'a> {
    inputs: &'a SpanInputs<'a>,
    reader: Trainee,
    run: &'a RunDir,
    ledger: Ledger<'a>,
    /// The epoch that `batches` are of.
    epoch: Option<usize>,
    batches: Vec<Vec<usize>>,
}

impl<'a> Student<'a> {
    /// A fresh one, or that of the run's last checkpoint.
    fn open(inputs: &'a SpanInputs<'a>, run: &'a RunDir, stop: &'a AtomicBool) -> Result<Self> {
        let mut reader = inputs.fresh()?;
        let restore = |folder: &Path| {
            let saved = inputs.saved(&folder.join(READER))?;
            reader.restore_weights(folder, &saved.params().named().into_iter().collect())
        };
        let ledger = Ledger::open(run, inputs.config.train.checkpoint_every, stop, restore)?;
        Ok(Self { inputs, reader, run, ledger, epoch: None, batches: Vec::new() })
    }

    /// The examples of an update.
    fn batch(&mut self, number: usize) -> Vec<usize> {
        let (config, train) = (self.inputs.config, &self.inputs.train);
        let per_epoch = train.len().div_ceil(config.train.batch);
        let epoch = number / per_epoch;
        if self.epoch != Some(epoch) {
            self.batches = examples::batches(train, config.train.batch, config.seed, epoch);
            self.epoch = Some(epoch);
        }
        self.batches[number % per_epoch].clone()
    }

    /// Makes one update.
    fn learn(&mut self, number: usize, lr_factor: f64) -> Result<Updated> {
        let batch = self.batch(number);
        let (config, train) = (self.inputs.config, &self.inputs.train);
        let update = Update { number, lr_factor, root: self.run.root(), batch: &batch };
        let network = SpanReader::new(Rc::clone(&self.inputs.foreign), &self.reader.adapter, config.hardware.kind())?;
        let mut sum = 0.0;
        for part in batch.chunks(config.train.micro) {
            let picked: Vec<&SpanExample> = part.iter().map(|&at| &train[at]).collect();
            let loss = span_loss(&network, &picked)? * (part.len() as f64 / batch.len() as f64);
            loss.f_backward()?;
            sum += loss.double_value(&[]);
        }
        if !sum.is_finite() {
            return Err(update.non_finite(format!("the reader's loss ({sum})")));
        }
        self.reader.step(&update)?;
        Ok(Updated { metrics: Metrics::from([("span_reader/loss", sum)]), live: format!("loss {sum:.3}") })
    }
}

/// Mean over rows and both ends of −log of the probability of the places at which the answer stands, a scalar.
fn span_loss(network: &SpanReader, examples: &[&SpanExample]) -> Result<Tensor> {
    let rows: Vec<&EncoderRow> = examples.iter().map(|example| &example.row).collect();
    let logits = network.logits(&rows)?; // [N, T, 2]
    let (n, t, _) = logits.size3()?;
    let mut others = vec![true; (n * t * 2) as usize];
    for (row, example) in examples.iter().enumerate() {
        for (end, places) in [&example.first, &example.last].into_iter().enumerate() {
            places.iter().for_each(|place| others[(row * t as usize + place) * 2 + end] = false);
        }
    }
    let others = Tensor::from_slice(&others).view([n, t, 2]).to_device(logits.device());
    let right = logits.masked_fill(&others, f64::NEG_INFINITY).logsumexp([1i64].as_slice(), false);
    let all = logits.logsumexp([1i64].as_slice(), false);
    Ok((all - right).mean(Kind::Float))
}

impl<'a> Learner<'a> for Student<'a> {
    fn ledger(&mut self) -> &mut Ledger<'a> {
        &mut self.ledger
    }

    fn validate(&mut self) -> Result<HeldOut> {
        let found = self.inputs.graded(&self.reader.adapter, &self.inputs.valid, None)?;
        let of = |value: fn(&Grade) -> f64| mean(&found.iter().map(value).collect::<Vec<_>>());
        let (f1, exact) = (of(|own| own.f1), of(|own| own.exact_match));
        let metrics = Metrics::from([("eval/f1", f1), ("eval/exact_match", exact)]);
        Ok(HeldOut { metrics, said: format!("validation F1 {f1:.3}, exact match {exact:.3}") })
    }

    fn save(&mut self) -> Result<()> {
        self.reader.checkpoint(self.run, self.ledger.counters(), &self.inputs.base())
    }
}
