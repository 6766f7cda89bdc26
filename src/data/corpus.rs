//! Documents from `.txt` and `.jsonl` files, plain or compressed (`.zst`, `.gz`).

use std::fs::File;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::packing::{Packing, stream, unpack};
use crate::error::{Error, Result};
use crate::text_file::{MARK, at_line, decode, numbered_lines, unix_lines};

/// One text, never split across train, validation and test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Name of the document, unique in its corpus when the corpus says so.
    pub id: String,
    /// The whole text.
    pub text: String,
    /// Source of the document (a project, a book); the file's name when the file does not say.
    pub source: String,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    #[serde(default, deserialize_with = "name")]
    id: Option<String>,
    #[serde(default, deserialize_with = "name")]
    source: Option<String>,
}

/// Characters of a line that a message shows.
const SHOWN: usize = 40;

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Text,
    Rows,
}

/// Reads every document of a file, or of a folder and the folders in it (in the order of their paths).
///
/// `.txt` is one document a file, its lines ended by `\n` whatever the file has; `.jsonl` one a row,
/// `{"text": ..., "id"?: ..., "source"?: ...}` with other keys ignored, `id` and `source` strings or numbers; both may end
/// in `.zst` or `.gz`. A byte-order mark before a text is no part of it. In a folder other files and hidden ones are passed
/// over, and so are documents of white space only. An encoding that cannot be read and a row that is not such an object are
/// errors that name file, line and key.
pub fn read_documents(path: &Path) -> Result<Vec<Document>> {
    let mut files = Vec::new();
    if path.is_dir() {
        list(path, &mut files)?;
        files.sort();
    } else {
        let known = kind(path).ok_or_else(|| {
            Error::file(
                path,
                "expected a folder or a .txt or .jsonl file (optionally .zst or .gz), got another extension",
            )
        });
        File::open(path).map_err(|e| Error::io(path, e))?;
        known?;
        files.push(path.to_path_buf());
    }
    let read: Vec<Vec<Document>> = files.par_iter().map(|file| read_file(file, path)).collect::<Result<_>>()?;
    let documents: Vec<Document> = read.into_iter().flatten().collect();
    if documents.is_empty() {
        let got = if files.is_empty() { "none".into() } else { format!("{} without text", files.len()) };
        return Err(Error::file(path, format!("expected .txt or .jsonl files (optionally .zst or .gz), got {got}")));
    }
    Ok(documents)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            continue;
        }
        if path.is_dir() {
            list(&path, files)?;
        } else if kind(&path).is_some() {
            files.push(path);
        }
    }
    Ok(())
}

fn kind(path: &Path) -> Option<(Layout, Packing)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let (name, packing) = Packing::of(&name);
    match name.rsplit_once('.')?.1 {
        "txt" => Some((Layout::Text, packing)),
        "jsonl" => Some((Layout::Rows, packing)),
        _ => None,
    }
}

/// The lines of a `.jsonl` file that are not blank, with their numbers from 1.
pub(in crate::data) fn read_lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let Some((Layout::Rows, packing)) = kind(path) else {
        return Err(Error::file(path, "expected a .jsonl file (optionally .zst or .gz), got another extension"));
    };
    let text = decode(path, unpack(path, packing)?)?;
    Ok(lines(&text).map(|(number, line)| (number, line.to_string())).collect())
}

/// A `.jsonl` file, plain or compressed, to be read a line at a time.
pub fn open_rows(path: &Path) -> Result<Box<dyn BufRead>> {
    match kind(path) {
        Some((Layout::Rows, packing)) => stream(path, packing),
        _ => Err(Error::file(path, "expected a .jsonl file (optionally .zst or .gz), got another extension")),
    }
}

/// The next line that is not blank, without a byte-order mark; none at the end. `number` counts all lines, and `path` names them in
/// errors.
///
/// # Errors
/// A line that cannot be read, or is not UTF-8, with its number.
pub fn next_line(path: &Path, rows: &mut dyn BufRead, number: &mut usize) -> Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if rows.read_until(b'\n', &mut line).map_err(|e| Error::io(path, e))? == 0 {
            return Ok(None);
        }
        *number += 1;
        let text = std::str::from_utf8(&line)
            .map_err(|e| at_line(path, *number, format!("expected UTF-8, got byte 0x{:02x}", line[e.valid_up_to()])))?;
        let text = text.trim_start_matches(MARK);
        if !text.trim().is_empty() {
            return Ok(Some(text.to_string()));
        }
    }
}

