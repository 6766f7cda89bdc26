//! Text files as strings: UTF-8, or UTF-16 and UTF-32 where a byte-order mark announces them. The mark is no part of the
//! text. Another encoding is an error that names the file, the line and the bytes.

use crate::error::{Error, Result};
use std::path::Path;

/// A Unicode encoding form with its byte order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Encoding {
    Utf8,
    Utf16 { little: bool },
    Utf32 { little: bool },
}

/// Byte-order marks. UTF-32LE comes before UTF-16LE, which begins with the same bytes.
const MARKS: [(&[u8], Encoding); 5] = [
    (&[0xef, 0xbb, 0xbf], Encoding::Utf8),
    (&[0xff, 0xfe, 0, 0], Encoding::Utf32 { little: true }),
    (&[0, 0, 0xfe, 0xff], Encoding::Utf32 { little: false }),
    (&[0xff, 0xfe], Encoding::Utf16 { little: true }),
    (&[0xfe, 0xff], Encoding::Utf16 { little: false }),
];

/// The byte-order mark as a character.
pub const MARK: char = '\u{feff}';

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Utf16 { little: true } => "UTF-16LE",
            Encoding::Utf16 { little: false } => "UTF-16BE",
            Encoding::Utf32 { little: true } => "UTF-32LE",
            Encoding::Utf32 { little: false } => "UTF-32BE",
        }
    }

    /// UTF-16 or UTF-32 of text that begins with two ASCII characters, by the places of its zero bytes (RFC 4627, section 3).
    fn without_mark(bytes: &[u8]) -> Option<Encoding> {
        let zeros: Vec<bool> = bytes.get(..8)?.iter().map(|&byte| byte == 0).collect();
        let alike = zeros[..4] == zeros[4..];
        match zeros[..4] {
            [false, true, false, true] if alike => Some(Encoding::Utf16 { little: true }),
            [true, false, true, false] if alike => Some(Encoding::Utf16 { little: false }),
            [false, true, true, true] if alike => Some(Encoding::Utf32 { little: true }),
            [true, true, true, false] if alike => Some(Encoding::Utf32 { little: false }),
            _ => None,
        }
    }
}

/// The text of the file at `path`.
pub fn read_text(path: &Path) -> Result<String> {
    decode(path, std::fs::read(path).map_err(|e| Error::io(path, e))?)
}

/// `bytes` as text, without the byte-order mark; `path` is named in the error.
pub fn decode(path: &Path, bytes: Vec<u8>) -> Result<String> {
    let marked = MARKS.iter().find(|(mark, _)| bytes.starts_with(mark));
    let (skipped, encoding) = marked.map_or((0, Encoding::Utf8), |(mark, encoding)| (mark.len(), *encoding));
    let text = match encoding {
        Encoding::Utf8 => {
            if let Some(other) = Encoding::without_mark(&bytes) {
                let message = format!("expected UTF-8, got what looks like {} without a byte-order mark", other.name());
                return Err(Error::file(path, message));
            }
            from_utf8(path, bytes)?
        }
        Encoding::Utf16 { little } => from_utf16(path, &bytes[skipped..], little)?,
        Encoding::Utf32 { little } => from_utf32(path, &bytes[skipped..], little)?,
    };
    // A file may have been marked twice.
    let kept = text.trim_start_matches(MARK).len();
    Ok(if kept == text.len() { text } else { text[text.len() - kept..].to_string() })
}

/// `text` with `\n` for every `\r\n` and every lone `\r`.
pub fn unix_lines(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

/// The lines of `text`, which end in `\n`, `\r\n` or a lone `\r`, with their numbers from 1.
pub fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = text;
    let lines = std::iter::from_fn(move || {
        let at = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let (line, end) = rest.split_at(at);
        let after = end.strip_prefix("\r\n").or_else(|| end.strip_prefix(['\n', '\r']));
        let found = (!rest.is_empty()).then_some(line);
        rest = after.unwrap_or_default();
        found
    });
    lines.enumerate().map(|(i, line)| (i + 1, line))
}

/// An error about a line of the file at `path`.
pub fn at_line(path: &Path, line: usize, message: impl Into<String>) -> Error {
    Error::file(format!("{}:{line}", path.display()), message)
}

fn from_utf8(path: &Path, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&e.as_bytes()[..valid]);
        at_line(path, last_line(&before), format!("expected UTF-8, got byte 0x{:02x}", e.as_bytes()[valid]))
    })
}

fn from_utf16(path: &Path, bytes: &[u8], little: bool) -> Result<String> {
    let (units, left) = bytes.as_chunks::<2>();
    let unit = |&pair: &[u8; 2]| if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) };
    let decoded =
        char::decode_utf16(units.iter().map(unit)).map(|found| found.map_err(|e| u32::from(e.unpaired_surrogate())));
    collect(path, decoded, Encoding::Utf16 { little }, left)
}

