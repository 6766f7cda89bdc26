//! LLMLingua (Jiang et al. 2023, arXiv 2310.05736) with the bare base: of the sentences those that the base finds hardest,
//! twice the budget of them; of these, segment by segment, the tokens hardest to predict from what has been kept so far.
//! Differs from the paper in that a segment keeps its share of the budget, where the paper estimates a threshold that keeps
//! about as much, and in that there are no instructions or demonstrations, only one context.

use crate::compressor::budget::{Controller, fill, ranking};
use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::compressor::scored::Scored;
use crate::config::compressors::Unit;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::read::surprise;
use crate::tensor::mean;
use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// Tokens of the sentences that are kept before tokens are dropped, in budgets.
const COARSE: usize = 2;
/// Tokens of a segment.
const SEGMENT: usize = 32;
const REQUESTS_AT_ONCE: usize = 64;

/// Drops sentences, then tokens.
pub struct LlmLingua<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// Tokenizer of the base.
    pub tokenizer: &'a Tokenizer,
    /// Puts matches that must be kept before the chosen tokens, within the budget.
    pub controller: Controller,
}

/// The sentences that are kept of one prefix, and what is kept of them so far.
struct Coarse<'r> {
    /// The prefix; its units are the smallest that may be kept.
    prefix: Scored<'r>,
    /// Positions of the sentences, ascending.
    places: Vec<usize>,
    /// Borders of segments in `places`.
    segments: Vec<usize>,
    /// Positions that are kept, ascending.
    kept: Vec<usize>,
}

impl<'r> Coarse<'r> {
    fn new(prefix: Scored<'r>, hard: &[f64], budget: usize) -> Self {
        let sentences = Unit::Sentence {}.cut(&prefix.decoded);
        let scores: Vec<f64> = sentences.iter().map(|sentence| mean(&hard[sentence.clone()])).collect();
        let order: Vec<Range<usize>> = ranking(&scores).into_iter().map(|s| sentences[s].clone()).collect();
        let places = fill(&prefix.decoded, &order, budget.saturating_mul(COARSE));
        let whole = |at: usize| (0..=at).rev().find(|&at| prefix.decoded.floor(places[at]) == places[at]).unwrap_or(0);
        let mut segments: Vec<usize> = (0..places.len()).step_by(SEGMENT).map(whole).collect();
        segments.push(places.len());
        segments.dedup();
        Self { prefix, places, segments, kept: Vec::new() }
    }

    fn segment(&self, number: usize) -> Option<&[usize]> {
        let end = self.segments.get(number + 1)?;
        Some(&self.places[self.segments[number]..*end])
    }

    fn ids(&self, places: &[usize]) -> Vec<u32> {
        places.iter().map(|&place| self.prefix.request.prefix[place]).collect()
    }

    /// Keeps of a segment the part of the budget that is due, given how hard its tokens are.
    fn choose(&mut self, number: usize, hard: &[f64], budget: usize) {
        let Some(segment) = self.segment(number) else { return };
        let done = self.segments[number + 1];
        let due = (done * budget.min(self.places.len())) / self.places.len() - self.kept.len();
        let groups: Vec<&[usize]> = segment.chunk_by(|_, at| self.prefix.decoded.floor(*at) != *at).collect();
        let mut first = 0;
        let mut scores = Vec::with_capacity(groups.len());
        for group in &groups {
            scores.push(mean(&hard[first..first + group.len()]));
            first += group.len();
        }
        let order: Vec<Range<usize>> =
            ranking(&scores).into_iter().map(|g| self.prefix.decoded.group(groups[g][0])).collect();
        let own = fill(&self.prefix.decoded, &order, due);
        self.kept.extend(own);
    }
}

impl Compressor for LlmLingua<'_> {
    fn name(&self) -> &str {
        "llmlingua"
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let mut all = Vec::with_capacity(requests.len());
        for batch in requests.chunks(REQUESTS_AT_ONCE) {
            let prefixes: Vec<&[u32]> = batch.iter().map(|request| request.prefix).collect();
            let mut coarse = Vec::with_capacity(batch.len());
            for (request, hard) in batch.iter().zip(surprise(self.decoder, &prefixes)?) {
                coarse.push(Coarse::new(Scored::new(request, Unit::Token {}, self.tokenizer)?, &hard, budget));
            }
            let segments = coarse.iter().map(|own| own.segments.len()).max().unwrap_or(0);
            for number in 0..segments {
                let open: Vec<&mut Coarse> = coarse.iter_mut().filter(|own| own.segment(number).is_some()).collect();
                let read =
                    |own: &&mut Coarse| [own.ids(&own.kept), own.ids(own.segment(number).unwrap_or(&[]))].concat();
                let rows: Vec<Vec<u32>> = open.iter().map(read).collect();
                let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                for (own, hard) in open.into_iter().zip(surprise(self.decoder, &rows)?) {
                    own.choose(number, &hard[own.kept.len()..], budget);
                }
            }
            for Coarse { prefix, kept, .. } in coarse {
                let chosen = |unit: &Range<usize>| f64::from(u8::from(kept.binary_search(&unit.start).is_ok()));
                let scores: Vec<f64> = prefix.units.iter().map(chosen).collect();
                all.push(self.controller.keep(&prefix, &scores, budget));
            }
        }
        Ok(all)
    }
}
