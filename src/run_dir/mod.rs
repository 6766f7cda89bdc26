//! A run directory: where each file of a run lies, how a run is started, resumed or replaced, and what it records of
//! itself. [`RunDir`] gives the paths, [`Log`] writes the rows, [`Status`] says how far it has come, [`Provenance`] what it was
//! made from, [`write_atomic`] is how every other file is written.

mod atomic;
mod build;
mod lock;
mod log;
mod provenance;
mod status;
mod walk;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::file_name::{MOST, shortened};
pub use atomic::{read_json, write_atomic, write_atomic_by, write_json_atomic};
pub use build::Build;
pub use lock::{FolderLock, Holder};
pub use log::Log;
pub use provenance::{ACCEPT, Hashes, Provenance, Sitting, changed, changed_inputs, hashes_now, settle, short};
pub use status::{Pulse, State, Status, seconds_since_1970};
pub use walk::runs_under;

/// A name as one component of a path, short enough for any file system; different names stay different.
pub fn component(name: &str) -> String {
    shortened(&name.replace('%', "%25").replace('/', "%2F"), MOST)
}

/// The folders in a folder, sorted; none where it cannot be read.
pub fn subfolders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// Whether there is a folder that holds anything besides a lock and what a killed write leaves.
pub fn is_occupied(folder: &Path) -> Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    let is_litter = |name: &str| name.starts_with('.') && name.ends_with(atomic::TEMPORARY_SUFFIX);
    Ok(names(folder)?.iter().any(|name| *name != lock::LOCK && !is_litter(&name.to_string_lossy())))
}

/// Whether a count is 0, and so left out of a file.
pub(crate) fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Names of what is in a folder.
fn names(folder: &Path) -> Result<Vec<OsString>> {
    let read =
        || -> std::io::Result<Vec<OsString>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect() };
    read().map_err(|e| Error::io(folder, e))
}

/// Treatment of a run directory that already holds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Refuse the directory.
    Fresh,
    /// Go on with the run if the configuration is the same; start a run if there is none.
    Resume,
    /// Replace the run.
    Overwrite,
}

/// One run's directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    root: PathBuf,
    /// Held as long as a copy of this value is: only one process writes to a run.
    _lock: Option<Arc<FolderLock>>,
}

impl RunDir {
    /// Makes or reopens the directory of a run whose resolved configuration is `config_toml`, and locks it.
    ///
    /// # Errors
    /// Another process works in it; it holds what `start` does not allow.
    pub fn open(root: &Path, config_toml: &str, start: Start) -> Result<RunDir> {
        RunDir::check(root, config_toml, start)?;
        let run = RunDir { root: root.to_path_buf(), _lock: None }.locked()?;
        // Another process may have worked in it until the lock was taken.
        run.check_content(config_toml, start)?;
        match start {
            Start::Resume if is_occupied(root)? => {}
            Start::Overwrite if is_occupied(root)? => run.replace(config_toml)?,
            Start::Fresh | Start::Resume | Start::Overwrite => run.create(config_toml)?,
        }
        Ok(run)
    }

    /// The run, locked: an error that names the holder when another process works in it.
    pub fn locked(self) -> Result<RunDir> {
        let lock = FolderLock::take(&self.root)?;
        Ok(RunDir { _lock: Some(Arc::new(lock)), ..self })
    }

    /// Fails where [`RunDir::open`] would refuse; writes nothing.
    pub fn check(root: &Path, config_toml: &str, start: Start) -> Result<()> {
        FolderLock::check(root)?;
        RunDir { root: root.to_path_buf(), _lock: None }.check_content(config_toml, start)
    }

    fn check_content(&self, config_toml: &str, start: Start) -> Result<()> {
        let (run, root) = (self, &self.root);
        if !is_occupied(root)? {
            return Ok(());
        }
        match start {
            Start::Fresh => Err(Error::file(
                root,
                "expected a new or empty folder, got one with files in it; \
                 pass --resume to go on with this run or --overwrite to replace it",
            )),
            Start::Resume => same_config(&run.config(), config_toml),
            Start::Overwrite if run.config().is_file() => Ok(()),
            Start::Overwrite => {
                let message = "expected a run directory to overwrite, got a folder without config.toml; not touched";
                Err(Error::file(root, message))
            }
        }
    }

