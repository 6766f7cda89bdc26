//! An encoder with a tokenizer of its own: question and context as the pair that it was made for, long contexts in
//! overlapping windows, and what it makes of its own tokens brought back to those of the reading model.
//!
//! ```text
//! [CLS] question [SEP] context [SEP]        or      [CLS] context [SEP]         BERT, ModernBERT
//! <s> question </s> </s> context </s>       or      <s> context </s>            RoBERTa, XLM-R
//! ```
//! A token of the reading model takes the mean over the encoder's tokens that share bytes with it; one of which the encoder
//! keeps nothing (blanks) takes the nearest.

use crate::compressor::ranges::{range_means, windows};
use crate::compressor::scored::Scored;
use crate::error::{Error, Result};
use crate::model::encoder::{Encoder, EncoderConfig, real};
use crate::model::lora::ActiveAdapter;
use crate::model::token_classifier::TokenClassifier;
use crate::tensor::{to_vec, widened};
use crate::tokenizer::{Bytes, Marks, Tokenizer};
use std::borrow::Borrow;
use std::ops::Range;
use std::path::Path;
use tch::{Kind, Tensor};

const ROWS_AT_ONCE: usize = 16;
/// Tokens of a batch, padding included; one row may have more.
const TOKENS_AT_ONCE: usize = ROWS_AT_ONCE * 512;

/// The encoder's own tokenizer.
pub struct Foreign {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Tokens round a text.
    pub marks: Marks,
}

/// Output of the encoder for one prefix of P tokens.
pub(super) struct Encoded {
    /// Hidden states and the worth of each token, `[P, H + 1]` f32.
    pub tokens: Tensor,
    /// Worth of the end, a scalar.
    pub end: Tensor,
}

/// One text or a part of it, as the encoder reads it.
pub struct EncoderRow {
    /// Index of the text that the row is from.
    pub text: usize,
    /// Tokens of the encoder.
    pub ids: Vec<u32>,
    /// Position in `ids` at which the context begins.
    pub head: usize,
    /// Number of the context's token that stands there.
    pub first: usize,
    /// Whether a question stands before the context.
    pub pair: bool,
    /// Range of `ids` for which this row gives the outputs; for a text without a single token, the beginning.
    pub counts: Range<usize>,
}

impl Foreign {
    /// Reads `tokenizer.json`, which must put tokens around a text (see [`Tokenizer::marks`]) and have no id beyond the rows of
    /// the encoder whose `config.json` is beside it.
    pub fn load(path: &Path) -> Result<Self> {
        let tokenizer = Tokenizer::load_encoder(path)?;
        let config = path.with_file_name("config.json");
        tokenizer.check_model(&config, EncoderConfig::load(&config)?.vocab_size)?;
        let marks = tokenizer.marks(path)?;
        Ok(Self { tokenizer, marks })
    }

    /// The mean hidden state of each text, or that of its first token, cut to what the encoder holds, at length 1: `[N, H]`
    /// f32.
    pub fn embed(&self, encoder: &Encoder, texts: &[&str], first: bool) -> Result<Tensor> {
        self.embed_within(encoder, texts, first, encoder.config().longest)
    }

