//! Compressed files: `.gz` with several members and zero padding, `.zst` with several frames and windows of up to 2 GiB.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read};
use std::path::Path;

use crate::error::{self, Result};

/// Compression of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Packing {
    /// No compression.
    Plain,
    /// zstd (RFC 8878).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

/// Logarithm of the largest window that libzstd reads, 2 GiB: what `zstd --long=31` writes.
const WINDOW_LOG: u32 = 31;
/// Message of libzstd about a larger window.
const WINDOW_TOO_LARGE: &str = "Frame requires too much memory for decoding";

/// First bytes of formats that are mistaken for one another.
const BEGINNINGS: [(&[u8], &str); 8] = [
    (&[0x1f, 0x8b], "gzip data"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd data"),
    (b"BZh", "bzip2 data"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz data"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"%PDF-", "a PDF file"),
];

impl Packing {
    /// Splits a file name into the name without the packing's ending, and the packing that the ending says.
    pub fn of(name: &str) -> (&str, Packing) {
        match name.rsplit_once('.') {
            Some((stem, "zst")) => (stem, Packing::Zstd),
            Some((stem, "gz")) => (stem, Packing::Gzip),
            _ => (name, Packing::Plain),
        }
    }

    /// Name of the content of such a file, with the ending that says so.
    fn expected(self) -> &'static str {
        match self {
            Packing::Plain => "text",
            Packing::Zstd => "zstd data, as the name's .zst says",
            Packing::Gzip => "gzip data, as the name's .gz says",
        }
    }

    fn is_begun_by(self, first: &[u8]) -> bool {
        match self {
            Packing::Plain => !BEGINNINGS.iter().any(|(bytes, _)| first.starts_with(bytes)),
            Packing::Zstd => {
                let skippable = first.len() >= 4 && first[0] & 0xf0 == 0x50 && first[1..4] == [0x2a, 0x4d, 0x18];
                skippable || first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
            }
            Packing::Gzip => first.starts_with(&[0x1f, 0x8b]),
        }
    }
}

/// The bytes of the file at `path`, unpacked. What is not packed so, or is cut, is an error that says what was found.
pub fn unpack(path: &Path, packing: Packing) -> Result<Vec<u8>> {
    let mut file = BufReader::new(File::open(path).map_err(|e| error::Error::io(path, e))?);
    let first = file.fill_buf().map_err(|e| error::Error::io(path, e))?;
    if !packing.is_begun_by(first) {
        let message = format!("expected {}, got {}", packing.expected(), described(first));
        return Err(error::Error::file(path, message));
    }
    let mut bytes = Vec::new();
    let read = match packing {
        Packing::Plain => file.read_to_end(&mut bytes).map(drop),
        Packing::Gzip => unpack_parts(&mut file, packing, &mut bytes, member),
        Packing::Zstd => unpack_parts(&mut file, packing, &mut bytes, frame),
    };
    read.map(|()| bytes).map_err(|e| {
        let expected = packing.expected();
        match e.kind() {
            _ if packing == Packing::Plain => error::Error::io(path, e),
            ErrorKind::UnexpectedEof => {
                error::Error::file(path, format!("expected {expected}, got a file that ends too soon"))
            }
            _ if e.to_string() == WINDOW_TOO_LARGE => {
                error::Error::file(path, "expected zstd data with a window of at most 2 GiB, got a larger one")
            }
            _ => error::Error::file(path, format!("expected {expected}, got an error: {e}")),
        }
    })
}

/// The bytes of the file at `path`, unpacked as they are read.
pub fn stream(path: &Path, packing: Packing) -> Result<Box<dyn BufRead>> {
    let failed = |e| error::Error::io(path, e);
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let first = file.fill_buf().map_err(failed)?;
    // An empty file has no rows.
    if !first.is_empty() && !packing.is_begun_by(first) {
        let message = format!("expected {}, got {}", packing.expected(), described(first));
        return Err(error::Error::file(path, message));
    }
    Ok(match packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
        Packing::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(file).map_err(failed)?;
            decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
            Box::new(BufReader::new(decoder))
        }
    })
}

/// The format that the first bytes of a file belong to, in words.
fn described(first: &[u8]) -> String {
    if first.is_empty() {
        return "an empty file".into();
    }
    match BEGINNINGS.iter().find(|(bytes, _)| first.starts_with(bytes)) {
        Some((_, name)) => name.to_string(),
        None => {
            let shown: Vec<String> = first.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("a file that begins with the bytes {}", shown.join(" "))
        }
    }
}

