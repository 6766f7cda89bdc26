//! SQuAD 1.1 and 2.0: the project's own `.json`, or rows: a paragraph with its questions, or one question as the Hub has it.

use crate::data::task::read::{is_json, read_rows, read_whole};
use crate::data::task::row::TaskRow;
use crate::error::Result;
use crate::grading::Grading;
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Articles {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    title: String,
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    #[serde(default)]
    title: String,
    context: String,
    qas: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    id: String,
    question: String,
    #[serde(default)]
    answers: Vec<Reference>,
}

/// A reference, with the place where it begins or without.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reference {
    Placed { text: String },
    Text(String),
}

/// A row: a paragraph with questions, or one question.
#[derive(Deserialize)]
#[serde(untagged)]
enum Row {
    Paragraph(Paragraph),
    Question { id: String, title: String, context: String, question: String, answers: Texts },
}

#[derive(Deserialize)]
struct Texts {
    text: Vec<String>,
}

/// Questions of SQuAD 1.1.
pub(super) fn read_v1(path: &Path) -> Result<Vec<TaskRow>> {
    read(path, Grading::SquadV1)
}

/// Questions of SQuAD 2.0.
pub(super) fn read_v2(path: &Path) -> Result<Vec<TaskRow>> {
    read(path, Grading::SquadV2)
}

fn read(path: &Path, grading: Grading) -> Result<Vec<TaskRow>> {
    let benchmark = if grading == Grading::SquadV2 { "squad_v2" } else { "squad" };
    let row = |[title, context, id, question]: [&str; 4], answers: Vec<String>| TaskRow {
        id: id.into(),
        document: Some(title.into()),
        context: context.into(),
        query: question.trim().into(),
        answers: distinct(answers),
        benchmark: benchmark.into(),
        domain: "nl".into(),
        grading,
        ..TaskRow::default()
    };
    let paragraph = |title: &str, own: Paragraph| -> Vec<TaskRow> {
        let text = |reference| match reference {
            Reference::Placed { text } | Reference::Text(text) => text,
        };
        let one = |asked: Asked| {
            let answers = asked.answers.into_iter().map(text).collect();
            row([title, &own.context, &asked.id, &asked.question], answers)
        };
        own.qas.into_iter().map(one).collect()
    };
    if is_json(path) {
        let articles = read_whole::<Articles>(path)?.data.into_iter();
        let all = articles.flat_map(|own| own.paragraphs.into_iter().map(move |part| (own.title.clone(), part)));
        return Ok(all.flat_map(|(title, part)| paragraph(&title, part)).collect());
    }
    let form = "with `title`, `context` and `qas`, or with `id`, `title`, `context`, `question` and `answers.text`";
    let mut all = Vec::new();
    for (_, found) in read_rows::<Row>(path, form)? {
        match found {
            Row::Paragraph(own) => all.extend(paragraph(&own.title.clone(), own)),
            Row::Question { id, title, context, question, answers } => {
                all.push(row([&title, &context, &id, &question], answers.text));
            }
        }
    }
    Ok(all)
}

/// References, each once.
fn distinct(answers: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for answer in answers {
        if !kept.contains(&answer) {
            kept.push(answer);
        }
    }
    kept
}
