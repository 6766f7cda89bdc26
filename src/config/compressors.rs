//! Names of the scorers, as flags and experiments write them.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What an extractive compressor goes by, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum ScorerKind {
    /// The first tokens.
    Truncate,
    /// The last tokens.
    Recent,
    /// Chance.
    Random,
    /// Rarity in the training documents.
    Idf,
    /// TF-IDF similarity to the query or the local window.
    TfIdf,
    /// BM25 for the query or the local window.
    Bm25,
    /// Rare tokens shared with the query and the local window.
    Overlap,
    /// What the base finds hard to predict (Selective-Context).
    SelfInformation,
    /// What the base attends to (SnapKV).
    Attention,
}

impl ScorerKind {
    /// Name in tables, files and flags.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }
}
