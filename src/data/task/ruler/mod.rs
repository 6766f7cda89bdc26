//! RULER (Hsieh et al. 2024, arXiv 2404.06654): rows of its tasks at any length, generated as its code generates them, from
//! draws of our own. The haystack is as long as the length allows: found by bisection, then shortened for a row that does not fit.
//!
//! Differs from its code where that would not end: below 1,024 tokens the worked example before vt and cwe is left out, and
//! common words come three times, not six; a haystack shrinks by single sentences, words or documents. Tasks over essays are not here.

mod documents;
mod lists;
mod needles;
mod ruler_task;
mod tracking;
mod words;

use crate::data::task::row::{TaskPrompt, TaskRow};
use crate::error::{Error, Result};
use crate::grading::Grading;
use crate::rng::{self, Stream};
use ruler_task::Drawn;

pub use ruler_task::RulerTask;

/// Shortest length that rows are made for, in tokens.
pub const SHORTEST: usize = 512;
/// Length from which a worked example stands before vt and cwe.
const WITH_EXAMPLE: usize = 1024;

/// Size and number of rows.
#[derive(Clone, Copy, Debug)]
pub struct RulerSize {
    /// Tokens of prompt and answer together, at most.
    pub tokens: usize,
    /// Rows.
    pub rows: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// Counts the tokens of a text.
pub type CountTokens<'a> = dyn Fn(&str) -> Result<usize> + 'a;

/// Rows of a task. `questions` are rows of its benchmark ([`RulerTask::questions`]), `count` counts tokens of the reading model.
///
/// # Errors
/// A length below [`SHORTEST`], or one into which no row of the task fits.
pub fn generate(task: RulerTask, size: RulerSize, questions: &[TaskRow], count: &CountTokens) -> Result<Vec<TaskRow>> {
    let name = task.name();
    if size.tokens < SHORTEST {
        return Err(Error::invalid(format!(
            "{name}: expected a length of at least {SHORTEST} tokens, got {}",
            size.tokens
        )));
    }
    let shelf = documents::Passages::new(questions);
    let draw = |number: u64, haystack: usize| -> Option<Drawn> {
        let mut draws = rng::rng(size.seed, Stream::Synthetic, task as u64, number, 1);
        match task {
            RulerTask::NiahSingle1 | RulerTask::NiahMultikey2 | RulerTask::NiahMultikey3 => {
                Some(needles::draw(task, haystack, &mut draws))
            }
            RulerTask::Vt => Some(tracking::draw(haystack, size.tokens >= WITH_EXAMPLE, &mut draws)),
            RulerTask::Cwe => lists::common_words(haystack, size.tokens, size.tokens >= WITH_EXAMPLE, &mut draws),
            RulerTask::Fwe => Some(lists::coded_words(haystack, size.tokens, &mut draws)),
            RulerTask::Qa1 | RulerTask::Qa2 => shelf.draw(number as usize, haystack, &mut draws),
        }
    };
    let fits = |drawn: &Drawn| -> Result<bool> { Ok(count(&drawn.text())? + task.answer_tokens() <= size.tokens) };
    // The longest haystack of the first row; every unit of it has a token at least.
    let (mut most, mut beyond) = (0, size.tokens + 1);
    while beyond - most > 1 {
        let middle = most.midpoint(beyond);
        match draw(0, middle).map(|drawn| fits(&drawn)).transpose()? {
            Some(true) => most = middle,
            // A list that has no more words, or a text too long.
            Some(false) | None => beyond = middle,
        }
    }
    let limit = if task.questions().is_some() { questions.len() as u64 } else { size.rows as u64 };
    let mut rows = Vec::new();
    for number in 0..limit {
        if rows.len() == size.rows {
            break;
        }
        let mut haystack = if most == 0 { size.tokens / 64 } else { most };
        let found = loop {
            match draw(number, haystack).map(|drawn| fits(&drawn).map(|fits| (drawn, fits))).transpose()? {
                Some((drawn, true)) => break Some(drawn),
                Some(_) | None if haystack > 1 => haystack -= (haystack / 32).max(1),
                Some(_) | None => break None,
            }
        };
        let Some(drawn) = found else { continue };
        let Drawn { before, context, after, query, answers } = drawn;
        let grading = if task.questions().is_some() { Grading::RulerPart } else { Grading::RulerAll };
        let prompt = Some(TaskPrompt { before, after, answer_tokens: task.answer_tokens() });
        let (id, slice) = (format!("{name}-{}-{number}", size.tokens), Some(name.to_string()));
        let common =
            TaskRow { benchmark: "ruler".into(), domain: "nl".into(), grading, slice, prompt, ..TaskRow::default() };
        rows.push(TaskRow { document: Some(id.clone()), id, context, query, answers, ..common });
    }
    match rows.is_empty() {
        true => {
            Err(Error::invalid(format!("{name}: expected a length that a row fits into, got {} tokens", size.tokens)))
        }
        false => Ok(rows),
    }
}
