//! An encoder with a tokenizer of its own under an extractive policy: question and context as BERT's pair, long contexts in
//! overlapping windows, and what it makes of its own tokens brought back to those of the reading model.
//!
//! ```text
//! [CLS] question [SEP] context [SEP]      or      [CLS] context [SEP]
//! ```
//! A token of the reading model takes the mean over the encoder's tokens that share bytes with it; one of which the encoder
//! keeps nothing (blanks) takes the nearest.

use crate::compressor::extractive::{Encoded, range_means, windows};
use crate::error::{Error, Result};
use crate::model::encoder::Encoder;
use crate::model::lora::ActiveAdapter;
use crate::tensor::widened;
use crate::tokenizer::{Bytes, Tokenizer};
use std::ops::Range;
use std::path::Path;
use tch::{Kind, Tensor};

const ROWS_AT_ONCE: usize = 16;

/// The encoder's own tokenizer.
pub struct Foreign {
    tokenizer: Tokenizer,
    begin: u32,
    separator: u32,
}

/// What one request looks like to it.
pub struct Text {
    /// Texts of the prefix's tokens.
    pub pieces: Vec<String>,
    /// Text of what the prefix is wanted for.
    pub question: String,
}

impl Foreign {
    /// Reads `tokenizer.json`, which must know BERT's `[CLS]` and `[SEP]`.
    pub fn load(path: &Path) -> Result<Self> {
        let tokenizer = Tokenizer::load_plain(path)?;
        let id = |token: &str| {
            let missing = || Error::file(path, format!("expected the token {token:?}, as BERT has it, got none"));
            tokenizer.id_of(token).ok_or_else(missing)
        };
        let (begin, separator) = (id("[CLS]")?, id("[SEP]")?);
        Ok(Self { tokenizer, begin, separator })
    }

    /// The mean hidden state of each text, cut to what the encoder holds, at length 1: `[N, H]` f32.
    pub fn embed(&self, encoder: &Encoder, texts: &[String]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let room = encoder.config().max_position_embeddings as usize - 2;
        let mut rows = Vec::with_capacity(texts.len());
        for text in texts {
            let ids = self.tokenizer.encode(text)?;
            rows.push([&[self.begin], &ids[..ids.len().min(room)], &[self.separator]].concat());
        }
        let mut means = Vec::new();
        for batch in rows.chunks(ROWS_AT_ONCE) {
            let (ids, lengths, _) = right_pad(batch.iter().map(|row| (row, 1)), encoder);
            let hidden = encoder.forward(&ids, &lengths, None)?.to_kind(Kind::Float);
            for (b, length) in lengths.iter().enumerate() {
                let mean = hidden.get(b as i64).narrow(0, 0, *length).mean_dim([0i64].as_slice(), false, Kind::Float);
                means.push(&mean / mean.norm().clamp_min(1e-12));
            }
        }
        Ok(Tensor::stack(&means, 0))
    }

