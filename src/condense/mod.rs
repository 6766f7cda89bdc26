//! Text in, text out: any compressor over texts of any length, as a user has them.
//!
//! ```text
//! text      Prices rose. <gist_keep>Order 4711</gist_keep> was late, because …
//! stretches └── free ──┘           └─ protected ─┘        └───── free ─────
//! budget     share               its tokens, always         share
//! ```
//! Protected spans stay as they are, without their tags, and count against the budget; the free stretches share the rest by
//! their lengths. A stretch is one prefix for the compressor, so that a text without tags comes out as an evaluation has it.
//! One that is too long for a compressor that reads once ([`Compressor::reads_at_once`]) is cut into equal pieces that share
//! its budget. A text that fits its budget stays as it is.

pub mod pairs;
mod protected;
pub mod rows;

use crate::compressor::controls::check_count;
use crate::compressor::{Compressed, Compressor, Request};
use crate::condense::protected::{Stretch, stretches};
use crate::config::choices::BudgetConfig;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;

/// A compressor with the tokenizer of the model that reads.
#[derive(Clone, Copy)]
pub struct Condenser<'a> {
    /// Decides what stands for a text.
    pub compressor: &'a dyn Compressor,
    /// Counts the budget.
    pub tokenizer: &'a Tokenizer,
}

/// A text to make shorter.
#[derive(Clone, Copy, Debug)]
pub struct PlainText<'t> {
    /// The text, protected spans in their tags.
    pub text: &'t str,
    /// The question that it is read for; empty for none.
    pub query: &'t str,
    /// Names the text, so that draws of seeded compressors do not depend on the batch.
    pub key: u64,
}

/// A range of bytes of a text that was kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KeptBytes {
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// The best score among its tokens; none for a protected span, and where the compressor has no scores.
    pub score: Option<f64>,
}

/// A text made shorter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Condensed {
    /// The text that stands for the whole.
    pub text: String,
    /// Tokens of the text before, without tags.
    pub tokens_before: usize,
    /// Tokens after, as the compressor gave them: never more than the budget.
    pub tokens_after: usize,
    /// Tokens of the text after when it is encoded anew, which may join what the compressor kept apart.
    pub tokens_encoded: usize,
    /// The budget, in tokens.
    pub budget: usize,
    /// Ranges of bytes of the text before that were kept, ascending; none of a compressor that writes.
    pub kept: Option<Vec<KeptBytes>>,
}

impl Condensed {
    /// Tokens after over tokens before; 1 for an empty text.
    pub fn keep_ratio(&self) -> f64 {
        if self.tokens_before == 0 { 1.0 } else { self.tokens_after as f64 / self.tokens_before as f64 }
    }
}

/// A stretch as tokens.
struct Tokens {
    stretch: Stretch,
    ids: Vec<u32>,
    /// Bytes of each token, counted from the beginning of the stretch.
    bytes: Vec<(usize, usize)>,
}

/// A text that was cut into stretches.
struct Source {
    stretches: Vec<Tokens>,
    /// Tokens of protected stretches.
    protected: usize,
    /// All tokens.
    tokens: usize,
    query: Vec<u32>,
}

impl Source {
    /// A budget in tokens; an error where protected spans alone are more.
    fn budget(&self, budget: &BudgetConfig) -> Result<usize> {
        let (budget, protected) = (budget.tokens(self.tokens), self.protected);
        match protected > budget {
            true => {
                let expected = format!("expected protected spans of at most the budget's {budget} tokens");
                Err(Error::invalid(format!("{expected}, got {protected}")))
            }
            false => Ok(budget),
        }
    }
}

/// A piece of a free stretch that a compressor is to read: numbers of text and stretch, first token and the one behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    source: usize,
    stretch: usize,
    first: usize,
    end: usize,
}

