//! Prompt lookup (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding) as a scorer: the tokens that followed in the
//! prefix when the text last ended as it ends now, be it the question or the prefix itself. Longer n-grams go first, of one
//! length the later; the empty one stands everywhere, so that the most recent tokens fill the rest. Differs from the
//! original, which drafts 10 tokens behind the first place that holds the last 3 tokens, or fewer: here n-grams have up to
//! 32 tokens, and the budget is filled from as many places as it takes.

use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::config::compressors::Aggregate;
use crate::error::Result;
use rayon::prelude::*;
use std::cmp::Reverse;

/// Tokens of the longest n-gram.
const LONGEST: usize = 32;

/// Score of a unit: less the number of tokens that are looked up before the first of its own.
pub struct PromptLookup;

impl From<Parts<'_>> for PromptLookup {
    fn from(_: Parts) -> Self {
        Self
    }
}

fn units(prefix: &Scored) -> Vec<f64> {
    let (ids, question) = (prefix.request.prefix, prefix.request.question());
    let end = if question.is_empty() { ids } else { question };
    let shared = |at: usize| {
        let pairs = ids[..at].iter().rev().zip(end.iter().rev()).take(LONGEST);
        pairs.take_while(|(own, last)| own == last).count()
    };
    let mut places: Vec<(usize, usize)> = (0..ids.len()).map(|at| (shared(at), at)).collect();
    places.sort_unstable_by_key(|&place| Reverse(place));
    // Behind the earliest place so far all tokens have been looked up.
    let (mut scores, mut first) = (vec![0.0; ids.len()], ids.len());
    let mut next = (0..ids.len()).map(|rank| -(rank as f64));
    for (_, at) in places {
        scores[at.min(first)..first].iter_mut().zip(&mut next).for_each(|(score, rank)| *score = rank);
        first = first.min(at);
    }
    Aggregate::Max.units(&scores, &prefix.units)
}

impl Scorer for PromptLookup {
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.par_iter().map(units).collect())
    }
}
