//! Scorers, one a file: each gives a score to every unit of a prefix. A new one is a file here, with a type that is made from
//! [`Parts`], and a line in the list below: its module, its kind, its name in tables, files and flags all come from there.
//! (`rustfmt` does not see such files by itself: `rustfmt src/compressor/scorers/*.rs`.) One that is a model of its own has
//! a line in [`frozen`].

pub mod embedding;
pub mod evidence;
mod parts;
pub mod token_classifier;

pub use parts::Parts;

use crate::compressor::scored::Scorer;
use crate::config::compressors::{FrozenKind, FrozenScorer};
use crate::error::{Error, Result};
use std::str::FromStr;
use tch::Device;

macro_rules! scorers {
    ($($(#[$about:meta])* $file:ident::$kind:ident,)*) => {
        $(pub mod $file;)*

        /// Scorers that need no model of their own, in the order of the tables.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ScorerKind {
            $($(#[$about])* $kind,)*
        }

        impl ScorerKind {
            /// All scorers, in the order of the tables.
            pub const ALL: &[ScorerKind] = &[$(ScorerKind::$kind,)*];

            /// Name in tables, files and flags: that of the scorer's file.
            pub fn name(self) -> &'static str {
                match self {
                    $(ScorerKind::$kind => stringify!($file),)*
                }
            }
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
    /// Random scores.
    random::Random,
    /// Rarity in the training documents.
    idf::Idf,
    /// TF-IDF similarity to the query or the local window.
    tf_idf::TfIdf,
    /// BM25 for the query or the local window.
    bm25::Bm25,
    /// Rare tokens shared with the query and the local window.
    overlap::Overlap,
    /// Surprise of the base (Selective-Context).
    self_information::SelfInformation,
    /// Attention of the base (SnapKV).
    attention::Attention,
    /// Continuations of earlier n-grams (prompt lookup).
    prompt_lookup::PromptLookup,
}

impl ScorerKind {
    /// Whether it weighs terms by their frequency in training documents.
    pub fn counts(self) -> bool {
        match self {
            ScorerKind::Idf | ScorerKind::TfIdf | ScorerKind::Overlap => true,
            ScorerKind::Truncate
            | ScorerKind::Recent
            | ScorerKind::Random
            | ScorerKind::Bm25
            | ScorerKind::SelfInformation
            | ScorerKind::Attention
            | ScorerKind::PromptLookup => false,
        }
    }
}

impl FromStr for ScorerKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let unknown = || {
            let names: Vec<&str> = ScorerKind::ALL.iter().map(|kind| kind.name()).collect();
            Error::invalid(format!("expected one of {}, got {name:?}", names.join(", ")))
        };
        ScorerKind::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(unknown)
    }
}

/// The scorer of a frozen model, read from its folder.
pub fn frozen(scorer: &FrozenScorer, device: Device) -> Result<Box<dyn Scorer>> {
    let folder = scorer.folder()?;
    Ok(match scorer.kind {
        FrozenKind::Encoder => Box::new(token_classifier::Classified::load(&folder, device)?),
        FrozenKind::Embedding => Box::new(embedding::Embedding::load(&folder, device)?),
        FrozenKind::Evidence => Box::new(evidence::FoundEvidence::load(&folder, device)?),
    })
}
