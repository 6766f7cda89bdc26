//! The two ends: nothing, and everything.

use crate::compressor::budget::extractive;
use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::error::Result;

/// Keeps nothing.
pub struct Empty;

/// Keeps everything, whatever the budget: the upper end point.
pub struct Identity;

impl Compressor for Empty {
    fn name(&self) -> &str {
        "empty"
    }
    fn compress(&self, requests: &[Request], _budget: usize) -> Result<Vec<Compressed>> {
        Ok(requests.iter().map(|request| extractive(request.prefix, Vec::new())).collect())
    }
}

impl Compressor for Identity {
    fn name(&self) -> &str {
        "identity"
    }
    fn compress(&self, requests: &[Request], _budget: usize) -> Result<Vec<Compressed>> {
        let all = |r: &Request| extractive(r.prefix, (0..r.prefix.len()).collect());
        let whole = |r: &Request| Compressed { identity: true, joined: true, ..all(r) };
        Ok(requests.iter().map(whole).collect())
    }
}