    /// [`Foreign::embed`] of texts that are cut to `longest` tokens, those around a text included.
    pub fn embed_within(&self, encoder: &Encoder, texts: &[&str], first: bool, longest: i64) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let Marks { begin, end, .. } = &self.marks;
        let longest = longest.min(encoder.config().longest) as usize;
        let room = longest.saturating_sub(begin.len() + end.len());
        let mut rows = Vec::with_capacity(texts.len());
        for (text, content) in texts.iter().enumerate() {
            let ids = self.tokenizer.encode(content)?;
            let ids = [begin, &ids[..ids.len().min(room)], end].concat();
            rows.push(EncoderRow { text, counts: 0..ids.len(), head: begin.len(), first: 0, pair: false, ids });
        }
        let mut means = Vec::new();
        for batch in batches(&rows) {
            let (ids, lengths, _) = right_pad(batch, encoder);
            let hidden = encoder.forward(&ids, &lengths, None)?.to_kind(Kind::Float);
            for (b, length) in lengths.iter().enumerate() {
                let own = hidden.get(b as i64).narrow(0, 0, if first { 1 } else { *length });
                let mean = own.mean_dim([0i64].as_slice(), false, Kind::Float);
                means.push(&mean / mean.norm().clamp_min(1e-12));
            }
        }
        Ok(Tensor::stack(&means, 0))
    }

    /// Worth that a classifier gives to each text's own tokens (one value at least), and the bytes of the text that each
    /// token stands for.
    pub fn worths(&self, classifier: &TokenClassifier, texts: &[&str]) -> Result<Vec<(Vec<f64>, Vec<Bytes>)>> {
        let _guard = tch::no_grad_guard();
        let encoder = classifier.encoder();
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for (t, text) in texts.iter().enumerate() {
            let (ids, bytes) = self.tokenizer.aligned(text)?;
            rows.extend(self.rows(t, &ids, &[], encoder.config().longest));
            all.push((Vec::with_capacity(ids.len()), bytes));
        }
        for batch in batches(&rows) {
            let (ids, lengths, _) = right_pad(batch, encoder);
            let worth = to_vec(&classifier.worth(&ids, &lengths)?.reshape([-1]))?;
            for (row, worth) in batch.iter().zip(worth.chunks(ids.size()[1] as usize)) {
                all[row.text].0.extend(&worth[row.counts.clone()]);
            }
        }
        Ok(all)
    }

    /// Hidden states and worth of the tokens of the reading model, and the worth of the end, for every prefix.
    pub(super) fn encode(&self, active: &ActiveAdapter, prefixes: &[Scored]) -> Result<Vec<Encoded>> {
        let none = || Error::invalid("expected an adapter that is an encoder with heads, got another");
        let (encoder, heads) = active.encoder.as_ref().zip(active.heads.as_ref()).ok_or_else(none)?;
        let (mut contexts, mut rows) = (Vec::new(), Vec::new());
        for (p, Scored { decoded, question, .. }) in prefixes.iter().enumerate() {
            let (ids, bytes) = self.tokenizer.aligned(decoded.text())?;
            let question = self.tokenizer.encode(question.text())?;
            rows.extend(self.rows(p, &ids, &question, encoder.config().longest));
            contexts.push(sharing(&decoded.ranges().collect::<Vec<_>>(), &bytes));
        }
        let mut tokens: Vec<Vec<Tensor>> = prefixes.iter().map(|_| Vec::new()).collect();
        let mut ends: Vec<Vec<Tensor>> = prefixes.iter().map(|_| Vec::new()).collect();
        for batch in batches(&rows) {
            let (ids, lengths, segments) = right_pad(batch, encoder);
            let hidden = widened(&encoder.forward(&ids, &lengths, Some(&segments))?);
            let worth = heads.logits(&hidden, &real(&lengths, ids.size()[1], hidden.device())).worth().unsqueeze(-1);
            let both = Tensor::cat(&[&hidden, &worth], -1);
            let end = hidden.select(1, 0).linear(&widened(&active.end), None::<Tensor>);
            for (b, row) in batch.iter().enumerate() {
                let counts = &row.counts;
                let own = both.get(b as i64).narrow(0, counts.start as i64, counts.len() as i64);
                tokens[row.text].push(own);
                ends[row.text].push(end.get(b as i64).view([]));
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

    /// The rows of a text, each of `longest` tokens at most: of a long question the end, at most a third of a row; of a long
    /// context one row a window.
    pub fn rows(&self, text: usize, ids: &[u32], question: &[u32], longest: i64) -> Vec<EncoderRow> {
        let limit = longest as usize;
        let Marks { begin, between, end } = &self.marks;
        let pair = !question.is_empty();
        let mut head = begin.clone();
        if pair {
            head.extend(&question[question.len().saturating_sub(limit / 3)..]);
            head.extend(between);
        }
        let room = limit.saturating_sub(head.len() + end.len());
        let row = |(window, counts): (Range<usize>, Range<usize>)| {
            let at = |place: usize| head.len() + place - window.start;
            let counts = if counts.is_empty() { 0..1 } else { at(counts.start)..at(counts.end) };
            EncoderRow {
                text,
                first: window.start,
                ids: [&head, &ids[window], end].concat(),
                head: head.len(),
                pair,
                counts,
            }
        };
        windows(ids.len(), room).into_iter().map(row).collect()
    }
}

/// Rows that are read together, in their order.
pub fn batches(rows: &[EncoderRow]) -> Vec<&[EncoderRow]> {
    let (mut all, mut first) = (Vec::new(), 0);
    while first < rows.len() {
        let (mut count, mut longest) = (0, 0);
        for row in rows[first..].iter().take(ROWS_AT_ONCE) {
            longest = row.ids.len().max(longest);
            if count > 0 && (count + 1) * longest > TOKENS_AT_ONCE {
                break;
            }
            count += 1;
        }
        all.push(&rows[first..first + count]);
        first += count;
    }
    all
}

/// Ids `[N, T]` padded on the right, lengths, and segments `[N, T]`: 1 from a context on that follows a question, if the
/// encoder tells segments apart.
pub fn right_pad<R: Borrow<EncoderRow>>(rows: &[R], encoder: &Encoder) -> (Tensor, Vec<i64>, Tensor) {
    let rows: Vec<&EncoderRow> = rows.iter().map(Borrow::borrow).collect();
    let width = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    let told_apart = encoder.config().type_vocab_size > 1;
    let (mut ids, mut segments, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let second = |at: usize| i64::from(told_apart && row.pair && at >= row.head && at < row.ids.len());
        ids.extend((0..width).map(|at| row.ids.get(at).map_or(0, |&id| i64::from(id))));
        segments.extend((0..width).map(second));
        lengths.push(row.ids.len() as i64);
    }
    let tensor = |xs: &[i64]| Tensor::from_slice(xs).view([-1, width as i64]).to_device(encoder.device());
    (tensor(&ids), lengths, tensor(&segments))
}

/// For each place, in the order of their starts, the encoder's tokens (given by their ascending ranges of bytes) that share
/// bytes with it, or else the nearest before it, or the first.
pub fn sharing(places: &[Range<usize>], bytes: &[Bytes]) -> Vec<Range<usize>> {
    let mut first = 0;
    let mut all = Vec::with_capacity(places.len());
    for place in places {
        while first < bytes.len() && bytes[first].1 <= place.start {
            first += 1;
        }
        let count = bytes[first..].iter().take_while(|(start, _)| *start < place.end).count();
        all.push(match count {
            0 if first == 0 => 0..1,
            0 => first - 1..first,
            count => first..first + count,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Decoded;

    #[test]
    fn tokens_find_those_of_the_encoder_that_share_bytes_with_them() {
        let nearest = |tokens: &str, bytes: &[Bytes]| {
            sharing(&Decoded::of(&tokens.split('|').collect::<Vec<_>>()).ranges().collect::<Vec<_>>(), bytes)
        };
        // "  def add" cut otherwise: `def` at 2..5, `add` at 6..9.
        assert_eq!(nearest("  |de|f a|dd", &[(2, 5), (6, 9)]), [0..1, 0..1, 0..2, 1..2]);
        assert_eq!(nearest("a|   |b", &[(0, 1), (4, 5)]), [0..1, 0..1, 1..2]);
        assert_eq!(nearest("ab|   ", &[(0, 1), (1, 2)]), [0..2, 1..2]);
        assert_eq!(nearest(" ", &[]), vec![0..1; 1]);
        assert!(sharing(&[], &[]).is_empty());
        // Places may overlap.
        assert_eq!(sharing(&[0..4, 2..6, 4..8], &[(0, 3), (3, 5), (5, 8)]), [0..2, 0..3, 1..3]);
    }
}
