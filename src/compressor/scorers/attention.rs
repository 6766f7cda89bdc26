//! SnapKV (Li et al. 2024, arXiv 2404.14469) as a scorer: attention of the bare base from the last tokens that may be seen,
//! over all heads. In the paper each head keeps keys and values of its own choice; here all heads choose tokens together.

use crate::compressor::attended::attention;
use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::config::compressors::Unit;
use crate::error::Result;
use crate::model::decoder::Decoder;
use std::ops::Range;

/// Mean attention to a unit's tokens.
pub struct Attention<'a> {
    /// The base.
    pub decoder: &'a Decoder,
}

impl<'a> From<Parts<'a>> for Attention<'a> {
    fn from(parts: Parts<'a>) -> Self {
        Self { decoder: parts.decoder }
    }
}

impl Scorer for Attention<'_> {
    fn unit(&self) -> Unit {
        Unit::Span { tokens: 8, stride: 4 }
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let requests: Vec<_> = prefixes.iter().map(|prefix| *prefix.request).collect();
        let units = |(prefix, heads): (&Scored, Vec<Vec<f32>>)| {
            let mass = |unit: &Range<usize>| -> f32 { heads.iter().flat_map(|head| &head[unit.clone()]).sum() };
            prefix.units.iter().map(|unit| f64::from(mass(unit)) / unit.len() as f64).collect()
        };
        Ok(prefixes.iter().zip(attention(self.decoder, &requests)?).map(units).collect())
    }
}
