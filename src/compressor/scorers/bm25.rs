//! BM25 (Robertson & Zaragoza 2009) by the `bm25` crate, with its k1 = 1.2 and b = 0.75: the units of a prefix are the
//! documents, the query or the local window is the query, words in lower case are the terms.

use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::config::compressors::Unit;
use crate::error::Result;
use bm25::{Embedder, EmbedderBuilder, Tokenizer};
use bstr::ByteSlice;
use rayon::prelude::*;

/// Relevance to the question; equal for all units without one.
pub struct Bm25;

impl From<Parts<'_>> for Bm25 {
    fn from(_: Parts) -> Self {
        Self
    }
}

struct Words;

impl Tokenizer for Words {
    fn tokenize(&self, text: &str) -> Vec<String> {
        text.as_bytes().words().map(str::to_lowercase).collect()
    }
}

fn units(prefix: &Scored) -> Vec<f64> {
    let texts: Vec<String> = prefix.units.iter().map(|unit| prefix.pieces[unit.clone()].concat()).collect();
    let corpus: Vec<&str> = texts.iter().map(String::as_str).collect();
    let embedder: Embedder<u64, Words> = EmbedderBuilder::with_tokenizer_and_fit_to_corpus(Words, &corpus).build();
    let mut scorer = bm25::Scorer::<usize, u64>::new();
    texts.iter().enumerate().for_each(|(unit, text)| scorer.upsert(&unit, embedder.embed(text)));
    let question = embedder.embed(&prefix.question);
    (0..texts.len()).map(|unit| scorer.score(&unit, &question).map_or(0.0, f64::from)).collect()
}

impl Scorer for Bm25 {
    fn unit(&self) -> Unit {
        Unit::Sentence {}
    }
    fn reads_text(&self) -> bool {
        true
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.par_iter().map(units).collect())
    }
}
