//! The local task model: a base that answers greedily behind a few worked examples, in plain text.

use crate::data::task::TaskRow;
use crate::error::{Error, Result};
use crate::grading::longbench::graded;
use crate::model::write::greedy;
use crate::models::Models;

/// Worked examples: text, question, answer. Made up, so that no benchmark has them.
const SHOTS: [[&str; 3]; 3] = [
    [
        "The Brandt mill stands on the east bank of the Olva. It was built in 1874 by Ida Brandt and burned down twice.",
        "Who built the mill?",
        "Ida Brandt",
    ],
    [
        "Line 12 connects Harfeld with the port of Tessin. Trains run every 20 minutes, and every 40 minutes on Sundays.",
        "How often do trains run on Sundays?",
        "every 40 minutes",
    ],
    [
        "Copper is soft and conducts heat well, so the smiths of Marn used it for kettles. Bronze they kept for tools.",
        "What did the smiths of Marn make of bronze?",
        "tools",
    ],
];

/// The base as the model that answers.
pub struct LocalReader<'a> {
    /// The base and its tokenizer.
    pub models: &'a Models,
    /// Most tokens of an answer, where the benchmark says nothing.
    pub answer_tokens: usize,
}

/// A question as the model reads it.
pub struct TaskQuestion {
    /// The prompt as text; empty of a model that runs here.
    pub text: String,
    /// Ids of the prompt, in the tokens that budgets are counted in.
    pub ids: Vec<u32>,
    /// Most tokens of its answer.
    pub answer_tokens: usize,
    /// Tokens that were cut out of the middle of the context.
    pub cut: usize,
}

impl LocalReader<'_> {
    /// The prompt for a row with this context; none for the closed book. A context that the model has no room for loses its
    /// middle.
    ///
    /// # Errors
    /// A question that leaves no room for any context.
    pub fn question(&self, row: &TaskRow, context: Option<&str>) -> Result<TaskQuestion> {
        let (before, after) = frame(row, context.is_some());
        let answer_tokens = row.prompt.as_ref().map_or(self.answer_tokens, |prompt| prompt.answer_tokens);
        let tokenizer = &self.models.tokenizer;
        let context = context.unwrap_or_default();
        let ids = tokenizer.encode(&[&before, context, &after].concat())?;
        let room = self.models.decoder.room().saturating_sub(answer_tokens);
        if ids.len() <= room {
            return Ok(TaskQuestion { text: String::new(), ids, answer_tokens, cut: 0 });
        }
        let parts = [before.as_str(), context, &after].map(|text| tokenizer.encode(text));
        let [before, context, after] = [&parts[0], &parts[1], &parts[2]].map(|ids| ids.as_deref().unwrap_or_default());
        let Some(left) = room.checked_sub(before.len() + after.len()).filter(|left| *left > 0) else {
            let around = before.len() + after.len() + answer_tokens;
            let expected = format!("expected at least {around} positions around a context");
            return Err(Error::invalid(format!("{}: {expected}, got {}", row.id, self.models.decoder.room())));
        };
        let head = left.div_ceil(2);
        let kept = [&context[..head], &context[context.len() - (left - head)..]].concat();
        let ids = [before, &kept, after].concat();
        Ok(TaskQuestion { text: String::new(), ids, answer_tokens, cut: context.len() - left })
    }

    /// The greedy answers, as they are graded: up to the end of the turn, and of a short answer the first line.
    pub fn answers(&self, row: &TaskRow, questions: &[TaskQuestion]) -> Result<Vec<String>> {
        let ends = self.models.decoder.config().end_ids();
        let is_end = |id: &u32| ends.contains(&i64::from(*id));
        let barred: Vec<u32> = self.models.forbidden.iter().filter(|id| !is_end(id)).copied().collect();
        let tokens = questions.iter().map(|own| own.answer_tokens).max().unwrap_or(0);
        let prompts: Vec<Vec<u32>> = questions.iter().map(|own| own.ids.clone()).collect();
        let written = greedy(&self.models.decoder, &prompts, tokens, &barred)?;
        let answer = |mut ids: Vec<u32>| -> Result<String> {
            ids.truncate(ids.iter().position(is_end).unwrap_or(tokens));
            Ok(as_graded(row, &self.models.tokenizer.decode(&ids)?))
        };
        written.into_iter().map(answer).collect()
    }
}

/// A text as it is graded: of a short answer the first line.
pub fn as_graded(row: &TaskRow, text: &str) -> String {
    if row.program.is_some() {
        return text.to_string();
    }
    match (&row.prompt, row.benchmark.as_str()) {
        (Some(_), _) => text.trim().to_string(),
        (None, "longbench") => graded(row.slice.as_deref().unwrap_or_default(), text).trim().to_string(),
        (None, _) => text.trim_start().lines().next().unwrap_or_default().trim().to_string(),
    }
}

/// Text before and behind the context.
fn frame(row: &TaskRow, open: bool) -> (String, String) {
    if let Some(prompt) = &row.prompt {
        return (prompt.before.clone(), prompt.after.clone());
    }
    let shot = |[text, question, answer]: &[&str; 3]| match open {
        true => format!("Text: {text}\n\nQuestion: {question}\nAnswer: {answer}\n\n\n"),
        false => format!("Question: {question}\nAnswer: {answer}\n\n\n"),
    };
    let shots: String = SHOTS.iter().map(shot).collect();
    let (before, gap) = if open { (shots + "Text: ", "\n\n") } else { (shots, "") };
    (before, format!("{gap}Question: {}\nAnswer:", row.query))
}
