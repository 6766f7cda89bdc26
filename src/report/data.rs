//! The files of a run directory as the report reads them: every file but `config.toml` is optional, none is half-understood.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::eval::schema::summary::Summary;
use crate::eval::schema::windows::WindowExample;
use crate::run_dir::RunDir;

/// One row of `metrics.jsonl`. What was not a finite number is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRow {
    /// Training step.
    pub step: usize,
    /// `stage/name` → value.
    pub values: BTreeMap<String, f64>,
}

/// The content of a run directory, as far as it exists.
#[derive(Clone, Debug)]
pub struct RunData {
    /// The run directory.
    pub dir: RunDir,
    /// `summary.json`.
    pub summary: Option<Summary>,
    /// `metrics.jsonl`, by step.
    pub metrics: Vec<MetricRow>,
    /// `examples.jsonl` of the last evaluation that has one.
    pub examples: Vec<WindowExample>,
    /// `provenance.json`.
    pub provenance: Option<Value>,
    /// `config.toml`, as text.
    pub config: String,
}

impl RunData {
    /// Reads the run at `root`; refuses one with neither a summary nor metrics.
    pub fn read(root: &Path) -> Result<Self> {
        let dir = RunDir::at(root)?;
        let run = RunData {
            summary: read_json(&dir.summary())?,
            metrics: read_lines(&dir.metrics())?.unwrap_or_default(),
            examples: last_examples(root)?,
            provenance: read_json(&dir.provenance())?,
            config: read_text(&dir.config())?.unwrap_or_default(),
            dir,
        };
        if run.summary.is_none() && run.metrics.is_empty() {
            return Err(Error::file(root, "expected a run with summary.json or metrics.jsonl, got neither"));
        }
        Ok(run)
    }

    /// The (step, value) points of one metric.
    pub fn series(&self, key: &str) -> Vec<(f64, f64)> {
        self.metrics.iter().filter_map(|row| Some((row.step as f64, *row.values.get(key)?))).collect()
    }

    /// Every metric's key.
    pub fn keys(&self) -> Vec<&str> {
        let keys: std::collections::BTreeSet<&str> =
            self.metrics.iter().flat_map(|row| row.values.keys().map(String::as_str)).collect();
        keys.into_iter().collect()
    }
}

impl TryFrom<Map<String, Value>> for MetricRow {
    type Error = String;

    fn try_from(mut fields: Map<String, Value>) -> std::result::Result<Self, String> {
        let step = fields.remove("step");
        let step = step.as_ref().and_then(Value::as_u64);
        let step = step.ok_or("expected a whole number under `step`")? as usize;
        let mut values = BTreeMap::new();
        for (key, value) in fields {
            match value {
                Value::Null => {}
                Value::Number(number) => {
                    values.extend(number.as_f64().map(|x| (key, x)));
                }
                other => return Err(format!("`{key}`: expected a number, got {other}")),
            }
        }
        Ok(MetricRow { step, values })
    }
}

impl<'de> serde::Deserialize<'de> for MetricRow {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        MetricRow::try_from(Map::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn last_examples(root: &Path) -> Result<Vec<WindowExample>> {
    let folder = root.join("eval");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(folder, e)),
    };
    let mut steps: Vec<(usize, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(&folder, e))?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step_")?.parse().ok());
        steps.extend(step.map(|step| (step, path.join("examples.jsonl"))));
    }
    steps.sort();
    for (_, path) in steps.iter().rev() {
        if let Some(examples) = read_lines(path)? {
            return Ok(examples);
        }
    }
    Ok(Vec::new())
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, e)),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| Error::file(path, e.to_string()))
}

/// One value per line. A last line that breaks off, as a running or killed process leaves it, is left out.
fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Option<Vec<T>>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let mut rows = Vec::new();
    for (at, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(row) => rows.push(row),
            Err(e) if e.is_eof() && !line.ends_with('\n') => break,
            Err(e) => {
                let message = e.to_string();
                let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
                return Err(Error::file(path, format!("line {}: {what}", at + 1)));
            }
        }
    }
    Ok(Some(rows))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(file: &str, text: &str) -> Result<RunData> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::write(root.path().join("config.toml"), "").unwrap();
        RunData::read(root.path())
    }

    #[test]
    fn rows_keep_finite_numbers_and_drop_an_unfinished_line() {
        let run =
            read("metrics.jsonl", "{\"step\":1,\"a/x\":1.5,\"a/y\":null}\n\n{\"step\":2,\"a/x\":2}\n{\"step\":3,\"a")
                .unwrap();
        assert_eq!(run.series("a/x"), [(1.0, 1.5), (2.0, 2.0)]);
        assert!(run.series("a/y").is_empty());
        assert_eq!(run.keys(), ["a/x"]);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (file, text, expected) in [
            ("metrics.jsonl", "{\"step\":1}\n{\"step\":\n", "metrics.jsonl: line 2: EOF while parsing a value"),
            ("metrics.jsonl", "{\"step\":-1}\n", "metrics.jsonl: line 1: expected a whole number under `step`"),
            ("metrics.jsonl", "{\"step\":1,\"a/x\":\"no\"}\n", "`a/x`: expected a number, got \"no\""),
            ("summary.json", "{\n \"experiment\": 3\n}", "line 2"),
            ("provenance.json", "{", "provenance.json: "),
            ("eval/step_000010/examples.jsonl", "{}\n", "examples.jsonl: line 1: missing field"),
            ("other.txt", "", "expected a run with summary.json"),
        ] {
            let message = read(file, text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let missing = RunData::read(Path::new("/no/such/run")).unwrap_err().to_string();
        assert!(missing.contains("/no/such/run"), "{missing}");
    }
}
