//! Inputs of scorers: the base, counts, a seed.

use crate::compressor::frequencies::DocumentFrequencies;
use crate::model::decoder::Decoder;

/// Inputs that a scorer may be built from.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The bare base.
    pub decoder: &'a Decoder,
    /// Counts on training documents, never those that are evaluated.
    pub frequencies: &'a DocumentFrequencies,
    /// Seed of random scores.
    pub seed: u64,
}
