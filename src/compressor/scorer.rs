//! Extractive compression in two halves: a scorer says what each unit of a prefix is worth, the controller
//! ([`crate::compressor::budget`]) alone decides what is kept. A new scorer is a file in `scorers/` and a line in
//! [`crate::compressor::scorers`].

use crate::compressor::budget::Controller;
use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::{Parts, ScorerKind, build, frozen};
use crate::config::compressors::{FrozenScorer, Unit};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use rayon::prelude::*;
use tch::Device;

/// A scorer under the controller.
pub struct Extractive<'a> {
    /// Name in tables and files.
    pub name: String,
    /// Scores the units.
    pub scorer: Box<dyn Scorer + 'a>,
    /// Unit that is kept or dropped as a whole.
    pub unit: Unit,
    /// Decides from the scores what is kept.
    pub controller: Controller,
    /// For units that are made of text.
    pub tokenizer: &'a Tokenizer,
}

impl<'a> Extractive<'a> {
    /// A scorer on its own unit and with nothing that must be kept.
    pub fn plain(kind: ScorerKind, parts: Parts<'a>, tokenizer: &'a Tokenizer) -> Self {
        let scorer = build(kind, parts);
        let unit = scorer.unit();
        Self { name: kind.name().to_string(), scorer, unit, controller: Controller::default(), tokenizer }
    }

    /// A frozen model as scorer, read now, on its own unit and with nothing that must be kept.
    pub fn frozen(named: &FrozenScorer, device: Device, tokenizer: &'a Tokenizer) -> Result<Self> {
        let scorer = frozen(named, device)?;
        let unit = scorer.unit();
        Ok(Self { name: named.to_string(), scorer, unit, controller: Controller::default(), tokenizer })
    }

    /// Whether anything needs the texts of the tokens.
    fn reads_text(&self) -> bool {
        self.unit.reads_text() || self.controller.reads_text() || self.scorer.reads_text()
    }

    /// Units and their scores.
    fn scored<'r>(&self, requests: &'r [Request<'r>]) -> Result<Vec<(Scored<'r>, Vec<f64>)>> {
        let (unit, tokenizer) = (self.unit, self.reads_text().then_some(self.tokenizer));
        let prefixes = requests.par_iter().map(|request| cut(request, unit, tokenizer)).collect::<Result<Vec<_>>>()?;
        let scores = self.scorer.score(&prefixes)?;
        if scores.len() != prefixes.len() || scores.iter().zip(&prefixes).any(|(s, p)| s.len() != p.units.len()) {
            return Err(Error::invalid(format!("scorer `{}`: expected one score a unit", self.name)));
        }
        Ok(prefixes.into_iter().zip(scores).collect())
    }
}

/// A prefix in units; with a tokenizer, also in texts.
fn cut<'r>(request: &'r Request<'r>, unit: Unit, tokenizer: Option<&Tokenizer>) -> Result<Scored<'r>> {
    let Some(tokenizer) = tokenizer else {
        let units = unit.cut(&vec![String::new(); request.prefix.len()]);
        return Ok(Scored { request, units, pieces: Vec::new(), question: String::new() });
    };
    let pieces = tokenizer.pieces(request.prefix)?;
    let question = tokenizer.decode(request.question())?;
    Ok(Scored { request, units: unit.cut(&pieces), pieces, question })
}

const REQUESTS_AT_ONCE: usize = 64;

impl Compressor for Extractive<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn most(&self, budget: usize) -> usize {
        self.controller.most(budget)
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let controller = &self.controller;
        let keep = |(prefix, scores): &(Scored, Vec<f64>)| controller.keep(prefix, scores, budget);
        let mut all = Vec::with_capacity(requests.len());
        for batch in requests.chunks(REQUESTS_AT_ONCE) {
            all.par_extend(self.scored(batch)?.par_iter().map(keep));
        }
        Ok(all)
    }

    fn calibrate(&mut self, requests: &[Request], budgets: &[usize]) -> Result<bool> {
        let mut scored = Vec::with_capacity(requests.len());
        for batch in requests.chunks(REQUESTS_AT_ONCE) {
            scored.extend(self.scored(batch)?);
        }
        self.controller.calibrate(&scored, budgets);
        Ok(true)
    }
}
