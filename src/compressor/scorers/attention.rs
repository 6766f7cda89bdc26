//! SnapKV (Li et al. 2024, arXiv 2404.14469) as a compressor: what the bare base attends to from the last tokens that may
//! be seen, over all heads. The paper keeps keys and values of each head's own choice; here all heads choose tokens.

use crate::compressor::attended::attention;
use crate::compressor::scorer::{Scored, Scorer};
use crate::compressor::units::Unit;
use crate::error::Result;
use crate::model::decoder::Decoder;

const REQUESTS_AT_ONCE: usize = 16;

/// Mean attention that a unit's tokens get.
pub struct Attention<'a> {
    /// The base.
    pub decoder: &'a Decoder,
}

impl Scorer for Attention<'_> {
    fn name(&self) -> String {
        "attention".into()
    }
    fn unit(&self) -> Unit {
        Unit::Span { tokens: 8, stride: 4 }
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let mut all = Vec::with_capacity(prefixes.len());
        for batch in prefixes.chunks(REQUESTS_AT_ONCE) {
            let requests: Vec<_> = batch.iter().map(|prefix| *prefix.request).collect();
            for (prefix, heads) in batch.iter().zip(attention(self.decoder, &requests)?) {
                let mass = |unit: &std::ops::Range<usize>| -> f32 { heads.iter().flat_map(|h| &h[unit.clone()]).sum() };
                all.push(prefix.units.iter().map(|unit| f64::from(mass(unit)) / unit.len() as f64).collect());
            }
        }
        Ok(all)
    }
}