impl Condenser<'_> {
    /// Each text within `budget`. An error about a text by itself (tags that do not match, protected spans above the budget)
    /// stands in its place; one of the compressor ends all.
    pub fn condense(&self, texts: &[PlainText], budget: &BudgetConfig) -> Result<Vec<Result<Condensed>>> {
        Ok(self.condense_each(texts, std::slice::from_ref(budget))?.remove(0))
    }

    /// [`Condenser::condense`] for each of several budgets; a text is read once, and so is what a compressor scores once.
    pub fn condense_each(&self, texts: &[PlainText], budgets: &[BudgetConfig]) -> Result<Vec<Vec<Result<Condensed>>>> {
        let sources: Vec<Result<Source>> = texts.iter().map(|text| self.read(text)).collect();
        // The budgets, in tokens, that each piece is read for, and their numbers.
        let mut pieces: BTreeMap<Piece, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (number, source) in sources.iter().enumerate() {
            for (b, budget) in budgets.iter().enumerate() {
                let Some((source, Ok(budget))) = source.as_ref().ok().map(|own| (own, own.budget(budget))) else {
                    continue;
                };
                for (piece, tokens) in self.pieces(number, source, budget) {
                    let own = pieces.entry(piece).or_default();
                    own.0.push(tokens);
                    own.1.push(b);
                }
            }
        }
        let mut groups: BTreeMap<Vec<usize>, Vec<(Piece, Vec<usize>)>> = BTreeMap::new();
        for (piece, (tokens, numbers)) in pieces {
            groups.entry(tokens).or_default().push((piece, numbers));
        }
        let mut made: Vec<BTreeMap<Piece, Compressed>> = budgets.iter().map(|_| BTreeMap::new()).collect();
        for (tokens, group) in groups {
            let request = |(piece, _): &(Piece, Vec<usize>)| {
                let source = sources[piece.source].as_ref().ok()?;
                let prefix = &source.stretches[piece.stretch].ids[piece.first..piece.end];
                Some(Request { prefix, local: &[], query: &source.query, key: texts[piece.source].key })
            };
            let requests: Vec<Request> = group.iter().filter_map(request).collect();
            let lists = self.compressor.compress_each(&requests, &tokens)?;
            check_count(self.compressor.name(), tokens.len(), lists.len())?;
            for (at, compressed) in lists.into_iter().enumerate() {
                check_count(self.compressor.name(), requests.len(), compressed.len())?;
                for ((piece, numbers), own) in group.iter().zip(compressed) {
                    made[numbers[at]].insert(*piece, own);
                }
            }
        }
        let within = |(budget, made): (&BudgetConfig, &BTreeMap<Piece, Compressed>)| {
            let one = |(number, (text, source)): (usize, (&PlainText, &Result<Source>))| match source {
                Ok(source) => self.joined(text.text, source, number, source.budget(budget)?, made),
                Err(error) => Err(Error::invalid(error.to_string())),
            };
            texts.iter().zip(&sources).enumerate().map(one).collect()
        };
        Ok(budgets.iter().zip(&made).map(within).collect())
    }

    fn read(&self, text: &PlainText) -> Result<Source> {
        let mut all = Vec::new();
        for stretch in stretches(text.text)? {
            let (ids, bytes) = self.tokenizer.aligned(&text.text[stretch.bytes.clone()])?;
            all.push(Tokens { stretch, ids, bytes });
        }
        let count = |protected: bool| -> usize {
            all.iter().filter(|own| own.stretch.protected == protected).map(|own| own.ids.len()).sum()
        };
        let (protected, tokens) = (count(true), count(true) + count(false));
        Ok(Source { stretches: all, protected, tokens, query: self.tokenizer.encode(text.query)? })
    }

    /// The pieces of a text, each with its share of what protected spans leave of the budget; none where the text fits it.
    fn pieces(&self, number: usize, source: &Source, budget: usize) -> Vec<(Piece, usize)> {
        if source.tokens <= budget {
            return Vec::new();
        }
        let total = source.tokens - source.protected;
        let rest = budget - source.protected;
        let (mut before, mut all) = (0, Vec::new());
        for (stretch, own) in source.stretches.iter().enumerate().filter(|(_, own)| !own.stretch.protected) {
            let share = shared(rest, before..before + own.ids.len(), total);
            before += own.ids.len();
            let room = self.compressor.reads_at_once(share).map(|most| most.saturating_sub(source.query.len()).max(1));
            let parts = own.ids.len().div_ceil(room.unwrap_or(usize::MAX)).max(1);
            let cut = |part: usize| part * own.ids.len() / parts;
            all.extend((0..parts).map(|part| {
                let (first, end) = (cut(part), cut(part + 1));
                (Piece { source: number, stretch, first, end }, shared(share, first..end, own.ids.len().max(1)))
            }));
        }
        all.retain(|(piece, budget)| piece.first < piece.end && *budget > 0);
        all
    }

    fn joined(
        &self,
        text: &str,
        source: &Source,
        number: usize,
        budget: usize,
        made: &BTreeMap<Piece, Compressed>,
    ) -> Result<Condensed> {
        let (fits, mut out, mut tokens_after) = (source.tokens <= budget, String::new(), 0);
        let mut kept = Some(Vec::new());
        for (place, own) in source.stretches.iter().enumerate() {
            let bytes = own.stretch.bytes.clone();
            if fits || own.stretch.protected {
                out.push_str(&text[bytes.clone()]);
                tokens_after += own.ids.len();
                kept.iter_mut().for_each(|all| add(all, KeptBytes { start: bytes.start, end: bytes.end, score: None }));
                continue;
            }
            let mut ids = Vec::new();
            let from = |stretch: usize| Piece { source: number, stretch, first: 0, end: 0 };
            for (Piece { first, .. }, compressed) in made.range(from(place)..from(place + 1)) {
                ids.extend(&compressed.ids);
                let Some(places) = compressed.kept.as_ref().filter(|_| kept.is_some()) else {
                    kept = None;
                    continue;
                };
                for &at in places {
                    let (start, end) = own.bytes[first + at];
                    let score = compressed.scores.as_ref().map(|scores| scores[at]).filter(|score| score.is_finite());
                    let range = KeptBytes { start: bytes.start + start, end: bytes.start + end, score };
                    kept.iter_mut().for_each(|all| add(all, range));
                }
            }
            tokens_after += ids.len();
            out.push_str(&self.tokenizer.decode(&ids)?);
        }
        let tokens_encoded = self.tokenizer.encode(&out)?.len();
        let tokens_before = source.tokens;
        Ok(Condensed { text: out, tokens_before, tokens_after, tokens_encoded, budget, kept })
    }
}

