//! An encoder that finds the evidence for a question: the score of a unit begins as a sum of terms that need no training, and
//! what the encoder reads in the unit's passage is added to it ([`crate::model::evidence_head`]).
//!
//! ```text
//! terms   cosine(question, unit), BM25(question, unit), cosine(question, passage with its title)     standardised
//! row     [CLS] question [SEP] title. unit unit … [SEP]                                              one a passage
//! score   terms · weights + layers(mean hidden state of the unit's tokens)
//! ```
//! Differs from a cross-encoder that reranks passages (Nogueira & Cho 2019, arXiv 1901.04085) in that one row scores all units
//! of a passage, each with its neighbours in view. A blank line ends a passage; its first line is a title if it begins with `#`
//! or ends like one, not like a sentence. A passage too long for a row is cut between units, each part under the title. The
//! cosines are those of the sentence encoder as it comes, so they may be remembered while the other one learns.

use crate::compressor::foreign::{EncoderRow, batches, right_pad};
use crate::compressor::scored::{Scored, Scorer};
use crate::compressor::scorers::bm25::Bm25;
use crate::compressor::scorers::embedding::Embedding;
use crate::error::Result;
use crate::model::encoder::Encoder;
use crate::model::evidence_head::{EvidenceHead, TERMS};
use crate::tensor::{std_dev, to_vec, widened};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Score of the end: a unit of a lower score is better dropped.
pub const END: f64 = 2.0;
/// Largest shares of a row that question and title take, as divisors.
const QUESTION_SHARE: usize = 3;
const TITLE_SHARE: usize = 8;

/// The sentence encoder as it comes, for the terms, and its tokenizer, for the rows.
pub struct EvidenceEncoder {
    embedding: Embedding,
    known: Option<RefCell<BTreeMap<String, Vec<f32>>>>,
}

/// Units of a prefix that are read together.
#[derive(Clone, Debug, PartialEq)]
struct Passage {
    /// Bytes of the title; empty where there is none.
    title: Range<usize>,
    /// Its units, those of the title first.
    units: Range<usize>,
    /// Units of the title.
    titles: usize,
}

/// A row, and for each unit in it the places of its tokens.
struct PassageRow {
    row: EncoderRow,
    places: Vec<(usize, Range<usize>)>,
}

