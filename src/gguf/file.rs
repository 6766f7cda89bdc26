//! One GGUF file, mapped into memory, with its table of tensors checked.

use super::blocks::BlockType;
use super::read::{self, Row};
use super::value::MetaValue;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes that tensors begin at multiples of, where the file does not say.
const ALIGNMENT: u64 = 32;
/// Metadata key of the alignment of tensors.
const ALIGNMENT_KEY: &str = "general.alignment";
/// File extension of GGUF files.
const EXTENSION: &str = "gguf";

/// Whether a path names a GGUF file: by its ending, or by its first bytes.
pub fn is_gguf(path: &Path) -> bool {
    if path.extension().is_some_and(|end| end.eq_ignore_ascii_case(EXTENSION)) {
        return !path.is_dir();
    }
    let mut magic = [0; 4];
    let read = path.is_file() && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok();
    read && &magic == b"GGUF"
}

/// Place, shape and block type of a tensor in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Shape as PyTorch has it: the last dimension is contiguous.
    pub shape: Vec<i64>,
    /// Type of the stored numbers.
    pub kind: BlockType,
    /// First byte in the file.
    start: usize,
    /// Bytes.
    bytes: usize,
}

impl TensorInfo {
    /// Number of elements, over all dimensions.
    pub fn numel(&self) -> usize {
        self.bytes / self.kind.bytes() * self.kind.values()
    }
}

/// A GGUF file.
pub struct Gguf {
    path: PathBuf,
    map: memmap2::Mmap,
    metadata: BTreeMap<String, MetaValue>,
    tensors: BTreeMap<String, TensorInfo>,
}

