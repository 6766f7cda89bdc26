//! The pairs that are worth learning from: both sides there, neither a copy nor nearly empty, no text twice.

use crate::condense::pairs::rows::PairRow;
use crate::error::Result;
use crate::tokenizer::Tokenizer;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

/// Smallest and largest size of a shorter form, as shares of the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// In characters.
    pub characters: RangeInclusive<f64>,
    /// In tokens.
    pub tokens: RangeInclusive<f64>,
}

/// Why a pair is not clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unclean {
    /// The text has no character that is not blank.
    NoText,
    /// The shorter form has none.
    NothingKept,
    /// The text came before.
    Again,
    /// The shorter form has too few or too many characters.
    Characters,
    /// The shorter form has too few or too many tokens.
    Tokens,
}

impl Unclean {
    /// All reasons, in the order in which they are looked for.
    pub const ALL: [Self; 5] = [Self::NoText, Self::NothingKept, Self::Again, Self::Characters, Self::Tokens];

    /// The reason in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoText => "no text",
            Self::NothingKept => "nothing kept",
            Self::Again => "a text that came before",
            Self::Characters => "too few or too many characters",
            Self::Tokens => "too few or too many tokens",
        }
    }
}

/// Looks at one pair after the other.
pub struct Cleaner<'a> {
    bounds: Bounds,
    tokenizer: &'a Tokenizer,
    seen: BTreeSet<u64>,
}

impl<'a> Cleaner<'a> {
    /// A cleaner that has seen nothing; tokens are those of `tokenizer`.
    pub fn new(bounds: Bounds, tokenizer: &'a Tokenizer) -> Self {
        Self { bounds, tokenizer, seen: BTreeSet::new() }
    }

    /// The first reason against a pair; none of one that is clean.
    pub fn reason(&mut self, pair: &PairRow) -> Result<Option<Unclean>> {
        let [verbose, compressed] = [&pair.verbose, &pair.compressed].map(|text| text.trim());
        if verbose.is_empty() {
            return Ok(Some(Unclean::NoText));
        }
        if compressed.is_empty() {
            return Ok(Some(Unclean::NothingKept));
        }
        let mut hasher = DefaultHasher::new();
        verbose.hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return Ok(Some(Unclean::Again));
        }
        let characters = compressed.chars().count() as f64 / verbose.chars().count() as f64;
        if !self.bounds.characters.contains(&characters) {
            return Ok(Some(Unclean::Characters));
        }
        let tokens = pair.token_ratio(self.tokenizer)?;
        Ok((!self.bounds.tokens.contains(&tokens)).then_some(Unclean::Tokens))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::condense::pairs::rows::tests::pair;

    #[test]
    fn the_first_reason_counts() {
        let tokenizer = Tokenizer::train(["the sky is blue and so is the sea today"].into_iter(), 300).unwrap();
        let bounds = Bounds { characters: 0.1..=0.9, tokens: 0.2..=0.8 };
        let mut cleaner = Cleaner::new(bounds, &tokenizer);
        let mut reason = |verbose: &str, compressed: &str| cleaner.reason(&pair(verbose, compressed)).unwrap();
        assert_eq!(reason("the sky is blue today", "sky is blue"), None);
        assert_eq!(reason(" the sky is blue today\n", "sky"), Some(Unclean::Again));
        assert_eq!(reason("\n ", "sky"), Some(Unclean::NoText));
        assert_eq!(reason("the sea is blue", " "), Some(Unclean::NothingKept));
        assert_eq!(reason("so is the sea", "so is the sea"), Some(Unclean::Characters));
        assert_eq!(reason("so is the sea and so is the sky today", "so"), Some(Unclean::Characters));
        // Few characters that the tokenizer has no whole tokens for.
        assert_eq!(reason("the sky is blue and so is the sea", "q@#~{}^%$QZ!&*(}W+"), Some(Unclean::Tokens));
    }
}
