//! Rows of a context with questions and answers, from JSON lines: `{"id", "context", "questions": [{"question", "answers":
//! [text, …]}]}`. A row without questions, and a question without an answer, are passed over and counted.

use crate::data::Document;
use crate::data::corpus::{name, parse_row, read_lines};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// A question about a context.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Question {
    /// Text of the question.
    pub question: String,
    /// Answers, each as good; the first is the future of a probe.
    #[serde(default)]
    pub answers: Vec<String>,
}

/// A context with questions about it, each with at least one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QaContext {
    /// Id, source and text of the context.
    pub document: Document,
    /// At least one.
    pub questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default, deserialize_with = "name")]
    id: Option<String>,
    #[serde(default, deserialize_with = "name")]
    source: Option<String>,
    context: String,
    questions: Vec<Question>,
}

/// Rows of a file, and those that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QaRows {
    /// Contexts with questions.
    pub contexts: Vec<QaContext>,
    /// Rows without questions, or with none that has an answer.
    pub without_questions: usize,
    /// Questions without an answer.
    pub without_answer: usize,
    /// Questions of which no answer stands in the context.
    pub not_in_context: usize,
}

/// Reads a file of rows, plain or compressed.
///
/// # Errors
/// A file that cannot be read, a line that is no such row, or no row that can be used; the error names file and line.
pub fn read_qa(path: &Path) -> Result<QaRows> {
    let mut found = QaRows::default();
    for (number, line) in read_lines(path)? {
        let row: Row = parse_row(path, number, &line, "with a string `context` and a list `questions`")?;
        let mut questions = Vec::new();
        for mut question in row.questions {
            question.answers.retain(|answer| !answer.trim().is_empty());
            if question.question.trim().is_empty() || question.answers.is_empty() {
                found.without_answer += 1;
                continue;
            }
            found.not_in_context += usize::from(!question.answers.iter().any(|answer| row.context.contains(answer)));
            questions.push(question);
        }
        if questions.is_empty() || row.context.trim().is_empty() {
            found.without_questions += 1;
            continue;
        }
        let id = row.id.unwrap_or_else(|| format!("{number}"));
        let source = row.source.unwrap_or_else(|| id.clone());
        found.contexts.push(QaContext { document: Document { id, text: row.context, source }, questions });
    }
    match found.contexts.is_empty() {
        true => Err(Error::file(path, "expected rows of a context with questions and answers, got none")),
        false => Ok(found),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_passed_over_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let rows = [
            r#"{"id": "a", "context": "A red fox.", "questions": [{"question": "What colour?", "answers": ["red"]},
                {"question": "Why?", "answers": []}, {"question": "Where?", "answers": ["here", " "]}]}"#
                .replace('\n', " "),
            r#"{"id": "b", "context": "Nothing.", "questions": []}"#.into(),
        ];
        std::fs::write(&path, rows.join("\n")).unwrap();
        let found = read_qa(&path).unwrap();
        assert_eq!((found.without_questions, found.without_answer, found.not_in_context), (1, 1, 1));
        assert_eq!(found.contexts.len(), 1);
        assert_eq!(found.contexts[0].questions[1].answers, ["here"]);
        std::fs::write(&path, &rows[1]).unwrap();
        let said = read_qa(&path).unwrap_err().to_string();
        assert!(said.contains("rows.jsonl: expected rows of a context with questions and answers, got none"), "{said}");
        std::fs::write(&path, r#"{"id": "a", "context": "x", "questions": 3}"#).unwrap();
        let said = read_qa(&path).unwrap_err().to_string();
        assert!(said.contains("rows.jsonl:1: "), "{said}");
    }
}
