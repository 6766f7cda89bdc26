//! The text of an experiment as token ids, and the windows that are cut from it or made of it.

use crate::chat::ReaderFrame;
use crate::compressor::controls::donors;
use crate::config::eval::ExamSplit;
use crate::config::questions::Answers;
use crate::config::train::{DataSection, TrainConfig};
use crate::data::{self, Document, Eligible, Split, Window, WindowShape};
use crate::error::{Error, Result};
use crate::models::Models;
use crate::reading::{AnswerShape, answer};
use crate::rng::{self, Stream};
use crate::tokenizer::Tokenizer;
use crate::train::facts::{FactsSetting, FactsWindows};
use crate::train::qa::{self, QaWindows};
use rand::Rng;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Mutex;

/// First index of the final split, behind all that a test split may have. Contexts from 1 << 32 on were the final split until
/// they had been read (experiments/LOG.md).
const FIRST_FINAL: u64 = 2 << 32;

/// Windows of the three splits.
pub struct Windows {
    /// P, L, F.
    pub shape: WindowShape,
    /// Training documents as ids.
    pub train: Vec<Vec<u32>>,
    training: Training,
    answers: Option<AnswerShape>,
    /// Validation windows.
    pub valid: Vec<Window>,
    /// Windows that the run is judged on: of the test split, unless `eval.split` says another.
    pub test: Vec<Window>,
    /// Windows of the same contexts that ask for the text round the facts; none unless `eval.unasked_windows` says so.
    pub unasked: Vec<Window>,
    /// Documents of both, for names.
    pub test_documents: Vec<Document>,
}

/// Source of training windows.
enum Training {
    /// Any place of a training document, in this frame.
    Cut(Eligible, ReaderFrame),
    /// Training documents with facts set into them.
    Facts(FactsWindows),
    /// Contexts with questions, by their place those whose probes have the teacher's answers by now: every time the same.
    Questions(Vec<Window>, Mutex<BTreeMap<usize, Window>>),
}

impl Windows {
    /// Reads the corpora of an experiment and cuts the held-out windows; each mismatch is an error that names its file. A base
    /// with too few positions for them is refused before any text is read.
    pub fn load(config: &TrainConfig, models: &Models) -> Result<Self> {
        let (d, tokenizer) = (&config.data, &models.tokenizer);
        let shape = WindowShape { prefix: d.prefix_tokens, local: d.local_tokens, future: d.future_tokens };
        let frame = models.reader_frame(&config.reader, config.plain_frame())?;
        check_positions(config, models, shape, &frame)?;
        if d.qa.is_some() {
            return Self::questions(config, models, shape, &frame);
        }
        let answers = teacher_answers(d);
        let judged = d.judged(config.eval.split);
        let generated = if config.eval.split == ExamSplit::Valid { Split::Valid } else { Split::Test };
        let (train, train_documents) = encode(tokenizer, d, &d.train, Split::Train)?;
        let (valid, valid_documents) = encode(tokenizer, d, &d.valid, Split::Valid)?;
        let (test, test_documents) = encode(tokenizer, d, judged, generated)?;
        let (e, per_document) = (&config.eval, config.eval.windows_per_document);
        if let Some(section) = &d.facts {
            let (condition, budget) = (config.condition, config.budget_tokens());
            let setting = FactsSetting { per_context: section.per_context, shape, condition, frame, budget };
            let facts = |documents: &[Document], split| FactsWindows::new(documents, &setting, split);
            let held_out = |documents: &[Document], split, first: u64, count: usize| -> Result<Vec<Window>> {
                let facts = facts(documents, split);
                let made = (first..first + count as u64).map(|index| facts.window(tokenizer, index));
                answered(models, made.collect::<Result<Vec<Window>>>()?, answers)
            };
            // The final split has facts that the test split has not.
            let first = if e.split == ExamSplit::Final { FIRST_FINAL } else { 0 };
            let valid = held_out(&valid_documents, Split::Valid, 0, e.valid_windows).map_err(at(&d.valid))?;
            let test = held_out(&test_documents, generated, first, e.windows).map_err(at(judged))?;
            donors(&test, 0).map_err(at(judged))?;
            let round = facts(&test_documents, generated);
            let unasked = (first..first + e.unasked_windows as u64).map(|index| round.unasked(tokenizer, index));
            let unasked: Vec<Window> =
                unasked.filter_map(Result::transpose).collect::<Result<_>>().map_err(at(judged))?;
            let training = Training::Facts(facts(&train_documents, Split::Train));
            return Ok(Self { shape, train, training, answers, valid, test, unasked, test_documents });
        }
        let eligible = Eligible::new(&train, shape).map_err(at(&d.train))?;
        // The windows of a split do not depend on the run's seed: seeds differ in training, not in the exam.
        let valid = data::held_out_windows(&valid, shape, e.valid_windows, per_document, 0).map_err(at(&d.valid))?;
        let test = data::held_out_windows(&test, shape, e.windows, per_document, 0).map_err(at(judged))?;
        donors(&test, 0).map_err(at(judged))?;
        let [valid, test] = [valid, test].map(|windows| framed(tokenizer, windows, &frame));
        let (valid, test, training) = (valid?, test?, Training::Cut(eligible, frame));
        Ok(Self { shape, train, training, answers, valid, test, unasked: Vec::new(), test_documents })
    }

