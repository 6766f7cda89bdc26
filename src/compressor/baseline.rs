//! Compressors that look at no content: nothing, everything, the first, the last, random tokens.

use crate::compressor::budget::{extractive, first, last, select};
use crate::compressor::{Compressed, Compressor, Request};
use crate::error::Result;
use crate::rng::{self, Stream};

/// Keeps nothing.
pub struct Empty;

/// Keeps everything, whatever the budget: the upper end point.
pub struct Identity;

/// Keeps the first tokens.
pub struct Truncate;

/// Keeps the last tokens: a longer local window.
pub struct Recent;

/// Keeps tokens at random positions, in order.
pub struct Random {
    /// Seed of the draws; each window has its own.
    pub seed: u64,
}

/// One extractive result a request.
pub(super) fn each(requests: &[Request], keep: impl Fn(&Request) -> Vec<usize>) -> Result<Vec<Compressed>> {
    Ok(requests.iter().map(|request| extractive(request.prefix, keep(request))).collect())
}

impl Compressor for Empty {
    fn name(&self) -> &str {
        "empty"
    }
    fn compress(&self, requests: &[Request], _budget: usize) -> Result<Vec<Compressed>> {
        each(requests, |_| Vec::new())
    }
}

impl Compressor for Identity {
    fn name(&self) -> &str {
        "identity"
    }
    fn compress(&self, requests: &[Request], _budget: usize) -> Result<Vec<Compressed>> {
        let whole = |r: &Request| Compressed { identity: true, ..extractive(r.prefix, (0..r.prefix.len()).collect()) };
        Ok(requests.iter().map(whole).collect())
    }
}

impl Compressor for Truncate {
    fn name(&self) -> &str {
        "truncate"
    }
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        each(requests, |r| first(r.prefix.len(), budget))
    }
}

impl Compressor for Recent {
    fn name(&self) -> &str {
        "recent"
    }
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        each(requests, |r| last(r.prefix.len(), budget))
    }
}

impl Compressor for Random {
    fn name(&self) -> &str {
        "random"
    }
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        each(requests, |r| {
            let mut draw = rng::rng(self.seed, Stream::Baseline, 0, r.key, 0);
            let scores: Vec<f64> = r.prefix.iter().map(|_| rng::uniform(&mut draw)).collect();
            select(&scores, budget)
        })
    }
}