impl Gguf {
    /// Opens a file and checks its head: metadata that ends within the file, tensors of known types that lie in it, each in
    /// its own place. Errors name file and field.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        // SAFETY: weight files are written once, by rename; nobody cuts one short while it is read.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        let fault = |message: String| Error::file(path, message);
        let head = read::head(&map).map_err(fault)?;
        let mut metadata = BTreeMap::new();
        for (key, value) in head.metadata {
            if metadata.insert(key.clone(), value).is_some() {
                return Err(fault(format!("`{key}`: expected it once in the metadata, got it twice")));
            }
        }
        let mut gguf = Self { path: path.to_path_buf(), map, metadata, tensors: BTreeMap::new() };
        let parts = gguf.integer("split.count")?.unwrap_or(1);
        if parts > 1 {
            let message = format!(
                "`split.count`: expected one file, got one of {parts} parts; llama-gguf-split --merge joins them"
            );
            return Err(gguf.fault(message));
        }
        gguf.place(head.tensors, head.end)?;
        Ok(gguf)
    }

    /// Fills the table of tensors from that of the file, whose data begins behind byte `end`.
    fn place(&mut self, rows: Vec<Row>, end: u64) -> Result<()> {
        let alignment = match self.integer(ALIGNMENT_KEY)? {
            None => ALIGNMENT,
            Some(bytes) if bytes.is_power_of_two() && bytes <= 1 << 20 => bytes,
            Some(other) => {
                return Err(
                    self.fault(format!("`{ALIGNMENT_KEY}`: expected a power of two up to 1048576, got {other}"))
                );
            }
        };
        let data = end.next_multiple_of(alignment);
        let mut places = Vec::new();
        for row in rows {
            let (start, bytes) =
                self.span(&row, data, alignment).map_err(|why| self.fault(format!("`{}`: {why}", row.name)))?;
            let shape = row.shape.iter().map(|&size| size as i64).collect();
            let info = TensorInfo { shape, kind: row.kind, start, bytes };
            if self.tensors.insert(row.name.clone(), info).is_some() {
                return Err(
                    self.fault(format!("`{}`: expected it once in the table of tensors, got it twice", row.name))
                );
            }
            places.push((start, start + bytes, row.name));
        }
        places.sort_unstable();
        for pair in places.windows(2) {
            let ((_, end, before), (start, _, name)) = (&pair[0], &pair[1]);
            if end > start {
                let message =
                    format!("`{name}`: expected it behind `{before}`, which ends at byte {end}, got byte {start}");
                return Err(self.fault(message));
            }
        }
        Ok(())
    }

    /// First byte and number of bytes of a tensor, which must lie in the file.
    fn span(&self, row: &Row, data: u64, alignment: u64) -> std::result::Result<(usize, usize), String> {
        let Row { shape, kind, offset, .. } = row;
        let count = shape.iter().try_fold(1u64, |count, &size| count.checked_mul(size)).filter(|&count| count > 0);
        let count = count.filter(|&count| count <= i64::MAX as u64);
        let count = count.ok_or_else(|| format!("expected a shape that can be counted, got {shape:?}"))?;
        let (row_width, in_block) = (shape.last().copied().unwrap_or(0), kind.values() as u64);
        if row_width % in_block != 0 {
            return Err(format!(
                "expected rows of a multiple of {in_block} numbers, as {kind:?} has them, got {row_width}"
            ));
        }
        if offset % alignment != 0 {
            return Err(format!("expected an offset that is a multiple of {alignment}, got {offset}"));
        }
        let bytes = (count / in_block).checked_mul(kind.bytes() as u64);
        let start = data.checked_add(*offset);
        let end = start.zip(bytes).and_then(|(start, bytes)| start.checked_add(bytes));
        match (start, bytes, end) {
            (Some(start), Some(bytes), Some(end)) if end <= self.map.len() as u64 => {
                Ok((start as usize, bytes as usize))
            }
            _ => {
                let (needed, size) = (bytes.map_or("too many".into(), |bytes| bytes.to_string()), self.map.len());
                Err(format!(
                    "expected {needed} bytes at offset {offset} ({kind:?}, {shape:?}), got a file of {size} bytes, of which {data} are its head"
                ))
            }
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about the content of this file.
    pub fn fault(&self, message: String) -> Error {
        Error::file(&self.path, message)
    }

    /// An error about one of its fields.
    pub(super) fn wrong(&self, key: &str, message: impl std::fmt::Display) -> Error {
        self.fault(format!("`{key}`: {message}"))
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// The tensor of this name, which the file must have.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| self.wrong(name, "expected it in the table of tensors, got none"))
    }

    /// Dequantises the numbers of a tensor from `first` on into `out`; both begin and end with a row of its last dimension.
    pub fn read(&self, tensor: &TensorInfo, first: usize, out: &mut [f32]) {
        let in_blocks = |numbers: usize| numbers / tensor.kind.values() * tensor.kind.bytes();
        let from = tensor.start + in_blocks(first);
        tensor.kind.dequantise(&self.map[from..from + in_blocks(out.len())], out);
    }

    /// A value of the metadata as `read` makes it, which is nothing where its kind is another than `expected`.
    fn get<'a, T>(&'a self, key: &str, expected: &str, read: impl Fn(&'a MetaValue) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        let wrong = || self.wrong(key, format!("expected {expected}, got {}", value.kind()));
        read(value).map(Some).ok_or_else(wrong)
    }

    /// An integer that is not negative.
    pub fn integer(&self, key: &str) -> Result<Option<u64>> {
        self.get(key, "an integer from 0 on", |value| match value {
            MetaValue::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A finite number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a finite number", |value| match value {
            MetaValue::Float(number) => Some(*number).filter(|number| number.is_finite()),
            MetaValue::Integer(number) => Some(*number as f64),
            _ => None,
        })
    }

    /// True or false.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "a bool", |value| match value {
            MetaValue::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "a string", |value| match value {
            MetaValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A list of strings.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.get(key, "a list of strings", |value| match value {
            MetaValue::List(list) => list
                .iter()
                .map(|one| if let MetaValue::Text(text) = one { Some(text.as_str()) } else { None })
                .collect(),
            _ => None,
        })
    }

    /// A list of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.get(key, "a list of numbers", |value| match value {
            MetaValue::List(list) => list
                .iter()
                .map(|one| match one {
                    MetaValue::Float(number) => Some(*number),
                    MetaValue::Integer(number) => Some(*number as f64),
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }

    /// `value` of the metadata key `key`; an error if the file does not have the key.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.wrong(key, "expected it in the metadata, got none"))
    }
}
