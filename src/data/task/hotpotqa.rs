//! HotpotQA, distractor setting: the project's own `.json`, or a row a line. A paragraph is its title, a line break and its
//! sentences; a blank line stands between paragraphs.

use crate::data::task::read::{id_of, is_json, read_rows, read_whole};
use crate::data::task::row::TaskRow;
use crate::error::{Error, Result};
use crate::grading::Grading;
use crate::text_file::at_line;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

#[derive(Deserialize)]
struct Row {
    question: String,
    answer: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    context: Vec<(String, Vec<String>)>,
    #[serde(default)]
    supporting_facts: Vec<(String, usize)>,
}

/// Questions of HotpotQA.
pub(super) fn read(path: &Path) -> Result<Vec<TaskRow>> {
    if is_json(path) {
        let rows: Vec<Value> = read_whole(path)?;
        return rows.into_iter().enumerate().map(|(at, row)| task_row(path, at + 1, row, true)).collect();
    }
    let form = "with `id`, `question`, `answer` and `context`";
    read_rows::<Value>(path, form)?.into_iter().map(|(line, row)| task_row(path, line, row, false)).collect()
}

fn task_row(path: &Path, number: usize, value: Value, whole: bool) -> Result<TaskRow> {
    // A file that is one value has rows, not lines.
    let wrong = |message: String| match whole {
        true => Error::file(path, format!("row {number}: {message}")),
        false => at_line(path, number, message),
    };
    let id = id_of(path, number, &value, ["id", "_id"])?;
    let row: Row = serde_path_to_error::deserialize(value)
        .map_err(|error| wrong(format!("`{}`: {}", error.path(), error.inner())))?;
    let mut evidence = Vec::new();
    for (title, sentence) in &row.supporting_facts {
        let found = row.context.iter().find(|(own, _)| own == title).and_then(|(_, all)| all.get(*sentence));
        // Some rows of the project name a sentence that the paragraph lacks.
        evidence.extend(found.map(|text| text.trim().to_string()));
    }
    let paragraphs: Vec<String> =
        row.context.iter().map(|(title, sentences)| format!("{title}\n{}", sentences.concat().trim())).collect();
    Ok(TaskRow {
        id: id.clone(),
        document: Some(id),
        context: paragraphs.join("\n\n"),
        query: row.question.trim().into(),
        answers: row.answer.into_iter().collect(),
        benchmark: "hotpotqa".into(),
        domain: "nl".into(),
        grading: Grading::Hotpotqa,
        slice: row.kind,
        evidence,
        ..TaskRow::default()
    })
}