/// Every part of a packed file, a gzip member or a zstd frame. Zero bytes between and behind them are padding, as they are for
/// `gzip` itself.
fn unpack_parts(
    file: &mut BufReader<File>,
    packing: Packing,
    bytes: &mut Vec<u8>,
    part: impl Fn(&mut BufReader<File>, &mut Vec<u8>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    loop {
        part(file, bytes)?;
        while let Some(zeros) = padding(file.fill_buf()?) {
            file.consume(zeros);
        }
        let next = file.fill_buf()?;
        if next.is_empty() {
            return Ok(());
        }
        if !packing.is_begun_by(next) {
            let message = format!("after {} unpacked bytes comes {}", bytes.len(), described(next));
            return Err(Error::new(ErrorKind::InvalidData, message));
        }
    }
}

/// Number of zero bytes that `ahead` begins with; none when it begins with another.
fn padding(ahead: &[u8]) -> Option<usize> {
    let zeros = ahead.iter().take_while(|&&byte| byte == 0).count();
    (zeros > 0).then_some(zeros)
}

fn member(file: &mut BufReader<File>, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    flate2::bufread::GzDecoder::new(file).read_to_end(bytes).map(drop)
}

fn frame(file: &mut BufReader<File>, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut decoder = zstd::Decoder::with_buffer(file)?.single_frame();
    decoder.window_log_max(WINDOW_LOG)?;
    decoder.read_to_end(bytes).map(drop)
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

    /// A frame of one raw block whose header asks for a window of 2^`window_log` bytes (RFC 8878, section 3.1.1).
    fn frame(bytes: &[u8], window_log: u8) -> Vec<u8> {
        let block = ((bytes.len() as u32) << 3 | 1).to_le_bytes();
        [&[0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3], &block[..3], bytes].concat()
    }

    fn unpacked(packing: Packing, bytes: &[&[u8]]) -> std::result::Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes.concat()).unwrap();
        let name = format!("{}: ", file.path().display());
        let read = unpack(file.path(), packing).map_err(|error| error.to_string().replace(&name, ""))?;
        Ok(String::from_utf8(read).unwrap())
    }

    #[test]
    fn parts_and_padding() {
        let (a, b) = (gz(b"one "), gz(b"two"));
        for zeros in [0, 1, 511, 40_000] {
            let zeros = vec![0; zeros];
            assert_eq!(unpacked(Packing::Gzip, &[&a, &zeros, &b, &zeros]), Ok("one two".into()));
            let frames = [frame(b"one ", 10), zstd::encode_all(&b"two"[..], 3).unwrap()];
            assert_eq!(unpacked(Packing::Zstd, &[&frames[0], &zeros, &frames[1], &zeros]), Ok("one two".into()));
        }
        // A skippable frame (RFC 8878, section 3.1.2), as pzstd and seekable files have.
        let skipped = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        assert_eq!(unpacked(Packing::Zstd, &[&skipped, &frame(b"text", 10), &skipped]), Ok("text".into()));
    }

    #[test]
    fn windows_of_up_to_two_gibibytes() {
        for window_log in [10, 27, 28, 31] {
            assert_eq!(unpacked(Packing::Zstd, &[&frame(b"text", window_log)]), Ok("text".into()), "{window_log}");
        }
        let error = unpacked(Packing::Zstd, &[&frame(b"text", 32)]).unwrap_err();
        assert_eq!(error, "expected zstd data with a window of at most 2 GiB, got a larger one");
    }

    #[test]
    fn what_is_not_packed_so_is_named() {
        let gzip = "expected gzip data, as the name's .gz says, got";
        let zstd = "expected zstd data, as the name's .zst says, got";
        let fail = |packing, bytes: &[&[u8]]| unpacked(packing, bytes).unwrap_err();
        let packed = zstd::encode_all(&b"text"[..], 3).unwrap();
        assert_eq!(fail(Packing::Gzip, &[&packed]), format!("{gzip} zstd data"));
        assert_eq!(fail(Packing::Gzip, &[b"plain"]), format!("{gzip} a file that begins with the bytes 70 6c 61 69"));
        assert_eq!(fail(Packing::Gzip, &[]), format!("{gzip} an empty file"));
        assert_eq!(fail(Packing::Zstd, &[]), format!("{zstd} an empty file"));
        assert_eq!(fail(Packing::Zstd, &[&gz(b"text")]), format!("{zstd} gzip data"));
        assert_eq!(fail(Packing::Plain, &[&gz(b"text")]), "expected text, got gzip data");
        assert_eq!(fail(Packing::Plain, &[b"PAR1...."]), "expected text, got a Parquet file");
        let cut = gz(&[b'a'; 5000]);
        assert_eq!(fail(Packing::Gzip, &[&cut[..cut.len() - 3]]), format!("{gzip} a file that ends too soon"));
        assert_eq!(fail(Packing::Zstd, &[&packed[..packed.len() - 3]]), format!("{zstd} a file that ends too soon"));
        let error = fail(Packing::Gzip, &[&gz(b"text"), b"more"]);
        assert_eq!(
            error,
            format!("{gzip} an error: after 4 unpacked bytes comes a file that begins with the bytes 6d 6f 72 65")
        );
        let mut spoiled = gz(b"text");
        let at = spoiled.len() - 8;
        spoiled[at] ^= 1;
        assert_eq!(
            fail(Packing::Gzip, &[&spoiled]),
            format!("{gzip} an error: corrupt gzip stream does not have a matching checksum")
        );
    }
}
