//! What scorers are made of.

use crate::compressor::frequencies::DocumentFrequencies;
use crate::model::decoder::Decoder;

/// What scorers are made of.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The bare base.
    pub decoder: &'a Decoder,
    /// Counts on training documents, never those that are evaluated.
    pub frequencies: &'a DocumentFrequencies,
    /// Seed of random scores.
    pub seed: u64,
}
