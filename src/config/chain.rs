//! Reading a TOML file and the files that its `base` names.

use crate::error::{Error, Result};
use crate::text_file::{decode, unix_lines};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The file and those below it, uppermost first, each without its `base`.
pub fn read_chain(path: &Path) -> Result<Vec<(PathBuf, Table)>> {
    let (mut layers, mut seen): (Vec<(PathBuf, Table)>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    let mut next = Some(path.to_path_buf());
    while let Some(file) = next {
        let named_by = layers.last().map(|(path, _)| path.as_path());
        let unreadable = |error| match named_by {
            Some(above) => Error::config(above, "base", format!("cannot read {}: {error}", file.display())),
            None => Error::io(&file, error),
        };
        let canonical = file.canonicalize().map_err(unreadable)?;
        if let Some(start) = seen.iter().position(|path| *path == canonical) {
            let names = layers[start..].iter().map(|(path, _)| path).chain([&file]);
            let names: Vec<String> = names.map(|path| path.display().to_string()).collect();
            let message = format!("expected a chain that ends, got the cycle {}", names.join(" -> "));
            return Err(Error::config(named_by.unwrap_or(path), "base", message));
        }
        let bytes = std::fs::read(&file).map_err(unreadable)?;
        let mut layer = parse(&unix_lines(decode(&file, bytes)?), &file)?;
        next = match layer.remove("base") {
            None => None,
            Some(Value::String(base)) => Some(file.parent().unwrap_or(Path::new("")).join(base)),
            Some(other) => {
                let message = format!("expected a path as a string, got {other}");
                return Err(Error::config(&file, "base", message));
            }
        };
        layers.push((file, layer));
        seen.push(canonical);
    }
    Ok(layers)
}

/// TOML text as a table; `path` is named in the error.
pub fn parse(text: &str, path: &Path) -> Result<Table> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        let message = error.message().replace('\n', ", ");
        Error::file(path, format!("line {line}, column {column}: {message}"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &[u8])]) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let shorten = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
        let layers = read_chain(&folder.path().join("top.toml")).map_err(|error| shorten(error.to_string()))?;
        Ok(layers
            .iter()
            .map(|(path, layer)| shorten(format!("{}: {layer}", path.display())).trim().to_string())
            .collect())
    }

    #[test]
    fn layers_come_uppermost_first() {
        let files: [(&str, &[u8]); 3] = [
            ("top.toml", b"base = \"mid.toml\"\na = 1"),
            ("mid.toml", b"b = 2\nbase = \"low.toml\""),
            ("low.toml", b"c = 3"),
        ];
        assert_eq!(read(&files).unwrap(), ["top.toml: a = 1", "mid.toml: b = 2", "low.toml: c = 3"]);
    }

    #[test]
    fn files_of_other_editors_read_alike() {
        let text = "base = \"low.toml\"\r\na = \"é\"\r\n";
        let wide: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (marked, old) = (format!("\u{feff}{text}"), text.replace("\r\n", "\r"));
        for top in [text.as_bytes(), marked.as_bytes(), old.as_bytes(), &wide] {
            let layers = read(&[("top.toml", top), ("low.toml", b"\xef\xbb\xbfb = 1")]).unwrap();
            assert_eq!(layers, ["top.toml: a = \"é\"", "low.toml: b = 1"]);
        }
    }

    #[test]
    fn broken_chains_are_errors() {
        let fail = |files: &[(&str, &[u8])]| read(files).unwrap_err();
        assert_eq!(fail(&[]), "top.toml: No such file or directory (os error 2)");
        assert_eq!(
            fail(&[("top.toml", b"base = \"gone.toml\"")]),
            "top.toml: `base`: cannot read gone.toml: No such file or directory (os error 2)"
        );
        assert_eq!(
            fail(&[("top.toml", b"base = \"b.toml\""), ("b.toml", b"base = \"./top.toml\"")]),
            "b.toml: `base`: expected a chain that ends, got the cycle top.toml -> b.toml -> ./top.toml"
        );
        assert_eq!(
            fail(&[("top.toml", b"base = \"top.toml\"")]),
            "top.toml: `base`: expected a chain that ends, got the cycle top.toml -> top.toml"
        );
        assert_eq!(fail(&[("top.toml", b"base = [1]")]), "top.toml: `base`: expected a path as a string, got [1]");
    }

    #[test]
    fn broken_text_is_an_error_with_its_place() {
        let fail = |text: &[u8]| read(&[("top.toml", text)]).unwrap_err();
        assert_eq!(fail(b"a = 1\nb = = 2\n"), "top.toml: line 2, column 5: extra `=`, expected nothing");
        assert_eq!(fail(b"a = 1\na = 2\n"), "top.toml: line 2, column 1: duplicate key");
        assert_eq!(fail(b"a = \"\xff\""), "top.toml:1: expected UTF-8, got byte 0xff");
    }
}
