//! The schema of what an evaluation records window by window: `windows.jsonl` (figures, from which any pooled statistic
//! follows without a model) and `examples.jsonl` (texts of some of them).

use crate::config::eval::Cluster;
use crate::error::{Error, Result};
use crate::eval::schema::ledger::WindowLevels;
use crate::eval::schema::readers::{ADAPTED, BASE, GENERATOR};
use crate::eval::schema::undefined::number;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// One row of `windows.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowRow {
    /// Index of the held-out window.
    pub window: usize,
    /// Id of its document.
    pub document: String,
    /// Source of the document (a project, a book); none in files of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// KL of the reader adapted to nothing.
    pub context_value_kl: f64,
    /// Levels of the ledger that belong to no compressor; none in files of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<WindowLevels>,
    /// Figures by compressor.
    #[serde(flatten)]
    pub compressors: BTreeMap<String, WindowFigures>,
}

impl WindowRow {
    /// The name of its cluster; an error where the row does not say its source.
    pub fn cluster(&self, by: Cluster) -> Result<&str> {
        match (by, &self.source) {
            (Cluster::Document, _) => Ok(&self.document),
            (Cluster::Source, Some(source)) => Ok(source),
            (Cluster::Source, None) => {
                let place = format!("window {} of document `{}`", self.window, self.document);
                Err(Error::invalid(format!("{place}: expected a `source`, got none (rows of an older version)")))
            }
        }
    }
}

/// One compressor on one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowFigures {
    /// Kept tokens.
    pub tokens: usize,
    /// KL under the co-trained generator.
    pub kl: f64,
    /// NLL of the true future under it.
    pub nll: f64,
    /// KL under the bare base.
    pub kl_base: f64,
    /// KL under the compressor's own adapted reader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_adapted: Option<f64>,
}

impl WindowFigures {
    /// KL under a reader, by its name.
    pub fn kl_of(&self, reader: &str) -> Option<f64> {
        match reader {
            GENERATOR => Some(self.kl),
            BASE => Some(self.kl_base),
            ADAPTED => self.kl_adapted,
            _ => None,
        }
    }
}

/// Reads a `windows.jsonl`.
pub fn read_windows(path: &Path) -> Result<Vec<WindowRow>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let row = |(i, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Error::file(path, format!("line {}: {e}", i + 1)))
    };
    text.lines().enumerate().map(row).collect()
}

/// One row of `examples.jsonl`: a window and what each compressor made of its prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowExample {
    /// Index of the held-out window.
    pub window: usize,
    /// Id of the document.
    pub document: String,
    /// Text of the prefix.
    pub prefix: String,
    /// The prefix token by token, each decoded alone.
    pub prefix_tokens: Vec<String>,
    /// Text of the local window.
    pub local: String,
    /// Text of the future.
    pub future: String,
    /// Output of each compressor, with the KL that it left.
    pub gists: BTreeMap<String, ExampleGist>,
}

/// One compressed prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleGist {
    /// Decoded text.
    pub text: String,
    /// Token by token, each decoded alone.
    pub tokens: Vec<String>,
    /// KL from teacher to generator on this window, nats per token.
    #[serde(deserialize_with = "number")]
    pub kl: f64,
    /// Kept over original tokens.
    #[serde(deserialize_with = "number")]
    pub keep_ratio: f64,
}
