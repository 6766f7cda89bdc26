//! Reading: hidden states that predict the future tokens after any context, in left-padded batches.

use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::model::site::KvCache;
use crate::model::vocab::{self, Head};
use crate::tensor::to_vec;
use std::ops::Range;
use tch::Tensor;

const STRETCHES_AT_ONCE: usize = 16;

/// Ids of the control tokens as inputs; they lie just beyond a base vocabulary of `v` rows.
pub mod control {
    /// End-of-gist, also the action that ends a gist.
    pub fn end(v: i64) -> u32 {
        v as u32
    }
    /// Start-of-gist: asks the compressor to begin.
    pub fn start(v: i64) -> u32 {
        v as u32 + 1
    }
    /// Separator between gist and local window.
    pub fn separator(v: i64) -> u32 {
        v as u32 + 2
    }
}

/// Rows of different lengths, padded on the left with id 0: ids `[N, T]` on the host, where the decoder checks them, and the
/// padding of each row.
pub fn left_pad(rows: &[Vec<u32>]) -> Result<(Tensor, Vec<i64>)> {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut flat = Vec::with_capacity(rows.len() * width);
    let mut pad = Vec::with_capacity(rows.len());
    for row in rows {
        if row.is_empty() {
            return Err(Error::shape("token row", "at least one token", 0));
        }
        pad.push((width - row.len()) as i64);
        flat.resize(flat.len() + width - row.len(), 0i64);
        flat.extend(row.iter().map(|&t| t as i64));
    }
    Ok((Tensor::from_slice(&flat).view([rows.len() as i64, width as i64]), pad))
}

/// Rows as the decoder reads them: each behind the tokens that every row of this base begins with, padded on the left as
/// [`left_pad`] has it.
pub fn rows(decoder: &Decoder, rows: &[Vec<u32>]) -> Result<(Tensor, Vec<i64>)> {
    match decoder.begin() {
        [] => left_pad(rows),
        begin => left_pad(&rows.iter().map(|row| [begin, row].concat()).collect::<Vec<_>>()),
    }
}

/// Stretches of at most `limit` of `len` tokens, each overlapping the one before by half: its range, and the first token
/// whose value it gives.
pub fn stretches(len: usize, limit: usize) -> Vec<(Range<usize>, usize)> {
    let limit = limit.max(2);
    let mut all: Vec<(Range<usize>, usize)> = Vec::new();
    while all.last().map_or(0, |(range, _)| range.end) < len {
        let own = all.last().map_or(0, |(range, _)| range.end);
        let start = own.saturating_sub(if own == 0 { 0 } else { limit - limit / 2 });
        all.push((start..len.min(start + limit), own));
    }
    all
}

/// −log p of every token under the base, given the ones before it, as many as its positions hold. Where nothing precedes the
/// first, it counts as the most surprising.
pub fn surprise(decoder: &Decoder, prefixes: &[&[u32]]) -> Result<Vec<Vec<f64>>> {
    let _guard = tch::no_grad_guard();
    let (limit, is_first_read) = (decoder.room(), !decoder.begin().is_empty());
    let mut all: Vec<Vec<f64>> = prefixes.iter().map(|prefix| Vec::with_capacity(prefix.len())).collect();
    let parts: Vec<(usize, Range<usize>, usize)> = (prefixes.iter().enumerate())
        .flat_map(|(p, prefix)| stretches(prefix.len(), limit).into_iter().map(move |(range, own)| (p, range, own)))
        .collect();
    for batch in parts.chunks(STRETCHES_AT_ONCE) {
        let stretch = |(p, range, _): &(usize, Range<usize>, usize)| prefixes[*p][range.clone()].to_vec();
        let (ids, pad) = rows(decoder, &batch.iter().map(stretch).collect::<Vec<_>>())?;
        let (n, t) = ids.size2()?;
        let mut values = Vec::new();
        if t > 1 {
            let hidden = decoder.forward(&ids, &pad, None)?.narrow(1, 0, t - 1).reshape([n * (t - 1), -1]);
            let targets = ids.narrow(1, 1, t - 1).reshape([-1]).to_device(decoder.device());
            values = to_vec(&vocab::token_stats(&hidden, &targets, Head::base(decoder.head()), None)?.logprob)?;
        }
        for (row, (p, range, own)) in batch.iter().enumerate() {
            let ends = (row + 1) * (t as usize - 1);
            // The stretch's first token has no value in it, unless it stands behind a beginning.
            let first = if is_first_read { *own } else { (*own).max(range.start + 1) };
            all[*p].extend(values[ends - (range.end - first)..ends].iter().map(|v| -v));
        }
    }
    for (prefix, values) in prefixes.iter().zip(&mut all).filter(|(prefix, _)| !prefix.is_empty()) {
        if !is_first_read {
            values.insert(0, values.iter().copied().fold(0.0, f64::max));
        }
        debug_assert_eq!(values.len(), prefix.len());
    }
    Ok(all)
}

