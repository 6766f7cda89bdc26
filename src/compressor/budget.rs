//! The only selection code of the extractive compressors: scores or positions in, a gist within the budget out.

use crate::compressor::Compressed;
use std::collections::BTreeSet;
use std::ops::Range;

/// Ascending positions of the highest scores, at most `budget` of them; of equal scores the earlier position wins. A score
/// that is not a number is never kept before one that is.
pub fn select(scores: &[f64], budget: usize) -> Vec<usize> {
    let rank = |i: &usize| if scores[*i].is_nan() { f64::NEG_INFINITY } else { scores[*i] };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| rank(b).total_cmp(&rank(a)).then(a.cmp(b)));
    order.truncate(budget);
    order.sort_unstable();
    order
}

/// Whole spans in order of score while they fit, of equal scores the earlier; the positions that they cover together,
/// ascending. A span that does not fit is passed over, and a smaller one after it may still fit. What is left of the
/// budget takes the head of the best span that did not fit.
pub fn select_spans(spans: &[Range<usize>], scores: &[f64], budget: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut kept = BTreeSet::new();
    let mut passed = Vec::new();
    for span in order.into_iter().map(|i| &spans[i]) {
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
