//! `provenance.json`: from what code, inputs and machine a run was made.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::atomic::{read_json, write_json_atomic};
use crate::error::{Error, Result};

#[derive(Serialize, Deserialize)]
struct Provenance {
    /// Seconds since 1970.
    started: u64,
    /// `None` outside a git checkout.
    commit: Option<String>,
    dirty: Option<bool>,
    argv: Vec<String>,
    versions: Versions,
    device: String,
    threads: Threads,
    inputs: Vec<Input>,
    /// Documents that two splits share, as they were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shared_documents: Vec<Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resumed: Vec<Provenance>,
}

#[derive(Serialize, Deserialize)]
struct Versions {
    gist: String,
    rustc: String,
    tch: String,
    libtorch: String,
}

#[derive(Serialize, Deserialize)]
struct Threads {
    libtorch: usize,
    rayon: usize,
}

#[derive(Serialize, Deserialize)]
struct Input {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

pub(super) fn write(path: &Path, inputs: &[PathBuf], device: &str) -> Result<()> {
    let now = collect(inputs, device)?;
    let record = match path.exists() {
        true => {
            let mut first: Provenance = read_json(path)?;
            first.resumed.push(now);
            first
        }
        false => now,
    };
    write_json_atomic(path, &record)
}

/// Adds documents that two splits share to the newest record at `path`.
pub(super) fn add_shared_documents(path: &Path, found: Vec<Value>) -> Result<()> {
    let mut record: Provenance = read_json(path)?;
    match record.resumed.last_mut() {
        Some(last) => last.shared_documents = found,
        None => record.shared_documents = found,
    }
    write_json_atomic(path, &record)
}

/// The hash of every input that the record at `path` names.
pub(super) fn inputs(path: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let record: Provenance = read_json(path)?;
    Ok(record.inputs.into_iter().map(|input| (input.path, input.sha256)).collect())
}

fn collect(inputs: &[PathBuf], device: &str) -> Result<Provenance> {
    let commit = git(&["rev-parse", "HEAD"]);
    let dirty = commit.as_ref().and_then(|_| git(&["status", "--porcelain"])).map(|changes| !changes.is_empty());
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut files = Vec::new();
    for input in inputs {
        walk(input, &mut files)?;
    }
    files.sort();
    files.dedup();
    Ok(Provenance {
        started: since.as_secs(),
        commit,
        dirty,
        argv: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        versions: Versions {
            gist: env!("CARGO_PKG_VERSION").into(),
            rustc: env!("GIST_RUSTC").into(),
            tch: env!("GIST_TCH").into(),
            libtorch: env!("GIST_LIBTORCH").into(),
        },
        device: device.into(),
        threads: Threads {
            libtorch: usize::try_from(tch::get_num_threads()).unwrap_or_default(),
            rayon: rayon::current_num_threads(),
        },
        inputs: files.par_iter().map(|file| hash(file)).collect::<Result<_>>()?,
        shared_documents: Vec::new(),
        resumed: Vec::new(),
    })
}

/// The answer of git in the checkout that the binary was built in.
fn git(arguments: &[&str]) -> Option<String> {
    let binary = std::env::current_exe().ok()?;
    let answer = Command::new("git").arg("-C").arg(binary.parent()?).args(arguments).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).trim().to_string())
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(|e| Error::io(path, e))? {
        walk(&entry.map_err(|e| Error::io(path, e))?.path(), files)?;
    }
    Ok(())
}

fn hash(path: &Path) -> Result<Input> {
    let digest = || -> std::io::Result<(u64, String)> {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            bytes += n as u64;
        }
        Ok((bytes, hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
    };
    let (bytes, sha256) = digest().map_err(|e| Error::io(path, e))?;
    Ok(Input { path: path.to_path_buf(), bytes, sha256 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn records_the_hash_of_every_input_and_every_resume() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir_all(data.join("deep")).unwrap();
        std::fs::write(data.join("deep/a.txt"), "abc").unwrap();
        std::fs::write(data.join("empty.txt"), "").unwrap();
        let path = folder.path().join("provenance.json");
        write(&path, std::slice::from_ref(&data), "cpu").unwrap();
        write(&path, &[data.join("empty.txt")], "cuda:0").unwrap();
        let record: Provenance = read_json(&path).unwrap();
        let sha: Vec<_> = record.inputs.iter().map(|i| (i.bytes, i.sha256.as_str())).collect();
        assert_eq!(sha[0], (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
        assert_eq!(sha[1], (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
        assert_eq!((record.device.as_str(), record.resumed[0].device.as_str()), ("cpu", "cuda:0"));
        assert_eq!(record.resumed[0].inputs.len(), 1);
        assert_eq!(super::inputs(&path).unwrap()[&data.join("deep/a.txt")], sha[0].1);
        assert!(record.threads.libtorch > 0 && !record.argv.is_empty());
        assert_eq!(record.versions.libtorch, "2.11.0");
        assert!(record.commit.is_none_or(|commit| commit.len() == 40));
    }

    #[test]
    fn a_missing_input_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("provenance.json");
        let error = write(&path, &[folder.path().join("gone.zst")], "cpu").unwrap_err().to_string();
        assert!(error.contains("gone.zst"), "{error}");
        assert!(!path.exists());
    }
}
