//! Compressors that count words: rare tokens (IDF), and spans that share rare tokens with what comes next.

use crate::compressor::baseline::each;
use crate::compressor::budget::{select, select_spans, spans};
use crate::compressor::{Compressed, Compressor, Request};
use crate::error::Result;
use std::collections::BTreeSet;

/// In how many training documents each token occurs.
#[derive(Clone, Debug)]
pub struct DocumentFrequencies {
    documents: usize,
    counts: Vec<u32>,
}

impl DocumentFrequencies {
    /// Counts over `documents`, never those that are evaluated.
    pub fn count<D: AsRef<[u32]>>(documents: &[D]) -> Self {
        let mut counts = Vec::new();
        for document in documents {
            for id in document.as_ref().iter().map(|&id| id as usize).collect::<BTreeSet<_>>() {
                if counts.len() <= id {
                    counts.resize(id + 1, 0);
                }
                counts[id] += 1;
            }
        }
        Self { documents: documents.len(), counts }
    }

    /// Inverse document frequency, smoothed: ln((1 + n) / (1 + n_id)) + 1.
    pub fn idf(&self, id: u32) -> f64 {
        let count = self.counts.get(id as usize).copied().unwrap_or(0);
        ((1 + self.documents) as f64 / (1.0 + count as f64)).ln() + 1.0
    }
}

/// Keeps the rarest tokens.
pub struct Idf<'a> {
    /// Counts on training documents.
    pub frequencies: &'a DocumentFrequencies,
    /// Whether a token that occurred before in the prefix comes after all others.
    pub distinct: bool,
}

impl Idf<'_> {
    fn keep(&self, prefix: &[u32], budget: usize) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let mut score = |&id: &u32| {
            let repeated = !seen.insert(id);
            if repeated && self.distinct { f64::NEG_INFINITY } else { self.frequencies.idf(id) }
        };
        select(&prefix.iter().map(&mut score).collect::<Vec<_>>(), budget)
    }
}

impl Compressor for Idf<'_> {
    fn name(&self) -> &str {
        "idf"
    }
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        each(requests, |r| self.keep(r.prefix, budget))
    }
}

/// Keeps the spans that share the most IDF with the local window and the query; without either, the rarest tokens.
pub struct Overlap<'a> {
    /// Counts on training documents.
    pub frequencies: &'a DocumentFrequencies,
    /// Tokens of a span.
    pub span_tokens: usize,
    /// Tokens between the starts of spans.
    pub stride: usize,
}

impl Compressor for Overlap<'_> {
    fn name(&self) -> &str {
        "overlap"
    }
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        each(requests, |r| {
            let wanted: BTreeSet<u32> = r.local.iter().chain(r.query).copied().collect();
            if wanted.is_empty() {
                return Idf { frequencies: self.frequencies, distinct: true }.keep(r.prefix, budget);
            }
            let shared = |span: &std::ops::Range<usize>| -> f64 {
                let own: BTreeSet<u32> = r.prefix[span.clone()].iter().copied().collect();
                own.intersection(&wanted).map(|&id| self.frequencies.idf(id)).sum()
            };
            // The latest first: of equal spans the more recent one is kept.
            let spans: Vec<_> = spans(r.prefix.len(), self.span_tokens, self.stride).into_iter().rev().collect();
            let scores: Vec<f64> = spans.iter().map(shared).collect();
            select_spans(&spans, &scores, budget)
        })
    }
}
