//! LongBench v2: a long text, a question and four choices, from the project's own `data.json` or rows.

use crate::data::task::read::{is_json, read_rows, read_whole};
use crate::data::task::row::{TaskPrompt, TaskRow};
use crate::error::{Error, Result};
use crate::grading::Grading;
use serde::Deserialize;
use std::path::Path;

/// Most tokens of an answer, as in the project.
const ANSWER_TOKENS: usize = 128;

#[derive(Deserialize)]
#[allow(non_snake_case)]
struct Question {
    _id: String,
    difficulty: String,
    length: String,
    question: String,
    choice_A: String,
    choice_B: String,
    choice_C: String,
    choice_D: String,
    answer: String,
    context: String,
}

/// Questions of LongBench v2.
pub(super) fn read(path: &Path) -> Result<Vec<TaskRow>> {
    let form = "with `_id`, `difficulty`, `length`, `question`, `choice_A` to `choice_D`, `answer` and `context`";
    let all: Vec<Question> = match is_json(path) {
        true => read_whole(path)?,
        false => read_rows(path, form)?.into_iter().map(|(_, own)| own).collect(),
    };
    all.into_iter().map(|own| row(path, own)).collect()
}

fn row(path: &Path, own: Question) -> Result<TaskRow> {
    if !["A", "B", "C", "D"].contains(&own.answer.as_str()) {
        let message = format!("{}: `answer`: expected a letter from A to D, got {:?}", own._id, own.answer);
        return Err(Error::file(path, message));
    }
    let choices = [&own.choice_A, &own.choice_B, &own.choice_C, &own.choice_D];
    let listed: String =
        ["A", "B", "C", "D"].iter().zip(choices).map(|(name, text)| format!("({name}) {text}\n")).collect();
    let question = own.question.trim();
    // The words of the project's prompt.
    let prompt = TaskPrompt {
        before: "Please read the following text and answer the question below.\n\n<text>\n".into(),
        after: format!(
            "\n</text>\n\nWhat is the correct answer to this question: {question}\nChoices:\n{listed}\nFormat your response as \
             follows: \"The correct answer is (insert answer here)\"."
        ),
        answer_tokens: ANSWER_TOKENS,
    };
    Ok(TaskRow {
        document: Some(own._id.clone()),
        id: own._id,
        context: own.context,
        query: format!("{question}\n{}", listed.trim_end()),
        answers: vec![own.answer],
        benchmark: "longbench_v2".into(),
        domain: "nl".into(),
        grading: Grading::LongbenchV2,
        slice: Some(format!("{}/{}", own.length, own.difficulty)),
        prompt: Some(prompt),
        ..TaskRow::default()
    })
}
