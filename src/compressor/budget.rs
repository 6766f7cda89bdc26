//! The controller: scores of units in, a gist within the budget out. The only code that decides what an extractive
//! compressor keeps, so that compressors differ in their scores alone (the split of TokenC, whose encoder and BM25 share
//! one controller). The budget counts tokens of the reading model over the whole prefix and is never exceeded: matches
//! that must be kept come first within it.

use crate::compressor::contract::Compressed;
use crate::compressor::must_keep;
use crate::compressor::scored::Scored;
use crate::error::Result;
use crate::tokenizer::{Decoded, Tokenizer};
use rayon::prelude::*;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Rules besides scores and budget.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    /// Matches of these in the text of the prefix are kept before anything else, as far as the budget goes, those in the best
    /// units first.
    pub must_keep: Vec<Regex>,
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
        let matches = self.matches(prefix, scores);
        // A match of several tokens stays as it is.
        let whole: BTreeSet<usize> = matches.iter().filter(|tokens| tokens.len() > 1).cloned().flatten().collect();
        let select = |ranges: &[Range<usize>], budget: usize| match self.drop_consecutive {
            false => fill(&prefix.decoded, ranges, budget),
            true => fill_with(&prefix.decoded, ranges, budget, |kept, group| {
                whole.contains(&group.start) || !repeats(prefix, kept, group)
            }),
        };
        // Also where others may take more, what must be kept takes the budget at most.
        let first: Vec<usize> = select(&matches, budget);
        let first = first.into_iter().map(|at| prefix.decoded.group(at)).collect::<Vec<_>>();
        let threshold = self.thresholds.get(&budget).copied().or(self.threshold);
        let worthy = |unit: &usize| threshold.is_none_or(|least| scores[*unit] >= least);
        let ranked = ranking(scores).into_iter().filter(worthy).map(|unit| prefix.units[unit].clone());
        select(&first.into_iter().chain(ranked).collect::<Vec<_>>(), self.most(budget))
    }

    /// The tokens of each match, those in the best units first.
    fn matches(&self, prefix: &Scored, scores: &[f64]) -> Vec<Range<usize>> {
        let found = must_keep::matches(&self.must_keep, prefix.decoded.text());
        if found.is_empty() {
            return Vec::new();
        }
        let worth = token_scores(prefix, scores);
        let best = |tokens: &Range<usize>| worth[tokens.clone()].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let tokens = found.iter().map(|bytes| prefix.decoded.holding(bytes));
        let mut ranked: Vec<(f64, Range<usize>)> = tokens.map(|tokens| (best(&tokens), tokens)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.start.cmp(&b.1.start)));
        ranked.into_iter().map(|(_, tokens)| tokens).collect()
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

