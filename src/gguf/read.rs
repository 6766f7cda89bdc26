//! The head of a GGUF file: version, metadata, table of tensors. Nothing is set aside by a count that the file states: a count
//! that lies runs into the end of the file.

use super::blocks::BlockType;
use super::value::MetaValue;

/// Entries of a list in the metadata; the largest vocabularies have half a million merges.
const MOST_ENTRIES: u64 = 1 << 24;
/// Dimensions of a tensor.
const MOST_DIMENSIONS: u32 = 4;

/// A row of the table of tensors.
pub struct Row {
    /// Name of the tensor.
    pub name: String,
    /// Shape as PyTorch has it: the last dimension is contiguous.
    pub shape: Vec<u64>,
    /// Type of the stored numbers.
    pub kind: BlockType,
    /// First byte, from where the data begins.
    pub offset: u64,
}

/// The parts of the head, in the order of the file.
pub struct Header {
    /// Keys and values.
    pub metadata: Vec<(String, MetaValue)>,
    /// The table of tensors.
    pub tensors: Vec<Row>,
    /// First byte behind the table.
    pub end: u64,
}

/// Reads the head; an error names the field.
pub fn head(bytes: &[u8]) -> Result<Header, String> {
    let mut cursor = Cursor { bytes, at: 0 };
    if bytes.get(..4) != Some(b"GGUF") {
        let got = String::from_utf8_lossy(&bytes[..bytes.len().min(4)]).into_owned();
        return Err(format!("`magic`: expected \"GGUF\", got {got:?}"));
    }
    cursor.at = 4;
    let version = cursor.u32("version")?;
    match version {
        2 | 3 => {}
        other if other & 0xffff == 0 && other > 0 => {
            return Err(format!(
                "`version`: expected a little-endian file, got a big-endian one of version {}",
                other.swap_bytes()
            ));
        }
        other => return Err(format!("`version`: expected 2 or 3, got {other}")),
    }
    let tensor_count = cursor.u64("tensor_count")?;
    let metadata_count = cursor.u64("metadata_kv_count")?;
    let mut metadata = Vec::new();
    for entry in 0..metadata_count {
        let key = cursor.text(&format!("metadata entry {entry} of {metadata_count}"))?;
        let kind = cursor.u32(&key)?;
        let value = cursor.value(&key, kind)?;
        metadata.push((key, value));
    }
    let mut tensors = Vec::new();
    for entry in 0..tensor_count {
        tensors.push(cursor.row(&format!("tensor entry {entry} of {tensor_count}"))?);
    }
    Ok(Header { metadata, tensors, end: cursor.at as u64 })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next bytes, which belong to `field`.
    fn take(&mut self, count: u64, field: &str) -> Result<&'a [u8], String> {
        let left = &self.bytes[self.at..];
        let taken = usize::try_from(count).ok().and_then(|count| left.get(..count));
        let Some(taken) = taken else {
            let (at, left) = (self.at, left.len());
            return Err(format!(
                "`{field}`: expected {count} bytes at byte {at}, got the end of the file after {left}"
            ));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, field)?);
        Ok(array)
    }

    fn u32(&mut self, field: &str) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &str) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    fn text(&mut self, field: &str) -> Result<String, String> {
        let length = self.u64(field)?;
        let bytes = self.take(length, field)?;
        String::from_utf8(bytes.to_vec()).map_err(|error| format!("`{field}`: expected UTF-8, got {error}"))
    }

    /// A value of the kind with this number in a file.
    fn value(&mut self, key: &str, kind: u32) -> Result<MetaValue, String> {
        let integer = |value: i128| Ok(MetaValue::Integer(value));
        match kind {
            0 => integer(u8::from_le_bytes(self.array(key)?).into()),
            1 => integer(i8::from_le_bytes(self.array(key)?).into()),
            2 => integer(u16::from_le_bytes(self.array(key)?).into()),
            3 => integer(i16::from_le_bytes(self.array(key)?).into()),
            4 => integer(self.u32(key)?.into()),
            5 => integer(i32::from_le_bytes(self.array(key)?).into()),
            6 => Ok(MetaValue::Float(f32::from_le_bytes(self.array(key)?).into())),
            7 => match self.array(key)? {
                [0] => Ok(MetaValue::Bool(false)),
                [1] => Ok(MetaValue::Bool(true)),
                [other] => Err(format!("`{key}`: expected a bool of 0 or 1, got {other}")),
            },
            8 => Ok(MetaValue::Text(self.text(key)?)),
            9 => self.list(key),
            10 => integer(self.u64(key)?.into()),
            11 => integer(i64::from_le_bytes(self.array(key)?).into()),
            12 => Ok(MetaValue::Float(f64::from_le_bytes(self.array(key)?))),
            other => Err(format!("`{key}`: expected a kind of value from 0 to 12, got {other}")),
        }
    }

    fn list(&mut self, key: &str) -> Result<MetaValue, String> {
        let (kind, count) = (self.u32(key)?, self.u64(key)?);
        if kind == 9 {
            return Err(format!("`{key}`: expected a list of plain values, got one of lists"));
        }
        if count > MOST_ENTRIES {
            return Err(format!("`{key}`: expected at most {MOST_ENTRIES} entries, got {count}"));
        }
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(self.value(key, kind)?);
        }
        Ok(MetaValue::List(list))
    }

    fn row(&mut self, entry: &str) -> Result<Row, String> {
        let name = self.text(entry)?;
        let dimensions = self.u32(&name)?;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(format!("`{name}`: expected 1 to {MOST_DIMENSIONS} dimensions, got {dimensions}"));
        }
        let mut shape = (0..dimensions).map(|_| self.u64(&name)).collect::<Result<Vec<_>, _>>()?;
        shape.reverse();
        let kind = BlockType::from_number(self.u32(&name)?).map_err(|message| format!("`{name}`: {message}"))?;
        Ok(Row { name: name.clone(), shape, kind, offset: self.u64(&name)? })
    }
}
