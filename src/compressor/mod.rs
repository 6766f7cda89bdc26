//! Compressors: contexts and a budget in, kept ids out. Generative and extractive ones stand behind one trait, so that
//! an evaluation cannot tell them apart.

pub mod attended;
pub mod baseline;
pub mod budget;
pub mod controls;
pub mod copying;
pub mod draft;
pub mod gist;
pub mod lexical;
pub mod self_information;

use crate::error::Result;
use crate::model::decoder::Decoder;

/// What a compressor may see of one window. The future is not here: it never reaches a compressor.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The tokens to compress.
    pub prefix: &'a [u32],
    /// The local window; empty unless `condition = "local"`.
    pub local: &'a [u32],
    /// The query; empty unless `condition = "query"`.
    pub query: &'a [u32],
    /// Names the window, so that seeded compressors draw the same whatever the batch.
    pub key: u64,
}

/// What stands in the prefix's place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compressed {
    /// Ordinary tokens of the base vocabulary.
    pub ids: Vec<u32>,
    /// For an extractive compressor: ascending positions in the prefix that were kept.
    pub kept: Option<Vec<usize>>,
    /// Whether the prefix stands unchanged: the reader then gets no separator.
    pub identity: bool,
}

/// Any way to make a context shorter.
pub trait Compressor {
    /// Name in tables and files.
    fn name(&self) -> &str;

    /// One result a request, each at most `budget` tokens (only the identity control is exempt).
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>>;
}

/// The baselines of every table, in table order, none of which writes an id in `forbidden`; `identity` is the exempt upper end point.
pub fn baselines<'a>(
    decoder: &'a Decoder,
    frequencies: &'a lexical::DocumentFrequencies,
    forbidden: &'a [u32],
    seed: u64,
) -> Vec<Box<dyn Compressor + 'a>> {
    vec![
        Box::new(baseline::Empty),
        Box::new(baseline::Truncate),
        Box::new(baseline::Recent),
        Box::new(baseline::Random { seed }),
        Box::new(lexical::Idf { frequencies, distinct: true }),
        Box::new(lexical::Overlap { frequencies, span_tokens: 8, stride: 4 }),
        Box::new(self_information::SelfInformation { decoder, phrase_tokens: 4 }),
        Box::new(attended::MostAttended { decoder, span_tokens: 8, stride: 4 }),
        Box::new(draft::Draft { decoder, forbidden }),
        Box::new(baseline::Identity),
    ]
}
