//! `*.windows.jsonl.zst`: the rows of one run, small enough to ship beside published figures. The first line is a
//! [`Heading`], every other a [`WindowRow`] of the compressors that were asked for, with five significant digits.

use crate::error::{Error, Result};
use crate::eval::schema::ledger::Level;
use crate::eval::schema::summary::Summary;
use crate::eval::schema::windows::WindowRow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// End of the name of such a file.
pub const ENDING: &str = ".windows.jsonl.zst";
/// Level of the compression.
const ZSTD: i32 = 19;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heading {
    /// The run's `summary.json`, of the compressors that the rows have.
    pub summary: Summary,
    /// Terms that decide what was measured: dotted key and value.
    pub terms: BTreeMap<String, String>,
    /// Commit that measured the run, and the commands that trained and measured it; absent in files of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<serde_json::Value>,
}

/// A figure with five significant digits.
fn short(x: f64) -> f64 {
    if x.is_finite() { format!("{x:.4e}").parse().unwrap_or(x) } else { x }
}

fn level(level: Level) -> Level {
    Level { kl: short(level.kl), nll: short(level.nll) }
}

/// A row of `compressors` alone, with five significant digits.
pub fn shortened(row: &WindowRow, compressors: &[String]) -> WindowRow {
    let mut row = row.clone();
    row.context_value_kl = short(row.context_value_kl);
    if let Some(levels) = &mut row.levels {
        levels.teacher_nll = short(levels.teacher_nll);
        levels.untrained = levels.untrained.map(level);
        levels.unadapted = level(levels.unadapted);
        levels.empty_nll = short(levels.empty_nll);
    }
    row.compressors.retain(|name, _| compressors.contains(name));
    for figures in row.compressors.values_mut() {
        for figure in [&mut figures.kl, &mut figures.nll, &mut figures.kl_base] {
            *figure = short(*figure);
        }
        figures.kl_adapted = figures.kl_adapted.map(short);
    }
    row
}

/// A summary of `compressors` alone, without the surface figures of their outputs.
pub fn reduced(summary: &Summary, compressors: &[String]) -> Summary {
    let mut summary = summary.clone();
    let eval = &mut summary.eval;
    eval.compressors.retain(|name, _| compressors.contains(name));
    eval.readers.values_mut().for_each(|entries| entries.retain(|name, _| compressors.contains(name)));
    eval.retention.clear();
    summary
}

/// The bytes of a file.
pub fn encode(path: &Path, heading: &Heading, rows: &[WindowRow]) -> Result<Vec<u8>> {
    let bad = |e: serde_json::Error| Error::file(path, e.to_string());
    let mut lines = vec![serde_json::to_string(heading).map_err(bad)?];
    for row in rows {
        lines.push(serde_json::to_string(row).map_err(bad)?);
    }
    zstd::encode_all(lines.join("\n").as_bytes(), ZSTD).map_err(|e| Error::io(path, e))
}

/// Reads such a file; what is wrong in it is named with its line.
pub fn read(path: &Path) -> Result<(Heading, Vec<WindowRow>)> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let bytes = zstd::decode_all(file).map_err(|e| Error::io(path, e))?;
    let text = String::from_utf8(bytes).map_err(|e| Error::file(path, format!("expected UTF-8, got {e}")))?;
    let at = |line: usize| move |e: serde_json::Error| Error::file(path, format!("line {line}: {e}"));
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let heading = serde_json::from_str(first).map_err(at(1))?;
    let rows = lines.enumerate().map(|(i, line)| serde_json::from_str(line).map_err(at(i + 2)));
    Ok((heading, rows.collect::<Result<_>>()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn five_digits() {
        assert_eq!([short(0.123_456_789), short(1234.5678), short(-2e-9), short(0.0)], [0.12346, 1234.6, -2e-9, 0.0]);
        assert!(short(f64::NAN).is_nan());
    }

    #[test]
    fn what_is_no_such_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.windows.jsonl.zst");
        let write = |text: &str| std::fs::write(&path, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        write("{\"summary\": 1}");
        assert!(read(&path).unwrap_err().to_string().contains("a.windows.jsonl.zst: line 1: "));
        std::fs::write(&path, "plain").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("a.windows.jsonl.zst"));
    }
}