/// The part of `amount` that falls on a range of `total`, such that the parts of ranges beside one another add up.
fn shared(amount: usize, range: Range<usize>, total: usize) -> usize {
    let at = |place: usize| (place as u128 * amount as u128 / total.max(1) as u128) as usize;
    at(range.end) - at(range.start)
}

/// Puts a range behind others, joined to the last where the two touch and both have a score or neither has.
fn add(all: &mut Vec<KeptBytes>, next: KeptBytes) {
    match all.last_mut() {
        Some(last) if next.start <= last.end && last.score.is_some() == next.score.is_some() => {
            last.end = last.end.max(next.end);
            last.score = last.score.zip(next.score).map(|(a, b)| a.max(b));
        }
        _ if next.start == next.end => {}
        _ => all.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (amount, cuts) in [(10, [0, 3, 3, 17, 20]), (3, [0, 1, 2, 3, 1000]), (0, [0, 5, 6, 7, 9])] {
            let total = cuts[4];
            let all: usize = cuts.windows(2).map(|pair| shared(amount, pair[0]..pair[1], total)).sum();
            assert_eq!(all, amount);
        }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let mut all = Vec::new();
        let range = |start, end, score| KeptBytes { start, end, score };
        for next in [range(0, 2, Some(1.0)), range(2, 4, Some(3.0)), range(4, 6, None), range(9, 9, None)] {
            add(&mut all, next);
        }
        assert_eq!(all, [range(0, 4, Some(3.0)), range(4, 6, None)]);
    }
}
