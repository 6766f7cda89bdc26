//! The controller: scores of units in, a gist within the budget out. The only code that decides what an extractive
//! compressor keeps, so that compressors differ in their scores alone (the split of TokenC, whose encoder and BM25 share
//! one controller). The budget counts tokens of the reading model, over the whole prefix, and nothing passes it: what must
//! be kept comes first, not on top.

use crate::compressor::Compressed;
use crate::compressor::scorer::Scored;
use regex::Regex;
use std::collections::BTreeSet;
use std::ops::Range;

/// What else decides, beside scores and budget.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    /// Matches in the text of the prefix are kept before anything else, as far as the budget goes, the best unit's first.
    pub must_keep: Option<Regex>,
    /// Of equal tokens that come to stand side by side only the first stays, and others take the room.
    pub drop_consecutive: bool,
    /// Units with a lower score are left out even when there is room: the length then follows the content.
    pub threshold: Option<f64>,
}

impl Controller {
    /// Whether it needs the texts of the tokens.
    pub fn reads_text(&self) -> bool {
        self.must_keep.is_some()
    }

    /// What is kept of a prefix with these scores of its units.
    pub fn keep(&self, prefix: &Scored, scores: &[f64], budget: usize) -> Compressed {
        let ids = prefix.request.prefix;
        let first = self.matches(prefix, scores);
        let worthy = |unit: &usize| self.threshold.is_none_or(|least| scores[*unit] >= least);
        let ranked = ranking(scores).into_iter().filter(worthy).map(|unit| prefix.units[unit].clone());
        let ranges: Vec<Range<usize>> = first.into_iter().chain(ranked).collect();
        let mut barred = BTreeSet::new();
        let kept = loop {
            let kept = fill(&ranges, &barred, budget);
            let twice: Vec<usize> =
                kept.windows(2).filter(|pair| ids[pair[0]] == ids[pair[1]]).map(|pair| pair[1]).collect();
            if !self.drop_consecutive || twice.is_empty() {
                break kept;
            }
            barred.extend(twice);
        };
        let mut token_scores = vec![f64::NEG_INFINITY; ids.len()];
        for (unit, score) in prefix.units.iter().zip(scores) {
            token_scores[unit.clone()].iter_mut().for_each(|best| *best = best.max(*score));
        }
        Compressed { scores: Some(token_scores), ..extractive(ids, kept) }
    }

    /// The tokens of each match, those in the best units first.
    fn matches(&self, prefix: &Scored, scores: &[f64]) -> Vec<Range<usize>> {
        let Some(pattern) = &self.must_keep else { return Vec::new() };
        let text = prefix.pieces.concat();
        let mut starts = Vec::with_capacity(prefix.pieces.len());
        let mut offset = 0;
        for piece in &prefix.pieces {
            starts.push(offset);
            offset += piece.len();
        }
        let holder = |at: usize| starts.partition_point(|&start| start <= at).saturating_sub(1);
        let mut found: Vec<(f64, Range<usize>)> = (pattern.find_iter(&text).filter(|m| !m.is_empty()))
            .map(|m| {
                let tokens = holder(m.start())..holder(m.end() - 1) + 1;
                let touching =
                    prefix.units.iter().zip(scores).filter(|(u, _)| u.start < tokens.end && tokens.start < u.end);
                (touching.map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max), tokens)
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.start.cmp(&b.1.start)));
        found.into_iter().map(|(_, tokens)| tokens).collect()
    }
}

/// Units, their scores, and the number of tokens of one prefix.
pub type Ranked<'a> = (&'a [Range<usize>], &'a [f64], usize);

/// The lowest score of a unit with which, over all these prefixes, the units above it cover `keep_ratio` of the tokens and
/// no more.
pub fn calibrate(prefixes: &[Ranked], keep_ratio: f64) -> Option<f64> {
    let tokens: usize = prefixes.iter().map(|(.., tokens)| tokens).sum();
    let room = (keep_ratio * tokens as f64).floor() as usize;
    let mut order: Vec<(usize, usize)> =
        prefixes.iter().enumerate().flat_map(|(p, (units, ..))| (0..units.len()).map(move |unit| (p, unit))).collect();
    order.sort_by(|&(p, a), &(q, b)| prefixes[q].1[b].total_cmp(&prefixes[p].1[a]));
    let mut kept = BTreeSet::new();
    let mut threshold = None;
    for (p, unit) in order {
        kept.extend(prefixes[p].0[unit].clone().map(|at| (p, at)));
        if kept.len() > room {
            break;
        }
        threshold = Some(prefixes[p].1[unit]);
    }
    threshold
}

/// Indices from the highest score to the lowest, of equal scores the earlier first. What is not a number counts as −∞.
pub fn ranking(scores: &[f64]) -> Vec<usize> {
    // Adding 0 makes −0 equal to 0.
    let rank = |i: usize| if scores[i].is_nan() { f64::NEG_INFINITY } else { scores[i] + 0.0 };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)).then(a.cmp(&b)));
    order
}

