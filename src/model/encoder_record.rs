//! The record beside trained weights that names the encoder which they were trained over, and pins its weights.

use crate::config::compressors::EncoderSection;
use crate::error::{Error, Result};
use crate::hash::FileHash;
use crate::hub;
use crate::model::weights;
use crate::run_dir::{read_json, write_json_atomic};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The encoder that weights were trained over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderRecord {
    /// Its folder or repository.
    path: PathBuf,
    /// Branch, tag or commit of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    /// SHA-256 of its weight files.
    sha256: Vec<String>,
}

fn hashes(folder: &Path) -> Result<Vec<String>> {
    weights::files(folder).iter().map(|file| Ok(FileHash::of(file)?.sha256)).collect()
}

impl EncoderRecord {
    /// Writes the record into a file.
    pub fn save(section: &EncoderSection, file: &Path) -> Result<()> {
        let (path, revision) = (section.path.clone(), section.revision.clone());
        write_json_atomic(file, &Self { path, revision, sha256: hashes(&section.folder()?)? })
    }

    /// The folder of the encoder that a record names, whose weight files must still have the recorded hashes.
    pub fn folder(file: &Path) -> Result<PathBuf> {
        let record: Self = read_json(file)?;
        let folder = hub::folder(&record.path, record.revision.as_deref())?;
        let found = hashes(&folder)?;
        match found == record.sha256 {
            true => Ok(folder),
            false => {
                let message = format!("`sha256`: expected {:?} in {}, got {found:?}", record.sha256, folder.display());
                Err(Error::file(file, message))
            }
        }
    }
}
