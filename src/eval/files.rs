//! What an evaluation leaves in `eval/step_NNNNNN/`: `metrics.json`, `windows.jsonl` (figures per window, from which any
//! pooled statistic follows without a model), `examples.jsonl`.

use crate::error::{Error, Result};
use crate::eval::intrinsic::{ADAPTED, BASE, Evaluated, GENERATOR};
use crate::eval::summary::{Evaluation, Example, ExampleGist};
use crate::run_dir::{write_atomic, write_json_atomic};
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
    /// KL of the reader adapted to nothing.
    pub context_value_kl: f64,
    /// By compressor.
    #[serde(flatten)]
    pub compressors: BTreeMap<String, WindowFigures>,
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

/// `count` indices spread evenly over `0..n`, ascending.
pub fn spread(n: usize, count: usize) -> Vec<usize> {
    let count = count.min(n);
    (0..count).map(|i| i * n / count).collect()
}

impl Evaluated<'_> {
    fn document(&self, window: usize) -> String {
        self.job.documents[self.clusters[window]].id.clone()
    }

    /// The rows of `windows.jsonl`.
    pub fn window_rows(&self) -> Vec<WindowRow> {
        let blank = |window: usize| WindowRow {
            window,
            document: self.document(window),
            context_value_kl: self.context[window],
            compressors: BTreeMap::new(),
        };
        let mut all: Vec<WindowRow> = (0..self.job.windows.len()).map(blank).collect();
        for row in &self.rows {
            for (i, &window) in row.windows.iter().enumerate() {
                let figures = WindowFigures {
                    tokens: row.compressed[i].ids.len(),
                    kl: row.readings[GENERATOR][i].kl,
                    nll: row.readings[GENERATOR][i].nll,
                    kl_base: row.readings[BASE][i].kl,
                    kl_adapted: row.readings.get(ADAPTED).map(|readings| readings[i].kl),
                };
                all[window].compressors.insert(row.name.clone(), figures);
            }
        }
        all
    }

    /// About `count` windows, spread evenly, with what every compressor made of them; the unchanged prefix is left out.
    pub fn examples(&self, count: usize) -> Result<Vec<Example>> {
        spread(self.job.windows.len(), count).into_iter().map(|window| self.example(window)).collect()
    }

    fn example(&self, window: usize) -> Result<Example> {
        let tokenizer = self.job.tokenizer;
        let source = &self.job.windows[window];
        let mut gists = BTreeMap::new();
        for row in self.rows.iter().filter(|row| !row.is_identity()) {
            let Some(i) = row.windows.iter().position(|&w| w == window) else { continue };
            let ids = &row.compressed[i].ids;
            let gist = ExampleGist {
                text: row.texts[i].clone(),
                tokens: tokenizer.read(ids)?.pieces(),
                kl: row.readings[GENERATOR][i].kl,
                keep_ratio: ids.len() as f64 / self.prefix_len(window),
            };
            gists.insert(row.name.clone(), gist);
        }
        let [_, local, future] = tokenizer.texts([&source.prefix, &source.local, &source.future])?;
        Ok(Example {
            window,
            document: self.document(window),
            prefix: self.prefixes[window].clone(),
            prefix_tokens: tokenizer.read(&source.prefix)?.pieces(),
            local,
            future,
            gists,
        })
    }

    /// Writes the three files into `folder`.
    pub fn write(&self, folder: &Path, evaluation: &Evaluation, examples: usize) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        write_lines(&folder.join("windows.jsonl"), &self.window_rows())?;
        write_lines(&folder.join("examples.jsonl"), &self.examples(examples)?)?;
        write_json_atomic(&folder.join("metrics.json"), evaluation)
    }
}

fn write_lines<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let mut bytes = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut bytes, row).map_err(|e| Error::file(path, e.to_string()))?;
        bytes.push(b'\n');
    }
    write_atomic(path, &bytes)
}
