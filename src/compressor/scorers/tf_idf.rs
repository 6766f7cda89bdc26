//! TF-IDF: cosine of a unit and the query (without one, the local window), over tokens weighted by their rarity.

use crate::compressor::frequencies::DocumentFrequencies;
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
    fn vector(&self, ids: &[u32]) -> BTreeMap<u32, f64> {
        let mut vector = BTreeMap::new();
        ids.iter().for_each(|&id| *vector.entry(id).or_insert(0.0) += self.frequencies.idf(id));
        vector
    }

    fn units(&self, prefix: &Scored) -> Vec<f64> {
        let length = |v: &BTreeMap<u32, f64>| v.values().map(|x| x * x).sum::<f64>().sqrt();
        let query = self.vector(prefix.request.question());
        let similarity = |unit: &std::ops::Range<usize>| {
            let own = self.vector(&prefix.request.prefix[unit.clone()]);
            let dot: f64 = own.iter().filter_map(|(id, x)| Some(x * query.get(id)?)).sum();
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
