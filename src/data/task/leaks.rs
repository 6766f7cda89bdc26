//! Rows of a benchmark that a model may have been taught by: the same id, the same question, the same context or nearly so, the
//! same paragraph with the answer in it.

use crate::data::dedup::near_duplicates;
use crate::data::overlap::NEARLY;
use crate::data::task::row::TaskRow;
use serde::Serialize;
use std::collections::BTreeSet;

/// Shortest paragraph that is looked for, in bytes: shorter ones (titles, stock phrases) recur everywhere.
const SHORTEST: usize = 80;

/// A text that something was trained on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaughtText {
    /// Name of the row, where names of its file and those of the rows are of one kind; else empty.
    pub id: String,
    /// The question that it was read for; empty for none.
    pub query: String,
    /// The text.
    pub text: String,
}

/// Numbers of rows that are in the training texts too, and some of their ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Leaks {
    /// Rows that were looked for.
    pub rows: usize,
    /// Rows whose id is there.
    pub ids: usize,
    /// Rows whose question is there, but for case and blanks.
    pub questions: usize,
    /// Rows whose whole context is there, word for word or nearly (more than half of all runs of five words are common).
    pub contexts: usize,
    /// Rows of which a paragraph with an evidence sentence in it is there word for word, or where none is known, with a reference.
    pub answers: usize,
    /// Rows of which any other paragraph is there word for word.
    pub paragraphs: usize,
    /// Ids of rows that are counted as one of the first four, ten at most.
    pub named: Vec<String>,
}

impl Leaks {
    /// Whether a row, its question, its context or its answer was trained on.
    pub fn found(&self) -> bool {
        self.ids + self.questions + self.contexts + self.answers > 0
    }
}

fn plain(text: &str) -> String {
    text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// Paragraphs of a text, blanks told alike: its lines, and what stands between blank lines.
fn paragraphs(text: &str) -> BTreeSet<String> {
    let blocks = text.split("\n\n").flat_map(|block| {
        let body = block.split_once('\n').map_or(block, |(_, body)| body);
        [block, body].into_iter().chain(block.lines())
    });
    blocks.map(plain).filter(|own| own.len() >= SHORTEST).collect()
}

/// Whether a text has these words, not as parts of longer ones.
fn has_words(text: &str, words: &str) -> bool {
    let is_edge = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    text.match_indices(words)
        .any(|(at, own)| is_edge(text[..at].chars().next_back()) && is_edge(text[at + own.len()..].chars().next()))
}

/// Leaks of the rows in `taught`.
pub fn leaks(rows: &[TaskRow], taught: &[TaughtText]) -> Leaks {
    let ids: BTreeSet<&str> = taught.iter().map(|own| own.id.as_str()).filter(|id| !id.is_empty()).collect();
    let queries: BTreeSet<String> = taught.iter().map(|own| plain(&own.query)).filter(|own| !own.is_empty()).collect();
    let distinct: BTreeSet<&str> = taught.iter().map(|own| own.text.as_str()).collect();
    let known: BTreeSet<String> = distinct.iter().flat_map(|text| paragraphs(text)).collect();
    let contexts = alike(rows, &distinct);
    let mut all = Leaks { rows: rows.len(), ..Leaks::default() };
    for row in rows {
        let shared: Vec<String> = paragraphs(&row.context).into_iter().filter(|own| known.contains(own)).collect();
        // Where it is known which sentences answer, a reference alone may stand anywhere.
        let wanted = if row.evidence.is_empty() { &row.answers } else { &row.evidence };
        let wanted: Vec<String> = wanted.iter().map(|own| plain(own)).filter(|own| !own.is_empty()).collect();
        let answers = |own: &String| wanted.iter().any(|one| has_words(own, one));
        let has_answer = shared.iter().any(answers);
        let found = [
            ids.contains(row.id.as_str()),
            queries.contains(&plain(&row.query)),
            contexts.contains(row.context.as_str()),
            has_answer,
        ];
        for (count, found) in
            [&mut all.ids, &mut all.questions, &mut all.contexts, &mut all.answers].into_iter().zip(found)
        {
            *count += usize::from(found);
        }
        all.paragraphs += usize::from(!has_answer && !shared.is_empty());
        if found.contains(&true) && all.named.len() < 10 {
            all.named.push(row.id.clone());
        }
    }
    all
}

/// Contexts that are one of these texts, or nearly.
fn alike<'r>(rows: &'r [TaskRow], taught: &BTreeSet<&str>) -> BTreeSet<&'r str> {
    let contexts: Vec<&str> =
        rows.iter().map(|row| row.context.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    let taught: Vec<&str> = taught.iter().copied().collect();
    near_duplicates(&taught, &contexts, NEARLY).into_iter().map(|near| contexts[near.other]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_leak_is_counted_by_itself() {
        let row = |id: &str, query: &str, context: &str| TaskRow {
            id: id.into(),
            query: query.into(),
            context: context.into(),
            answers: vec!["seven".into()],
            ..TaskRow::default()
        };
        let taught =
            |id: &str, query: &str, text: &str| TaughtText { id: id.into(), query: query.into(), text: text.into() };
        let with = "The mill of Marn has seven wheels, of which three were made in the year of the long winter by Ida.";
        let without =
            "The port of Tessin is closed on Sundays, and ships wait on the river until the bells of Harfeld ring.";
        let own =
            "Copper is soft and conducts heat well, so that the smiths of Marn used it for kettles, and not for tools.";
        let rows = [
            row("1", "How many wheels?", own),
            row("2", "How many \n Wheels has it?", "Nothing."),
            row(
                "3",
                "c?",
                &format!("Marn\n{with}\n\n{own} It was dear, and came up the river from the south in flat boats."),
            ),
            row("4", "d?", &format!("Tessin\n{without}\n\nA town.")),
            row("5", "e?", "Nothing is here."),
        ];
        assert!(has_words("a seven, b", "seven") && !has_words("seventh or 17", "seven"));
        let texts = [
            taught("1", "", "x"),
            taught("", "how many wheels HAS it?", "y"),
            taught("", "", &format!("Another title\n{with}")),
            taught("", "", without),
            taught("", "", "Nothing was there, ever."),
        ];
        let found = leaks(&rows, &texts);
        let counts = [found.rows, found.ids, found.questions, found.contexts, found.answers, found.paragraphs];
        assert_eq!(counts, [5, 1, 1, 1, 1, 1]);
        // The paragraph of row 4 is nearly all of its context.
        assert_eq!(found.named, ["1", "2", "3", "4"]);
        assert!(found.found() && !leaks(&rows[4..], &texts).found());
    }
}
