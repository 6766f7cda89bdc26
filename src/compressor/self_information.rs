//! Selective-Context (Li et al. 2023, arXiv 2310.06201): keeps what the base itself finds hardest to predict from what
//! comes before it. Differs from the paper in cutting phrases of a fixed number of tokens instead of noun phrases.

use crate::compressor::budget::{extractive, select_spans, spans};
use crate::compressor::{Compressed, Compressor, Request};
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::read::left_pad;
use crate::model::vocab::{self, Head};
use crate::tensor::{mean, to_vec};
use tch::Tensor;

const ROWS_AT_ONCE: usize = 16;

/// Keeps the phrases with the highest mean −log p under the bare base.
pub struct SelfInformation<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// Tokens of a phrase; 1 = single tokens.
    pub phrase_tokens: usize,
}

impl Compressor for SelfInformation<'_> {
    fn name(&self) -> &str {
        "self_information"
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let mut all = Vec::with_capacity(requests.len());
        for batch in requests.chunks(ROWS_AT_ONCE) {
            let prefixes: Vec<&[u32]> = batch.iter().map(|r| r.prefix).collect();
            for (prefix, scores) in prefixes.iter().zip(surprise(self.decoder, &prefixes)?) {
                let phrases = spans(prefix.len(), self.phrase_tokens, self.phrase_tokens);
                let means: Vec<f64> = phrases.iter().map(|phrase| mean(&scores[phrase.clone()])).collect();
                all.push(extractive(prefix, select_spans(&phrases, &means, budget)));
            }
        }
        Ok(all)
    }
}

/// −log p of every token given the ones before it. The first, which nothing precedes, counts as the most surprising.
fn surprise(decoder: &Decoder, prefixes: &[&[u32]]) -> Result<Vec<Vec<f64>>> {
    let _guard = tch::no_grad_guard();
    let rows: Vec<Vec<u32>> = prefixes.iter().filter(|p| !p.is_empty()).map(|p| p.to_vec()).collect();
    let mut found = Vec::new();
    if !rows.is_empty() {
        let (ids, pad) = left_pad(&rows, decoder.device())?;
        let (n, t) = ids.size2()?;
        let mut values = Vec::new();
        if t > 1 {
            let hidden = decoder.forward(&ids, &pad, None)?.narrow(1, 0, t - 1);
            let hidden = hidden.reshape([n * (t - 1), -1]);
            let targets: Tensor = ids.narrow(1, 1, t - 1).reshape([-1]);
            values = to_vec(&vocab::token_stats(&hidden, &targets, Head::base(decoder.head()), None)?.logprob)?;
        }
        let width = (t - 1) as usize;
        for (row, tokens) in rows.iter().enumerate() {
            let own: Vec<f64> =
                values[(row + 1) * width + 1 - tokens.len()..(row + 1) * width].iter().map(|v| -v).collect();
            let most = own.iter().copied().fold(0.0, f64::max);
            found.push([vec![most], own].concat());
        }
    }
    let mut found = found.into_iter();
    Ok(prefixes.iter().map(|p| if p.is_empty() { Vec::new() } else { found.next().unwrap_or_default() }).collect())
}
