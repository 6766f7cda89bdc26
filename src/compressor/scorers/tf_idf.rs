//! TF-IDF: cosine of a unit and the query (without one, the local window), over terms weighted by their rarity.

use crate::compressor::frequencies::{DocumentFrequencies, TokenTerms};
use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::config::compressors::Unit;
use crate::error::Result;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Cosine similarity of TF-IDF vectors; without query and local window, the length of a unit's own vector.
pub struct TfIdf<'a> {
    /// Counts on training documents.
    pub frequencies: &'a DocumentFrequencies,
}

impl<'a> From<Parts<'a>> for TfIdf<'a> {
    fn from(parts: Parts<'a>) -> Self {
        Self { frequencies: parts.frequencies }
    }
}

impl TfIdf<'_> {
    fn vector<'i>(&self, terms: impl Iterator<Item = &'i [u32]>) -> BTreeMap<&'i [u32], f64> {
        let mut vector = BTreeMap::new();
        terms.for_each(|term| *vector.entry(term).or_insert(0.0) += self.frequencies.idf(term));
        vector
    }

    fn units(&self, prefix: &Scored) -> Vec<f64> {
        let length = |v: &BTreeMap<&[u32], f64>| v.values().map(|x| x * x).sum::<f64>().sqrt();
        let terms = TokenTerms::new(prefix.request.prefix, &prefix.decoded);
        let query = self.vector(TokenTerms::new(prefix.request.question(), &prefix.question).all());
        let similarity = |unit: &std::ops::Range<usize>| {
            let own = self.vector(terms.of(unit));
            let dot: f64 = own.iter().filter_map(|(term, x)| Some(x * query.get(term)?)).sum();
            if query.is_empty() { length(&own) } else { dot / (length(&own) * length(&query)) }
        };
        prefix.units.iter().map(similarity).collect()
    }
}

impl Scorer for TfIdf<'_> {
    fn unit(&self) -> Unit {
        Unit::Sentence {}
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.par_iter().map(|prefix| self.units(prefix)).collect())
    }
}