    /// Those of three files of questions, as many as `eval` asks for.
    fn questions(config: &TrainConfig, models: &Models, shape: WindowShape, frame: &ReaderFrame) -> Result<Self> {
        let d = &config.data;
        let answers = teacher_answers(d);
        let judged = d.judged(config.eval.split);
        let load = |key: &str, file: &Option<PathBuf>| {
            let missing = || Error::invalid(format!("data.{key}: expected a file of questions, got none"));
            qa::load(
                models,
                file.as_ref().ok_or_else(missing)?,
                (shape, config.budget_tokens()),
                config.condition,
                frame,
            )
        };
        let held_out = |mut found: QaWindows, count: usize| -> Result<QaWindows> {
            found.windows.truncate(count);
            Ok(QaWindows { windows: answered(models, found.windows, answers)?, ..found })
        };
        let train = load("train", &d.train)?;
        let valid = held_out(load("valid", &d.valid)?, config.eval.valid_windows)?;
        let test = held_out(load("test", judged)?, config.eval.windows)?;
        donors(&test.windows, 0).map_err(at(judged))?;
        let texts: Vec<&str> = train.documents.iter().map(|document| document.text.as_str()).collect();
        Ok(Self {
            shape,
            train: models.tokenizer.encode_all(&texts)?,
            training: Training::Questions(train.windows, Mutex::new(BTreeMap::new())),
            answers,
            valid: valid.windows,
            test: test.windows,
            unasked: Vec::new(),
            test_documents: test.documents,
        })
    }

    /// The windows of a training step; `step` is any number that names it.
    pub fn training(&self, models: &Models, run_seed: u64, step: u64, count: usize) -> Result<Vec<Window>> {
        let drawn = |i: u64| rng::rng(run_seed, Stream::Data, step, i, 0);
        let tokenizer = &models.tokenizer;
        let each = 0..count as u64;
        match &self.training {
            Training::Cut(eligible, frame) => {
                let cut = |i| data::training_window(&self.train, eligible, self.shape, run_seed, step, i);
                framed(tokenizer, each.map(cut).collect(), frame)
            }
            Training::Facts(facts) => {
                let made = each.map(|i| facts.window(tokenizer, drawn(i).next_u64()));
                answered(models, made.collect::<Result<_>>()?, self.answers)
            }
            Training::Questions(windows, known) => {
                let mut known = known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                each.map(|i| {
                    let at = rng::below(&mut drawn(i), windows.len());
                    if let Entry::Vacant(place) = known.entry(at) {
                        // Alone, so that its answers do not depend on what is drawn beside it.
                        place.insert(answered(models, vec![windows[at].clone()], self.answers)?.remove(0));
                    }
                    Ok(known[&at].clone())
                })
                .collect()
            }
        }
    }
}

/// The answers of the teacher that probes get; none where the data gives them.
fn teacher_answers(data: &DataSection) -> Option<AnswerShape> {
    let of_qa = data.qa.as_ref().map(|qa| (qa.answers, qa.samples));
    match of_qa.or(data.facts.as_ref().map(|facts| (facts.answers, facts.samples)))? {
        (Answers::Teacher, samples) => Some(AnswerShape { tokens: data.future_tokens, samples }),
        (Answers::Given, _) => None,
    }
}

/// Windows with these answers.
fn answered(models: &Models, mut windows: Vec<Window>, answers: Option<AnswerShape>) -> Result<Vec<Window>> {
    answers.map(|how| answer(&models.decoder, &mut windows, how)).transpose()?;
    Ok(windows)
}

/// Windows that are cut from documents, in a frame.
fn framed(tokenizer: &Tokenizer, mut windows: Vec<Window>, frame: &ReaderFrame) -> Result<Vec<Window>> {
    for window in &mut windows {
        window.frame = frame.before().to_vec();
        for probe in &mut window.probes {
            probe.local = frame.around(tokenizer, &probe.local)?;
        }
    }
    Ok(windows)
}

/// Fails unless the base has positions for the longest row: the tokens that every row begins with, the instruction, prefix,
/// local window as condition, two control tokens, gist.
fn check_positions(config: &TrainConfig, models: &Models, shape: WindowShape, frame: &ReaderFrame) -> Result<()> {
    // A local window gets its frame behind its own tokens; the texts that ask have theirs within `data.local_tokens`.
    let around = if config.asks() { 0 } else { frame.around(&models.tokenizer, &[])?.len() };
    let local = shape.local + around;
    let written = models.frame(&config.compressor)?.len() + shape.prefix + local + 2 + config.budget_tokens();
    let read = frame.before().len() + shape.prefix + local + shape.future + 1;
    let longest = read.max(written) + models.decoder.begin().len();
    let limit = models.decoder.config().positions() as usize;
    if longest > limit {
        let message = format!("max_position_embeddings: expected at least {longest}, got {limit}");
        return Err(Error::file(models.config_file(), message));
    }
    Ok(())
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
