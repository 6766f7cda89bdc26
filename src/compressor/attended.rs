//! Attention of the bare base to each token of a prefix, from the last tokens that the compressor sees: a mean for each
//! group of heads, smoothed over the span that begins at the token. It tells without any training what is worth keeping
//! (SnapKV, Li et al. 2024, arXiv 2404.14469, keeps keys and values by it); the copy head learns which heads to trust, and
//! when.

use crate::compressor::contract::Request;
use crate::error::Result;
use crate::model::copy_head;
use crate::model::decoder::Decoder;
use crate::model::read::rows;
use crate::tensor::to_vec;
use std::ops::Range;

const PIECES_AT_ONCE: usize = 16;
/// Tokens that attend.
const QUERIES: i64 = 8;
/// Tokens of a span.
const SPAN: usize = 8;
/// Largest value, in standard deviations over the prefix.
const LARGEST: f32 = 4.0;

/// Attention to one prefix.
#[derive(Clone, Debug, Default)]
pub struct Attended {
    /// `[place][group]`, each group standardised over the prefix.
    pub values: Vec<Vec<f32>>,
    /// Rank of each place by the sum of its values, 0 the least; of equal places the later is higher.
    pub ranks: Vec<usize>,
}

impl Attended {
    /// Values and ranks of a prefix's tokens from the attention `[head][token]` to them.
    fn new(heads: &[&[f32]], groups: usize) -> Self {
        let places = heads.first().map_or(0, |head| head.len());
        let spans: Vec<Range<usize>> = (0..places).map(|p| p..places.min(p + SPAN)).collect();
        Self::of(values(heads, groups, &spans))
    }

    /// Values `[place][group]`, with the ranks that follow from them.
    pub fn of(values: Vec<Vec<f32>>) -> Self {
        let sums: Vec<f32> = values.iter().map(|place| place.iter().sum()).collect();
        let mut order: Vec<usize> = (0..sums.len()).collect();
        order.sort_by(|&a, &b| sums[a].total_cmp(&sums[b]).then(a.cmp(&b)));
        let mut ranks = vec![0; sums.len()];
        order.into_iter().enumerate().for_each(|(rank, place)| ranks[place] = rank);
        Self { values, ranks }
    }
}

/// Attention of `groups` groups of consecutive heads to each span of a prefix, `[span][group]`: a mean over the span's
/// tokens, standardised over the spans; from the attention `[head][token]`.
pub fn values(heads: &[&[f32]], groups: usize, spans: &[Range<usize>]) -> Vec<Vec<f32>> {
    let mut values = vec![Vec::with_capacity(groups); spans.len()];
    for group in 0..groups {
        let members = &heads[group * heads.len() / groups..(group + 1) * heads.len() / groups];
        let places = members.first().map_or(0, |head| head.len());
        let mass: Vec<f32> = (0..places).map(|p| members.iter().map(|head| head[p]).sum()).collect();
        let means: Vec<f32> = spans.iter().map(|span| mean(&mass[span.clone()])).collect();
        for (span, own) in values.iter_mut().zip(standardised(&means)) {
            span.push(own);
        }
    }
    values
}

/// Values in standard deviations from their mean, at most `LARGEST` either way.
pub fn standardised(values: &[f32]) -> Vec<f32> {
    let centre = mean(values);
    let spread = mean(&values.iter().map(|x| (x - centre).powi(2)).collect::<Vec<_>>()).sqrt();
    values.iter().map(|own| ((own - centre) / (spread + 1e-9)).clamp(-LARGEST, LARGEST)).collect()
}

fn mean(xs: &[f32]) -> f32 {
    xs.iter().sum::<f32>() / xs.len().max(1) as f32
}

/// Attention to the prefix of every request.
pub fn attended(decoder: &Decoder, requests: &[Request]) -> Result<Vec<Attended>> {
    let groups = copy_head::values(decoder.config());
    let heads = attention(decoder, requests)?;
    Ok(heads.iter().map(|heads| Attended::new(&heads.iter().map(Vec::as_slice).collect::<Vec<_>>(), groups)).collect())
}

/// Attention of each head of the base to every token of every prefix, `[request][head][place]`, from the last tokens of
/// prefix, local window and query as far as the compressor may see them. A prefix too long for the base is read in pieces,
/// each followed by local window and query.
pub fn attention(decoder: &Decoder, requests: &[Request]) -> Result<Vec<Vec<Vec<f32>>>> {
    let model = decoder.config();
    let (heads, limit) = (model.num_hidden_layers * model.num_attention_heads, decoder.room());
    let begin = decoder.begin().len() as i64;
    let mut all: Vec<Vec<Vec<f32>>> = requests.iter().map(|_| vec![Vec::new(); heads as usize]).collect();
    let mut pieces = Vec::new();
    for (r, request) in requests.iter().enumerate() {
        let rest = [request.local, request.query].concat();
        let rest = rest[rest.len().saturating_sub(limit / 2)..].to_vec();
        pieces.extend(request.prefix.chunks(limit - rest.len()).map(|piece| (r, piece, [piece, &rest].concat())));
    }
    for batch in pieces.chunks(PIECES_AT_ONCE) {
        let contexts: Vec<Vec<u32>> = batch.iter().map(|(.., context)| context.clone()).collect();
        let (ids, pad) = rows(decoder, &contexts)?;
        let weights = decoder.attention(&ids, &pad, QUERIES)?;
        for (row, (r, piece, _)) in batch.iter().enumerate() {
            let places = to_vec(&weights.get(row as i64).narrow(1, pad[row] + begin, piece.len() as i64))?;
            for (head, places) in all[*r].iter_mut().zip(places.chunks(piece.len())) {
                head.extend(places.iter().map(|x| *x as f32));
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_worth_what_its_span_gets() {
        let mut head = vec![0.0; 20];
        head[10] = 1.0;
        let attended = Attended::new(&[&head, &head], 1);
        let values: Vec<f32> = attended.values.iter().map(|v| v[0]).collect();
        // The spans that hold place 10 begin at 3 to 10.
        assert!(values[3..=10].iter().all(|x| *x > 1.0) && values[11..].iter().all(|x| *x < 0.0), "{values:?}");
        assert!(values[..3].iter().all(|x| *x < 0.0));
        assert!(mean(&values).abs() < 1e-5);
        let mut ranks = attended.ranks.clone();
        assert_eq!((ranks[10], ranks[3], ranks[19]), (19, 12, 11));
        ranks.sort_unstable();
        assert_eq!(ranks, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn heads_are_grouped_in_order_and_a_prefix_without_tokens_has_no_places() {
        let heads: [&[f32]; 4] = [&[1.0, 0.0], &[1.0, 0.0], &[0.0, 1.0], &[0.0, 1.0]];
        let attended = Attended::new(&heads, 2);
        assert!(attended.values[0][0] > 0.0 && attended.values[0][1] < 0.0);
        assert!(Attended::new(&[&[], &[]], 2).values.is_empty());
    }
}
