//! Random scores: the baseline of chance.

use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::error::Result;
use crate::rng::{self, Stream};

/// Seeded uniform noise, of its own for each window.
pub struct Random {
    /// Seed of the draws.
    pub seed: u64,
}

impl From<Parts<'_>> for Random {
    fn from(parts: Parts) -> Self {
        Self { seed: parts.seed }
    }
}

impl Scorer for Random {
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let drawn = |prefix: &Scored| {
            let mut draw = rng::rng(self.seed, Stream::Baseline, 0, prefix.request.key, 0);
            prefix.units.iter().map(|_| rng::uniform(&mut draw)).collect()
        };
        Ok(prefixes.iter().map(drawn).collect())
    }
}
