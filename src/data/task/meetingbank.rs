//! Questions about meetings, in the file that LLMLingua-2's evaluation reads: meetings, or meetings by number, each with `idx`,
//! `prompt` (the transcript) and `QA_pairs`.

use crate::data::task::read::{is_json, read_rows, read_whole};
use crate::data::task::row::{TaskPrompt, TaskRow};
use crate::error::Result;
use crate::grading::Grading;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Most tokens of an answer, as in that evaluation.
const ANSWER_TOKENS: usize = 100;

#[derive(Deserialize)]
struct Meeting {
    idx: Value,
    prompt: String,
    #[serde(rename = "QA_pairs")]
    pairs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    question: String,
    answer: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Meetings {
    Listed(Vec<Meeting>),
    Numbered(BTreeMap<String, Meeting>),
}

/// Questions about meetings.
pub(super) fn read(path: &Path) -> Result<Vec<TaskRow>> {
    let meetings: Vec<Meeting> = if is_json(path) {
        match read_whole::<Meetings>(path)? {
            Meetings::Listed(all) => all,
            Meetings::Numbered(all) => all.into_values().collect(),
        }
    } else {
        read_rows(path, "with `idx`, `prompt` and `QA_pairs`")?.into_iter().map(|(_, own)| own).collect()
    };
    Ok(meetings.into_iter().flat_map(rows).collect())
}

fn rows(meeting: Meeting) -> Vec<TaskRow> {
    let name = meeting.idx.as_str().map_or_else(|| meeting.idx.to_string(), String::from);
    let row = |(number, pair): (usize, &Pair)| {
        TaskRow {
        id: format!("{name}-{number}"),
        document: Some(name.clone()),
        context: meeting.prompt.clone(),
        query: pair.question.clone(),
        answers: vec![pair.answer.clone()],
        benchmark: "meetingbank".into(),
        domain: "nl".into(),
        grading: Grading::MeetingbankQa,
        // The words of that evaluation's prompt.
        prompt: Some(TaskPrompt {
            before: "Write a high-quality answer for the given question using the provided meeting transcript (which may be \
                     compressed).\n"
                .into(),
            after: format!("\nQuestion:{}\nAnswer:", pair.question),
            answer_tokens: ANSWER_TOKENS,
        }),
        ..TaskRow::default()
    }
    };
    meeting.pairs.iter().enumerate().map(row).collect()
}
