//! Questions as a span reader learns from them: rows of the encoder, and the places at which the answer begins and ends.
//!
//! The rows of a benchmark do not say which of several occurrences of an answer is meant: all of them count, those at the edges of
//! words if there are such. A row without one of them is answered by its first token, "not here"; so is a question that is asked of
//! another context of its document, in which none of its answers stands.

use crate::compressor::foreign::{EncoderRow, Foreign};
use crate::data::task::{TaskRow, benchmark, read_task};
use crate::error::{Error, Result};
use crate::reading::span::SpanRows;
use crate::rng::{self, Stream};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A row with the places of the answer in it.
pub struct SpanExample {
    /// The row.
    pub row: EncoderRow,
    /// Places at which the answer may begin.
    pub first: Vec<usize>,
    /// Places at which it may end.
    pub last: Vec<usize>,
}

/// Reads the questions of files, each by its benchmark; `key` names them in errors.
pub fn read(key: &str, files: &BTreeMap<String, PathBuf>) -> Result<BTreeMap<String, Vec<TaskRow>>> {
    let one = |(name, path): (&String, &PathBuf)| {
        let known = benchmark(name).map_err(|error| Error::invalid(format!("`{key}`: {error}")))?;
        Ok((name.clone(), read_task(known, path)?.rows))
    };
    files.iter().map(one).collect()
}

/// Parts of a text at which one of `answers` stands: at the edges of words if there are such, else anywhere.
fn occurrences(text: &str, answers: &[String]) -> Vec<Range<usize>> {
    let found = |answer: &String| -> Vec<Range<usize>> {
        let answer = answer.trim();
        if answer.is_empty() {
            return Vec::new();
        }
        text.match_indices(answer).map(|(at, own)| at..at + own.len()).collect()
    };
    let all: Vec<Range<usize>> = answers.iter().flat_map(found).collect();
    let is_whole = |range: &&Range<usize>| {
        let before = text[..range.start].chars().next_back();
        let behind = text[range.end..].chars().next();
        ![before, behind].into_iter().flatten().any(char::is_alphanumeric)
    };
    let whole: Vec<Range<usize>> = all.iter().filter(is_whole).cloned().collect();
    if whole.is_empty() { all } else { whole }
}

/// The examples that a question makes of a text.
fn of(foreign: &Foreign, longest: i64, question: &str, text: &str, answers: &[String]) -> Result<Vec<SpanExample>> {
    let SpanRows { rows, bytes } = SpanRows::of(foreign, 0, question, text, longest)?;
    let tokens = |part: &Range<usize>| -> Option<(usize, usize)> {
        let first = bytes.iter().position(|&(_, end)| end > part.start)?;
        let last = bytes.iter().rposition(|&(start, _)| start < part.end)?;
        (first <= last).then_some((first, last))
    };
    let spans: Vec<(usize, usize)> = occurrences(text, answers).iter().filter_map(tokens).collect();
    let example = |row: EncoderRow| {
        let window = row.first..row.first + row.ids.len() - row.head - foreign.marks.end.len();
        let at = |number: usize| row.head + number - row.first;
        let inside = spans.iter().filter(|(first, last)| window.contains(first) && window.contains(last));
        let (mut firsts, mut lasts): (Vec<usize>, Vec<usize>) =
            inside.map(|&(first, last)| (at(first), at(last))).unzip();
        if firsts.is_empty() {
            (firsts, lasts) = (vec![0], vec![0]);
        }
        SpanExample { row, first: firsts, last: lasts }
    };
    Ok(rows.into_iter().map(example).collect())
}

/// The examples of questions, and those of a share of them that are asked of another context of their document.
pub fn examples(
    rows: &[TaskRow],
    foreign: &Foreign,
    longest: i64,
    unanswerable: f64,
    seed: u64,
) -> Result<Vec<SpanExample>> {
    let mut contexts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        if let Some(document) = &row.document {
            contexts.entry(document).or_default().insert(&row.context);
        }
    }
    let mut all = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        all.extend(of(foreign, longest, &row.query, &row.context, &row.answers)?);
        let mut draws = rng::rng(seed, Stream::Synthetic, 0, number as u64, 0);
        if rng::uniform(&mut draws) >= unanswerable {
            continue;
        }
        let is_other =
            |text: &&&str| **text != row.context && !row.answers.iter().any(|answer| text.contains(answer.as_str()));
        let own = row.document.as_deref().and_then(|document| contexts.get(document));
        let others: Vec<&&str> = own.into_iter().flatten().filter(is_other).collect();
        if !others.is_empty() {
            let other = others[rng::below(&mut draws, others.len())];
            all.extend(of(foreign, longest, &row.query, other, &[])?);
        }
    }
    Ok(all)
}

/// Batches of an epoch, in an order of its own: rows of like lengths stand together, so that little is padding.
pub fn batches(examples: &[SpanExample], batch: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    /// Batches within which rows are sorted by length.
    const SORTED: usize = 16;
    let mut draws = rng::rng(seed, Stream::Data, epoch as u64, 0, 0);
    let order = rng::choose(&mut draws, examples.len(), examples.len());
    let mut all: Vec<Vec<usize>> = Vec::new();
    for part in order.chunks(batch * SORTED) {
        let mut part = part.to_vec();
        part.sort_by_key(|&at| examples[at].row.ids.len());
        all.extend(part.chunks(batch).map(<[usize]>::to_vec));
    }
    rng::choose(&mut draws, all.len(), all.len()).into_iter().map(|at| std::mem::take(&mut all[at])).collect()
}

/// Files that a run depends on.
pub fn files<'a>(splits: impl IntoIterator<Item = &'a BTreeMap<String, PathBuf>>) -> Vec<&'a Path> {
    splits.into_iter().flat_map(|files| files.values().map(PathBuf::as_path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stands_at_the_edges_of_words_if_it_does_anywhere() {
        let found = |text: &str, answers: &[&str]| -> Vec<(usize, usize)> {
            let answers: Vec<String> = answers.iter().map(|own| (*own).to_string()).collect();
            occurrences(text, &answers).into_iter().map(|part| (part.start, part.end)).collect()
        };
        assert_eq!(found("in 2008 there were 2 and 20", &["2"]), [(19, 20)]);
        assert_eq!(found("b2b", &["2"]), [(1, 2)]);
        assert_eq!(found("an élan, élan.", &[" élan "]), [(3, 8), (10, 15)]);
        assert_eq!(found("one, two", &["two", "one"]), [(5, 8), (0, 3)]);
        assert!(found("one", &["two", " "]).is_empty());
    }
}