impl EvidenceEncoder {
    /// Reads the folder of the sentence encoder.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        Ok(Self { embedding: Embedding::load(folder, device)?, known: None })
    }

    /// This encoder with a memory for the embedding of every unit, passage and question, for texts that are read again and
    /// again.
    pub fn remembering(self) -> Self {
        Self { known: Some(RefCell::default()), ..self }
    }

    /// Scores `[U]` f32 of the units of every prefix, with gradient if the encoder or the head has one.
    pub fn scores(&self, encoder: &Encoder, head: &EvidenceHead, prefixes: &[Scored]) -> Result<Vec<Tensor>> {
        let mut rows = Vec::new();
        let mut firsts = Vec::with_capacity(prefixes.len()); // number of a prefix's first unit among all units
        let mut count = 0;
        for prefix in prefixes {
            firsts.push(count);
            count += prefix.units.len();
        }
        for (prefix, first) in prefixes.iter().zip(&firsts) {
            rows.extend(self.rows(prefix, *first, encoder.config().longest as usize)?);
        }
        // Rows of like lengths are read together.
        rows.sort_by_key(|row| row.row.ids.len());
        let (rows, places): (Vec<EncoderRow>, Vec<_>) = rows.into_iter().map(|own| (own.row, own.places)).unzip();
        let (mut states, mut order, mut done) = (Vec::new(), vec![0i64; count], 0);
        let mut next = 0;
        for batch in batches(&rows) {
            let (ids, lengths, _) = right_pad(batch, encoder);
            let hidden = widened(&encoder.forward(&ids, &lengths, None)?);
            let (n, t, h) = hidden.size3()?;
            let own: Vec<(usize, Range<usize>)> = (places[done..done + batch.len()].iter().enumerate())
                .flat_map(|(b, row)| row.iter().map(move |(unit, at)| (*unit, moved(at, b * t as usize))))
                .collect();
            let mut shares = vec![0f32; own.len() * (n * t) as usize];
            for (i, (unit, at)) in own.iter().enumerate() {
                order[*unit] = next;
                next += 1;
                let row = i * (n * t) as usize;
                shares[row + at.start..row + at.end].fill(1.0 / at.len().max(1) as f32);
            }
            let shares = Tensor::from_slice(&shares).view([own.len() as i64, n * t]).to_device(hidden.device());
            states.push(shares.matmul(&hidden.reshape([n * t, h])));
            done += batch.len();
        }
        if count == 0 {
            let nothing = || Tensor::zeros([0], (Kind::Float, encoder.device()));
            return Ok(prefixes.iter().map(|_| nothing()).collect());
        }
        let order = Tensor::from_slice(&order).to_device(encoder.device());
        let states = Tensor::cat(&states, 0).index_select(0, &order); // [ΣU, H]
        let mut terms = Vec::with_capacity(count * TERMS.len());
        for prefix in prefixes {
            terms.extend(self.terms(prefix)?);
        }
        let terms = Tensor::from_slice(&terms).view([count as i64, TERMS.len() as i64]).to_device(encoder.device());
        let scores = head.scores(&states, &terms);
        let own = |(prefix, first): (&Scored, &usize)| scores.narrow(0, *first as i64, prefix.units.len() as i64);
        Ok(prefixes.iter().zip(&firsts).map(own).collect())
    }

    /// Embeddings `[N, H]` of texts.
    fn embedded(&self, texts: &[&str]) -> Result<Tensor> {
        let mut own = BTreeMap::new();
        let mut kept = self.known.as_ref().map(RefCell::borrow_mut);
        let known = kept.as_deref_mut().unwrap_or(&mut own);
        let mut fresh: Vec<&str> = texts.iter().copied().filter(|text| !known.contains_key(*text)).collect();
        // Texts of like lengths are read together.
        fresh.sort_by_key(|text| (text.len(), *text));
        fresh.dedup();
        if !fresh.is_empty() {
            for (text, embedding) in fresh.iter().zip(self.embedding.embed(&fresh, i64::MAX)?.unbind(0)) {
                known.insert((*text).to_string(), Vec::try_from(embedding)?);
            }
        }
        let rows: Vec<Tensor> = texts.iter().filter_map(|text| Some(Tensor::from_slice(known.get(*text)?))).collect();
        Ok(Tensor::stack(&rows, 0))
    }

    /// The terms of each unit, one unit after the other; without a question 0.
    pub fn terms(&self, prefix: &Scored) -> Result<Vec<f32>> {
        let (units, question) = (&prefix.units, prefix.question.text());
        if question.is_empty() || units.is_empty() {
            return Ok(vec![0.0; units.len() * TERMS.len()]);
        }
        let passages = self.passages(prefix, self.embedding.encoder.config().longest as usize)?;
        let said = |passage: &Passage| {
            let units = passage.units.start + passage.titles..passage.units.end;
            let body: String = units.map(|unit| prefix.decoded.slice(&prefix.units[unit])).collect();
            format!("{}{}", titled(prefix, passage), body.trim())
        };
        let wholes: Vec<String> = passages.iter().map(said).collect();
        let mut texts: Vec<&str> = units.iter().map(|unit| prefix.decoded.slice(unit).trim()).collect();
        texts.extend(wholes.iter().map(String::as_str));
        texts.push(question);
        let all = self.embedded(&texts)?; // [U + passages + 1, H]
        let cosines = to_vec(&all.matmul(&all.get(texts.len() as i64 - 1)))?;
        let (own, wholes) = cosines.split_at(units.len());
        let mut passage = vec![0.0; units.len()];
        for (whole, cosine) in passages.iter().zip(wholes) {
            passage[whole.units.clone()].fill(*cosine);
        }
        let bm25 = Bm25.score(std::slice::from_ref(prefix))?.pop().unwrap_or_default();
        let columns = [standardised(own), standardised(&bm25), standardised(&passage)];
        Ok((0..units.len()).flat_map(|unit| columns.each_ref().map(|column| column[unit] as f32)).collect())
    }

    /// The rows of a prefix whose first unit has the number `first`.
    fn rows(&self, prefix: &Scored, first: usize, limit: usize) -> Result<Vec<PassageRow>> {
        let marks = &self.embedding.foreign.marks;
        let head = self.head(prefix, limit)?;
        let mut all = Vec::new();
        for passage in self.passages(prefix, limit)? {
            let mut ids = head.clone();
            let title = self.title(prefix, &passage, limit)?;
            let mut places = Vec::with_capacity(passage.units.len());
            let body = passage.units.start + passage.titles;
            places.extend((passage.units.start..body).map(|unit| (first + unit, ids.len()..ids.len() + title.len())));
            ids.extend(title);
            for unit in body..passage.units.end {
                let own = self.embedding.foreign.tokenizer.encode(prefix.decoded.slice(&prefix.units[unit]))?;
                let room = limit.saturating_sub(ids.len() + marks.end.len());
                let own = &own[..own.len().min(room)];
                places.push((first + unit, ids.len()..ids.len() + own.len()));
                ids.extend(own);
            }
            ids.extend(&marks.end);
            let row = EncoderRow { text: 0, counts: 0..ids.len(), head: 0, first: 0, pair: false, ids };
            all.push(PassageRow { row, places });
        }
        Ok(all)
    }

    /// The passages of a prefix, cut so that each fits a row of `limit` tokens; a unit that does not fit stands alone.
    fn passages(&self, prefix: &Scored, limit: usize) -> Result<Vec<Passage>> {
        let mut all = Vec::new();
        let head = self.head(prefix, limit)?.len() + self.embedding.foreign.marks.end.len();
        for passage in passages(prefix) {
            let room = limit.saturating_sub(head + self.title(prefix, &passage, limit)?.len());
            let (mut start, mut used) = (passage.units.start, 0);
            let mut titles = passage.titles;
            for unit in passage.units.start + passage.titles..passage.units.end {
                let tokens = self.embedding.foreign.tokenizer.encode(prefix.decoded.slice(&prefix.units[unit]))?.len();
                if used > 0 && used + tokens > room {
                    all.push(Passage { title: passage.title.clone(), units: start..unit, titles });
                    (start, used, titles) = (unit, 0, 0);
                }
                used += tokens;
            }
            all.push(Passage { title: passage.title.clone(), units: start..passage.units.end, titles });
        }
        Ok(all)
    }

    /// Beginning of every row: the question, of a long one the end.
    fn head(&self, prefix: &Scored, limit: usize) -> Result<Vec<u32>> {
        let marks = &self.embedding.foreign.marks;
        let question = self.embedding.foreign.tokenizer.encode(prefix.question.text())?;
        if question.is_empty() {
            return Ok(marks.begin.clone());
        }
        let question = &question[question.len().saturating_sub(limit / QUESTION_SHARE)..];
        Ok([&marks.begin, question, &marks.between].concat())
    }

    fn title(&self, prefix: &Scored, passage: &Passage, limit: usize) -> Result<Vec<u32>> {
        let mut ids = self.embedding.foreign.tokenizer.encode(&titled(prefix, passage))?;
        ids.truncate(limit / TITLE_SHARE);
        Ok(ids)
    }
}

