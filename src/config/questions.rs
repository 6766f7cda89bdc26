//! Schema of data that asks: facts set into documents, and rows of contexts with questions.

use crate::config::parts::is_zero;
use serde::{Deserialize, Serialize};

/// The futures of probes that ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// The teacher's own, up to its end of text or turn or `data.future_tokens`: the likeliest token at each place, or `samples`.
    Teacher,
    /// The answer that the data gives; of several, the first.
    Given,
}

/// Rows of contexts with questions in place of documents (see `data::read_qa`). The window's lengths are then the most that a
/// context, a question in its frame and an answer may have; what is longer is passed over and counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QaSection {
    /// The future of a probe.
    #[serde(default = "teacher")]
    pub answers: Answers,
    /// Answers that the teacher samples to each question, a probe each; 0 = its greedy answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub samples: usize,
}

/// Facts set into the text of the documents, and a probe for each (see `data::facts`). The window's lengths are then the most
/// that a context, a probe's local text in its frame and its answer may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsSection {
    /// Facts in a context, each with one probe.
    pub per_context: usize,
    /// The future of a probe.
    #[serde(default = "given", skip_serializing_if = "is_given")]
    pub answers: Answers,
    /// Answers that the teacher samples to each cloze, a probe each; 0 = its greedy answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub samples: usize,
}

fn teacher() -> Answers {
    Answers::Teacher
}
fn given() -> Answers {
    Answers::Given
}
fn is_given(answers: &Answers) -> bool {
    *answers == Answers::Given
}
