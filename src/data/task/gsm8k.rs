//! GSM8K: word problems behind worked ones. The context to compress is the worked problems: the first of the file, the same for all
//! rows; every later problem is a row.

use crate::data::task::read::read_rows;
use crate::data::task::row::{TaskPrompt, TaskRow};
use crate::error::{Error, Result};
use crate::grading::Grading;
use serde::Deserialize;
use std::path::Path;

/// Worked problems in a context.
const WORKED: usize = 8;
/// Most tokens of an answer with its steps.
const ANSWER_TOKENS: usize = 256;

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    id: Option<String>,
    question: String,
    answer: String,
}

/// Problems of GSM8K.
pub(super) fn read(path: &Path) -> Result<Vec<TaskRow>> {
    let problems = read_rows::<Problem>(path, "with `question` and `answer`")?;
    if problems.len() <= WORKED {
        let expected = format!("expected more than the {WORKED} problems that are shown worked");
        return Err(Error::file(path, format!("{expected}, got {}", problems.len())));
    }
    let (worked, asked) = problems.split_at(WORKED);
    let shown = |(_, own): &(usize, Problem)| format!("Question: {}\nAnswer: {}", own.question, own.answer);
    let context = worked.iter().map(shown).collect::<Vec<_>>().join("\n\n");
    let row = |(line, own): &(usize, Problem)| {
        let id = own.id.clone().unwrap_or_else(|| format!("line-{line}"));
        let after = format!("\n\nQuestion: {}\nAnswer:", own.question.trim());
        TaskRow {
            document: Some(id.clone()),
            id,
            context: context.clone(),
            query: own.question.trim().into(),
            answers: vec![own.answer.clone()],
            benchmark: "gsm8k".into(),
            domain: "nl".into(),
            grading: Grading::Gsm8k,
            prompt: Some(TaskPrompt { before: String::new(), after, answer_tokens: ANSWER_TOKENS }),
            ..TaskRow::default()
        }
    };
    Ok(asked.iter().map(row).collect())
}
