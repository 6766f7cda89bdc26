//! Rare tokens first: the sum of inverse document frequencies, each token of the prefix once.

use crate::compressor::frequencies::DocumentFrequencies;
use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::error::Result;
use std::collections::BTreeSet;

/// Mean IDF of a unit's tokens, each counted where it first occurs in the prefix.
pub struct Idf<'a> {
    /// Counts on training documents.
    pub frequencies: &'a DocumentFrequencies,
}

impl<'a> From<Parts<'a>> for Idf<'a> {
    fn from(parts: Parts<'a>) -> Self {
        Self { frequencies: parts.frequencies }
    }
}

impl Idf<'_> {
    /// Scores of the units. A token that occurred before in the prefix adds nothing, so that a unit without a new one comes
    /// last.
    pub fn units(&self, prefix: &Scored) -> Vec<f64> {
        let mut seen = BTreeSet::new();
        let mut worth = |&id: &u32| if seen.insert(id) { self.frequencies.idf(id) } else { 0.0 };
        let tokens: Vec<f64> = prefix.request.prefix.iter().map(&mut worth).collect();
        prefix.units.iter().map(|unit| tokens[unit.clone()].iter().sum::<f64>() / unit.len() as f64).collect()
    }
}

impl Scorer for Idf<'_> {
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.iter().map(|prefix| self.units(prefix)).collect())
    }
}
