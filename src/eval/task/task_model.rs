//! The model that answers: a base that runs here, a span reader, or a model behind HTTP.

use crate::data::task::TaskRow;
use crate::endpoint::{Endpoint, EndpointAnswer, EndpointQuestion};
use crate::error::Result;
use crate::eval::task::reader::{LocalReader, TaskQuestion, as_graded};
use crate::eval::task::rows::Billed;
use crate::eval::task::span_model::SpanModel;
use crate::tokenizer::Tokenizer;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Wish before a text and its question.
const WISH: &str =
    "Answer the question from the text. Give the answer alone, in as few words as possible, without a sentence.";
/// Wish before a question without a text.
const WISH_CLOSED: &str =
    "Answer the question. Give the answer alone, in as few words as possible, without a sentence.";

/// The model that answers.
pub enum TaskModel<'a> {
    /// A base that runs here.
    Local(LocalReader<'a>),
    /// An encoder that points at answers.
    Span(Box<SpanModel<'a>>),
    /// A model behind HTTP.
    Remote(RemoteReader<'a>),
}

/// A model behind HTTP, and the tokenizer that counts budgets.
pub struct RemoteReader<'a> {
    /// The model.
    pub endpoint: &'a Endpoint,
    /// Tokens of budgets.
    pub tokenizer: &'a Tokenizer,
    /// Most tokens of an answer, where the benchmark says nothing.
    pub answer_tokens: usize,
}

/// Questions about one row that are asked together.
pub struct QuestionGroup<'a> {
    /// The row.
    pub row: &'a TaskRow,
    /// The questions, each with a context of its own.
    pub questions: Vec<TaskQuestion>,
}

/// An answer as it will be graded.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskAnswer {
    /// The answer.
    pub output: String,
    /// Milliseconds that it took: its part of those that were asked together.
    pub latency_ms: f64,
    /// Tokens and dollars, as billed.
    pub billed: Billed,
}

impl TaskModel<'_> {
    /// Tokenizer that counts budgets.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            TaskModel::Local(reader) => &reader.models.tokenizer,
            TaskModel::Span(reader) => reader.tokenizer,
            TaskModel::Remote(reader) => reader.tokenizer,
        }
    }

    /// Examples whose questions are asked together.
    pub fn together(&self) -> usize {
        match self {
            TaskModel::Local(_) | TaskModel::Span(_) => 1,
            TaskModel::Remote(reader) => reader.endpoint.concurrency(),
        }
    }

    /// The prompt for a row with this context; none for the closed book.
    ///
    /// # Errors
    /// A question that leaves no room for any context.
    pub fn question(&self, row: &TaskRow, context: Option<&str>) -> Result<TaskQuestion> {
        match self {
            TaskModel::Local(reader) => reader.question(row, context),
            TaskModel::Span(reader) => reader.question(row, context),
            TaskModel::Remote(reader) => reader.question(row, context),
        }
    }

    /// The answers to each group's questions.
    ///
    /// # Errors
    /// A model that fails, or [`crate::error::Error::Interrupted`] once `stop` is set.
    pub fn answers(&self, groups: &[QuestionGroup], stop: &AtomicBool) -> Result<Vec<Vec<TaskAnswer>>> {
        match self {
            TaskModel::Local(reader) => here(groups, |row, questions| reader.answers(row, questions)),
            TaskModel::Span(reader) => here(groups, |row, questions| reader.answers(row, questions)),
            TaskModel::Remote(reader) => reader.answers(groups, stop),
        }
    }

    /// Dollars so far, in words.
    pub fn spending(&self) -> String {
        match self {
            TaskModel::Local(_) | TaskModel::Span(_) => "$0".into(),
            TaskModel::Remote(reader) => match reader.endpoint.spent().usd {
                Some(usd) => format!("${usd:.4}"),
                None => "price unknown".into(),
            },
        }
    }
}

/// The answers of a model that runs here; the time of a group is divided evenly.
fn here(
    groups: &[QuestionGroup],
    answers: impl Fn(&TaskRow, &[TaskQuestion]) -> Result<Vec<String>>,
) -> Result<Vec<Vec<TaskAnswer>>> {
    let own = |group: &QuestionGroup| {
        let begun = Instant::now();
        let outputs = answers(group.row, &group.questions)?;
        let latency_ms = begun.elapsed().as_secs_f64() * 1e3 / group.questions.len().max(1) as f64;
        let billed = Billed { cost_usd: Some(0.0), ..Billed::default() };
        Ok(outputs.into_iter().map(|output| TaskAnswer { output, latency_ms, billed }).collect())
    };
    groups.iter().map(own).collect()
}

impl RemoteReader<'_> {
    /// A row's own prompt, or the wish for a short answer, the text and the question.
    fn question(&self, row: &TaskRow, context: Option<&str>) -> Result<TaskQuestion> {
        let text = match (&row.prompt, context) {
            (Some(own), context) => [&own.before, context.unwrap_or_default(), &own.after].concat(),
            (None, Some(context)) => format!("{WISH}\n\nText: {context}\n\nQuestion: {}", row.query),
            (None, None) => format!("{WISH_CLOSED}\n\nQuestion: {}", row.query),
        };
        let answer_tokens = row.prompt.as_ref().map_or(self.answer_tokens, |prompt| prompt.answer_tokens);
        Ok(TaskQuestion { ids: self.tokenizer.encode(&text)?, text, answer_tokens, cut: 0 })
    }

    /// A question as the endpoint takes it.
    pub fn asked<'q>(row: &'q TaskRow, question: &'q TaskQuestion) -> EndpointQuestion<'q> {
        EndpointQuestion { text: &question.text, answer_tokens: question.answer_tokens, about: &row.id }
    }

    fn answers(&self, groups: &[QuestionGroup], stop: &AtomicBool) -> Result<Vec<Vec<TaskAnswer>>> {
        let of = |group: &QuestionGroup| group.questions.len();
        let all = groups.iter().flat_map(|own| own.questions.iter().map(|one| Self::asked(own.row, one)));
        let mut answers = self.endpoint.ask(&all.collect::<Vec<_>>(), stop)?.into_iter();
        let answer = |row: &TaskRow, EndpointAnswer { reply, latency_ms, cost_usd }: EndpointAnswer| {
            let billed = Billed { input_tokens: reply.input_tokens, output_tokens: reply.output_tokens, cost_usd };
            TaskAnswer { output: as_graded(row, &reply.text), latency_ms, billed }
        };
        let own = |group: &QuestionGroup| (&mut answers).take(of(group)).map(|one| answer(group.row, one)).collect();
        Ok(groups.iter().map(own).collect())
    }
}
