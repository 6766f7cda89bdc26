//! The text of an experiment as token ids, and the windows that are cut from it.

use crate::compressor::controls::donors;
use crate::config::eval::ExamSplit;
use crate::config::train::{DataSection, TrainConfig};
use crate::data::{self, Document, Eligible, Split, Window, WindowShape};
use crate::error::{Error, Result};
use crate::models::Models;
use crate::tokenizer::Tokenizer;
use std::path::PathBuf;

/// Windows of the three splits.
pub struct Windows {
    /// P, L, F.
    pub shape: WindowShape,
    /// Training documents as ids.
    pub train: Vec<Vec<u32>>,
    eligible: Eligible,
    /// Validation windows.
    pub valid: Vec<Window>,
    /// Windows that the run is judged on: of the test split, unless `eval.split` says another.
    pub test: Vec<Window>,
    /// Their documents, for names.
    pub test_documents: Vec<Document>,
}

impl Windows {
    /// Reads the corpora of an experiment and cuts the held-out windows; each mismatch is an error that names its file. A base
    /// with too few positions for them is refused before any text is read.
    pub fn load(config: &TrainConfig, models: &Models) -> Result<Self> {
        let (d, tokenizer) = (&config.data, &models.tokenizer);
        let shape = WindowShape { prefix: d.prefix_tokens, local: d.local_tokens, future: d.future_tokens };
        check_positions(config, models, shape)?;
        let (train, _) = encode(tokenizer, d, &d.train, Split::Train)?;
        let (valid, _) = encode(tokenizer, d, &d.valid, Split::Valid)?;
        let judged = d.judged(config.eval.split);
        let generated = if config.eval.split == ExamSplit::Valid { Split::Valid } else { Split::Test };
        let (test, test_documents) = encode(tokenizer, d, judged, generated)?;
        let eligible = Eligible::new(&train, shape).map_err(at(&d.train))?;
        let (e, per_document) = (&config.eval, config.eval.windows_per_document);
        // The windows of a split do not depend on the run's seed: seeds differ in training, not in the exam.
        let valid = data::held_out_windows(&valid, shape, e.valid_windows, per_document, 0).map_err(at(&d.valid))?;
        let test = data::held_out_windows(&test, shape, e.windows, per_document, 0).map_err(at(judged))?;
        donors(&test, 0).map_err(at(judged))?;
        Ok(Self { shape, train, eligible, valid, test, test_documents })
    }

    /// The windows of a training step; `step` is any number that names it.
    pub fn training(&self, run_seed: u64, step: u64, count: usize) -> Vec<Window> {
        (0..count as u64)
            .map(|i| data::training_window(&self.train, &self.eligible, self.shape, run_seed, step, i))
            .collect()
    }
}

/// Fails unless the base has positions for the longest row: the tokens that every row begins with, the instruction, prefix,
/// local window as condition, two control tokens, gist.
fn check_positions(config: &TrainConfig, models: &Models, shape: WindowShape) -> Result<()> {
    let written = models.frame(&config.compressor)?.len() + shape.prefix + shape.local + 2 + config.budget_tokens();
    let longest = (shape.total() + 1).max(written) + models.decoder.begin().len();
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
