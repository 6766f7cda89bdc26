//! `provenance.json`: from what program, inputs and machine a run was made, and whether they are still the same.
//!
//! ```text
//! {
//!   "started": 1732678800,            seconds since 1970
//!   "commit": "0123…", "dirty": false, "source": "abcd…",    the program, as it was built
//!   "argv": […], "versions": {…}, "device": "cpu", "threads": {…},
//!   "inputs": [{"path": …, "bytes": …, "sha256": …}],
//!   "resumed":   [the same of every --resume],
//!   "evaluated": [the same of every `gist eval`],
//!   "final_reads": 1,    times that the final split has been read, where it was
//!   "shared_documents": [documents that two splits share],
//!   "accepted":  [differences that --accept-changes let pass, in words]
//! }
//! ```

use super::RunDir;
use super::atomic::{read_json, write_json_atomic};
use super::build::Build;
use super::lock::LOCK;
use crate::error::{Error, Result};
use crate::hash::FileHash;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The flag that has a difference pass.
pub const ACCEPT: &str = "--accept-changes";
/// Digits of a hash in a message.
const HASH_SHOWN: usize = 24;

/// One sitting: a start, a resumption or an evaluation of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sitting {
    /// Seconds since 1970.
    started: u64,
    /// The program.
    #[serde(flatten)]
    build: Build,
    argv: Vec<String>,
    versions: Versions,
    device: String,
    threads: Threads,
    inputs: Vec<Input>,
    /// Documents that two splits share, as they were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shared_documents: Vec<Value>,
    /// Differences from the sittings before, in words, that were accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Versions {
    gist: String,
    rustc: String,
    tch: String,
    libtorch: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Threads {
    libtorch: usize,
    rayon: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Input {
    path: PathBuf,
    #[serde(flatten)]
    hash: FileHash,
}

/// SHA-256 of files by their path, in hexadecimal.
pub type Hashes = BTreeMap<PathBuf, String>;

impl Sitting {
    /// This process, with the hash of every input file as it is now (folders are walked); `device` in words.
    pub fn now(inputs: &[PathBuf], device: &str) -> Result<Self> {
        let files = files(inputs)?;
        let hashed = |path: &PathBuf| Ok(Input { path: path.clone(), hash: FileHash::of(path)? });
        Ok(Self {
            started: super::seconds_since_1970(),
            build: Build::own(),
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
            inputs: files.par_iter().map(hashed).collect::<Result<_>>()?,
            shared_documents: Vec::new(),
            accepted: Vec::new(),
        })
    }

    /// The program.
    pub fn build(&self) -> &Build {
        &self.build
    }

    /// The hash of every input file.
    pub fn inputs(&self) -> Hashes {
        self.inputs.iter().map(|input| (input.path.clone(), input.hash.sha256.clone())).collect()
    }

    /// Differences from the sittings before, in words, that were accepted.
    pub fn accepted(&self) -> &[String] {
        &self.accepted
    }

    /// The sitting, with differences that the user accepted.
    pub fn accepting(self, accepted: Vec<String>) -> Self {
        Self { accepted, ..self }
    }
}

/// The hashes of input files as they are now (folders are walked); those in `known` are taken from there, others added to it.
pub fn hashes_now(inputs: &[PathBuf], known: &mut Hashes) -> Result<Hashes> {
    let files = files(inputs)?;
    let new: Vec<&PathBuf> = files.iter().filter(|path| !known.contains_key(*path)).collect();
    let hashed = |path: &&PathBuf| Ok(((*path).clone(), FileHash::of(path)?.sha256));
    known.extend(new.par_iter().map(hashed).collect::<Result<Vec<_>>>()?);
    Ok(files.into_iter().filter_map(|path| known.get_key_value(&path).map(|(p, h)| (p.clone(), h.clone()))).collect())
}

/// A sentence for every file that `now` has with another hash than `then` had, or has and `then` had not, or has no longer; of
/// the last, only those for which `counts`. A file that lies elsewhere under its old name and with its old hash, as another
/// cache has it, is the same.
pub fn changed_inputs(then: &Hashes, now: &Hashes, counts: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut changes: Vec<String> = changed(then, now, ["then", "now"]);
    let of = |all: &Hashes, others: &Hashes| -> Vec<(PathBuf, String)> {
        all.iter().filter(|(path, _)| !others.contains_key(*path)).map(|(p, h)| (p.clone(), h.clone())).collect()
    };
    let (gone, mut new) = (of(then, now), of(now, then));
    for (path, hash) in gone {
        match new.iter().position(|(other, same)| other.file_name() == path.file_name() && *same == hash) {
            Some(moved) => drop(new.swap_remove(moved)),
            None if counts(&path) => {
                changes.push(format!("{}: sha256 {} then, not an input now", path.display(), short(&hash)));
            }
            None => {}
        }
    }
    let added =
        |(path, hash): &(PathBuf, String)| format!("{}: not an input then, sha256 {} now", path.display(), short(hash));
    changes.extend(new.iter().map(added));
    changes
}

/// A sentence for every file that is in both with different hashes; `words` say which side is which.
pub fn changed(first: &Hashes, second: &Hashes, words: [&str; 2]) -> Vec<String> {
    let pairs = first.iter().filter_map(|(path, one)| Some((path, one, second.get(path)?)));
    let differing = pairs.filter(|(_, one, other)| one != other);
    differing
        .map(|(path, one, other)| {
            let (one, other) = (short(one), short(other));
            format!("{}: sha256 {one} {}, {other} {}", path.display(), words[0], words[1])
        })
        .collect()
}

/// The first digits of a hash.
pub fn short(hash: &str) -> &str {
    hash.get(..HASH_SHOWN).unwrap_or(hash)
}

/// Lets `changes` pass if the user accepts them; otherwise an error that names every one, where `refused` says what is not done
/// because of them.
pub fn settle(changes: Vec<String>, accept: bool, refused: &str) -> Result<Vec<String>> {
    if changes.is_empty() || accept {
        return Ok(changes);
    }
    let changes = changes.join("; ");
    Err(Error::invalid(format!("{refused}: {changes}; with {ACCEPT} it goes on, and the difference is recorded")))
}

/// `provenance.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Provenance {
    #[serde(flatten)]
    first: Sitting,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resumed: Vec<Sitting>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    evaluated: Vec<Sitting>,
    /// Times that the final split has been read.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    final_reads: usize,
}

