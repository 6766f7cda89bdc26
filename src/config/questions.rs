//! Schema of data that asks: facts set into documents, and rows of contexts with questions.

use crate::config::parts::Problem;
use serde::{Deserialize, Serialize};

/// Answers that the probes of questions have for their futures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// The teacher's own, greedy, up to its end or `data.future_tokens`.
    #[default]
    Teacher,
    /// The first answer that the row gives.
    Given,
}

/// Rows of contexts with questions in place of documents (see `data::read_qa`). The window's lengths are then the most that a
/// context, a question in its frame and an answer may have; what is longer is passed over and counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QaSection {
    /// Text that is read: `{context}` stands for the context, `{question}` for the question.
    #[serde(default = "plain_question")]
    pub frame: String,
    /// The future of a probe.
    #[serde(default)]
    pub answers: Answers,
}

fn plain_question() -> String {
    "{context}\n\nQuestion: {question}\nAnswer:".into()
}

impl QaSection {
    /// The frame before the context, between context and question, and behind the question; an error names the place that is
    /// missing.
    pub fn parts(&self) -> Result<[&str; 3], Problem> {
        let fail = |got: &str| {
            Err(("frame".into(), format!("expected {{context}} and then {{question}} in it, once each, got {got:?}")))
        };
        let Some((before, rest)) = self.frame.split_once("{context}") else { return fail(&self.frame) };
        let Some((between, behind)) = rest.split_once("{question}") else { return fail(&self.frame) };
        match [before, between, behind].iter().any(|part| part.contains("{context}") || part.contains("{question}")) {
            true => fail(&self.frame),
            false => Ok([before, between, behind]),
        }
    }
}

/// Facts set into the text of the documents, and a probe for each (see `data::facts`). The window's lengths are then the most
/// that a context, a probe's local text and its answer may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactsSection {
    /// Facts in a context, each with one probe.
    pub per_context: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_both_places_once_and_in_order() {
        let parts = |frame: &str| {
            QaSection { frame: frame.into(), answers: Answers::Given }.parts().ok().map(|parts| parts.map(String::from))
        };
        let expected = ["Text: ", "\nQ: ", "\nA:"].map(String::from);
        assert_eq!(parts("Text: {context}\nQ: {question}\nA:"), Some(expected));
        assert!(parts(&plain_question()).is_some());
        for bad in
            ["", "{context}", "{question} {context}", "{context} {question} {question}", "{context}{context}{question}"]
        {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }
}
