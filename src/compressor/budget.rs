//! The only selection code of the extractive compressors: scores or positions in, a gist within the budget out.

use crate::compressor::Compressed;
use std::collections::BTreeSet;
use std::ops::Range;

/// Indices from the highest score to the lowest, of equal scores the earlier first. What is not a number counts as −∞.
fn ranking(scores: &[f64]) -> Vec<usize> {
    // Adding 0 makes −0 equal to 0.
    let rank = |i: usize| if scores[i].is_nan() { f64::NEG_INFINITY } else { scores[i] + 0.0 };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)).then(a.cmp(&b)));
    order
}

/// Ascending positions of the highest scores, at most `budget` of them; of equal scores the earlier position wins.
pub fn select(scores: &[f64], budget: usize) -> Vec<usize> {
    let mut kept = ranking(scores);
    kept.truncate(budget);
    kept.sort_unstable();
    kept
}

/// Whole spans in order of score while they fit, of equal scores the earlier: the positions that they cover together,
/// ascending. A span that does not fit is passed over for one after it that does; what is left of the budget goes to the
/// heads of those passed over, best first.
pub fn select_spans(spans: &[Range<usize>], scores: &[f64], budget: usize) -> Vec<usize> {
    let mut kept = BTreeSet::new();
    let mut passed = Vec::new();
    for span in ranking(scores).into_iter().map(|i| &spans[i]) {
        let fresh = span.clone().filter(|p| !kept.contains(p)).count();
        if kept.len() + fresh <= budget { kept.extend(span.clone()) } else { passed.push(span) }
    }
    for span in passed {
        let left = budget - kept.len();
        let fresh: Vec<usize> = span.clone().filter(|p| !kept.contains(p)).take(left).collect();
        kept.extend(fresh);
    }
    kept.into_iter().collect()
}

/// What remains of `prefix` at the ascending positions `kept`.
pub fn extractive(prefix: &[u32], kept: Vec<usize>) -> Compressed {
    Compressed { ids: kept.iter().map(|&at| prefix[at]).collect(), kept: Some(kept), identity: false }
}

/// The first `budget` positions of a prefix of `len` tokens.
pub fn first(len: usize, budget: usize) -> Vec<usize> {
    (0..len.min(budget)).collect()
}

/// The last `budget` positions of a prefix of `len` tokens.
pub fn last(len: usize, budget: usize) -> Vec<usize> {
    (len.saturating_sub(budget)..len).collect()
}

/// The most recent tokens of a prefix, at most `budget`.
pub fn recent(prefix: &[u32], budget: usize) -> &[u32] {
    &prefix[prefix.len().saturating_sub(budget)..]
}

/// Spans of `tokens` that start at multiples of `stride`, and one at the end; the whole of a shorter prefix.
pub fn spans(len: usize, tokens: usize, stride: usize) -> Vec<Range<usize>> {
    let span = tokens.min(len);
    if span == 0 {
        return Vec::new();
    }
    let end = len - span;
    let mut starts: Vec<usize> = (0..=end).step_by(stride.max(1)).collect();
    if starts.last() != Some(&end) {
        starts.push(end);
    }
    starts.into_iter().map(|start| start..start + span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
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

        #[test]
        fn ends_of_a_prefix(len in 0..40usize, budget in 0..50usize) {
            let n = len.min(budget);
            prop_assert_eq!(first(len, budget), (0..n).collect::<Vec<_>>());
            prop_assert_eq!(last(len, budget), (len - n..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn equal_scores_go_to_the_earlier() {
        assert_eq!(select(&[1.0, 2.0, 2.0, 1.0, 2.0], 2), [1, 2]);
        assert_eq!(select(&[0.0, -0.0, 0.0], 1), [0]);
        assert_eq!(select(&[-0.0, 0.0], 1), [0]);
    }
}
