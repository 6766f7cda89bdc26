//! Questions of SQuAD and HotpotQA among paragraphs of other questions.

use crate::data::task::row::TaskRow;
use crate::data::task::ruler::ruler_task::Drawn;
use crate::rng::choose;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

const WISH: &str =
    "Answer the question based on the given documents. Only give me the answer and do not output any other words.";

/// Paragraphs of all questions, each once, and the questions.
pub(super) struct Passages<'a> {
    questions: &'a [TaskRow],
    texts: Vec<&'a str>,
    /// Paragraphs of each question.
    own: Vec<Vec<usize>>,
    /// Paragraphs of each document.
    of_document: BTreeMap<&'a str, BTreeSet<usize>>,
}

/// The paragraphs of a context: HotpotQA's stand between blank lines, SQuAD's is one.
fn paragraphs(row: &TaskRow) -> Vec<&str> {
    match row.benchmark.as_str() {
        "hotpotqa" => row.context.split("\n\n").collect(),
        _ => vec![&row.context],
    }
}

impl<'a> Passages<'a> {
    /// Those of these questions.
    pub fn new(questions: &'a [TaskRow]) -> Self {
        let texts: BTreeSet<&str> = questions.iter().flat_map(paragraphs).collect();
        let texts: Vec<&str> = texts.into_iter().collect();
        let at: BTreeMap<&str, usize> = texts.iter().enumerate().map(|(at, text)| (*text, at)).collect();
        let own: Vec<Vec<usize>> =
            questions.iter().map(|row| paragraphs(row).iter().map(|text| at[text]).collect()).collect();
        let mut of_document: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for (row, own) in questions.iter().zip(&own) {
            if let Some(document) = &row.document {
                of_document.entry(document).or_default().extend(own);
            }
        }
        Self { questions, texts, own, of_document }
    }

    /// A question among `count` paragraphs; first come others of its document. None where it has more itself, or there are fewer.
    pub fn draw(&self, number: usize, count: usize, draws: &mut ChaCha8Rng) -> Option<Drawn> {
        let row = self.questions.get(number).filter(|row| !row.answers.is_empty())?;
        let own = &self.own[number];
        if count < own.len() || count > self.texts.len() {
            return None;
        }
        let near: Vec<usize> = (row.document.as_deref())
            .and_then(|document| self.of_document.get(document))
            .into_iter()
            .flatten()
            .filter(|at| !own.contains(at))
            .copied()
            .collect();
        let mut chosen = own.clone();
        let wanted = count - own.len();
        if wanted <= near.len() {
            chosen.extend(choose(draws, near.len(), wanted).into_iter().map(|at| near[at]));
        } else {
            let taken: BTreeSet<usize> = own.iter().chain(&near).copied().collect();
            let far: Vec<usize> = (0..self.texts.len()).filter(|at| !taken.contains(at)).collect();
            chosen.extend(&near);
            chosen.extend(choose(draws, far.len(), wanted - near.len()).into_iter().map(|at| far[at]));
        }
        let order = choose(draws, chosen.len(), chosen.len());
        let shown =
            order.into_iter().enumerate().map(|(at, one)| format!("Document {}:\n{}", at + 1, self.texts[chosen[one]]));
        let context = shown.collect::<Vec<_>>().join("\n\n");
        Some(Drawn {
            before: format!("{WISH}\n\nThe following are given documents.\n\n"),
            context,
            after: format!("\n\n{WISH}\n\nQuestion: {} Answer:", row.query),
            query: row.query.clone(),
            answers: row.answers.clone(),
        })
    }
}
