//! The last tokens of the prefix as a longer local window: the reader gets no separator between them and the local window,
//! so that it reads them as it reads any text. The scorer `recent` keeps the same tokens behind a separator.

use crate::compressor::budget::{extractive, recent};
use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::error::Result;
use crate::tokenizer::Tokenizer;
use rayon::prelude::*;

/// The last tokens, without the rest of a character that begins before them, and nothing else: no controller has a say.
pub struct RecentJoined<'a> {
    /// The reading model's.
    pub tokenizer: &'a Tokenizer,
}

impl Compressor for RecentJoined<'_> {
    fn name(&self) -> &str {
        "recent_joined"
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let one = |request: &Request| {
            let prefix = request.prefix;
            let first = prefix.len() - recent(self.tokenizer, prefix, budget)?.len();
            Ok(Compressed { joined: true, ..extractive(prefix, (first..prefix.len()).collect()) })
        };
        requests.par_iter().map(one).collect()
    }
}
