//! Qasper: the project's own `.json` (papers by id), or a paper a line. References are those of the official evaluation:
//! "Unanswerable", else spans joined by commas, else free text, else Yes or No.

use crate::data::task::read::{is_json, read_rows, read_whole};
use crate::data::task::row::TaskRow;
use crate::error::Result;
use crate::grading::Grading;
use crate::grading::qasper::AnswerType;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
struct Paper {
    #[serde(default)]
    id: String,
    title: String,
    #[serde(rename = "abstract")]
    summary: String,
    #[serde(alias = "sections")]
    full_text: Vec<Section>,
    qas: Vec<Asked>,
}

#[derive(Deserialize)]
struct Section {
    #[serde(alias = "name")]
    section_name: Option<String>,
    paragraphs: Vec<String>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(alias = "id")]
    question_id: String,
    answers: Vec<Annotation>,
}

/// An annotator's answer, by itself or under `answer`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Annotation {
    Under { answer: Given },
    Alone(Given),
}

#[derive(Deserialize)]
struct Given {
    unanswerable: bool,
    extractive_spans: Vec<String>,
    yes_no: Option<bool>,
    free_form_answer: String,
    #[serde(default)]
    evidence: Vec<String>,
}

/// The reference that the official evaluation makes of an annotation, with its type.
fn reference(given: &Given) -> (String, AnswerType) {
    if given.unanswerable {
        return ("Unanswerable".into(), AnswerType::None);
    }
    if !given.extractive_spans.is_empty() {
        return (given.extractive_spans.join(", "), AnswerType::Extractive);
    }
    if !given.free_form_answer.is_empty() {
        return (given.free_form_answer.clone(), AnswerType::Abstractive);
    }
    (if given.yes_no == Some(true) { "Yes" } else { "No" }.into(), AnswerType::Boolean)
}

/// Questions of Qasper.
pub(super) fn read(path: &Path) -> Result<Vec<TaskRow>> {
    let papers: Vec<Paper> = match is_json(path) {
        true => {
            let papers: BTreeMap<String, Paper> = read_whole(path)?;
            papers.into_iter().map(|(id, paper)| Paper { id, ..paper }).collect()
        }
        false => {
            let form = "with `id`, `title`, `abstract`, `sections` and `qas`";
            read_rows(path, form)?.into_iter().map(|(_, paper)| paper).collect()
        }
    };
    Ok(papers.into_iter().flat_map(questions).collect())
}

fn questions(paper: Paper) -> Vec<TaskRow> {
    let section = |own: &Section| {
        let name = own.section_name.as_deref().filter(|name| !name.trim().is_empty()).map(String::from);
        name.into_iter().chain(own.paragraphs.iter().cloned()).collect::<Vec<_>>().join("\n")
    };
    let sections = paper.full_text.iter().map(section);
    let context =
        [paper.title.clone(), paper.summary.clone()].into_iter().chain(sections).collect::<Vec<_>>().join("\n\n");
    let row = |asked: Asked| {
        let given = |one| match one {
            Annotation::Under { answer } | Annotation::Alone(answer) => answer,
        };
        let given: Vec<Given> = asked.answers.into_iter().map(given).collect();
        let (answers, types): (Vec<String>, Vec<AnswerType>) = given.iter().map(reference).unzip();
        let slice = types.first().map(|kind| format!("{kind:?}").to_lowercase());
        // Figures and tables are not in the text.
        let evidence = given.into_iter().flat_map(|one| one.evidence).filter(|text| !text.contains("FLOAT SELECTED"));
        TaskRow {
            id: asked.question_id,
            document: Some(paper.id.clone()),
            context: context.clone(),
            query: asked.question.trim().into(),
            answers,
            benchmark: "qasper".into(),
            domain: "nl".into(),
            grading: Grading::Qasper,
            slice,
            evidence: evidence.collect(),
            ..TaskRow::default()
        }
    };
    paper.qas.into_iter().map(row).collect()
}
