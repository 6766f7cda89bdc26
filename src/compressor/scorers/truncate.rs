//! The first tokens.

use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::error::Result;

/// Score of a unit: less the place where it begins.
pub struct Truncate;

impl From<Parts<'_>> for Truncate {
    fn from(_: Parts) -> Self {
        Self
    }
}

impl Scorer for Truncate {
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.iter().map(|p| p.units.iter().map(|unit| -(unit.start as f64)).collect()).collect())
    }
}