fn moved(range: &Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}

/// The title of a passage with a full stop and a blank behind it; empty where there is none.
fn titled(prefix: &Scored, passage: &Passage) -> String {
    match &prefix.decoded.text()[passage.title.clone()] {
        "" => String::new(),
        title => format!("{title}. "),
    }
}

/// The passages of a prefix, each of at least one unit, together all units.
fn passages(prefix: &Scored) -> Vec<Passage> {
    let text = prefix.decoded.text();
    let (mut blocks, mut blank) = (Vec::new(), true); // where each begins
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let is_blank = line.trim().is_empty();
        if blank && !is_blank {
            blocks.push(at);
        }
        (blank, at) = (is_blank, at + line.len());
    }
    let seen = |unit: &Range<usize>| {
        let said = prefix.decoded.slice(unit);
        prefix.decoded.bytes(unit).start + said.len() - said.trim_start().len()
    };
    let block = |at: usize| blocks.partition_point(|&begin| begin <= at).saturating_sub(1);
    let mut all: Vec<(usize, Passage)> = Vec::new();
    for (u, unit) in prefix.units.iter().enumerate() {
        // Blanks go with what stands before them.
        let is_blank = prefix.decoded.slice(unit).trim().is_empty();
        let begins = seen(unit);
        let own = block(begins);
        match all.last_mut() {
            Some((last, passage)) if is_blank || *last == own => passage.units.end = u + 1,
            _ => {
                let end = blocks.get(own + 1).copied().unwrap_or(text.len());
                let start = blocks.get(own).copied().unwrap_or(0);
                all.push((own, Passage { title: title(text, start..end), units: u..u + 1, titles: 0 }));
            }
        }
        if let Some((_, passage)) = all.last_mut()
            && !passage.title.is_empty()
            && begins < passage.title.end
            && passage.units.start + passage.titles == u
        {
            passage.titles += 1;
        }
    }
    all.into_iter().map(|(_, passage)| passage).collect()
}

