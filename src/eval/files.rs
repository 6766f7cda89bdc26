//! Files of an evaluation, in `eval/step_NNNNNN/`: `metrics.json`, `windows.jsonl` (figures per window, from which any pooled
//! statistic follows without a model), `examples.jsonl`.

use crate::error::{Error, Result};
use crate::eval::figures::Earlier;
use crate::eval::schema::ledger::{Level, WindowLevels};
use crate::eval::schema::readers::{ADAPTED, BASE, GENERATOR};
use crate::eval::schema::summary::Evaluation;
use crate::eval::schema::windows::{ExampleGist, WindowExample, WindowFigures, WindowRow};
use crate::eval::table::Evaluated;
use crate::reading::Reading;
use crate::run_dir::{write_atomic, write_json_atomic};
use crate::tokenizer::WindowText;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// `count` indices spread evenly over `0..n`, ascending.
pub fn spread(n: usize, count: usize) -> Vec<usize> {
    let count = count.min(n);
    (0..count).map(|i| i * n / count).collect()
}

impl Evaluated<'_> {
    fn document(&self, window: usize) -> String {
        self.job.documents[self.job.windows[window].document].id.clone()
    }

    /// The rows of `windows.jsonl`, with the readings of the untrained pair where they were measured.
    pub fn window_rows(&self, earlier: Option<&Earlier>) -> Vec<WindowRow> {
        let level = |reading: &Reading| Level { kl: reading.kl, nll: reading.nll };
        let blank = |window: usize| WindowRow {
            window,
            document: self.document(window),
            source: Some(self.job.documents[self.job.windows[window].document].source.clone()),
            context_value_kl: self.levels.context[window],
            levels: Some(WindowLevels {
                teacher_nll: self.levels.teacher_nll[window],
                untrained: earlier.and_then(|earlier| earlier.untrained.get(window)).map(level),
                unadapted: level(&self.levels.unadapted[window]),
                empty_nll: self.levels.context_nll[window],
            }),
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
    pub fn examples(&self, count: usize) -> Result<Vec<WindowExample>> {
        spread(self.job.windows.len(), count).into_iter().map(|window| self.example(window)).collect()
    }

    fn example(&self, window: usize) -> Result<WindowExample> {
        let tokenizer = self.job.tokenizer;
        let source = &self.job.windows[window];
        let mut gists = BTreeMap::new();
        for row in self.rows.iter().filter(|row| !row.is_identity()) {
            let Some(i) = row.windows.iter().position(|&w| w == window) else { continue };
            let ids = &row.compressed[i].ids;
            let gist = ExampleGist {
                text: row.texts[i].clone(),
                tokens: tokenizer.read(ids)?.spelled(),
                kl: row.readings[GENERATOR][i].kl,
                keep_ratio: ids.len() as f64 / self.prefix_len(window),
            };
            gists.insert(row.name.clone(), gist);
        }
        let WindowText { local, future, .. } = tokenizer.window(source)?;
        Ok(WindowExample {
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
    pub fn write(
        &self,
        folder: &Path,
        evaluation: &Evaluation,
        earlier: Option<&Earlier>,
        examples: usize,
    ) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        write_lines(&folder.join("windows.jsonl"), &self.window_rows(earlier))?;
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