fn from_utf32(path: &Path, bytes: &[u8], little: bool) -> Result<String> {
    let (units, left) = bytes.as_chunks::<4>();
    let unit = |&four: &[u8; 4]| if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) };
    let decoded = units.iter().map(unit).map(|code| char::from_u32(code).ok_or(code));
    collect(path, decoded, Encoding::Utf32 { little }, left)
}

/// The characters as a text; `left` are the bytes of an unfinished unit at its end.
fn collect(
    path: &Path,
    decoded: impl Iterator<Item = std::result::Result<char, u32>>,
    encoding: Encoding,
    left: &[u8],
) -> Result<String> {
    let mut text = String::new();
    for found in decoded {
        match found {
            Ok(character) => text.push(character),
            Err(code) => {
                let message = format!("expected {}, as the byte-order mark says, got 0x{code:04x}", encoding.name());
                return Err(at_line(path, last_line(&text), message));
            }
        }
    }
    if left.is_empty() {
        return Ok(text);
    }
    let message = format!("expected {}, as the byte-order mark says, got half a character at the end", encoding.name());
    Err(at_line(path, last_line(&text), message))
}

/// Number of the line on which `text` ends.
fn last_line(text: &str) -> usize {
    numbered_lines(text).count() + usize::from(text.is_empty() || text.ends_with(['\n', '\r']))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> String {
        decode(Path::new("a.txt"), bytes.to_vec()).unwrap_or_else(|error| format!("error: {error}"))
    }

    fn utf16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    }

    fn utf32(text: &str, order: fn(u32) -> [u8; 4]) -> Vec<u8> {
        text.chars().flat_map(|c| order(c as u32)).collect()
    }

    #[test]
    fn every_marked_encoding_gives_the_text_without_the_mark() {
        let text = "Zoë, 鳥 and 🦜\nnext";
        let marked = format!("{MARK}{text}");
        let all = [
            text.as_bytes().to_vec(),
            marked.as_bytes().to_vec(),
            format!("{MARK}{marked}").into_bytes(),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            utf32(&marked, u32::to_le_bytes),
            utf32(&marked, u32::to_be_bytes),
        ];
        for bytes in all {
            assert_eq!(decoded(&bytes), text, "{bytes:02x?}");
        }
        // Within the text it is a character like others.
        assert_eq!(decoded("a\u{feff}b".as_bytes()), "a\u{feff}b");
        assert_eq!((decoded(b""), decoded(b"\xef\xbb\xbf"), decoded(b"\xff\xfe")), Default::default());
    }

    #[test]
    fn another_encoding_is_named_with_its_line() {
        assert_eq!(decoded(b"one\r\ntwo\rh\xe9"), "error: a.txt:3: expected UTF-8, got byte 0xe9");
        assert_eq!(decoded(b"one\n\xff"), "error: a.txt:2: expected UTF-8, got byte 0xff");
        for (bytes, name) in [
            (utf16("{\"text\": 1}", u16::to_le_bytes), "UTF-16LE"),
            (utf16("{\"text\": 1}", u16::to_be_bytes), "UTF-16BE"),
            (utf32("{\"text\": 1}", u32::to_le_bytes), "UTF-32LE"),
            (utf32("{\"text\": 1}", u32::to_be_bytes), "UTF-32BE"),
        ] {
            let expected =
                format!("error: a.txt: expected UTF-8, got what looks like {name} without a byte-order mark");
            assert_eq!(decoded(&bytes), expected);
        }
        let lone = [&utf16("\u{feff}one\n", u16::to_le_bytes)[..], &[0x00, 0xd8, b'a', 0]].concat();
        let expected = "error: a.txt:2: expected UTF-16LE, as the byte-order mark says, got ";
        assert_eq!(decoded(&lone), format!("{expected}0xd800"));
        let cut = utf16("\u{feff}one\ntwo", u16::to_le_bytes);
        assert_eq!(decoded(&cut[..cut.len() - 1]), format!("{expected}half a character at the end"));
        let beyond = [&utf32("\u{feff}one", u32::to_be_bytes)[..], &[0, 0x11, 0, 0]].concat();
        let expected = "error: a.txt:1: expected UTF-32BE, as the byte-order mark says, got 0x110000";
        assert_eq!(decoded(&beyond), expected);
    }

    #[test]
    fn lines_end_as_any_system_ends_them() {
        let lines: Vec<(usize, &str)> = numbered_lines("a\nb\r\n\r\nc\rd\n\re").collect();
        assert_eq!(lines, [(1, "a"), (2, "b"), (3, ""), (4, "c"), (5, "d"), (6, ""), (7, "e")]);
        assert_eq!(numbered_lines("").count() + numbered_lines("\n").count() + numbered_lines("\r\n").count(), 2);
        assert_eq!(numbered_lines("a\r").collect::<Vec<_>>(), [(1, "a")]);
        assert_eq!(unix_lines("a\r\nb\rc\n".into()), "a\nb\nc\n");
    }
}
