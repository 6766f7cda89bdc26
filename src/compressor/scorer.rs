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
    /// The reading model's.
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

    /// Units and their scores.
    fn scored<'r>(&self, requests: &'r [Request<'r>]) -> Result<Vec<(Scored<'r>, Vec<f64>)>> {
        let (unit, tokenizer) = (self.unit, self.tokenizer);
        let prefixes =
            requests.par_iter().map(|request| Scored::new(request, unit, tokenizer)).collect::<Result<Vec<_>>>()?;
        let scores = self.scorer.score(&prefixes)?;
        if scores.len() != prefixes.len() || scores.iter().zip(&prefixes).any(|(s, p)| s.len() != p.units.len()) {
            return Err(Error::invalid(format!("scorer `{}`: expected one score a unit", self.name)));
        }
        Ok(prefixes.into_iter().zip(scores).collect())
    }
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
        Ok(self.compress_each(requests, &[budget])?.remove(0))
    }

    fn compress_each(&self, requests: &[Request], budgets: &[usize]) -> Result<Vec<Vec<Compressed>>> {
        let controller = &self.controller;
        let mut all = vec![Vec::with_capacity(requests.len()); budgets.len()];
        for batch in requests.chunks(REQUESTS_AT_ONCE) {
            let scored = self.scored(batch)?;
            for (&budget, made) in budgets.iter().zip(&mut all) {
                made.par_extend(scored.par_iter().map(|(prefix, scores)| controller.keep(prefix, scores, budget)));
            }
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
