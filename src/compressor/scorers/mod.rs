//! Scorers, one a file: what the units of a prefix are worth. A new one is a file here, with a type that is made from
//! [`Parts`], and a line in the list below: its module, its kind, its name in tables, files and flags all come from there.
//! (`rustfmt` does not see such files by itself: `rustfmt src/compressor/scorers/*.rs`.) One that is a model of its own has
//! a line in [`frozen`].

pub mod embedding;
pub mod token_classifier;

use crate::compressor::frequencies::DocumentFrequencies;
use crate::compressor::scorer::Scorer;
use crate::config::compressors::{FrozenKind, FrozenScorer};
use crate::error::Result;
use crate::model::decoder::Decoder;
use clap::ValueEnum;
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

macro_rules! scorers {
    ($($(#[$about:meta])* $file:ident::$kind:ident,)*) => {
        $(pub mod $file;)*

        /// What an extractive compressor goes by, in the order of the tables.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
        #[value(rename_all = "snake_case")]
        pub enum ScorerKind {
            $($(#[$about])* $kind,)*
        }

        /// The scorer of a kind.
        pub fn build<'a>(kind: ScorerKind, parts: Parts<'a>) -> Box<dyn Scorer + 'a> {
            match kind {
                $(ScorerKind::$kind => Box::new($file::$kind::from(parts)),)*
            }
        }
    };
}

scorers! {
    /// The first tokens.
    truncate::Truncate,
    /// The last tokens.
    recent::Recent,
    /// Chance.
    random::Random,
    /// Rarity in the training documents.
    idf::Idf,
    /// TF-IDF similarity to the query or the local window.
    tf_idf::TfIdf,
    /// BM25 for the query or the local window.
    bm25::Bm25,
    /// Rare tokens shared with the query and the local window.
    overlap::Overlap,
    /// What the base finds hard to predict (Selective-Context).
    self_information::SelfInformation,
    /// What the base attends to (SnapKV).
    attention::Attention,
}

impl ScorerKind {
    /// Name in tables, files and flags.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
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
