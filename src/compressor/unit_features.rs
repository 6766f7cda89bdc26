//! Features of a unit that need no encoder: its place, the attention of the base, the scores of hints.

use crate::compressor::attended::standardised;
use crate::compressor::contract::Request;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::scored::Scored;
use crate::error::Result;
use crate::model::copy_head::DISTANCES;
use std::ops::Range;
use tch::Tensor;

impl ExtractivePolicy<'_> {
    /// Scores of each hint for the units of each prefix, standardised: `[request][hint][unit]`.
    pub(super) fn hinted(&self, requests: &[Request]) -> Result<Vec<Vec<Vec<f32>>>> {
        let mut all = vec![Vec::new(); requests.len()];
        if self.hints.is_empty() {
            return Ok(all);
        }
        let mut prefixes = Vec::with_capacity(requests.len());
        for request in requests {
            let pieces = self.tokenizer.pieces(request.prefix)?;
            let question = self.tokenizer.decode(request.question())?;
            prefixes.push(Scored { request, units: self.unit.cut(&pieces), pieces, question });
        }
        for hint in &self.hints {
            for (own, scores) in all.iter_mut().zip(hint.score(&prefixes)?) {
                own.push(standardised(&scores.into_iter().map(|score| score as f32).collect::<Vec<_>>()));
            }
        }
        Ok(all)
    }

    /// Features `[U, F]` f32 of the units of a prefix of so many `tokens`: a class by the power of two of the distance from a
    /// unit's start to the end of the prefix, the attention of the base (`[unit][group]`), the scores of the hints
    /// (`[hint][unit]`).
    pub(super) fn features(
        &self,
        tokens: usize,
        units: &[Range<usize>],
        attended: &[Vec<f32>],
        hints: &[Vec<f32>],
    ) -> Tensor {
        let mut all = Vec::new();
        for (u, (unit, attended)) in units.iter().zip(attended).enumerate() {
            let class = ((tokens - unit.start).ilog2() as usize).min(DISTANCES - 1);
            all.extend((0..DISTANCES).map(|c| if c == class { 1.0 } else { 0.0 }));
            all.extend(attended);
            all.extend(hints.iter().map(|hint| hint[u]));
        }
        Tensor::from_slice(&all).view([units.len() as i64, -1]).to_device(self.decoder.device())
    }
}
