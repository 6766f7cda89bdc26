//! Spans that share rare tokens with the local window and the query.

use crate::compressor::frequencies::DocumentFrequencies;
use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::idf::Idf;
use crate::compressor::scorers::parts::Parts;
use crate::config::compressors::Unit;
use crate::error::Result;
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Sum of the IDF of the distinct tokens that a unit shares with the local window and the query; of equal units the later
/// comes first. Without either, the scores of [`Idf`].
pub struct Overlap<'a> {
    /// Counts on training documents.
    pub frequencies: &'a DocumentFrequencies,
}

impl<'a> From<Parts<'a>> for Overlap<'a> {
    fn from(parts: Parts<'a>) -> Self {
        Self { frequencies: parts.frequencies }
    }
}

impl Overlap<'_> {
    fn units(&self, prefix: &Scored) -> Vec<f64> {
        let request = prefix.request;
        let wanted: BTreeSet<u32> = request.local.iter().chain(request.query).copied().collect();
        if wanted.is_empty() {
            return Idf { frequencies: self.frequencies }.units(prefix);
        }
        let shared = |(place, unit): (usize, &std::ops::Range<usize>)| -> f64 {
            let own: BTreeSet<u32> = request.prefix[unit.clone()].iter().copied().collect();
            let idf: f64 = own.intersection(&wanted).map(|&id| self.frequencies.idf(id)).sum();
            idf + 1e-9 * place as f64
        };
        prefix.units.iter().enumerate().map(shared).collect()
    }
}

impl Scorer for Overlap<'_> {
    fn unit(&self) -> Unit {
        Unit::Span { tokens: 8, stride: 4 }
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.par_iter().map(|prefix| self.units(prefix)).collect())
    }
}
