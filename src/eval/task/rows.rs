//! `rows.jsonl` of a downstream evaluation: one row an example, compressor and budget.

use crate::error::{Error, Result};
use crate::text_file::{at_line, decode, read_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Version of rules and prompts. Rows of another version are not gone on from.
pub const METRIC_VERSION: &str = "1";

/// Everything that rows of one file have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowOrigin {
    /// SHA-256 of the file of the benchmark.
    pub dataset: String,
    /// Model that answers.
    pub task_model: String,
    /// SHA-256 of its weights, where it is known.
    pub task_model_sha256: Option<String>,
    /// Address of the server where it runs, if it is not here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Further keys of requests to it, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Model whose tokens are counted, where it is not the one that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Most tokens of an answer, where the benchmark says nothing.
    pub answer_tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// [`METRIC_VERSION`].
    pub metric_version: String,
    /// The program: commit, or a digest of its sources.
    pub git_sha: String,
}

/// Tokens and dollars of an answer, as the server that gave it billed them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Billed {
    /// Tokens of the question; none of a model that runs here, or of a server that does not say.
    pub input_tokens: Option<usize>,
    /// Tokens of the answer.
    pub output_tokens: Option<usize>,
    /// Dollars; 0 of a model that runs here, none where the price is not known.
    pub cost_usd: Option<f64>,
}

/// An answer with its grade.
#[derive(Clone, Debug, PartialEq)]
pub struct GradedAnswer {
    /// The answer as it is graded.
    pub output: String,
    /// 0 or 1.
    pub exact_match: f64,
    /// F1, or the one number of the rule.
    pub f1: f64,
    /// Milliseconds that the answer took.
    pub latency_ms: f64,
    /// Tokens and dollars that it was billed as.
    pub billed: Billed,
}

/// One example, compressed by one compressor to one budget and answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DownstreamRow {
    /// Common to all rows of the file.
    #[serde(flatten)]
    pub origin: RowOrigin,
    /// Id of the example.
    pub example_id: String,
    /// Benchmark that it is of.
    pub benchmark: String,
    /// Kind of text: nl, code or mixed.
    pub domain: String,
    /// Part of the rows that it belongs to.
    pub slice: Option<String>,
    /// Document by which rows are resampled.
    pub document: String,
    /// The question.
    #[serde(default)]
    pub query: String,
    /// References.
    #[serde(default)]
    pub answers: Vec<String>,
    /// Name of the compressor.
    pub compressor: String,
    /// SHA-256 of its weights, or `baseline`.
    pub compressor_weights: String,
    /// Whether the compressor saw the question.
    pub sees_query: bool,
    /// Share of the context's tokens that was asked for.
    pub budget_requested: f64,
    /// That share in tokens.
    pub budget_tokens: usize,
    /// Answer to the whole context.
    pub full_output: String,
    /// Answer to what the compressor kept.
    pub compressed_output: String,
    /// Answer to nothing.
    pub closed_output: String,
    /// Exact match of the first.
    pub full_exact_match: f64,
    /// Exact match of the second.
    pub compressed_exact_match: f64,
    /// Exact match of the third.
    pub closed_exact_match: f64,
    /// Exact match compressed less full.
    pub delta_exact_match: f64,
    /// F1 of the answer to the whole context.
    pub full_f1: f64,
    /// F1 of the answer to what was kept.
    pub compressed_f1: f64,
    /// F1 of the answer to nothing.
    pub closed_f1: f64,
    /// F1 compressed less full.
    pub delta_f1: f64,
    /// Tokens of the whole context.
    pub context_tokens_full: usize,
    /// Tokens of what was kept, encoded anew as the model reads them.
    pub context_tokens_compressed: usize,
    /// Tokens compressed over full, under the name that other tools read.
    pub compression_ratio: f64,
    /// Milliseconds of the answer to the whole context.
    pub latency_ms_full: f64,
    /// Milliseconds of the answer to what was kept: its part of those that were answered together.
    pub latency_ms_compressed: f64,
    /// Milliseconds of the compressor for all budgets, divided by their number.
    pub latency_ms_compressor: f64,
    /// Dollars for the whole context; 0 of a model that runs here, none where the price is not known.
    pub cost_usd_full: Option<f64>,
    /// Dollars for what was kept.
    pub cost_usd_compressed: Option<f64>,
    /// Dollars for nothing read; absent of a model that runs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd_closed: Option<f64>,
    /// Tokens of the prompt with the whole context, as billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens_full: Option<usize>,
    /// Tokens of the prompt with what was kept, as billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens_compressed: Option<usize>,
    /// Tokens of the prompt with nothing, as billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens_closed: Option<usize>,
    /// Tokens of the answer to the whole context, as billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_full: Option<usize>,
    /// Tokens of the answer to what was kept, as billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_compressed: Option<usize>,
    /// Tokens of the answer to nothing, as billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_closed: Option<usize>,
    /// Tokens cut out of the middle of the whole context, for which the model had no room.
    pub cut_tokens_full: usize,
    /// Place at which the first reference begins in the context, from 0 to 1; none where it is not in it.
    pub answer_at: Option<f64>,
    /// Whether a reference stands in what was kept.
    pub answer_kept: bool,
    /// Text that was kept.
    pub compressed_text: String,
}

