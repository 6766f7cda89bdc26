//! Texts of which somebody said what to keep: rows of a `.jsonl` file (plain, `.zst` or `.gz`), in one of three forms.
//!
//! ```text
//! {"text": …, "query"?: …, "document"?: …, "keep": [[first, end], …]}     characters
//! {"text": …, "query"?: …, "document"?: …, "compressed": …}               words that a shorter version kept (see `align`)
//! {"context": [[title, [sentence, …]], …], "question": …, "supporting_facts": [[title, sentence], …]}     HotpotQA
//! ```
//! Rows that do not fit are counted by reason and left out; a row in none of the three forms is an error.

use crate::data::align::{Alignment, align, dropped};
use crate::data::corpus::{name, parse_row, read_lines};
use crate::error::{Error, Result};
use crate::text::{character_borders, widened};
use crate::text_file::at_line;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// A text with the query that it is kept for and the labels of what to keep.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledText {
    /// Name of the row.
    pub id: String,
    /// Name of the document that the text is from; that of the row where it says none.
    pub document: String,
    /// The text.
    pub text: String,
    /// The question that it is to answer; empty when there is none.
    pub query: String,
    /// Bytes to keep, ascending, of whole characters.
    pub keep: Vec<Range<usize>>,
}

/// The rows that can be used, and how many cannot, by reason.
#[derive(Debug, Default)]
pub struct Labelled {
    /// Usable rows, in order.
    pub texts: Vec<LabelledText>,
    /// Number of rows that cannot be used, by reason.
    pub left_out: BTreeMap<String, usize>,
}

#[derive(Deserialize)]
struct Spans {
    #[serde(default, deserialize_with = "name")]
    id: Option<String>,
    document: Option<String>,
    text: String,
    query: Option<String>,
    keep: Vec<(usize, usize)>,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(default, deserialize_with = "name")]
    id: Option<String>,
    document: Option<String>,
    text: String,
    query: Option<String>,
    compressed: String,
}

#[derive(Deserialize)]
struct Hotpot {
    #[serde(default, deserialize_with = "name")]
    id: Option<String>,
    context: Vec<(String, Vec<String>)>,
    question: String,
    supporting_facts: Vec<(String, usize)>,
}

/// A row of any of the three forms.
enum LabelledRow {
    Spans(Spans),
    Pair(Pair),
    Hotpot(Hotpot),
}

impl LabelledRow {
    /// Reads a line; the keys that it has say of which form it is to be.
    fn parse(path: &Path, number: usize, line: &str) -> Result<LabelledRow> {
        let forms = "with `text` and `keep`, `text` and `compressed`, or `context`, `question` and `supporting_facts`";
        // A key without a value is as good as none.
        let keys: BTreeMap<String, Option<IgnoredAny>> = parse_row(path, number, line, forms)?;
        let has = |key: &str| matches!(keys.get(key), Some(Some(_)));
        if has("keep") {
            return parse_row(path, number, line, "with `text` and `keep`, pairs of characters")
                .map(LabelledRow::Spans);
        }
        if has("compressed") {
            return parse_row(path, number, line, "with `text` and `compressed`").map(LabelledRow::Pair);
        }
        if has("context") || has("supporting_facts") {
            let form = "with `context`, `question` and `supporting_facts`, as HotpotQA has them";
            return parse_row(path, number, line, form).map(LabelledRow::Hotpot);
        }
        let names: Vec<String> = keys.keys().map(|key| format!("`{key}`")).collect();
        let got = if names.is_empty() { "none".into() } else { names.join(", ") };
        Err(at_line(path, number, format!("expected a JSON object {forms}, got the keys {got}")))
    }
}

