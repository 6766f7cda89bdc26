//! A labelled text as an encoder learns from it and is judged by it.

use crate::compressor::Request;

/// A labelled text in tokens of the reading model.
pub struct LabelledExample {
    /// Name of the row.
    pub id: String,
    /// Name of its document.
    pub document: String,
    /// The text.
    pub prefix: Vec<u32>,
    /// The query that it is kept for.
    pub query: Vec<u32>,
    /// For each token, whether it is labelled.
    pub wanted: Vec<bool>,
    /// Tokens that may be kept.
    pub budget: usize,
    /// Worth of each unit: the share of its tokens that is labelled, 0 below a half.
    pub worth: Vec<f64>,
}

impl LabelledExample {
    /// The request to a compressor.
    pub fn request(&self, key: u64) -> Request<'_> {
        Request { prefix: &self.prefix, local: &[], query: &self.query, key }
    }
}
