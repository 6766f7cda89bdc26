//! A row of any benchmark, in the common form.

use crate::data::task::program::TaskProgram;
use crate::grading::Grading;
use serde::{Deserialize, Serialize};

/// One question about a context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Unique in its file.
    pub id: String,
    /// The text to compress.
    pub context: String,
    /// The question.
    pub query: String,
    /// References, each as good; none where nothing is to be answered.
    pub answers: Vec<String>,
    /// Document that the context is of, by which rows are resampled; absent = a hash of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Benchmark that the row is of.
    #[serde(default = "plain")]
    pub benchmark: String,
    /// Kind of text: nl, code or mixed.
    #[serde(default = "natural_language")]
    pub domain: String,
    /// Rule that grades an answer.
    #[serde(default)]
    pub grading: Grading,
    /// Part of the rows that this one belongs to, such as bridge or comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Classes of a classification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Passages of the context that hold the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Text before the context, between it and the question, and behind the question, where the benchmark has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<TaskPrompt>,
    /// The program that an answer is tested in, where it is code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<TaskProgram>,
}

/// The prompt of a benchmark: `before` context `after`; the question stands in `after`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskPrompt {
    /// Text before the context.
    pub before: String,
    /// Text behind the context, the question and the beginning of the answer in it.
    pub after: String,
    /// Most tokens of an answer.
    pub answer_tokens: usize,
}

impl TaskRow {
    /// Whether a reference stands in a text, letter by letter.
    pub fn has_reference(&self, text: &str) -> bool {
        self.answers.iter().any(|reference| !reference.is_empty() && text.contains(reference))
    }
}

/// Shortest reference or test whose presence in a context means something, in bytes.
const TELLING: usize = 24;

impl TaskRow {
    /// Whether what is shown of a row whose answer is a program holds its reference or its tests.
    pub fn tells_itself(&self) -> bool {
        let Some(program) = &self.program else { return false };
        let prompt = self.prompt.as_ref().map_or_else(String::new, |own| [&own.before[..], &own.after].concat());
        let shown = [&self.context, &self.query, &prompt];
        let tells = |own: &str| own.trim().len() >= TELLING && shown.iter().any(|text| text.contains(own.trim()));
        tells(program.hidden()) || self.answers.iter().any(|own| tells(own))
    }
}

fn plain() -> String {
    "plain".into()
}
fn natural_language() -> String {
    "nl".into()
}
