//! Selective-Context (Li et al. 2023, arXiv 2310.06201): keeps what the base itself finds hardest to predict from what
//! comes before it. Differs from the paper in cutting phrases of a fixed number of tokens instead of noun phrases.

use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::config::compressors::{Aggregate, Unit};
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::read::surprise;

/// Mean −log p of a unit's tokens under the bare base.
pub struct SelfInformation<'a> {
    /// The base.
    pub decoder: &'a Decoder,
}

impl<'a> From<Parts<'a>> for SelfInformation<'a> {
    fn from(parts: Parts<'a>) -> Self {
        Self { decoder: parts.decoder }
    }
}

impl Scorer for SelfInformation<'_> {
    fn unit(&self) -> Unit {
        Unit::Span { tokens: 4, stride: 4 }
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let rows: Vec<&[u32]> = prefixes.iter().map(|prefix| prefix.request.prefix).collect();
        let tokens = surprise(self.decoder, &rows)?;
        Ok(prefixes.iter().zip(&tokens).map(|(p, tokens)| Aggregate::Mean.units(tokens, &p.units)).collect())
    }
}