    /// Hidden states and worth of the tokens of the reading model, and the worth of the end, for every text.
    pub(super) fn encode(&self, active: &ActiveAdapter, texts: &[Text]) -> Result<Vec<Encoded>> {
        let none = || Error::invalid("expected an adapter that is an encoder with heads, got another");
        let (encoder, heads) = active.encoder.as_ref().zip(active.heads.as_ref()).ok_or_else(none)?;
        let limit = encoder.config().max_position_embeddings as usize;
        let (mut contexts, mut rows) = (Vec::new(), Vec::new());
        for (t, text) in texts.iter().enumerate() {
            let (ids, bytes) = self.tokenizer.aligned(&text.pieces.concat())?;
            let question = self.tokenizer.encode(&text.question)?;
            let mut head = vec![self.begin];
            if !question.is_empty() {
                head.extend(&question[question.len().saturating_sub(limit / 3)..]);
                head.push(self.separator);
            }
            for (window, counts) in windows(ids.len(), limit - head.len() - 1) {
                let row = [&head, &ids[window.clone()], &[self.separator]].concat();
                rows.push((
                    t,
                    head.len() + counts.start - window.start..head.len() + counts.end - window.start,
                    head.len(),
                    row,
                ));
            }
            contexts.push(nearest(&text.pieces, &bytes));
        }
        let mut tokens: Vec<Vec<Tensor>> = texts.iter().map(|_| Vec::new()).collect();
        let mut ends: Vec<Vec<Tensor>> = texts.iter().map(|_| Vec::new()).collect();
        for batch in rows.chunks(ROWS_AT_ONCE) {
            let (ids, lengths, segments) = right_pad(batch.iter().map(|(.., head, row)| (row, *head)), encoder);
            let hidden = widened(&encoder.forward(&ids, &lengths, Some(&segments))?);
            let steps = Tensor::arange(ids.size()[1], (Kind::Int64, hidden.device()));
            let real = steps.lt_tensor(&Tensor::from_slice(&lengths).to_device(hidden.device()).unsqueeze(1));
            let worth = heads.logits(&hidden, &real).worth().unsqueeze(-1);
            let both = Tensor::cat(&[&hidden, &worth], -1);
            let end = hidden.select(1, 0).linear(&widened(&active.end), None::<Tensor>);
            for (b, (t, counts, ..)) in batch.iter().enumerate() {
                // A text without a single token of the encoder has what it makes of the beginning.
                let place = if counts.is_empty() { 0..1 } else { counts.clone() };
                tokens[*t].push(both.get(b as i64).narrow(0, place.start as i64, place.len() as i64));
                ends[*t].push(end.get(b as i64).view([]));
            }
        }
        let parts = tokens.into_iter().zip(ends).zip(contexts);
        Ok(parts
            .map(|((tokens, ends), ranges)| {
                let own = Tensor::cat(&tokens, 0);
                let tokens = if ranges.is_empty() { own.narrow(0, 0, 0) } else { range_means(&own, &ranges) };
                Encoded { tokens, end: Tensor::stack(&ends, 0).mean(Kind::Float) }
            })
            .collect())
    }
}

/// Ids `[N, T]` padded on the right, lengths, and segments `[N, T]`: 1 from a context on that follows a question.
fn right_pad<'a>(
    rows: impl Iterator<Item = (&'a Vec<u32>, usize)> + Clone,
    encoder: &Encoder,
) -> (Tensor, Vec<i64>, Tensor) {
    let width = rows.clone().map(|(row, _)| row.len()).max().unwrap_or(0);
    let (mut ids, mut segments, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for (row, head) in rows {
        let second = |at: usize| i64::from(head > 1 && at >= head && at < row.len());
        ids.extend((0..width).map(|at| row.get(at).map_or(0, |&id| i64::from(id))));
        segments.extend((0..width).map(second));
        lengths.push(row.len() as i64);
    }
    let tensor = |xs: &[i64]| Tensor::from_slice(xs).view([-1, width as i64]).to_device(encoder.device());
    (tensor(&ids), lengths, tensor(&segments))
}

/// For each piece, the encoder's tokens (given by their ascending ranges of bytes) that share bytes with it, or else the
/// nearest before it, or the first.
fn nearest(pieces: &[String], bytes: &[Bytes]) -> Vec<Range<usize>> {
    let (mut offset, mut first) = (0, 0);
    let mut all = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let end = offset + piece.len();
        while first < bytes.len() && bytes[first].1 <= offset {
            first += 1;
        }
        let count = bytes[first..].iter().take_while(|(start, _)| *start < end).count();
        all.push(match count {
            0 if first == 0 => 0..1,
            0 => first - 1..first,
            count => first..first + count,
        });
        offset = end;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_find_the_tokens_that_share_bytes_with_them() {
        let pieces = |text: &str| text.split('|').map(String::from).collect::<Vec<_>>();
        // "  def add" cut otherwise: `def` at 2..5, `add` at 6..9.
        assert_eq!(nearest(&pieces("  |de|f a|dd"), &[(2, 5), (6, 9)]), [0..1, 0..1, 0..2, 1..2]);
        assert_eq!(nearest(&pieces("a|   |b"), &[(0, 1), (4, 5)]), [0..1, 0..1, 1..2]);
        assert_eq!(nearest(&pieces("ab|   "), &[(0, 1), (1, 2)]), [0..2, 1..2]);
        assert_eq!(nearest(&pieces(" "), &[]), vec![0..1; 1]);
        assert!(nearest(&[], &[]).is_empty());
    }
}
