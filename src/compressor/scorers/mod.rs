//! Scorers, one a file: what the units of a prefix are worth. Adding one takes a file here and a line in [`build`], or in
//! [`frozen`] when it is a model of its own.

pub mod attention;
pub mod bm25;
pub mod embedding;
pub mod idf;
pub mod overlap;
pub mod position;
pub mod self_information;
pub mod tf_idf;
pub mod token_classifier;

use crate::compressor::frequencies::DocumentFrequencies;
use crate::compressor::scorer::Scorer;
use crate::config::compressors::{FrozenKind, FrozenScorer, ScorerKind};
use crate::error::Result;
use crate::model::decoder::Decoder;
use tch::Device;

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

/// The scorer of a kind.
pub fn build<'a>(kind: ScorerKind, parts: Parts<'a>) -> Box<dyn Scorer + 'a> {
    let Parts { decoder, frequencies, seed } = parts;
    match kind {
        ScorerKind::Truncate => Box::new(position::Truncate),
        ScorerKind::Recent => Box::new(position::Recent),
        ScorerKind::Random => Box::new(position::Random { seed }),
        ScorerKind::Idf => Box::new(idf::Idf { frequencies }),
        ScorerKind::TfIdf => Box::new(tf_idf::TfIdf { frequencies }),
        ScorerKind::Bm25 => Box::new(bm25::Bm25),
        ScorerKind::Overlap => Box::new(overlap::Overlap { frequencies }),
        ScorerKind::SelfInformation => Box::new(self_information::SelfInformation { decoder }),
        ScorerKind::Attention => Box::new(attention::Attention { decoder }),
    }
}

/// The scorer of a frozen model, read from its folder.
pub fn frozen(scorer: &FrozenScorer, device: Device) -> Result<Box<dyn Scorer>> {
    let folder = scorer.folder()?;
    Ok(match scorer.kind {
        FrozenKind::Encoder => Box::new(token_classifier::Classified::load(&folder, device)?),
        FrozenKind::Embedding => Box::new(embedding::Embedding::load(&folder, device)?),
    })
}
