//! The span reader: an encoder that points at the answer to a question in a text (Devlin et al. 2019, arXiv 1810.04805, §4.2).
//!
//! A text beyond a row of the encoder is read in overlapping windows; each place of the text counts in the window where it
//! stands farther from an edge. The score of a span is that of its first token plus that of its last, less what the window gives
//! to "not here", so that spans of several windows can be compared.

use crate::compressor::foreign::{EncoderRow, Foreign, batches, right_pad};
use crate::error::{Error, Result};
use crate::grading::Grading;
use crate::model::encoder::Encoder;
use crate::model::encoder_record::EncoderRecord;
use crate::model::lora::Adapter;
use crate::model::row_head::RowHead;
use crate::model::span_head::AnswerHead;
use crate::tensor::{to_vec, widened};
use crate::tokenizer::Bytes;
use std::borrow::Borrow;
use std::path::Path;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// Name of the record in a reader's folder, which names the encoder that it was trained over.
pub const RECORD: &str = "reader.json";
/// Most tokens of an answer.
const LONGEST_ANSWER: usize = 30;

/// An encoder that points at answers.
pub struct SpanReader {
    foreign: Rc<Foreign>,
    encoder: Encoder,
    head: AnswerHead,
}

/// The span that a reader points at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanAnswer {
    /// The span; empty where there is no text.
    pub text: String,
    /// Its score above that of "not here"; below 0: more likely that the text has no answer.
    pub margin: f64,
}

impl SpanAnswer {
    /// The answer as this rule grades it: where questions may have none, none if that is more likely.
    pub fn said(&self, grading: Grading) -> &str {
        if grading == Grading::SquadV2 && self.margin < 0.0 { "" } else { &self.text }
    }
}

/// A text and a question in rows of the encoder.
pub struct SpanRows {
    /// The rows.
    pub rows: Vec<EncoderRow>,
    /// Bytes of the text that each of its tokens stands for.
    pub bytes: Vec<Bytes>,
}

impl SpanRows {
    /// The rows of text number `number`, each of `longest` tokens at most; none of a text without a token.
    pub fn of(foreign: &Foreign, number: usize, question: &str, text: &str, longest: i64) -> Result<Self> {
        let (ids, bytes) = foreign.tokenizer.aligned(text)?;
        let rows = match ids.is_empty() {
            true => Vec::new(),
            false => foreign.rows(number, &ids, &foreign.tokenizer.encode(question)?, longest),
        };
        Ok(Self { rows, bytes })
    }
}

impl SpanReader {
    /// The reader with these weights, which may require gradients.
    pub fn new(foreign: Rc<Foreign>, adapter: &Adapter, kind: Kind) -> Result<Self> {
        let (encoder, head) = adapter.spans(kind)?;
        Ok(Self { foreign, encoder, head })
    }

