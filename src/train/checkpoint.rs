//! Checkpoints: a folder of safetensors and JSON whose manifest is written last. A folder without a manifest never
//! finished and is ignored; a file that does not match its manifest is an error that names it.

use crate::error::{Error, Result};
use crate::hash::FileHash;
use crate::model::weights;
use crate::run_dir::{read_json, write_json_atomic};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Tensor;

#[derive(Serialize, Deserialize)]
struct Manifest {
    step: usize,
    files: BTreeMap<String, FileHash>,
}

/// Checkpoints that a run keeps.
pub const KEPT: usize = 2;

/// Named groups of tensors: each becomes `<group>.safetensors`.
pub type Groups = Vec<(String, Vec<(String, Tensor)>)>;

/// Writes a checkpoint into `folder`: tensor groups, `state.json`, whatever `extra` adds, then the manifest.
pub fn save(
    folder: &Path,
    step: usize,
    groups: &Groups,
    state: &impl Serialize,
    extra: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    for (group, tensors) in groups {
        weights::write(&folder.join(format!("{group}.safetensors")), tensors)?;
    }
    write_json_atomic(&folder.join("state.json"), state)?;
    extra(folder)?;
    let mut files = BTreeMap::new();
    for path in walk(folder)? {
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
        files.insert(name, FileHash::of(&path)?);
    }
    write_json_atomic(&folder.join("manifest.json"), &Manifest { step, files })
}

fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if path.is_dir() { all.extend(walk(&path)?) } else { all.push(path) }
    }
    all.sort();
    Ok(all)
}

/// The finished checkpoint with the highest step, checked against its manifest.
pub fn latest(checkpoints: &Path) -> Result<Option<(usize, PathBuf)>> {
    let Some((step, folder)) = finished(checkpoints)?.pop() else { return Ok(None) };
    let manifest: Manifest = read_json(&folder.join("manifest.json"))?;
    for (name, record) in &manifest.files {
        let path = folder.join(name);
        let found = FileHash::of(&path)?;
        if found != *record {
            return Err(Error::file(
                path,
                format!(
                    "checkpoint is damaged: expected {} bytes with the manifest's sha256, got {}",
                    record.bytes, found.bytes
                ),
            ));
        }
    }
    Ok(Some((step, folder)))
}

fn finished(checkpoints: &Path) -> Result<Vec<(usize, PathBuf)>> {
    if !checkpoints.exists() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for entry in std::fs::read_dir(checkpoints).map_err(|e| Error::io(checkpoints, e))? {
        let path = entry.map_err(|e| Error::io(checkpoints, e))?.path();
        let step = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("step_")?.parse().ok());
        if let Some(step) = step
            && path.join("manifest.json").exists()
        {
            all.push((step, path));
        }
    }
    all.sort();
    Ok(all)
}

/// Removes all but the last `keep` checkpoints, unfinished ones included.
pub fn prune(checkpoints: &Path, keep: usize) -> Result<()> {
    let all = finished(checkpoints)?;
    let kept: Vec<&PathBuf> = all.iter().rev().take(keep).map(|(_, p)| p).collect();
    for entry in std::fs::read_dir(checkpoints).map_err(|e| Error::io(checkpoints, e))? {
        let path = entry.map_err(|e| Error::io(checkpoints, e))?.path();
        if path.is_dir() && !kept.contains(&&path) {
            std::fs::remove_dir_all(&path).map_err(|e| Error::io(&path, e))?;
        }
    }
    Ok(())
}

/// Reads one tensor group of a checkpoint.
pub fn tensors(folder: &Path, group: &str) -> Result<BTreeMap<String, Tensor>> {
    weights::read(&folder.join(format!("{group}.safetensors")))
}

/// The JSON state of a checkpoint.
pub fn state<T: DeserializeOwned>(folder: &Path) -> Result<T> {
    read_json(&folder.join("state.json"))
}
