//! Files of benchmarks: one JSON value, or a row a line.

use crate::data::corpus::{parse_row, read_lines};
use crate::data::packing::{Packing, unpack};
use crate::error::{Error, Result};
use crate::text_file::{at_line, decode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Whether a file is one JSON value, by its name.
pub(super) fn is_json(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    Packing::of(&name).0.ends_with(".json")
}

/// A file that is one JSON value, plain or compressed.
pub(super) fn read_whole<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let text = decode(path, unpack(path, Packing::of(&name).1)?)?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| Error::file(path, format!("`{}`: {}", error.path(), error.inner())))
}

/// The rows of a `.jsonl` file, each with its line.
pub(super) fn read_rows<T: DeserializeOwned>(path: &Path, form: &str) -> Result<Vec<(usize, T)>> {
    read_lines(path)?.into_iter().map(|(line, text)| Ok((line, parse_row(path, line, &text, form)?))).collect()
}

/// An id that is a string or a number, under either of two names.
pub(super) fn id_of(path: &Path, line: usize, row: &Value, names: [&str; 2]) -> Result<String> {
    let found = names.iter().find_map(|name| match &row[*name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    found.ok_or_else(|| at_line(path, line, format!("`{}`: expected a string or a number, got nothing", names[0])))
}
