//! The span reader as the model that answers: it points at a part of what is kept, and knows nothing without a text.

use crate::data::task::TaskRow;
use crate::error::{Error, Result};
use crate::eval::task::reader::TaskQuestion;
use crate::hash::FileHash;
use crate::model::weights;
use crate::reading::span::SpanReader;
use crate::tokenizer::Tokenizer;
use std::path::Path;
use tch::Device;

/// A span reader, and the tokenizer that counts budgets.
pub struct SpanModel<'a> {
    /// The reader.
    pub reader: SpanReader,
    /// Tokens of budgets.
    pub tokenizer: &'a Tokenizer,
    /// SHA-256 of the reader's weights.
    pub sha256: String,
}

impl<'a> SpanModel<'a> {
    /// Reads the folder of a trained reader.
    pub fn load(folder: &Path, tokenizer: &'a Tokenizer, device: Device) -> Result<Self> {
        let reader = SpanReader::load(folder, device)?;
        let files = weights::files_or_adapter(folder);
        let file = files.first().ok_or_else(|| Error::file(folder, "expected weights, got none"))?;
        Ok(Self { reader, tokenizer, sha256: FileHash::of(file)?.sha256 })
    }

    /// A question about a context, which is the text of it; the closed book has none.
    pub fn question(&self, row: &TaskRow, context: Option<&str>) -> Result<TaskQuestion> {
        let text = context.unwrap_or_default().to_string();
        let ids = [self.tokenizer.encode(&text)?, self.tokenizer.encode(&row.query)?].concat();
        Ok(TaskQuestion { text, ids, answer_tokens: 0, cut: 0 })
    }

    /// The spans that answer, as they are graded; nothing where there is no text.
    pub fn answers(&self, row: &TaskRow, questions: &[TaskQuestion]) -> Result<Vec<String>> {
        let asked: Vec<(&str, &str)> = questions.iter().map(|own| (row.query.as_str(), own.text.as_str())).collect();
        Ok(self.reader.answers(&asked)?.iter().map(|answer| answer.said(row.grading).to_string()).collect())
    }
}