impl Provenance {
    /// The record of a run; an error where it has none.
    pub fn read(run: &RunDir) -> Result<Self> {
        read_json(&run.provenance())
    }

    /// The last sitting that trained.
    pub fn trained(&self) -> &Sitting {
        self.resumed.last().unwrap_or(&self.first)
    }

    /// The sitting that measured the figures of the run: the last evaluation, or else the end of training.
    pub fn measured(&self) -> &Sitting {
        self.evaluated.last().unwrap_or(self.trained())
    }

    /// A sentence for everything that is not as it was when the run was last trained: input files, and the program.
    pub fn changes(&self, now: &Hashes) -> Vec<String> {
        let mut changes = changed_inputs(&self.trained().inputs(), now, |_| true);
        changes.extend(self.trained().build.difference(&Build::own(), ["then", "now"]));
        changes
    }

    /// Every program that trained the run, and the one that measured it, each once.
    pub fn builds(&self) -> Vec<&Build> {
        let mut builds: Vec<&Build> = Vec::new();
        for sitting in std::iter::once(&self.first).chain(&self.resumed).chain([self.measured()]) {
            if !builds.iter().any(|known| known.is_same(&sitting.build)) {
                builds.push(&sitting.build);
            }
        }
        builds
    }

    /// Every difference that was accepted while the run was made or measured.
    pub fn accepted(&self) -> Vec<String> {
        let sittings = std::iter::once(&self.first).chain(&self.resumed).chain([self.measured()]);
        let mut all: Vec<String> = sittings.flat_map(|sitting| sitting.accepted.iter().cloned()).collect();
        all.dedup();
        all
    }

    /// Records a sitting that trains: the first of the run, or one that goes on with it.
    pub fn add_training(run: &RunDir, sitting: Sitting) -> Result<()> {
        let path = run.provenance();
        let record = match path.exists() {
            true => {
                let mut known = Self::read(run)?;
                known.resumed.push(sitting);
                known
            }
            false => Self { first: sitting, resumed: Vec::new(), evaluated: Vec::new(), final_reads: 0 },
        };
        write_json_atomic(&path, &record)
    }

    /// Records differences that were accepted in the course of the last training sitting.
    pub fn add_accepted(run: &RunDir, accepted: Vec<String>) -> Result<()> {
        if accepted.is_empty() {
            return Ok(());
        }
        let mut record = Self::read(run)?;
        record.resumed.last_mut().unwrap_or(&mut record.first).accepted.extend(accepted);
        write_json_atomic(&run.provenance(), &record)
    }

    /// Records documents that two splits share with the last training sitting.
    pub fn add_shared_documents<T: Serialize>(run: &RunDir, found: &[T]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let values = found.iter().map(serde_json::to_value).collect::<std::result::Result<Vec<_>, _>>();
        let mut record = Self::read(run)?;
        record.resumed.last_mut().unwrap_or(&mut record.first).shared_documents =
            values.map_err(|e| Error::file(run.provenance(), e.to_string()))?;
        write_json_atomic(&run.provenance(), &record)
    }

    /// Times that the run has read the final split.
    pub fn final_reads(&self) -> usize {
        self.final_reads
    }

    /// Counts a reading of the final split, before it is read; returns the count, this one included.
    pub fn count_final_read(run: &RunDir) -> Result<usize> {
        let mut record = Self::read(run)?;
        record.final_reads += 1;
        write_json_atomic(&run.provenance(), &record)?;
        Ok(record.final_reads)
    }