/// Hidden states `[N, F, H]` from which the last `future` tokens of `tails` are predicted, each row having read its own
/// context first, behind the beginning that every row of the base has. Contexts differ in length and may be empty; tails (local
/// window, then future) all have one length.
pub fn future_hidden(
    decoder: &Decoder,
    adapter: Option<&ActiveAdapter>,
    contexts: &[&[u32]],
    tails: &[&[u32]],
    future: usize,
) -> Result<Tensor> {
    if contexts.len() != tails.len() {
        return Err(Error::shape("contexts", format!("{} as tails", tails.len()), contexts.len()));
    }
    let len = tails.first().map_or(0, |t| t.len());
    if let Some(bad) = tails.iter().find(|t| t.len() != len || t.len() <= future) {
        return Err(Error::shape("tail", format!("{} tokens, more than the future's {future}", len), bad.len()));
    }
    // The last token predicts nothing that is asked for.
    let whole: Vec<Vec<u32>> =
        contexts.iter().zip(tails).map(|(c, t)| c.iter().chain(&t[..len - 1]).copied().collect()).collect();
    let (ids, pad) = rows(decoder, &whole)?;
    let hidden = decoder.forward(&ids, &pad, adapter)?;
    Ok(hidden.narrow(1, ids.size()[1] - future as i64, future as i64))
}

/// Rows that were read up to the point where several continuations begin.
pub struct Stem {
    /// Hidden state of each row's last token, `[R, 1, H]`.
    pub last: Tensor,
    /// Keys and values of all its tokens.
    pub cache: KvCache,
}

impl Stem {
    /// Reads whole rows, none empty, behind the beginning that every row of the base has.
    pub fn read(decoder: &Decoder, adapter: Option<&ActiveAdapter>, whole: &[Vec<u32>]) -> Result<Self> {
        let (ids, pad) = rows(decoder, whole)?;
        let (hidden, cache) = decoder.prefill(&ids, &pad, adapter)?;
        Ok(Self { last: hidden.narrow(1, ids.size()[1] - 1, 1), cache })
    }

    /// Hidden states `[R, S * F, H]` from which several futures a row, `[R, S, F]`, are predicted.
    pub fn futures(&self, decoder: &Decoder, adapter: Option<&ActiveAdapter>, futures: &Tensor) -> Result<Tensor> {
        let (r, s, f) = futures.size3()?;
        let width = decoder.config().hidden_size;
        let first = self.last.unsqueeze(1).expand([r, s, 1, width], false);
        let all = match f > 1 {
            true => {
                let later = decoder.branches(&futures.narrow(2, 0, f - 1), &self.cache, None, adapter)?;
                Tensor::cat(&[first, later], 2) // [R, S, 1 + F - 1, H]
            }
            false => first,
        };
        Ok(all.reshape([r, s * f, width]))
    }
}