/// Lines that are not blank. Files that were put together may have a byte-order mark at the beginning of each.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let unmarked = numbered_lines(text).map(|(number, line)| (number, line.trim_start_matches(MARK)));
    unmarked.filter(|(_, line)| !blank(line))
}

fn read_file(path: &Path, root: &Path) -> Result<Vec<Document>> {
    let Some((layout, packing)) = kind(path) else { return Ok(Vec::new()) };
    let text = decode(path, unpack(path, packing)?)?;
    let inside = path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty());
    let name = inside.map_or_else(
        || path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        |p| p.to_string_lossy().into_owned(),
    );
    if layout == Layout::Text {
        let document = Document { id: name.clone(), text: unix_lines(text), source: name };
        return Ok(if blank(&document.text) { Vec::new() } else { vec![document] });
    }
    let mut documents = Vec::new();
    for (number, line) in lines(&text) {
        let Row { mut text, id, source } = parse_row(path, number, line, "with a string `text`")?;
        text.drain(..text.len() - text.trim_start_matches(MARK).len());
        if !blank(&text) {
            let id = id.unwrap_or_else(|| format!("{name}:{number}"));
            documents.push(Document { id, text, source: source.unwrap_or_else(|| name.clone()) });
        }
    }
    Ok(documents)
}

/// A line as a `T`; the error names file, line and key, and what was expected and got. `form` says what the object holds.
pub fn parse_row<T: DeserializeOwned>(path: &Path, number: usize, line: &str, form: &str) -> Result<T> {
    // serde would take a list for the fields of an object in their order.
    if !line.trim_start().starts_with('{') {
        let got = match line.trim_start().chars().next() {
            Some('[') => "a list; each line is an object of its own".to_string(),
            _ => format!("`{}`", line.trim().chars().take(SHOWN).collect::<String>()),
        };
        return Err(at_line(path, number, format!("expected a JSON object {form}, got {got}")));
    }
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let bad = |key: &str, error: &serde_json::Error| {
        let place = format!(" at line {} column {}", error.line(), error.column());
        let got = error.to_string().replace(&place, &format!(" at column {}", error.column()));
        at_line(path, number, format!("{key}expected a JSON object {form}, got: {got}"))
    };
    let row = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        match error.path().to_string().as_str() {
            "." => bad("", error.inner()),
            key => bad(&format!("`{key}`: "), error.inner()),
        }
    })?;
    deserializer.end().map_err(|error| bad("", &error))?;
    Ok(row)
}

/// A name that is a string or a number; null is none.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(serde::de::Error::custom(format!("expected a string or a number, got {other}"))),
    }
}