    /// The finished or interrupted run at `root`.
    pub fn at(root: &Path) -> Result<RunDir> {
        let run = RunDir { root: root.to_path_buf(), _lock: None };
        if run.config().is_file() {
            return Ok(run);
        }
        let got = if root.is_dir() { "a folder without one" } else { "no such folder" };
        Err(Error::file(root, format!("expected a run directory with a config.toml, got {got}")))
    }

    fn create(&self, config_toml: &str) -> Result<()> {
        write_atomic(&self.config(), config_toml.as_bytes())
    }

    /// Puts a new run in the place of the old one, which is still there if that fails. The folder itself stays: it may be a
    /// link, and the lock is in it.
    fn replace(&self, config_toml: &str) -> Result<()> {
        let io = |e| Error::io(&self.root, e);
        let old = names(&self.root)?.into_iter().filter(|name| *name != lock::LOCK);
        let mut aside = tempfile::Builder::new()
            .prefix(".old-")
            .suffix(atomic::TEMPORARY_SUFFIX)
            .tempdir_in(&self.root)
            .map_err(io)?;
        let (mut moved, mut result) = (Vec::new(), Ok(()));
        for name in old {
            result = fs::rename(self.root.join(&name), aside.path().join(&name)).map_err(io);
            if result.is_err() {
                break;
            }
            moved.push(name);
        }
        result.and_then(|()| self.create(config_toml)).inspect_err(|_| {
            for name in moved {
                if fs::rename(aside.path().join(&name), self.root.join(&name)).is_err() {
                    aside.disable_cleanup(true); // better a stray folder than a lost run
                }
            }
        })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }
    /// One row per step, the same bytes whenever the run is repeated.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }
    /// One row per step of what differs from machine to machine.
    pub fn timings(&self) -> PathBuf {
        self.root.join("timings.jsonl")
    }
    /// Progress of the ranks of a run in progress.
    pub fn ranks(&self) -> PathBuf {
        self.root.join("ranks.json")
    }
    /// The folder of TensorBoard event files.
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }
    /// The gists sampled at `step`.
    pub fn rollouts(&self, step: usize) -> PathBuf {
        self.root.join("rollouts").join(format!("{}.jsonl", step_name(step)))
    }
    /// The folder of the evaluation at `step`.
    pub fn eval(&self, step: usize) -> PathBuf {
        self.root.join("eval").join(step_name(step))
    }
    /// The folder of all checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
    /// The folder of the checkpoint at `step`.
    pub fn checkpoint(&self, step: usize) -> PathBuf {
        self.checkpoints().join(step_name(step))
    }
    /// The final figures.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }
    /// The report for people.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }
    /// State and step of the run.
    pub fn status(&self) -> PathBuf {
        self.root.join("status.json")
    }
    /// Program, inputs and machine that the run was made with.
    pub fn provenance(&self) -> PathBuf {
        self.root.join("provenance.json")
    }
}

fn step_name(step: usize) -> String {
    format!("step_{step:06}")
}

fn same_config(path: &Path, now: &str) -> Result<()> {
    let before = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let parse = |text: &str| text.parse::<toml::Table>().map_err(|e| Error::file(path, e.to_string()));
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &parse(&before)?, &mut old);
    flatten("", &parse(now)?, &mut new);
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let shown = |value: Option<&toml::Value>| value.map_or("absent".to_string(), |v| v.to_string());
    let differing: Vec<String> = keys
        .into_iter()
        .filter(|&key| old.get(key) != new.get(key))
        .map(|key| format!("`{key}` was {}, is now {}", shown(old.get(key)), shown(new.get(key))))
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    Err(Error::file(path, format!("--resume expected the same configuration, got {}", differing.join("; "))))
}

