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
    /// For sentences.
    pub tokenizer: &'a Tokenizer,
    /// Puts matches that must be kept before the chosen tokens, within the budget.
    pub controller: Controller,
}

impl LlmLingua<'_> {
    /// Positions of the sentences that are kept.
    fn sentences(&self, requests: &[Request], budget: usize) -> Result<Vec<Vec<usize>>> {
        let prefixes: Vec<&[u32]> = requests.iter().map(|request| request.prefix).collect();
        let mut all = Vec::with_capacity(requests.len());
        for (prefix, hard) in prefixes.iter().zip(surprise(self.decoder, &prefixes)?) {
            let sentences = Unit::Sentence {}.cut(&self.tokenizer.pieces(prefix)?);
            let scores: Vec<f64> = sentences.iter().map(|sentence| mean(&hard[sentence.clone()])).collect();
            let order: Vec<Range<usize>> = ranking(&scores).into_iter().map(|s| sentences[s].clone()).collect();
            all.push(fill(&order, budget.saturating_mul(COARSE)));
        }
        Ok(all)
    }
}

impl Compressor for LlmLingua<'_> {
    fn name(&self) -> &str {
        "llmlingua"
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let mut all = Vec::with_capacity(requests.len());
        for batch in requests.chunks(REQUESTS_AT_ONCE) {
            let coarse = self.sentences(batch, budget)?;
            let mut kept: Vec<Vec<usize>> = vec![Vec::new(); batch.len()];
            let longest = coarse.iter().map(Vec::len).max().unwrap_or(0);
            for start in (0..longest).step_by(SEGMENT) {
                let open: Vec<usize> = (0..batch.len()).filter(|&r| start < coarse[r].len()).collect();
                let segment = |r: usize| &coarse[r][start..coarse[r].len().min(start + SEGMENT)];
                let ids = |r: usize, places: &[usize]| places.iter().map(|&p| batch[r].prefix[p]).collect::<Vec<u32>>();
                let rows: Vec<Vec<u32>> =
                    open.iter().map(|&r| [ids(r, &kept[r]), ids(r, segment(r))].concat()).collect();
                let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
                for (&r, hard) in open.iter().zip(surprise(self.decoder, &rows)?) {
                    let segment = segment(r);
                    let done = start + segment.len();
                    let due = (done * budget.min(coarse[r].len())) / coarse[r].len() - kept[r].len();
                    let best = ranking(&hard[hard.len() - segment.len()..]);
                    let mut own: Vec<usize> = best.into_iter().take(due).map(|at| segment[at]).collect();
                    own.sort_unstable();
                    kept[r].extend(own);
                }
            }
            for (request, kept) in batch.iter().zip(kept) {
                let pieces = match self.controller.reads_text() {
                    true => self.tokenizer.pieces(request.prefix)?,
                    false => Vec::new(),
                };
                let mut chosen = vec![0.0; request.prefix.len()];
                kept.iter().for_each(|&at| chosen[at] = 1.0);
                let units = (0..chosen.len()).map(|at| at..at + 1).collect();
                let scored = Scored { request, units, pieces, question: String::new() };
                all.push(self.controller.keep(&scored, &chosen, budget));
            }
        }
        Ok(all)
    }
}
