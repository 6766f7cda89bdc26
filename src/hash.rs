//! SHA-256 of files, read in pieces: a file of weights need not fit into memory.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// SHA-256 over texts, one after the other; where one ends counts.
#[derive(Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Takes in a text.
    pub fn add(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    /// Hexadecimal, 64 digits.
    pub fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Size and SHA-256 of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal, 64 digits.
    pub sha256: String,
}

impl FileHash {
    /// Hashes the file at `path`; an error where it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let digest = || -> std::io::Result<Self> {
            let mut file = File::open(path)?;
            let (mut digest, mut bytes) = (Sha256::new(), 0);
            let mut piece = vec![0; PIECE];
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok(Self { bytes, sha256: hex(&digest.finalize()) }),
                    read => {
                        digest.update(&piece[..read]);
                        bytes += read as u64;
                    }
                }
            }
        };
        digest().map_err(|e| Error::io(path, e))
    }
}

/// SHA-256 of `bytes`, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hexadecimal digits, two a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The values of `sha256sum`.
    #[test]
    fn files_have_the_hash_that_other_tools_give_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let hash = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            FileHash::of(&path).unwrap()
        };
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash(b""), FileHash { bytes: 0, sha256: empty.into() });
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(b"abc"), FileHash { bytes: 3, sha256: abc.into() });
        assert_eq!(sha256(b"abc"), abc);
        // Longer than a piece, and no multiple of one.
        let long = vec![b'a'; 2_500_000];
        assert_eq!(hash(&long), FileHash { bytes: 2_500_000, sha256: sha256(&long) });
        let error = FileHash::of(&folder.path().join("gone.zst")).unwrap_err().to_string();
        assert!(error.contains("gone.zst"), "{error}");
    }
}