/// Reads a file of labelled texts.
pub fn read_labelled(path: &Path) -> Result<Labelled> {
    let mut found = Labelled::default();
    let mut pairs: Vec<(usize, Alignment)> = Vec::new();
    for (line, text) in read_lines(path)? {
        let name = |id: Option<String>| id.unwrap_or_else(|| format!("row {line}"));
        let made = match LabelledRow::parse(path, line, &text)? {
            LabelledRow::Spans(Spans { id, document, text, query, keep }) => {
                spans(&text, &keep).map(|keep| (name(id), document, text, query.unwrap_or_default(), keep))
            }
            LabelledRow::Pair(Pair { id, document, text, query, compressed }) => {
                let aligned = align(&text, &compressed);
                let keep = aligned.keep.clone();
                pairs.push((found.texts.len(), aligned));
                Ok((name(id), document, text, query.unwrap_or_default(), keep))
            }
            LabelledRow::Hotpot(Hotpot { id, context, question, supporting_facts }) => {
                evidence(&context, &supporting_facts).map(|(text, keep)| (name(id), None, text, question, keep))
            }
        };
        match made {
            Ok((id, document, text, query, keep)) => {
                let borders = character_borders(&text);
                let keep = keep.iter().map(|range| widened(&borders, range)).collect();
                let document = document.unwrap_or_else(|| id.clone());
                found.texts.push(LabelledText { id, document, text, query, keep });
            }
            Err(reason) => *found.left_out.entry(reason.to_string()).or_default() += 1,
        }
    }
    let alignments: Vec<Alignment> = pairs.iter().map(|(_, aligned)| aligned.clone()).collect();
    let worst: BTreeMap<usize, &str> =
        pairs.iter().zip(dropped(&alignments)).filter_map(|((at, _), why)| Some((*at, why?))).collect();
    let mut texts = Vec::new();
    for (at, text) in found.texts.into_iter().enumerate() {
        match (worst.get(&at), text.keep.is_empty()) {
            (Some(measure), _) => *found.left_out.entry(format!("{measure} among the highest tenth")).or_default() += 1,
            (None, true) => *found.left_out.entry("nothing to keep".into()).or_default() += 1,
            (None, false) => texts.push(text),
        }
    }
    found.texts = texts;
    if found.texts.is_empty() {
        let got = found.left_out.iter().map(|(why, n)| format!("{n} with {why}")).collect::<Vec<_>>().join(", ");
        let got = if got.is_empty() { "none".into() } else { got };
        return Err(Error::file(path, format!("expected rows with labels, got {got}")));
    }
    Ok(found)
}

/// Ranges of characters as ranges of bytes, ascending.
fn spans(text: &str, keep: &[(usize, usize)]) -> std::result::Result<Vec<Range<usize>>, &'static str> {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut ranges = Vec::new();
    for &(first, end) in keep {
        match (starts.get(first), starts.get(end)) {
            (Some(&first), Some(&end)) if first < end => ranges.push(first..end),
            _ => return Err("a range that is not in the text"),
        }
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    Ok(ranges)
}

/// Paragraphs as one text, each after its title, and the bytes of the sentences that support the answer.
type Evidence = (String, Vec<Range<usize>>);