    /// Records an evaluation of a run that has a record.
    pub fn add_evaluation(run: &RunDir, sitting: Sitting) -> Result<()> {
        let mut record = Self::read(run)?;
        record.evaluated.push(sitting);
        write_json_atomic(&run.provenance(), &record)
    }
}

/// Every file of the inputs, each once, in order.
fn files(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        walk(input, &mut files)?;
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.extend((!path.ends_with(LOCK)).then(|| path.to_path_buf()));
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(|e| Error::io(path, e))? {
        walk(&entry.map_err(|e| Error::io(path, e))?.path(), files)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::run_dir::Start;

    fn run(folder: &Path) -> RunDir {
        RunDir::open(&folder.join("run"), "seed = 1\n", Start::Resume).unwrap()
    }

    #[test]
    fn records_the_hash_of_every_input_and_every_sitting() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir_all(data.join("deep")).unwrap();
        std::fs::write(data.join("deep/a.txt"), "abc").unwrap();
        std::fs::write(data.join("empty.txt"), "").unwrap();
        let run = run(folder.path());
        let sitting = |inputs: &[PathBuf], device: &str| Sitting::now(inputs, device).unwrap();
        Provenance::add_training(&run, sitting(std::slice::from_ref(&data), "cpu")).unwrap();
        Provenance::add_training(&run, sitting(&[data.join("empty.txt")], "cuda:0")).unwrap();
        Provenance::add_evaluation(&run, sitting(&[], "cuda:1").accepting(vec!["x".into()])).unwrap();
        assert_eq!((Provenance::count_final_read(&run).unwrap(), Provenance::count_final_read(&run).unwrap()), (1, 2));
        let record = Provenance::read(&run).unwrap();
        assert_eq!((record.final_reads(), record.evaluated.len()), (2, 1));
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let expected = [(data.join("deep/a.txt"), abc.to_string()), (data.join("empty.txt"), empty.to_string())];
        assert_eq!(record.first.inputs(), expected.into());
        assert_eq!((record.first.device.as_str(), record.trained().device.as_str()), ("cpu", "cuda:0"));
        assert_eq!((record.trained().inputs().len(), record.measured().device.as_str()), (1, "cuda:1"));
        assert_eq!(record.accepted(), ["x"]);
        assert!(record.first.threads.libtorch > 0 && !record.first.argv.is_empty());
        assert_eq!(record.first.versions.libtorch, "2.11.0");
        assert_eq!((record.builds().len(), record.first.build()), (1, &Build::own()));
        // As it stands in the file.
        let json: serde_json::Value = read_json(&run.provenance()).unwrap();
        assert_eq!(json["inputs"][0]["sha256"], abc);
        assert_eq!(json["evaluated"][0]["accepted"][0], "x");
        assert!(json["started"].is_u64() && json.get("source").is_some() && json.get("accepted").is_none());
    }

    #[test]
    fn a_missing_input_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Sitting::now(&[folder.path().join("gone.zst")], "cpu").unwrap_err().to_string();
        assert!(error.contains("gone.zst"), "{error}");
    }

    #[test]
    fn what_changed_is_named_with_both_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            path
        };
        let files = [place("a/train.jsonl", "abc"), place("a/config.json", "x"), place("a/shard-1", "y")];
        let then = Sitting::now(&files, "cpu").unwrap();
        assert!(changed_inputs(&then.inputs(), &then.inputs(), |_| true).is_empty());
        place("a/train.jsonl", "");
        let files = [place("a/train.jsonl", ""), place("b/config.json", "x"), place("a/new", "z")];
        let now = Sitting::now(&files, "cpu").unwrap();
        let fewer = changed_inputs(&then.inputs(), &now.inputs(), |path| !path.ends_with("shard-1"));
        let changes = changed_inputs(&then.inputs(), &now.inputs(), |_| true);
        assert_eq!((fewer.len(), changes.len()), (2, 3));
        let said = |at: usize, parts: [&str; 3]| {
            assert!(parts.iter().all(|part| changes[at].contains(part)), "{:?}: {parts:?}", changes[at])
        };
        said(0, ["a/train.jsonl", "ba7816bf8f01cfea414140de then", "e3b0c44298fc1c149afbf4c8 now"]);
        said(1, ["a/shard-1", "then", "not an input now"]);
        said(2, ["a/new", "not an input then", "now"]);
        let error = settle(changes.clone(), false, "runs/x: not resumed").unwrap_err().to_string();
        assert!(error.starts_with("runs/x: not resumed: ") && error.contains(ACCEPT), "{error}");
        assert_eq!(settle(changes.clone(), true, "runs/x").unwrap(), changes);
        assert!(settle(Vec::new(), false, "").unwrap().is_empty());
    }
}