/// Whether a group of tokens would come to stand beside an equal one that it does not stand beside in the prefix.
fn repeats(prefix: &Scored, kept: &BTreeSet<usize>, group: &Range<usize>) -> bool {
    let before = kept.range(..group.start).next_back().filter(|&&other| other + 1 < group.start);
    let after = kept.range(group.end..).next().filter(|&&other| group.end < other);
    let ids = |group: Range<usize>| &prefix.request.prefix[group];
    before.into_iter().chain(after).any(|&other| ids(prefix.decoded.group(other)) == ids(group.clone()))
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
/// passed over for one after it that does; the rest of the budget goes to the first tokens of those passed over, in order. No
/// character is cut ([`Decoded::groups`]), so that a part of the budget may be left.
pub fn fill(decoded: &Decoded, ranges: &[Range<usize>], budget: usize) -> Vec<usize> {
    fill_with(decoded, ranges, budget, |_, _| true)
}

/// Fills the budget as [`fill`] does, without groups that `admits(positions kept so far, group)` refuses.
fn fill_with(
    decoded: &Decoded,
    ranges: &[Range<usize>],
    budget: usize,
    admits: impl Fn(&BTreeSet<usize>, &Range<usize>) -> bool,
) -> Vec<usize> {
    let mut kept = BTreeSet::new();
    // The groups of a range that are new, as far as they fit, and whether all do.
    let add = |kept: &mut BTreeSet<usize>, range: &Range<usize>| {
        let mut added = Vec::new();
        for group in decoded.groups_in(range) {
            if kept.contains(&group.start) || !admits(kept, &group) {
                continue;
            }
            if kept.len() + group.len() > budget {
                return (added, false);
            }
            kept.extend(group.clone());
            added.push(group);
        }
        (added, true)
    };
    let mut passed = Vec::new();
    for range in ranges {
        if kept.len() == budget {
            break;
        }
        let (added, fits) = add(&mut kept, range);
        if !fits {
            added.into_iter().flatten().for_each(|at| _ = kept.remove(&at));
            passed.push(range);
        }
    }
    for range in passed {
        add(&mut kept, range);
    }
    kept.into_iter().collect()
}

/// The tokens of `prefix` at the ascending positions `kept`.
pub fn extractive(prefix: &[u32], kept: Vec<usize>) -> Compressed {
    let ids = kept.iter().map(|&at| prefix[at]).collect();
    Compressed { ids, kept: Some(kept), ..Compressed::default() }
}

/// The most recent tokens of a prefix, at most `budget`, without the rest of a character that begins before them.
pub fn recent<'p>(tokenizer: &Tokenizer, prefix: &'p [u32], budget: usize) -> Result<&'p [u32]> {
    Ok(&prefix[tokenizer.read(prefix)?.ceil(prefix.len().saturating_sub(budget))..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compressor::contract::Request;
    use crate::compressor::units::spans;
    use crate::config::compressors::Unit;
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
        let tokens = units.iter().map(|unit| unit.end).max().unwrap_or(0);
        fill(&Decoded::of(&vec!["x"; tokens]), &ranges, budget)
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

    /// A token a byte.
    fn bytes(text: &str) -> Decoded {
        Decoded::of(&text.as_bytes().chunks(1).collect::<Vec<_>>())
    }

    #[test]
    fn a_character_is_kept_whole_or_not_at_all() {
        let decoded = bytes("a東京b");
        assert_eq!(fill(&decoded, &[1..4, 4..7], 5), [1, 2, 3], "what is left holds no whole character");
        assert_eq!(fill(&decoded, &[1..7, 7..8], 5), [1, 2, 3, 7], "the head of a unit that does not fit");
        assert_eq!(fill(&decoded, &[1..7, 0..1], 3), [0], "nothing of one whose first character does not fit");
        assert!(fill(&decoded, std::slice::from_ref(&(1..7)), 2).is_empty(), "the budget is a cap");
    }

    proptest! {
        #[test]
        fn no_choice_cuts_a_character(text in "[ae\u{301}\u{200d}👩🇸漢 ]{0,12}", scores in any_scores(), budget in 0..50usize) {
            let decoded = bytes(&text);
            for unit in [Unit::Token {}, Unit::Span { tokens: 4, stride: 3 }, Unit::Word {}] {
                let units = unit.cut(&decoded);
                let order = ranking(&scores).into_iter().filter_map(|unit| units.get(unit).cloned());
                let kept = fill(&decoded, &order.collect::<Vec<_>>(), budget);
                prop_assert!(kept.len() <= budget && ascending(&kept));
                prop_assert!(kept.iter().all(|&at| decoded.group(at).all(|other| kept.contains(&other))));
            }
        }
    }

    #[test]
    fn must_keep_and_repetitions_go_by_characters() {
        let tokenizer = bytes("東京 東、東。");
        let prefix: Vec<u32> = "東京 東、東。".bytes().map(u32::from).collect();
        let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
        let units = Unit::Token {}.cut(&tokenizer);
        let scored = Scored { request: &request, units, decoded: tokenizer, question: Decoded::default() };
        let said = |controller: &Controller, scores: &[f64], budget: usize| {
            let kept = controller.keep(&scored, scores, budget).ids.iter().map(|&byte| byte as u8).collect();
            String::from_utf8(kept).unwrap()
        };
        let ends = [0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 1.0]; // 東 京 blank 東 、 東 。
        let plain = Controller::default();
        let must_keep = Controller { must_keep: vec![Regex::new("京").unwrap()], ..Controller::default() };
        assert_eq!(
            [said(&plain, &ends, 6), said(&must_keep, &ends, 6), said(&must_keep, &ends, 5)],
            ["東。", "京東", "京 "]
        );
        // A number and a name that holds it are one match, whichever is asked for first.
        let both = vec![Regex::new("、").unwrap(), Regex::new("東、東").unwrap()];
        assert_eq!(said(&Controller { must_keep: both, ..Controller::default() }, &ends, 9), "東、東");
        let once = Controller { drop_consecutive: true, ..Controller::default() };
        assert_eq!(said(&once, &[1.0, 0.0, 0.0, 2.0, 0.0, 3.0, 0.0], 6), "京東", "a character, not its bytes");
    }

    #[test]
    fn equal_scores_go_to_the_earlier() {
        assert_eq!(select(&[1.0, 2.0, 2.0, 1.0, 2.0], 2), [1, 2]);
        assert_eq!(select(&[0.0, -0.0, 0.0], 1), [0]);
        assert_eq!(select(&[-0.0, 0.0], 1), [0]);
    }
}
