//! The last tokens: a longer local window.

use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::parts::Parts;
use crate::error::Result;

/// Score of a unit: the place where it begins.
pub struct Recent;

impl From<Parts<'_>> for Recent {
    fn from(_: Parts) -> Self {
        Self
    }
}

impl Scorer for Recent {
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        Ok(prefixes.iter().map(|p| p.units.iter().map(|unit| unit.start as f64).collect()).collect())
    }
}
