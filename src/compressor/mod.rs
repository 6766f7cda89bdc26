//! Compressors: contexts and a budget in, kept ids out. Generative and extractive ones stand behind one trait, so that
//! an evaluation cannot tell them apart.

pub mod actions;
pub mod attended;
pub mod baseline;
pub mod budget;
pub mod chain;
pub mod controls;
pub mod copying;
pub mod draft;
pub mod extractive;
pub mod foreign;
pub mod frequencies;
pub mod gist;
pub mod llmlingua;
pub mod must_keep;
pub mod policy;
mod ranges;
pub mod scorer;
pub mod scorers;
mod unit_features;
pub mod units;

use crate::compressor::budget::Controller;
use crate::compressor::scorer::Extractive;
use crate::compressor::scorers::{Parts, ScorerKind};
use crate::error::Result;
use crate::tokenizer::Tokenizer;
use clap::ValueEnum;

/// What a compressor may see of one window. The future is not here: it never reaches a compressor.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The tokens to compress.
    pub prefix: &'a [u32],
    /// The local window; empty unless `condition = "local"`.
    pub local: &'a [u32],
    /// The query; empty unless `condition = "query"`.
    pub query: &'a [u32],
    /// Names the window, so that seeded compressors draw the same whatever the batch.
    pub key: u64,
}

impl<'a> Request<'a> {
    /// What the prefix is wanted for: the query, or else the local window; nothing when neither may be seen.
    pub fn question(&self) -> &'a [u32] {
        if self.query.is_empty() { self.local } else { self.query }
    }
}

/// What stands in the prefix's place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compressed {
    /// Ordinary tokens of the base vocabulary.
    pub ids: Vec<u32>,
    /// For an extractive compressor: ascending positions in the prefix that were kept.
    pub kept: Option<Vec<usize>>,
    /// For a scoring one: what each token of the prefix was worth, in the best of its units.
    pub scores: Option<Vec<f64>>,
    /// Whether the prefix stands unchanged: the reader then gets no separator.
    pub identity: bool,
}

/// Any way to make a context shorter.
pub trait Compressor {
    /// Name in tables and files.
    fn name(&self) -> &str;

    /// One result a request, each at most [`Compressor::most`] tokens (only the identity control is exempt).
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>>;

    /// The most tokens that stand for one prefix where `budget` is asked for: that many, unless it was calibrated.
    fn most(&self, budget: usize) -> usize {
        budget
    }

    /// From now on these budgets are what it keeps on average, as measured on these requests (which must not be those that it
    /// is judged by), and what it keeps of one prefix follows the content. False, and nothing changes, for one that has no
    /// scores to go by.
    fn calibrate(&mut self, _requests: &[Request], _budgets: &[usize]) -> Result<bool> {
        Ok(false)
    }
}

/// The baselines of every table, in table order, those that score under `controller`, none of which writes an id in
/// `forbidden`; `identity` is the exempt upper end point.
pub fn baselines<'a>(
    parts: Parts<'a>,
    tokenizer: &'a Tokenizer,
    forbidden: &'a [u32],
    controller: &Controller,
) -> Vec<Box<dyn Compressor + 'a>> {
    let scored = |kind| -> Box<dyn Compressor + 'a> {
        Box::new(Extractive { controller: controller.clone(), ..Extractive::plain(kind, parts, tokenizer) })
    };
    let mut all: Vec<Box<dyn Compressor + 'a>> = vec![Box::new(baseline::Empty)];
    all.extend(ScorerKind::value_variants().iter().map(|&kind| scored(kind)));
    all.push(Box::new(llmlingua::LlmLingua { decoder: parts.decoder, tokenizer, controller: controller.clone() }));
    all.push(Box::new(draft::Draft { decoder: parts.decoder, forbidden }));
    all.push(Box::new(baseline::Identity));
    all
}
