//! Between scorers and the controller: a prefix cut into units, and one score for each.

use crate::compressor::contract::Request;
use crate::config::compressors::{Aggregate, Unit};
use crate::error::Result;
use crate::tensor::mean;
use std::ops::Range;

/// A prefix to be scored, cut into units.
pub struct Scored<'a> {
    /// Prefix, and whatever else the compressor may see.
    pub request: &'a Request<'a>,
    /// Ascending ranges of its tokens.
    pub units: Vec<Range<usize>>,
    /// Texts of its tokens; none when nobody needs them.
    pub pieces: Vec<String>,
    /// Text of the question ([`Request::question`]); empty when nobody needs it.
    pub question: String,
}

/// Scores units.
pub trait Scorer {
    /// Unit that it scores by default.
    fn unit(&self) -> Unit {
        Unit::Token {}
    }

    /// Whether it needs texts, not only ids.
    fn reads_text(&self) -> bool {
        false
    }

    /// One score for each unit of each prefix; higher is kept first, NaN last.
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>>;
}

impl Aggregate {
    /// Scores of units from scores of tokens.
    pub fn units(self, tokens: &[f64], units: &[Range<usize>]) -> Vec<f64> {
        let one = |unit: &Range<usize>| match self {
            Aggregate::Mean => mean(&tokens[unit.clone()]),
            Aggregate::First => tokens[unit.start],
            Aggregate::Max => tokens[unit.clone()].iter().copied().fold(f64::NEG_INFINITY, f64::max),
        };
        units.iter().map(one).collect()
    }
}
