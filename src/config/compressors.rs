//! Names of the scorers, as flags and experiments write them.

use serde::{Deserialize, Serialize};

/// What an extractive compressor goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// All of them, in the order of the tables.
    pub const ALL: [ScorerKind; 9] = [
        ScorerKind::Truncate,
        ScorerKind::Recent,
        ScorerKind::Random,
        ScorerKind::Idf,
        ScorerKind::TfIdf,
        ScorerKind::Bm25,
        ScorerKind::Overlap,
        ScorerKind::SelfInformation,
        ScorerKind::Attention,
    ];
}
