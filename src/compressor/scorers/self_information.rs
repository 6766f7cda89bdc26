//! Selective-Context (Li et al. 2023, arXiv 2310.06201): keeps what the base itself finds hardest to predict from what
//! comes before it. Differs from the paper in cutting phrases of a fixed number of tokens instead of noun phrases.

use crate::compressor::scorer::{Aggregate, Scored, Scorer};
use crate::compressor::units::Unit;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::read::surprise;

const ROWS_AT_ONCE: usize = 16;

/// Mean −log p of a unit's tokens under the bare base.
pub struct SelfInformation<'a> {
    /// The base.
    pub decoder: &'a Decoder,
}

impl Scorer for SelfInformation<'_> {
    fn name(&self) -> String {
        "self_information".into()
    }
    fn unit(&self) -> Unit {
        Unit::Span { tokens: 4, stride: 4 }
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let mut all = Vec::with_capacity(prefixes.len());
        for batch in prefixes.chunks(ROWS_AT_ONCE) {
            let rows: Vec<&[u32]> = batch.iter().map(|prefix| prefix.request.prefix).collect();
            for (prefix, tokens) in batch.iter().zip(surprise(self.decoder, &rows)?) {
                all.push(Aggregate::Mean.units(&tokens, &prefix.units));
            }
        }
        Ok(all)
    }
}