fn flatten(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, into),
            other => {
                into.insert(key, other.clone());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const CONFIG: &str = "seed = 1\n[reward]\nlambda = 0.5\nparts = [1, 2]\n";

    fn run(folder: &Path) -> PathBuf {
        folder.join("runs/gist/seed-1")
    }

    #[test]
    fn a_fresh_start_refuses_an_existing_run() {
        let folder = tempfile::tempdir().unwrap();
        let root = run(folder.path());
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join(".abc.tmp"), "litter of a killed write").unwrap();
        let made = RunDir::open(&root, CONFIG, Start::Fresh).unwrap();
        assert_eq!(fs::read_to_string(made.config()).unwrap(), CONFIG);
        let busy = RunDir::open(&root, "seed = 2\n", Start::Fresh).unwrap_err().to_string();
        assert!(busy.contains("seed-1: ") && busy.contains("in progress"), "{busy}");
        drop(made);
        let made = RunDir::at(&root).unwrap();
        let error = RunDir::open(&root, "seed = 2\n", Start::Fresh).unwrap_err().to_string();
        assert!(error.contains("--resume") && error.contains("--overwrite") && error.contains("seed-1"), "{error}");
        assert_eq!(fs::read_to_string(made.config()).unwrap(), CONFIG);
    }

    #[test]
    fn resume_names_the_keys_that_differ() {
        let folder = tempfile::tempdir().unwrap();
        let root = run(folder.path());
        RunDir::open(&root, CONFIG, Start::Resume).unwrap();
        RunDir::open(&root, "# same\nreward = { parts = [1, 2], lambda = 0.5 }\nseed = 1\n", Start::Resume).unwrap();
        let other = "seed = 1\nsteps = 9\n[reward]\nlambda = 0.25\nparts = [1, 2]\n";
        let error = RunDir::open(&root, other, Start::Resume).unwrap_err().to_string();
        assert!(error.contains("`reward.lambda` was 0.5, is now 0.25"), "{error}");
        assert!(error.contains("`steps` was absent, is now 9"), "{error}");
        assert!(!error.contains("seed`") && !error.contains("parts"), "{error}");
        fs::write(root.join("config.toml"), "seed = ").unwrap();
        assert!(RunDir::open(&root, CONFIG, Start::Resume).unwrap_err().to_string().contains("config.toml"));
    }

    #[test]
    fn overwrite_replaces_the_whole_run_and_leaves_nothing_aside() {
        let folder = tempfile::tempdir().unwrap();
        let root = run(folder.path());
        let made = RunDir::open(&root, CONFIG, Start::Overwrite).unwrap();
        fs::create_dir(made.checkpoints()).unwrap();
        fs::write(made.metrics(), "old").unwrap();
        for start in [Start::Overwrite, Start::Resume, Start::Fresh] {
            assert!(RunDir::open(&root, CONFIG, start).unwrap_err().to_string().contains("in progress"));
        }
        assert_eq!(fs::read_to_string(made.metrics()).unwrap(), "old");
        drop(made);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&root, &link).unwrap();
        let made = RunDir::open(&link, "seed = 2\n", Start::Overwrite).unwrap();
        assert!(!made.metrics().exists() && !made.checkpoints().exists() && link.is_symlink());
        assert_eq!(fs::read_to_string(root.join("config.toml")).unwrap(), "seed = 2\n");
        drop(made);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "nothing but config.toml is left");
        assert_eq!(fs::read_dir(root.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn overwrite_spares_what_is_no_run() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis"), "precious").unwrap();
        let error = RunDir::open(folder.path(), CONFIG, Start::Overwrite).unwrap_err().to_string();
        assert!(error.contains("config.toml"), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join("thesis")).unwrap(), "precious");
        let file = folder.path().join("thesis");
        assert!(RunDir::open(&file, CONFIG, Start::Overwrite).is_err());
        assert_eq!(fs::read_to_string(file).unwrap(), "precious");
    }

    #[test]
    fn at_wants_a_run() {
        let folder = tempfile::tempdir().unwrap();
        assert!(RunDir::at(folder.path()).unwrap_err().to_string().contains("config.toml"));
        assert!(RunDir::at(&folder.path().join("absent")).unwrap_err().to_string().contains("no such folder"));
        RunDir::open(&run(folder.path()), CONFIG, Start::Fresh).unwrap();
        let run = RunDir::at(&run(folder.path())).unwrap();
        assert!(run.rollouts(200).ends_with("rollouts/step_000200.jsonl"));
        assert!(run.checkpoint(7).ends_with("checkpoints/step_000007"));
    }
}
