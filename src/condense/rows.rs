//! Rows of JSON lines, made shorter one batch after another: memory does not grow with the number of rows.

use crate::condense::{Condensed, Condenser, PlainText};
use crate::config::choices::BudgetConfig;
use crate::data::{next_line, parse_row};
use crate::error::{Error, Result};
use crate::text_file::at_line;
use serde_json::{Map, Value, json};
use std::io::{BufRead, Write};
use std::path::Path;

/// Rows that are read before any is written.
const ROWS_AT_ONCE: usize = 64;
/// Bytes of text after which a batch ends, so that long rows do not fill the memory.
const BYTES_AT_ONCE: usize = 4 << 20;
/// Key of the figures of a row.
const FIGURES: &str = "compression";

/// Fields and settings of a stream of rows.
pub struct RowOptions<'a> {
    /// Field whose text is made shorter.
    pub field: &'a str,
    /// Question for every row; empty for none.
    pub query: &'a str,
    /// Field that holds the question of a row, in place of `query`.
    pub query_field: Option<&'a str>,
    /// Budget of each row.
    pub budget: &'a BudgetConfig,
    /// Whether each row gets its figures, under `compression`.
    pub figures: bool,
}

/// Sums over texts that were made shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Texts.
    pub texts: usize,
    /// Tokens before, all together.
    pub tokens_before: usize,
    /// Tokens after, all together.
    pub tokens_after: usize,
    /// Texts that had tokens and have none.
    pub emptied: usize,
    /// Sum of the keep_ratio of each text.
    pub keep_ratios: f64,
}

impl Tally {
    /// Counts one text.
    pub fn add(&mut self, condensed: &Condensed) {
        self.texts += 1;
        self.tokens_before += condensed.tokens_before;
        self.tokens_after += condensed.tokens_after;
        self.emptied += usize::from(condensed.tokens_before > 0 && condensed.tokens_after == 0);
        self.keep_ratios += condensed.keep_ratio();
    }
}

/// A row that was read.
struct TextRow {
    line: usize,
    row: Map<String, Value>,
    text: String,
    query: String,
}

impl TextRow {
    fn plain(&self) -> PlainText<'_> {
        PlainText { text: &self.text, query: &self.query, key: self.line as u64 }
    }
}

impl Condenser<'_> {
    /// Reads rows, and writes each with the shorter text in its field and everything else as it was, in order; whole batches are
    /// flushed. `path` names the rows in errors.
    ///
    /// # Errors
    /// A line that is no such object, or a text that cannot be made shorter ([`Condenser::condense`]): the error names file,
    /// line and field, and the rows before it are written.
    pub fn rows(
        &self,
        path: &Path,
        rows: &mut dyn BufRead,
        options: &RowOptions,
        out: &mut dyn Write,
        tally: &mut Tally,
    ) -> Result<()> {
        let (mut batch, mut bytes, mut number) = (Vec::new(), 0, 0);
        loop {
            match next_row(path, rows, &mut number, options) {
                Ok(Some(row)) => {
                    bytes += row.text.len();
                    batch.push(row);
                    if batch.len() == ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
                        self.batch(path, std::mem::take(&mut batch), options, out, tally)?;
                        bytes = 0;
                    }
                }
                // At the end, and before a bad row, what was read is written.
                end => {
                    self.batch(path, batch, options, out, tally)?;
                    return end.map(drop);
                }
            }
        }
    }

    fn batch(
        &self,
        path: &Path,
        batch: Vec<TextRow>,
        options: &RowOptions,
        out: &mut dyn Write,
        tally: &mut Tally,
    ) -> Result<()> {
        let texts: Vec<PlainText> = batch.iter().map(TextRow::plain).collect();
        let made = self.condense(&texts, options.budget)?;
        let failed = |e| Error::io("output", e);
        for (row, condensed) in batch.iter().zip(made) {
            let named = |error: Error| at_line(path, row.line, format!("`{}`: {error}", options.field));
            let condensed = condensed.map_err(named).inspect_err(|_| _ = out.flush())?;
            tally.add(&condensed);
            let mut object = row.row.clone();
            object.insert(options.field.into(), condensed.text.as_str().into());
            if options.figures {
                object.insert(FIGURES.into(), figures(self.compressor.name(), &condensed));
            }
            let line = Value::Object(object).to_string();
            out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
        }
        out.flush().map_err(failed)
    }
}

/// The figures of a text: compressor, budget, tokens before and after, kept ranges of bytes with their scores.
pub fn figures(compressor: &str, condensed: &Condensed) -> Value {
    let Condensed { tokens_before, tokens_after, tokens_encoded, budget, kept, .. } = condensed;
    json!({
        "compressor": compressor, "budget": budget, "tokens_before": tokens_before, "tokens_after": tokens_after,
        "tokens_encoded": tokens_encoded, "keep_ratio": condensed.keep_ratio(), "kept": kept,
    })
}

/// The next row that is not blank; none at the end.
fn next_row(path: &Path, rows: &mut dyn BufRead, number: &mut usize, options: &RowOptions) -> Result<Option<TextRow>> {
    let Some(text) = next_line(path, rows, number)? else { return Ok(None) };
    let row: Map<String, Value> = parse_row(path, *number, &text, &format!("with a text `{}`", options.field))?;
    if options.figures && row.contains_key(FIGURES) {
        return Err(at_line(path, *number, format!("`{FIGURES}`: expected no such field, which --json adds")));
    }
    let of = |field: &str| match row.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        other => {
            let got = other.map_or("nothing".into(), |other| other.to_string().chars().take(40).collect::<String>());
            Err(at_line(path, *number, format!("`{field}`: expected a text, got {got}")))
        }
    };
    let (text, query) = (of(options.field)?, options.query_field.map_or(Ok(options.query.to_string()), of)?);
    Ok(Some(TextRow { line: *number, row, text, query }))
}
