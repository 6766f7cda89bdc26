//! LongBench v1: rows of the project's own `.jsonl`. Chinese tasks are refused by name: their rule wants a Chinese word
//! segmenter that is not here.

use crate::data::task::read::read_rows;
use crate::data::task::row::TaskRow;
use crate::error::Result;
use crate::grading::Grading;
use crate::text_file::at_line;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Row {
    _id: String,
    input: String,
    context: String,
    answers: Vec<String>,
    dataset: String,
    #[serde(default)]
    all_classes: Option<Vec<String>>,
}

/// The official rule of a task; none of one that is not here.
fn grading(dataset: &str) -> Option<Grading> {
    Some(match dataset.trim_end_matches("_e") {
        "narrativeqa" | "qasper" | "multifieldqa_en" | "hotpotqa" | "2wikimqa" | "musique" | "triviaqa" => {
            Grading::LongbenchQa
        }
        "gov_report" | "qmsum" | "multi_news" | "samsum" => Grading::LongbenchRouge,
        "trec" => Grading::LongbenchClassification,
        "passage_retrieval_en" => Grading::LongbenchRetrieval,
        "passage_count" => Grading::LongbenchCount,
        "lcc" | "repobench-p" => Grading::LongbenchCode,
        _ => return None,
    })
}

/// Rows of LongBench.
pub(super) fn read(path: &Path) -> Result<Vec<TaskRow>> {
    let form = "with `_id`, `input`, `context`, `answers` and `dataset`";
    let row = |(line, row): (usize, Row)| {
        let Some(grading) = grading(&row.dataset) else {
            let expected = "expected an English or code task of LongBench";
            return Err(at_line(path, line, format!("`dataset`: {expected}, got {:?}", row.dataset)));
        };
        let code = grading == Grading::LongbenchCode;
        Ok(TaskRow {
            id: row._id.clone(),
            document: Some(row._id),
            context: row.context,
            // Tasks that sum up have no question of their own.
            query: if row.input.trim().is_empty() { instruction(&row.dataset).into() } else { row.input },
            answers: row.answers,
            benchmark: "longbench".into(),
            domain: if code { "code" } else { "nl" }.into(),
            grading,
            slice: Some(row.dataset),
            classes: row.all_classes.unwrap_or_default(),
            ..TaskRow::default()
        })
    };
    read_rows::<Row>(path, form)?.into_iter().map(row).collect()
}

/// The wish of a task whose rows ask nothing.
fn instruction(dataset: &str) -> &'static str {
    match dataset.trim_end_matches("_e") {
        "passage_count" => "How many unique paragraphs are there after removing duplicates?",
        "lcc" => "Next line of code:",
        _ => "Write a one-page summary.",
    }
}