/// Whole ranges in this order while they fit: the positions that they cover together, ascending. One that does not fit is
/// passed over for one after it that does; what is left of the budget goes to the heads of those passed over, in order.
pub fn fill(ranges: &[Range<usize>], barred: &BTreeSet<usize>, budget: usize) -> Vec<usize> {
    let mut kept = BTreeSet::new();
    let mut passed = Vec::new();
    for range in ranges {
        let fresh = || range.clone().filter(|at| !barred.contains(at));
        let more = fresh().filter(|at| !kept.contains(at)).count();
        if kept.len() + more <= budget { kept.extend(fresh()) } else { passed.push(range) }
    }
    for range in passed {
        let left = budget - kept.len();
        let fresh: Vec<usize> =
            range.clone().filter(|at| !barred.contains(at) && !kept.contains(at)).take(left).collect();
        kept.extend(fresh);
    }
    kept.into_iter().collect()
}

/// What remains of `prefix` at the ascending positions `kept`.
pub fn extractive(prefix: &[u32], kept: Vec<usize>) -> Compressed {
    let ids = kept.iter().map(|&at| prefix[at]).collect();
    Compressed { ids, kept: Some(kept), ..Compressed::default() }
}

/// The most recent tokens of a prefix, at most `budget`.
pub fn recent(prefix: &[u32], budget: usize) -> &[u32] {
    &prefix[prefix.len().saturating_sub(budget)..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compressor::units::spans;
    use proptest::prelude::*;

    fn any_scores() -> impl Strategy<Value = Vec<f64>> {
        let score = prop_oneof![
            4 => (0..5i32).prop_map(f64::from),
            4 => -1e3..1e3f64,
            1 => Just(f64::NAN),
            1 => Just(-f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
        ];
        prop::collection::vec(score, 0..40)
    }

    /// The best of these units within the budget.
    fn select_spans(units: &[Range<usize>], scores: &[f64], budget: usize) -> Vec<usize> {
        let ranges: Vec<Range<usize>> = ranking(scores).into_iter().map(|unit| units[unit].clone()).collect();
        fill(&ranges, &BTreeSet::new(), budget)
    }

    fn select(scores: &[f64], budget: usize) -> Vec<usize> {
        select_spans(&spans(scores.len(), 1, 1), scores, budget)
    }

    fn ascending(kept: &[usize]) -> bool {
        kept.windows(2).all(|pair| pair[0] < pair[1])
    }

    proptest! {
        #[test]
        fn the_best_within_the_budget(scores in any_scores(), budget in 0..50usize) {
            let kept = select(&scores, budget);
            prop_assert_eq!(kept.len(), budget.min(scores.len()));
            prop_assert!(ascending(&kept) && kept.iter().all(|&at| at < scores.len()));
            for left in (0..scores.len()).filter(|at| !kept.contains(at)) {
                for &at in &kept {
                    let worse = scores[left] < scores[at] || (scores[left] == scores[at] && at < left);
                    let odd = scores[left].is_nan() || scores[at].is_nan();
                    prop_assert!(worse || odd, "kept {} at {at}, left {} at {left}", scores[at], scores[left]);
                    let inverted = scores[at].is_nan() && scores[left] > f64::NEG_INFINITY;
                    prop_assert!(!inverted, "NaN at {at} kept before {} at {left}", scores[left]);
                }
            }
        }

        #[test]
        fn a_larger_budget_only_adds(scores in any_scores(), budget in 0..50usize) {
            let (fewer, more) = (select(&scores, budget), select(&scores, budget + 1));
            prop_assert!(fewer.iter().all(|at| more.contains(at)));
        }

        #[test]
        fn spans_fill_the_budget(len in 0..60usize, tokens in 1..9usize, stride in 1..9usize, budget in 0..70usize,
                                 seed in any::<u64>()) {
            let spans = spans(len, tokens, stride);
            let mut draw = crate::rng::rng(seed, crate::rng::Stream::Baseline, 0, 0, 0);
            let scores: Vec<f64> = spans.iter().map(|_| crate::rng::below(&mut draw, 4) as f64).collect();
            let kept = select_spans(&spans, &scores, budget);
            let covered = (0..len).filter(|at| spans.iter().any(|span| span.contains(at))).count();
            prop_assert_eq!(kept.len(), budget.min(covered));
            prop_assert!(ascending(&kept) && kept.iter().all(|&at| at < len));
            if stride <= tokens {
                prop_assert_eq!(covered, len);
            }
            let best = (0..spans.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
            if let Some(best) = best.filter(|&best| spans[best].len() <= budget) {
                prop_assert!(spans[best].clone().all(|at| kept.contains(&at)));
            }
        }
    }

    #[test]
    fn equal_scores_go_to_the_earlier() {
        assert_eq!(select(&[1.0, 2.0, 2.0, 1.0, 2.0], 2), [1, 2]);
        assert_eq!(select(&[0.0, -0.0, 0.0], 1), [0]);
        assert_eq!(select(&[-0.0, 0.0], 1), [0]);
    }
}
