//! The contract of every compressor, generative or extractive: a [`Request`] and a budget of tokens in, a [`Compressed`] out.
//! An evaluation sees nothing else of a compressor.

use crate::error::Result;
use serde::{Deserialize, Serialize};

/// Input of a compressor for one window. The future is not here: it never reaches a compressor.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The tokens to compress.
    pub prefix: &'a [u32],
    /// The local window; empty unless `condition = "local"`.
    pub local: &'a [u32],
    /// The query; empty unless `condition = "query"`.
    pub query: &'a [u32],
    /// Names the window, so that the draws of seeded compressors do not depend on the batch.
    pub key: u64,
}

impl<'a> Request<'a> {
    /// The query, or else the local window; empty when the compressor may see neither.
    pub fn question(&self) -> &'a [u32] {
        if self.query.is_empty() { self.local } else { self.query }
    }
}

/// Output of a compressor: the tokens that stand in place of the prefix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compressed {
    /// Ordinary tokens of the base vocabulary.
    pub ids: Vec<u32>,
    /// Positions in the prefix that an extractive compressor kept, ascending.
    pub kept: Option<Vec<usize>>,
    /// Scores that a scoring compressor gives to the prefix's tokens: for each, that of the best of its units.
    pub scores: Option<Vec<f64>>,
    /// Whether the prefix stands unchanged, whatever the budget.
    pub identity: bool,
    /// Whether the ids run on into the local window: the reader gets no separator between the two.
    pub joined: bool,
}

/// Makes contexts shorter.
pub trait Compressor {
    /// Name in tables and files.
    fn name(&self) -> &str;

    /// One result for each request, each at most [`Compressor::most`] tokens (only the identity control is exempt).
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>>;

    /// [`Compressor::compress`] at each of these budgets; what scores reads every prefix once for all of them.
    fn compress_each(&self, requests: &[Request], budgets: &[usize]) -> Result<Vec<Vec<Compressed>>> {
        budgets.iter().map(|&budget| self.compress(requests, budget)).collect()
    }

    /// The most tokens of prefix and question that are read where `budget` is asked for; what is longer loses a part. None where
    /// any length is read whole.
    fn reads_at_once(&self, _budget: usize) -> Option<usize> {
        None
    }

    /// The most tokens that stand for one prefix where `budget` is asked for: that many, unless it was calibrated.
    fn most(&self, budget: usize) -> usize {
        budget
    }

    /// Makes it keep these budgets on average over prefixes, as measured on these requests, which must not be those that it is
    /// judged by; the length for one prefix then follows the content. Returns false and changes nothing for a compressor
    /// without scores.
    fn calibrate(&mut self, _requests: &[Request], _budgets: &[usize]) -> Result<bool> {
        Ok(false)
    }
}
