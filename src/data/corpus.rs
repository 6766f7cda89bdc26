//! Documents from `.txt` and `.jsonl` files, plain or compressed (`.zst`, `.gz`).

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Deserialize;

use crate::error::{Error, Result};

/// One text, never split across train, validation and test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Name of the document, unique in its corpus when the corpus says so.
    pub id: String,
    /// The whole text.
    pub text: String,
    /// Where it comes from (a project, a book); the file's name when the file does not say.
    pub source: String,
}

#[derive(Deserialize)]
struct Row {
    text: String,
    id: Option<String>,
    source: Option<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Text,
    Rows,
}

#[derive(Clone, Copy)]
enum Packing {
    Plain,
    Zstd,
    Gzip,
}

/// Reads every document of a file, or of a folder and the folders in it (in the order of their paths).
///
/// `.txt` is one document a file; `.jsonl` one a row, `{"text": ..., "id"?: ..., "source"?: ...}` with other keys
/// ignored; both may end in `.zst` or `.gz`. In a folder other files and hidden ones are passed over, and so are
/// documents of white space only. Bytes that are not UTF-8 and rows that are not JSON are errors that name file and line.
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
    let name = path.file_name()?.to_str()?;
    let (name, packing) = match name.rsplit_once('.')? {
        (stem, "zst") => (stem, Packing::Zstd),
        (stem, "gz") => (stem, Packing::Gzip),
        _ => (name, Packing::Plain),
    };
    match name.rsplit_once('.')?.1 {
        "txt" => Some((Layout::Text, packing)),
        "jsonl" => Some((Layout::Rows, packing)),
        _ => None,
    }
}

/// The lines of a `.jsonl` file that are not blank, with their numbers from 1.
pub(super) fn read_lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let Some((Layout::Rows, packing)) = kind(path) else {
        return Err(Error::file(path, "expected a .jsonl file (optionally .zst or .gz), got another extension"));
    };
    let text = read_text(path, packing)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !blank(line));
    Ok(lines.map(|(i, line)| (i + 1, line.to_string())).collect())
}

fn read_text(path: &Path, packing: Packing) -> Result<String> {
    String::from_utf8(unpack(path, packing)?).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..valid].iter().filter(|&&b| b == b'\n').count();
        at_line(path, line, format!("expected UTF-8, got byte 0x{:02x}", e.as_bytes()[valid]))
    })
}

fn read_file(path: &Path, root: &Path) -> Result<Vec<Document>> {
    let Some((layout, packing)) = kind(path) else { return Ok(Vec::new()) };
    let text = read_text(path, packing)?;
    let inside = path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty());
    let name = inside.map_or_else(
        || path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        |p| p.to_string_lossy().into_owned(),
    );
    if layout == Layout::Text {
        let document = Document { id: name.clone(), text, source: name };
        return Ok(if blank(&document.text) { Vec::new() } else { vec![document] });
    }
    let mut documents = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !blank(line)) {
        let row: Row = serde_json::from_str(line)
            .map_err(|e| at_line(path, i + 1, format!("expected a JSON object with a string `text`, got: {e}")))?;
        if !blank(&row.text) {
            let id = row.id.unwrap_or_else(|| format!("{name}:{}", i + 1));
            documents.push(Document { id, text: row.text, source: row.source.unwrap_or_else(|| name.clone()) });
        }
    }
    Ok(documents)
}

fn unpack(path: &Path, packing: Packing) -> Result<Vec<u8>> {
    let file = BufReader::new(File::open(path).map_err(|e| Error::io(path, e))?);
    let mut bytes = Vec::new();
    let read = match packing {
        Packing::Plain => { file }.read_to_end(&mut bytes),
        Packing::Gzip => flate2::bufread::MultiGzDecoder::new(file).read_to_end(&mut bytes),
        Packing::Zstd => zstd::Decoder::with_buffer(file).and_then(|mut decoder| decoder.read_to_end(&mut bytes)),
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(e) => Err(Error::io(path, e)),
    }
}

fn blank(text: &str) -> bool {
    text.trim().is_empty()
}

pub(super) fn at_line(path: &Path, line: usize, message: String) -> Error {
    Error::file(format!("{}:{line}", path.display()), message)
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
        assert!(message(&at("bad.jsonl")).contains("bad.jsonl:3: expected a JSON object"));
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
    fn no_documents_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(message(dir.path()).contains("got none"));
        std::fs::write(dir.path().join("a.txt"), " \n").unwrap();
        assert!(message(dir.path()).contains("got 1 without text"));
    }
}
