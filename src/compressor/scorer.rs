//! Extractive compression in two halves: a scorer says what each unit of a prefix is worth, the controller
//! ([`crate::compressor::budget`]) alone decides what is kept. A new scorer is a file in `scorers/` and a line in
//! [`crate::compressor::scorers`].

use crate::compressor::budget::Controller;
use crate::compressor::scorers::{Parts, ScorerKind, build, frozen};
use crate::compressor::{Compressed, Compressor, Request};
use crate::config::compressors::{Aggregate, FrozenScorer, Unit};
use crate::error::{Error, Result};
use crate::tokenizer::{Decoded, Tokenizer};
use rayon::prelude::*;
use std::ops::Range;
use tch::Device;

/// A prefix to be scored, cut into units.
pub struct Scored<'a> {
    /// Prefix, and what else may be seen.
    pub request: &'a Request<'a>,
    /// Ascending ranges of its tokens.
    pub units: Vec<Range<usize>>,
    /// What the prefix says.
    pub decoded: Decoded,
    /// What the query says, or else the local window ([`Request::question`]).
    pub question: Decoded,
}

impl<'a> Scored<'a> {
    /// A prefix cut into units of one kind.
    pub fn new(request: &'a Request<'a>, unit: Unit, tokenizer: &Tokenizer) -> Result<Self> {
        let (decoded, question) = (tokenizer.read(request.prefix)?, tokenizer.read(request.question())?);
        Ok(Self { request, units: unit.cut(&decoded), decoded, question })
    }
}

/// Says what units are worth.
pub trait Scorer {
    /// What it scores when nobody says.
    fn unit(&self) -> Unit {
        Unit::Token {}
    }

    /// One score a unit, higher is kept first; what is not a number is kept last.
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>>;
}

impl Aggregate {
    /// Scores of units from scores of tokens.
    pub fn units(self, tokens: &[f64], units: &[Range<usize>]) -> Vec<f64> {
        let one = |unit: &Range<usize>| match self {
            Aggregate::Mean => crate::tensor::mean(&tokens[unit.clone()]),
            Aggregate::First => tokens[unit.start],
            Aggregate::Max => tokens[unit.clone()].iter().copied().fold(f64::NEG_INFINITY, f64::max),
        };
        units.iter().map(one).collect()
    }
}

/// A scorer under the controller.
pub struct Extractive<'a> {
    /// Name in tables and files.
    pub name: String,
    /// What a unit is worth.
    pub scorer: Box<dyn Scorer + 'a>,
    /// What is kept or dropped as a whole.
    pub unit: Unit,
    /// What is kept.
    pub controller: Controller,
    /// The reading model's.
    pub tokenizer: &'a Tokenizer,
}

impl<'a> Extractive<'a> {
    /// A scorer on its own unit and with nothing that must be kept.
    pub fn plain(kind: ScorerKind, parts: Parts<'a>, tokenizer: &'a Tokenizer) -> Self {
        let scorer = build(kind, parts);
        let unit = scorer.unit();
        Self { name: kind.name(), scorer, unit, controller: Controller::default(), tokenizer }
    }

    /// The same of a frozen model, read now.
    pub fn frozen(named: &FrozenScorer, device: Device, tokenizer: &'a Tokenizer) -> Result<Self> {
        let scorer = frozen(named, device)?;
        let unit = scorer.unit();
        Ok(Self { name: named.to_string(), scorer, unit, controller: Controller::default(), tokenizer })
    }

    /// Units and their scores.
    fn scored<'r>(&self, requests: &'r [Request<'r>]) -> Result<Vec<(Scored<'r>, Vec<f64>)>> {
        let (unit, tokenizer) = (self.unit, self.tokenizer);
        let prefixes = requests.par_iter().map(|request| Scored::new(request, unit, tokenizer)).collect::<Result<Vec<_>>>()?;
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
