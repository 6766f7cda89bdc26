//! Scores that look at no content: the first tokens, the last, random ones.

use crate::compressor::scorer::{Scored, Scorer};
use crate::error::Result;
use crate::rng::{self, Stream};

/// The earlier the better.
pub struct Truncate;

/// The later the better: a longer local window.
pub struct Recent;

/// Seeded noise; each window has its own.
pub struct Random {
    /// Seed of the draws.
    pub seed: u64,
}

impl Scorer for Truncate {
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.iter().map(|p| p.units.iter().map(|unit| -(unit.start as f64)).collect()).collect())
    }
}

impl Scorer for Recent {
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.iter().map(|p| p.units.iter().map(|unit| unit.start as f64).collect()).collect())
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
