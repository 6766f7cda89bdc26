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
    tokens: usize,
    budget: usize,
    query: Vec<u32>,
}

/// A piece of a free stretch that a compressor is to read.
struct Piece {
    source: usize,
    stretch: usize,
    tokens: Range<usize>,
    budget: usize,
}

/// Text, stretch, first token and the one behind the last of a piece.
type PieceKey = [usize; 4];

impl Piece {
    fn key(&self) -> PieceKey {
        [self.source, self.stretch, self.tokens.start, self.tokens.end]
    }
}

impl Condenser<'_> {
    /// Each text within `budget`. An error about a text by itself (tags that do not match, protected spans above the budget)
    /// stands in its place; one of the compressor ends all.
    pub fn condense(&self, texts: &[PlainText], budget: &BudgetConfig) -> Result<Vec<Result<Condensed>>> {
        Ok(self.condense_each(texts, std::slice::from_ref(budget))?.remove(0))
    }

    /// [`Condenser::condense`] for each of several budgets, where what a compressor does for all of them is done once.
    pub fn condense_each(&self, texts: &[PlainText], budgets: &[BudgetConfig]) -> Result<Vec<Vec<Result<Condensed>>>> {
        let read = |budget: &BudgetConfig| texts.iter().map(|text| self.read(text, budget)).collect();
        let sources: Vec<Vec<Result<Source>>> = budgets.iter().map(read).collect();
        // The budgets that each piece is read for, and their numbers.
        let mut pieces: BTreeMap<PieceKey, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (b, own) in sources.iter().enumerate() {
            for (number, source) in own.iter().enumerate() {
                for piece in source.iter().flat_map(|source| self.pieces(number, source)) {
                    let (tokens, numbers) = pieces.entry(piece.key()).or_default();
                    tokens.push(piece.budget);
                    numbers.push(b);
                }
            }
        }
        let mut groups: BTreeMap<Vec<usize>, Vec<(PieceKey, Vec<usize>)>> = BTreeMap::new();
        for (key, (tokens, numbers)) in pieces {
            groups.entry(tokens).or_default().push((key, numbers));
        }
        let mut made: Vec<BTreeMap<PieceKey, Compressed>> = budgets.iter().map(|_| BTreeMap::new()).collect();
        for (tokens, group) in groups {
            let requests: Vec<Request> = (group.iter())
                .filter_map(|([source, stretch, start, end], numbers)| {
                    let own = sources[*numbers.first()?][*source].as_ref().ok()?;
                    let prefix = &own.stretches[*stretch].ids[*start..*end];
                    Some(Request { prefix, local: &[], query: &own.query, key: texts[*source].key })
                })
                .collect();
            let lists = self.compressor.compress_each(&requests, &tokens)?;
            check_count(self.compressor.name(), tokens.len(), lists.len())?;
            for (at, compressed) in lists.into_iter().enumerate() {
                check_count(self.compressor.name(), requests.len(), compressed.len())?;
                for ((key, numbers), own) in group.iter().zip(compressed) {
                    made[numbers[at]].insert(*key, own);
                }
            }
        }
        let joined = |(own, made): (Vec<Result<Source>>, &BTreeMap<PieceKey, Compressed>)| {
            let texts = texts.iter().zip(own).enumerate();
            texts.map(|(number, (text, source))| self.joined(text.text, &source?, number, made)).collect()
        };
        Ok(sources.into_iter().zip(&made).map(joined).collect())
    }

    fn read(&self, text: &PlainText, budget: &BudgetConfig) -> Result<Source> {
        let mut all = Vec::new();
        for stretch in stretches(text.text)? {
            let (ids, bytes) = self.tokenizer.aligned(&text.text[stretch.bytes.clone()])?;
            all.push(Tokens { stretch, ids, bytes });
        }
        let count = |protected: bool| -> usize {
            all.iter().filter(|own| own.stretch.protected == protected).map(|own| own.ids.len()).sum()
        };
        let (protected, tokens) = (count(true), count(true) + count(false));
        let budget = budget.tokens(tokens);
        if protected > budget {
            let message = format!("expected protected spans of at most the budget's {budget} tokens, got {protected}");
            return Err(Error::invalid(message));
        }
        Ok(Source { stretches: all, tokens, budget, query: self.tokenizer.encode(text.query)? })
    }

    /// The pieces of a text, each with its share of what protected spans leave; none where the text fits its budget.
    fn pieces(&self, number: usize, source: &Source) -> Vec<Piece> {
        if source.tokens <= source.budget {
            return Vec::new();
        }
        let free = source.stretches.iter().enumerate().filter(|(_, own)| !own.stretch.protected);
        let total: usize = free.clone().map(|(_, own)| own.ids.len()).sum();
        let rest = source.budget - (source.tokens - total);
        let (mut before, mut all) = (0, Vec::new());
        for (stretch, own) in free {
            let share = shared(rest, before..before + own.ids.len(), total);
            before += own.ids.len();
            let room = self.compressor.reads_at_once(share).map(|most| most.saturating_sub(source.query.len()).max(1));
            let parts = own.ids.len().div_ceil(room.unwrap_or(usize::MAX)).max(1);
            let cut = |part: usize| part * own.ids.len() / parts;
            all.extend((0..parts).map(|part| {
                let tokens = cut(part)..cut(part + 1);
                let budget = shared(share, tokens.clone(), own.ids.len().max(1));
                Piece { source: number, stretch, tokens, budget }
            }));
        }
        all.retain(|piece| !piece.tokens.is_empty() && piece.budget > 0);
        all
    }

    fn joined(
        &self,
        text: &str,
        source: &Source,
        number: usize,
        made: &BTreeMap<PieceKey, Compressed>,
    ) -> Result<Condensed> {
        let (fits, mut out, mut tokens_after) = (source.tokens <= source.budget, String::new(), 0);
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
            for ([.., first, _], compressed) in made.range([number, place, 0, 0]..[number, place + 1, 0, 0]) {
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
        let (tokens_before, budget) = (source.tokens, source.budget);
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