fn evidence(
    context: &[(String, Vec<String>)],
    facts: &[(String, usize)],
) -> std::result::Result<Evidence, &'static str> {
    let (mut text, mut places) = (String::new(), BTreeMap::new());
    for (title, sentences) in context {
        text += &format!("# {title}\n");
        for (i, sentence) in sentences.iter().enumerate() {
            let lead = sentence.len() - sentence.trim_start().len();
            // A sentence on a line of its own, so that whoever cuts the text finds the same.
            places.insert((title.as_str(), i), text.len()..text.len() + sentence.len() - lead);
            text += sentence.trim_start();
            text.push('\n');
        }
        text.push('\n');
    }
    let mut keep = Vec::new();
    for (title, sentence) in facts {
        match places.get(&(title.as_str(), *sentence)) {
            Some(range) if !range.is_empty() => keep.push(range.clone()),
            _ => return Err("a supporting fact that names no sentence"),
        }
    }
    keep.sort_by_key(|range| range.start);
    keep.dedup();
    Ok((text, keep))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::text_file::MARK;

    fn read(rows: &str) -> Result<Labelled> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, rows).unwrap();
        read_labelled(&path)
    }

    fn kept(text: &LabelledText) -> Vec<&str> {
        text.keep.iter().map(|range| &text.text[range.clone()]).collect()
    }

    #[test]
    fn three_forms_of_rows() {
        let hotpot = "{\"id\":\"h\",\"question\":\"Who?\",\"context\":[[\"A\",[\"One.\",\" Two é.\"]],[\"B\",[\"Three.\"]]],\
                      \"supporting_facts\":[[\"B\",0],[\"A\",1]]}";
        let rows = format!(
            "{MARK}{{\"id\":7,\"text\":\"é bc de\",\"query\":\"q\",\"keep\":[[5,7],[0,1]]}}\r\n\r\n{hotpot}\r\
             {{\"text\":\"one two three\",\"compressed\":\"One three\"}}\n"
        );
        let found = read(&rows).unwrap();
        assert!(found.left_out.is_empty());
        let [spans, hotpot, pair] = &found.texts[..] else { panic!("{found:?}") };
        assert_eq!((spans.id.as_str(), spans.query.as_str(), kept(spans)), ("7", "q", vec!["é", "de"]));
        assert_eq!((hotpot.query.as_str(), kept(hotpot)), ("Who?", vec!["Two é.", "Three."]));
        assert_eq!(hotpot.text, "# A\nOne.\nTwo é.\n\n# B\nThree.\n\n");
        assert_eq!((pair.id.as_str(), kept(pair)), ("row 4", vec!["one", "three"]));
    }

    #[test]
    fn a_label_takes_in_the_characters_that_it_cuts() {
        // A letter without its accent, a woman without her child.
        let found = read("{\"text\":\"a cafe\u{301} 👩\u{200d}👧 b\",\"keep\":[[5,6],[8,9]]}").unwrap();
        assert_eq!(kept(&found.texts[0]), ["e\u{301}", "👩\u{200d}👧"]);
    }

    #[test]
    fn labels_that_do_not_fit_are_counted_and_left_out() {
        let rows = "{\"text\":\"abc\",\"keep\":[[1,9]]}\n{\"text\":\"abc\",\"keep\":[[2,2]]}\n\
                    {\"text\":\"abc\",\"keep\":[]}\n{\"text\":\"abc\",\"keep\":[[0,2]]}\n\
                    {\"context\":[[\"A\",[\"One.\"]]],\"question\":\"?\",\"supporting_facts\":[[\"A\",1]]}";
        let found = read(rows).unwrap();
        assert_eq!(found.texts.len(), 1);
        let expected = [
            ("a range that is not in the text", 2),
            ("a supporting fact that names no sentence", 1),
            ("nothing to keep", 1),
        ];
        assert_eq!(found.left_out, expected.map(|(why, n)| (why.to_string(), n)).into());
    }

    #[test]
    fn pairs_that_a_model_rewrote_are_left_out() {
        let mut rows = "{\"text\":\"one two three\",\"compressed\":\"two\"}\n".repeat(10);
        rows += "{\"text\":\"one two three\",\"compressed\":\"two four five\"}";
        let found = read(&rows).unwrap();
        assert_eq!(found.texts.len(), 10);
        assert_eq!(found.left_out, [("variation rate among the highest tenth".to_string(), 1)].into());
    }

    #[test]
    fn bad_files_name_the_line() {
        let error = read("{\"text\":\"a\",\"keep\":[[0,1]]}\n{\"text\":\"a\"}").unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:2: expected a JSON object with `text` and `keep`"), "{error}");
        for (row, expected) in [
            (
                "{\"text\":\"a\",\"keep\":[[0,-1]]}",
                "`keep[0][1]`: expected a JSON object with `text` and `keep`, pairs of characters, got: invalid value: integer `-1`, expected usize",
            ),
            (
                "{\"text\":1,\"compressed\":\"a\"}",
                "`text`: expected a JSON object with `text` and `compressed`, got: invalid type: integer `1`, expected a string",
            ),
            (
                "{\"context\":[[\"A\",\"One.\"]]}",
                "`context[0][1]`: expected a JSON object with `context`, `question` and `supporting_facts`, as HotpotQA has them, got: invalid type: string",
            ),
            ("{\"id\":1}", "or `context`, `question` and `supporting_facts`, got the keys `id`"),
            ("[]", "got a list; each line is an object of its own"),
        ] {
            let error = read(row).unwrap_err().to_string();
            assert!(error.contains("rows.jsonl:1: ") && error.contains(expected), "{error}");
        }
        let error = read("{\"text\":\"a\",\"keep\":[]}").unwrap_err().to_string();
        assert!(error.contains("expected rows with labels, got 1 with nothing to keep"), "{error}");
        assert!(read("\n").unwrap_err().to_string().contains("expected rows with labels, got none"));
    }
}