fn blank(text: &str) -> bool {
    text.trim().is_empty()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn message(path: &Path) -> String {
        read_documents(path).unwrap_err().to_string()
    }

    #[test]
    fn folder_in_path_order_with_every_packing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("c")).unwrap();
        std::fs::write(at("b.txt"), "bé").unwrap();
        std::fs::write(
            at("a.jsonl.zst"),
            zstd::encode_all(
                &b"{\"text\":\"a1\",\"other\":[1]}\n\n{\"id\":\"x\",\"text\":\"a2\",\"source\":\"s\"}\n"[..],
                1,
            )
            .unwrap(),
        )
        .unwrap();
        std::fs::write(at("c/d.jsonl.gz"), gz(b"{\"text\":\"d\"}\r\n{\"text\":\"  \"}")).unwrap();
        std::fs::write(at("c/e.txt.gz"), gz(b"e")).unwrap();
        std::fs::write(at("notes.md"), "not a document").unwrap();
        std::fs::write(at(".hidden.txt"), "not a document").unwrap();
        let documents = read_documents(dir.path()).unwrap();
        let seen: Vec<_> = documents.iter().map(|d| (d.id.as_str(), d.text.as_str(), d.source.as_str())).collect();
        let expected = [
            ("a.jsonl.zst:1", "a1", "a.jsonl.zst"),
            ("x", "a2", "s"),
            ("b.txt", "bé", "b.txt"),
            ("c/d.jsonl.gz:1", "d", "c/d.jsonl.gz"),
            ("c/e.txt.gz", "e", "c/e.txt.gz"),
        ];
        assert_eq!(seen, expected);
        assert_eq!(read_documents(&at("b.txt")).unwrap()[0].id, "b.txt");
    }

    #[test]
    fn bad_input_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("latin.txt"), b"one\ntwo\nh\xe9").unwrap();
        assert!(message(&at("latin.txt")).contains("latin.txt:3: expected UTF-8, got byte 0xe9"));
        std::fs::write(at("bad.jsonl"), "{\"text\":\"ok\"}\n\n{\"text\":").unwrap();
        assert!(message(&at("bad.jsonl")).contains("bad.jsonl:3: `text`: expected a JSON object"));
        std::fs::write(at("key.jsonl"), "{\"body\":\"ok\"}").unwrap();
        assert!(message(&at("key.jsonl")).contains("missing field `text`"));
        let whole = zstd::encode_all(&[b'a'; 5000][..], 1).unwrap();
        std::fs::write(at("cut.txt.zst"), &whole[..whole.len() / 2]).unwrap();
        assert!(message(&at("cut.txt.zst")).contains("cut.txt.zst"));
        std::fs::write(at("fake.txt.gz"), "plain").unwrap();
        assert!(message(&at("fake.txt.gz")).contains("fake.txt.gz"));
        assert!(message(&at("missing.txt")).contains("missing.txt"));
        std::fs::write(at("code.py"), "pass").unwrap();
        assert!(message(&at("code.py")).contains("expected a folder or a .txt or .jsonl file"));
    }

    #[test]
    fn marks_and_line_ends_of_any_system_are_no_part_of_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let texts = |name: &str| -> Vec<String> {
            read_documents(&at(name)).unwrap().into_iter().map(|document| document.text).collect()
        };
        let marked = |text: &str| format!("{MARK}{text}");
        std::fs::write(at("a.txt"), marked("one\r\ntwo\rthree\n")).unwrap();
        assert_eq!(texts("a.txt"), ["one\ntwo\nthree\n"]);
        let units = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
        std::fs::write(at("B.TXT"), units(&marked("zwei"))).unwrap();
        assert_eq!(texts("B.TXT"), ["zwei"]);
        // Two files put together, each with its mark; rows that end in `\r\n` and in a lone `\r`.
        let row = "{\"text\":\"drei\\r\\n\"}";
        let rows = format!("{}\r\n{row}\r{}", marked(row), marked(row));
        std::fs::write(at("c.jsonl"), &rows).unwrap();
        assert_eq!(texts("c.jsonl"), ["drei\r\n"; 3]);
        std::fs::write(at("d.jsonl.gz"), [gz(rows.as_bytes()), gz(b"\n"), gz(rows.as_bytes()), vec![0; 600]].concat())
            .unwrap();
        assert_eq!(texts("d.jsonl.gz").len(), 6);
        std::fs::write(at("e.jsonl.zst"), zstd::encode_all(&units(&rows)[..], 1).unwrap()).unwrap();
        assert_eq!(texts("e.jsonl.zst"), ["drei\r\n"; 3]);
        // The mark that a writer of rows took for text, and a text of nothing else.
        std::fs::write(at("f.jsonl"), "{\"text\":\"\\ufeffvier\"}\n{\"text\":\"\\ufeff\"}").unwrap();
        assert_eq!(texts("f.jsonl"), ["vier"]);
    }

    #[test]
    fn ids_may_be_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let rows =
            "{\"id\":20154,\"text\":\"a\",\"source\":7}\n{\"id\":-1.5,\"text\":\"b\"}\n{\"id\":null,\"text\":\"c\"}";
        std::fs::write(&path, rows).unwrap();
        let documents = read_documents(&path).unwrap();
        let seen: Vec<_> = documents.iter().map(|d| (d.id.as_str(), d.source.as_str())).collect();
        assert_eq!(seen, [("20154", "7"), ("-1.5", "a.jsonl"), ("a.jsonl:3", "a.jsonl")]);
    }

    #[test]
    fn a_bad_row_names_line_key_and_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        for (row, expected) in [
            (
                "{\"text\":5}",
                "`text`: expected a JSON object with a string `text`, got: invalid type: integer `5`, expected a string at column 9",
            ),
            (
                "{\"text\":\"a\",\"id\":[1]}",
                "`id`: expected a JSON object with a string `text`, got: expected a string or a number, got [1] at column 21",
            ),
            ("[1]", "expected a JSON object with a string `text`, got a list; each line is an object of its own"),
            ("\"text\"", "expected a JSON object with a string `text`, got `\"text\"`"),
            (
                "{\"text\":\"a\"} {}",
                "expected a JSON object with a string `text`, got: trailing characters at column 14",
            ),
        ] {
            std::fs::write(&path, format!("{{\"text\":\"a\"}}\r\n{row}")).unwrap();
            assert!(message(&path).ends_with(&format!("a.jsonl:2: {expected}")), "{}", message(&path));
        }
    }

    #[test]
    fn no_documents_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(message(dir.path()).contains("got none"));
        std::fs::write(dir.path().join("a.txt"), " \n").unwrap();
        assert!(message(dir.path()).contains("got 1 without text"));
    }
}