/// Bytes of the title of a block; an empty range where it has none.
fn title(text: &str, block: Range<usize>) -> Range<usize> {
    let none = block.start..block.start;
    let Some((line, rest)) = text[block.clone()].split_once('\n') else { return none };
    let said = line.trim_start_matches(['#', ' ']).trim_end();
    let is_title = line.starts_with('#') || said.ends_with(|c: char| c.is_alphanumeric() || c == ')');
    match rest.trim().is_empty() || said.is_empty() || !is_title {
        true => none,
        false => {
            let start = block.start + line.find(said).unwrap_or(0);
            start..start + said.len()
        }
    }
}

/// Values in standard deviations from their mean; 0 where all are equal.
fn standardised(values: &[f64]) -> Vec<f64> {
    let (mean, spread) = (crate::tensor::mean(values), std_dev(values));
    values.iter().map(|value| (value - mean) / (spread + 1e-6)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compressor::contract::Request;
    use crate::config::compressors::Unit;
    use crate::tokenizer::Decoded;

    /// Title and units of each passage of a text, a token a word or a line break, and the number of units of the title.
    fn cut(text: &str) -> Vec<(String, Vec<String>, usize)> {
        let tokens: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
        let request = Request { prefix: &[], local: &[], query: &[], key: 0 };
        let decoded = Decoded::of(&tokens);
        let units = Unit::Sentence {}.cut(&decoded);
        let prefix = Scored { request: &request, units, decoded, question: Decoded::default() };
        let said = |unit: usize| prefix.decoded.slice(&prefix.units[unit]).to_string();
        let found = passages(&prefix).into_iter();
        let own = |p: Passage| (prefix.decoded.text()[p.title].to_string(), p.units.map(said).collect(), p.titles);
        found.map(own).collect()
    }

    fn passage(title: &str, units: &[&str], titles: usize) -> (String, Vec<String>, usize) {
        (title.to_string(), units.iter().map(|unit| (*unit).to_string()).collect(), titles)
    }

    #[test]
    fn blank_lines_part_passages_and_a_first_line_may_be_a_title() {
        let text = "# One two\nA b. C d.\n\nThree (1)\nE f.\n\nG h. I j.\nK l.\n";
        let expected = [
            passage("One two", &["# One two\n", "A b. ", "C d.\n", "\n"], 1),
            passage("Three (1)", &["Three (1)\n", "E f.\n", "\n"], 1),
            passage("", &["G h. ", "I j.\n", "K l.\n"], 0),
        ];
        assert_eq!(cut(text), expected);
        assert_eq!(cut("# Alone\n"), [passage("", &["# Alone\n"], 0)], "nothing stands under it");
        assert_eq!(cut("\n \nA b.\n"), [passage("", &["\n", " \n", "A b.\n"], 0)]);
        assert_eq!(cut("\n# One\nA b.\n"), [passage("One", &["\n", "# One\n", "A b.\n"], 2)]);
        assert!(cut("").is_empty());
    }

    #[test]
    fn values_are_told_in_deviations_from_their_mean() {
        let expected = [-1.0, 0.0, 1.0];
        assert!(standardised(&[2.0, 4.0, 6.0]).iter().zip(expected).all(|(z, known)| (z - known).abs() < 1e-6));
        assert_eq!(standardised(&[3.0, 3.0]), [0.0, 0.0]);
        assert!(standardised(&[]).is_empty());
    }
}
