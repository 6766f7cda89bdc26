//! The controller: scores of units in, a gist within the budget out. The only code that decides what an extractive
//! compressor keeps, so that compressors differ in their scores alone (the split of TokenC, whose encoder and BM25 share
//! one controller). The budget counts tokens of the reading model over the whole prefix and is never exceeded: matches
//! that must be kept come first within it.

use crate::compressor::contract::Compressed;
use crate::compressor::scored::Scored;
use rayon::prelude::*;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Rules besides scores and budget.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    /// Matches in the text of the prefix are kept before anything else, as far as the budget goes, those in the best units
    /// first.
    pub must_keep: Option<Regex>,
    /// Of equal tokens that come to stand side by side one is kept, and others take the room. Tokens that stand side by side
    /// in the prefix may stay so, and a match of `must_keep` is never broken.
    pub drop_consecutive: bool,
    /// Units with a lower score are left out even when there is room.
    pub threshold: Option<f64>,
    /// Threshold of a budget with which that many tokens are kept of a prefix on average ([`Controller::calibrate`]). The
    /// length of a gist then follows the content, up to [`RICHEST`] budgets.
    pub thresholds: BTreeMap<usize, f64>,
}

/// Most tokens of one prefix where the budget is met on average, in budgets.
pub const RICHEST: usize = 2;

impl Controller {
    /// Whether it needs the texts of the tokens.
    pub fn reads_text(&self) -> bool {
        self.must_keep.is_some()
    }

    /// The most tokens that are kept of a prefix where `budget` is asked for.
    pub fn most(&self, budget: usize) -> usize {
        if self.thresholds.contains_key(&budget) { budget.saturating_mul(RICHEST) } else { budget }
    }

    /// Finds the thresholds for these budgets: the lowest with which these prefixes keep the budget on average, or less. Where
    /// already the best units of all are too many, only what must be kept is.
    pub fn calibrate(&mut self, prefixes: &[(Scored, Vec<f64>)], budgets: &[usize]) {
        let mut scores: Vec<f64> = prefixes.iter().flat_map(|(_, s)| s).copied().filter(|s| !s.is_nan()).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores.dedup();
        for &budget in budgets {
            let fits = |&least: &f64| {
                let thresholds = BTreeMap::from([(budget, least)]);
                let trial = Controller { thresholds, ..self.clone() };
                let kept = prefixes.par_iter().map(|(prefix, scores)| trial.places(prefix, scores, budget).len());
                kept.sum::<usize>() <= budget * prefixes.len()
            };
            let fitting = scores.partition_point(fits);
            let least = fitting.checked_sub(1).map_or(f64::INFINITY, |lowest| scores[lowest]);
            self.thresholds.insert(budget, least);
        }
    }

    /// The result for a prefix with these scores of its units.
    pub fn keep(&self, prefix: &Scored, scores: &[f64], budget: usize) -> Compressed {
        let kept = extractive(prefix.request.prefix, self.places(prefix, scores, budget));
        Compressed { scores: Some(token_scores(prefix, scores)), ..kept }
    }

    /// The positions that are kept, ascending.
    fn places(&self, prefix: &Scored, scores: &[f64], budget: usize) -> Vec<usize> {
        let ids = prefix.request.prefix;
        let matches = self.matches(prefix, scores);
        // A match of several tokens stays as it is.
        let whole: BTreeSet<usize> = matches.iter().filter(|tokens| tokens.len() > 1).cloned().flatten().collect();
        let select = |ranges: &[Range<usize>], budget: usize| match self.drop_consecutive {
            false => fill(ranges, budget),
            true => fill_with(ranges, budget, |kept, at| whole.contains(&at) || !repeats(ids, kept, at)),
        };
        // Also where others may take more, what must be kept takes the budget at most.
        let first = select(&matches, budget).into_iter().map(|at| at..at + 1);
        let threshold = self.thresholds.get(&budget).copied().or(self.threshold);
        let worthy = |unit: &usize| threshold.is_none_or(|least| scores[*unit] >= least);
        let ranked = ranking(scores).into_iter().filter(worthy).map(|unit| prefix.units[unit].clone());
        select(&first.chain(ranked).collect::<Vec<_>>(), self.most(budget))
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
        let worth = token_scores(prefix, scores);
        let mut found: Vec<(f64, Range<usize>)> = (pattern.find_iter(&text).filter(|m| !m.is_empty()))
            .map(|m| {
                let tokens = holder(m.start())..holder(m.end() - 1) + 1;
                (worth[tokens.clone()].iter().copied().fold(f64::NEG_INFINITY, f64::max), tokens)
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.start.cmp(&b.1.start)));
        found.into_iter().map(|(_, tokens)| tokens).collect()
    }
}

/// Score of each token: the best of its units.
fn token_scores(prefix: &Scored, scores: &[f64]) -> Vec<f64> {
    let mut worth = vec![f64::NEG_INFINITY; prefix.request.prefix.len()];
    for (unit, score) in prefix.units.iter().zip(scores) {
        worth[unit.clone()].iter_mut().for_each(|best| *best = best.max(*score));
    }
    worth
}

/// Whether a token would come to stand beside an equal one that it does not stand beside in the prefix.
fn repeats(ids: &[u32], kept: &BTreeSet<usize>, at: usize) -> bool {
    let before = kept.range(..at).next_back().filter(|&&other| other + 1 < at);
    let after = kept.range(at + 1..).next().filter(|&&other| at + 1 < other);
    before.into_iter().chain(after).any(|&other| ids[other] == ids[at])
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
/// passed over for one after it that does; the rest of the budget goes to the first tokens of those passed over, in order.
pub fn fill(ranges: &[Range<usize>], budget: usize) -> Vec<usize> {
    fill_with(ranges, budget, |_, _| true)
}

/// As [`fill`], without the positions that `admits` refuses; it is given those kept so far and the position.
fn fill_with(ranges: &[Range<usize>], budget: usize, admits: impl Fn(&BTreeSet<usize>, usize) -> bool) -> Vec<usize> {
    let mut kept = BTreeSet::new();
    let mut passed = Vec::new();
    let add = |kept: &mut BTreeSet<usize>, range: &Range<usize>, most: usize| {
        let mut added = Vec::new();
        for at in range.clone() {
            if kept.len() < most && !kept.contains(&at) && admits(kept, at) {
                kept.insert(at);
                added.push(at);
            }
        }
        added
    };
    for range in ranges {
        if kept.len() == budget {
            break;
        }
        let added = add(&mut kept, range, budget.saturating_add(1));
        if kept.len() > budget {
            added.iter().for_each(|at| _ = kept.remove(at));
            passed.push(range);
        }
    }
    for range in passed {
        add(&mut kept, range, budget);
    }
    kept.into_iter().collect()
}

/// The tokens of `prefix` at the ascending positions `kept`.
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
        fill(&ranges, budget)
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