/// A row's place: example, compressor, budget in millionths.
pub type RowKey = (String, String, u64);

impl DownstreamRow {
    /// Its place among the rows.
    pub fn key(&self) -> RowKey {
        key(&self.example_id, &self.compressor, self.budget_requested)
    }

    /// The answers that it shares with the other rows of its example: to the whole context, and to nothing.
    pub fn shared(&self) -> [GradedAnswer; 2] {
        let full = GradedAnswer {
            output: self.full_output.clone(),
            exact_match: self.full_exact_match,
            f1: self.full_f1,
            latency_ms: self.latency_ms_full,
            billed: Billed {
                input_tokens: self.input_tokens_full,
                output_tokens: self.output_tokens_full,
                cost_usd: self.cost_usd_full,
            },
        };
        let closed = GradedAnswer {
            output: self.closed_output.clone(),
            exact_match: self.closed_exact_match,
            f1: self.closed_f1,
            latency_ms: 0.0,
            billed: Billed {
                input_tokens: self.input_tokens_closed,
                output_tokens: self.output_tokens_closed,
                cost_usd: self.cost_usd_closed,
            },
        };
        [full, closed]
    }
}

/// All rows of a file.
///
/// # Errors
/// A file that cannot be read, or a line that is no row; the error names it.
pub fn read_rows(path: &Path) -> Result<Vec<DownstreamRow>> {
    let row = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| at_line(path, number + 1, format!("expected a row, got: {e}")))
    };
    read_text(path)?.lines().enumerate().map(row).collect()
}

/// The place of a row.
pub fn key(example: &str, compressor: &str, budget: f64) -> RowKey {
    (example.into(), compressor.into(), (budget * 1e6).round() as u64)
}

/// The file of rows, open to be written on.
pub struct RowFile {
    path: PathBuf,
    file: File,
    /// Rows that are there.
    pub rows: Vec<DownstreamRow>,
}

impl RowFile {
    /// Opens the rows of an evaluation. Those that are there are gone on from where `resume` says so; a last row that a killed run
    /// left unfinished is cut off.
    ///
    /// # Errors
    /// Rows that are there without `resume`, and rows of another origin or of compressors with other weights (`weights` by name):
    /// the error names file, line, key and both values.
    pub fn open(path: &Path, origin: &RowOrigin, weights: &BTreeMap<String, String>, resume: bool) -> Result<Self> {
        let failed = |e| Error::io(path, e);
        let mut bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(failed(e)),
        };
        if !bytes.is_empty() && !resume {
            return Err(Error::file(path, "expected no rows of an earlier evaluation without --resume, got some"));
        }
        // An unfinished row may end inside a character.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        let text = decode(path, bytes)?;
        let mut rows: Vec<DownstreamRow> = Vec::new();
        let mut seen: BTreeMap<RowKey, usize> = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            let row: DownstreamRow =
                serde_json::from_str(line).map_err(|e| at_line(path, number, format!("expected a row, got: {e}")))?;
            row.matches(origin, weights).map_err(|message| at_line(path, number, message))?;
            if let Some(first) = seen.insert(row.key(), number) {
                return Err(at_line(path, number, format!("expected each row once, got that of line {first} again")));
            }
            rows.push(row);
        }
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        drop(file);
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        Ok(Self { path: path.to_path_buf(), file, rows })
    }

    /// Writes rows behind the others, and waits until they are on the disk.
    pub fn push(&mut self, rows: Vec<DownstreamRow>) -> Result<()> {
        let mut bytes = Vec::new();
        for row in &rows {
            serde_json::to_writer(&mut bytes, row).map_err(|e| Error::file(&self.path, e.to_string()))?;
            bytes.push(b'\n');
        }
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        written.map_err(|e| Error::io(&self.path, e))?;
        self.rows.extend(rows);
        Ok(())
    }
}

impl DownstreamRow {
    fn matches(&self, origin: &RowOrigin, weights: &BTreeMap<String, String>) -> std::result::Result<(), String> {
        let value = |origin: &RowOrigin| serde_json::to_value(origin).unwrap_or_default();
        let (expected, got) = (value(origin), value(&self.origin));
        // Another program of the same version of rules and prompts grades alike.
        let compared = expected.as_object().into_iter().flatten().filter(|(key, _)| key.as_str() != "git_sha");
        for (key, expected) in compared {
            if got[key] != *expected {
                return Err(format!("`{key}`: expected {expected}, got {}", got[key]));
            }
        }
        match weights.get(&self.compressor) {
            Some(own) if *own != self.compressor_weights => Err(format!(
                "`compressor_weights` of {}: expected {own}, got {}",
                self.compressor, self.compressor_weights
            )),
            _ => Ok(()),
        }
    }
}