    /// Reads the folder of a trained reader; its encoder must be there.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let record = folder.join(RECORD);
        if !record.exists() {
            let expected = format!("expected the folder of a span reader with {RECORD} in it, got none");
            return Err(Error::file(folder, expected));
        }
        let base = EncoderRecord::folder(&record)?;
        let adapter = Adapter::load_rows(folder, RowHead::Span, &base, device)?;
        let foreign = Rc::new(Foreign::load(&base.join("tokenizer.json"))?);
        let _guard = tch::no_grad_guard();
        Self::new(foreign, &adapter, Kind::Float)
    }

    /// Logits `[N, T, 2]` f32 of rows, first and last token of the answer; places at which no answer may stand have −∞.
    pub fn logits<R: Borrow<EncoderRow>>(&self, rows: &[R]) -> Result<Tensor> {
        let (ids, lengths, _) = right_pad(rows, &self.encoder);
        let hidden = widened(&self.encoder.forward(&ids, &lengths, None)?);
        let width = ids.size()[1] as usize;
        let mut barred = vec![true; rows.len() * width];
        for (row, barred) in rows.iter().map(Borrow::borrow).zip(barred.chunks_mut(width)) {
            barred[0] = false;
            barred[row.head..row.ids.len() - self.foreign.marks.end.len()].fill(false);
        }
        let barred = Tensor::from_slice(&barred).view([rows.len() as i64, width as i64, 1]).to_device(hidden.device());
        Ok(self.head.logits(&hidden).masked_fill(&barred, f64::NEG_INFINITY))
    }

    /// The spans that answer each question in its text.
    pub fn answers(&self, asked: &[(&str, &str)]) -> Result<Vec<SpanAnswer>> {
        let _guard = tch::no_grad_guard();
        let (mut rows, mut all) = (Vec::new(), Vec::with_capacity(asked.len()));
        for (number, (question, text)) in asked.iter().enumerate() {
            let own = SpanRows::of(&self.foreign, number, question, text, self.encoder.config().longest)?;
            rows.extend(own.rows);
            all.push(own.bytes);
        }
        // Rows of like lengths are read together.
        rows.sort_by_key(|row| row.ids.len());
        let mut best = vec![None::<Pointed>; asked.len()];
        for batch in batches(&rows) {
            let logits = self.logits(batch)?;
            for (row, logits) in batch.iter().zip(logits.unbind(0)) {
                let [first, last] = [0, 1].map(|end| to_vec(&logits.select(1, end)));
                let end = row.ids.len() - self.foreign.marks.end.len();
                if let Some(found) = pointed(row, end, &first?, &last?) {
                    let known = &mut best[row.text];
                    if known.is_none_or(|known| found.margin > known.margin) {
                        *known = Some(found);
                    }
                }
            }
        }
        let mut answers = Vec::with_capacity(asked.len());
        for (((_, text), bytes), found) in asked.iter().zip(&all).zip(best) {
            answers.push(found.map_or_else(SpanAnswer::default, |Pointed { first, last, margin }| SpanAnswer {
                text: text.get(bytes[first].0..bytes[last].1).unwrap_or_default().to_string(),
                margin,
            }));
        }
        Ok(answers)
    }
}

/// First and last token of a span, numbered over its text.
#[derive(Clone, Copy)]
struct Pointed {
    first: usize,
    last: usize,
    margin: f64,
}

/// The span of a row with the highest score that begins at a place which counts; the context ends before `end`.
fn pointed(row: &EncoderRow, end: usize, first: &[f64], last: &[f64]) -> Option<Pointed> {
    let mut best: Option<Pointed> = None;
    for at in row.counts.start.max(row.head)..row.counts.end {
        for to in at..end.min(at + LONGEST_ANSWER) {
            let margin = first[at] + last[to] - first[0] - last[0];
            if best.is_none_or(|best| margin > best.margin) {
                let number = |place: usize| row.first + place - row.head;
                best = Some(Pointed { first: number(at), last: number(to), margin });
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_begins_where_the_row_counts_and_ends_behind_its_beginning() {
        // [CLS] q [SEP] then the context's tokens 5 to 9, then [SEP]; only 6 to 8 count.
        let row = EncoderRow { text: 0, ids: vec![0; 9], head: 3, first: 5, pair: true, counts: 4..7 };
        let mut first = [0.0; 9];
        let mut last = [0.0; 9];
        (first[0], last[0]) = (1.0, 0.5);
        (first[3], first[5], last[4], last[7]) = (9.0, 2.0, 8.0, 3.0);
        let found = pointed(&row, 8, &first, &last).unwrap();
        // 4 to 4 has 8, 5 to 7 has 5: a last token before the first does not count, nor a first one in another window.
        assert_eq!((found.first, found.last, found.margin), (6, 6, 6.5));
        last[4] = 0.0;
        let found = pointed(&row, 8, &first, &last).unwrap();
        assert_eq!((found.first, found.last, found.margin), (7, 9, 3.5));
        // What stands behind the context is no answer.
        last[8] = 100.0;
        assert_eq!(pointed(&row, 8, &first, &last).unwrap().last, 9);
    }
}
