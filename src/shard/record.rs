//! `shard.json`: the record that a finished shard leaves of itself.

use crate::error::{Error, Result};
use crate::hash::FileHash;
use crate::run_dir::{Build, read_json, write_json_atomic};
use crate::shard::Shard;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the file.
pub const RECORD: &str = "shard.json";

/// The record of a finished shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardRecord {
    /// Command that made it, such as `label`.
    pub job: String,
    /// Shard, as `i/n`.
    pub shard: String,
    /// Rows of the whole job.
    pub rows: usize,
    /// Words of the command line, the program left out.
    pub argv: Vec<String>,
    /// The program.
    pub program: Build,
    /// Files of its own rows, a file a row.
    pub files: BTreeMap<String, FileHash>,
    /// Files that every shard has alike, such as the settings.
    pub common: BTreeMap<String, FileHash>,
}

impl ShardRecord {
    /// Writes the record of a shard that has finished `files`, of `rows` in the whole job, and `common` in `folder`.
    pub fn write(
        folder: &Path,
        job: &str,
        shard: Shard,
        rows: usize,
        files: &[String],
        common: &[String],
    ) -> Result<()> {
        let hashed = |names: &[String]| -> Result<BTreeMap<String, FileHash>> {
            names.iter().map(|name| Ok((name.clone(), FileHash::of(&folder.join(name))?))).collect()
        };
        let record = ShardRecord {
            job: job.into(),
            shard: shard.to_string(),
            rows,
            argv: std::env::args().skip(1).collect(),
            program: Build::own(),
            files: hashed(files)?,
            common: hashed(common)?,
        };
        write_json_atomic(&folder.join(RECORD), &record)
    }

    /// The record in the folder of `shard`; none where it is not finished.
    pub fn read(folder: &Path, shard: Shard) -> Result<Option<ShardRecord>> {
        let path = folder.join(RECORD);
        if !path.exists() {
            return Ok(None);
        }
        let record: ShardRecord = read_json(&path)?;
        if record.shard != shard.to_string() {
            return Err(Error::file(
                path,
                format!("expected the record of shard {shard}, got that of {}", record.shard),
            ));
        }
        let owned = shard.range(record.rows).len();
        if record.files.len() != owned {
            let message = format!("expected {owned} files, one a row of the shard, got {}", record.files.len());
            return Err(Error::file(path, message));
        }
        let strange =
            |name: &String| name.starts_with('.') || Path::new(name).file_name() != Some(std::ffi::OsStr::new(name));
        if let Some((name, _)) = record.all().find(|(name, _)| strange(name)) {
            return Err(Error::file(path, format!("expected names of files beside it, got {name:?}")));
        }
        Ok(Some(record))
    }

    /// Every file with its hash, the common ones last.
    pub fn all(&self) -> impl Iterator<Item = (&String, &FileHash)> {
        self.files.iter().chain(&self.common)
    }

    /// A file of `folder` that is absent or not as it was when the shard ended.
    pub fn torn(&self, folder: &Path) -> Option<PathBuf> {
        let is_torn =
            |(name, hash): &(&String, &FileHash)| FileHash::of(&folder.join(name)).ok().as_ref() != Some(hash);
        self.all().find(is_torn).map(|(name, _)| folder.join(name))
    }

    /// The command line that makes another shard of the same job.
    pub fn command(&self, shard: Shard) -> String {
        let mut words = self.argv.clone();
        for at in 0..words.len() {
            if words[at] == "--shard" && at + 1 < words.len() {
                words[at + 1] = shard.to_string();
            } else if words[at].starts_with("--shard=") {
                words[at] = format!("--shard={shard}");
            }
        }
        format!("gist {}", words.join(" "))
    }
}
