//! A run directory: where each file of a run lies, how a run is started, resumed or replaced, and what it records of
//! itself. [`RunDir`] gives the paths, [`Log`] writes the rows, [`Status`] says how far it has come, [`Provenance`] what it was
//! made from, [`write_atomic`] is how every other file is written.

mod atomic;
mod build;
mod log;
mod provenance;
mod status;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
pub use atomic::{read_json, write_atomic, write_atomic_by, write_json_atomic};
pub use build::Build;
pub use log::Log;
pub use provenance::{ACCEPT, Hashes, Provenance, Sitting, changed, changed_inputs, hashes_now, settle, short};
pub use status::{Pulse, State, Status, seconds_since_1970};

/// A name as one component of a path; different names stay different.
pub fn component(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

/// The folders in a folder, sorted; none where it cannot be read.
pub fn subfolders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// Treatment of a run directory that already holds a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Refuse it.
    Fresh,
    /// Go on with it if the configuration is the same; start it if there is none.
    Resume,
    /// Replace it.
    Overwrite,
}

/// One run's directory.
#[derive(Clone, Debug)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Makes or reopens the directory of a run whose resolved configuration is `config_toml`.
    pub fn open(root: &Path, config_toml: &str, start: Start) -> Result<RunDir> {
        RunDir::check(root, config_toml, start)?;
        let run = RunDir { root: root.to_path_buf() };
        match start {
            Start::Resume if run.occupied()? => Ok(run),
            Start::Overwrite if run.occupied()? => run.replace(config_toml),
            Start::Fresh | Start::Resume | Start::Overwrite => run.create(config_toml),
        }
    }

    /// Fails where [`RunDir::open`] would refuse; writes nothing.
    pub fn check(root: &Path, config_toml: &str, start: Start) -> Result<()> {
        let run = RunDir { root: root.to_path_buf() };
        if !run.occupied()? {
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
        let run = RunDir { root: root.to_path_buf() };
        if run.config().is_file() {
            return Ok(run);
        }
        let got = if root.is_dir() { "a folder without one" } else { "no such folder" };
        Err(Error::file(root, format!("expected a run directory with a config.toml, got {got}")))
    }

    fn create(self, config_toml: &str) -> Result<RunDir> {
        write_atomic(&self.config(), config_toml.as_bytes())?;
        Ok(self)
    }

    fn replace(self, config_toml: &str) -> Result<RunDir> {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        let mut aside = tempfile::Builder::new()
            .prefix(&format!(".{name}.old-"))
            .tempdir_in(atomic::parent(&self.root))
            .map_err(|e| Error::io(&self.root, e))?;
        let old = aside.path().join("run");
        fs::rename(&self.root, &old).map_err(|e| Error::io(&self.root, e))?;
        let root = self.root.clone();
        self.create(config_toml).inspect_err(|_| {
            let _ = fs::remove_dir_all(&root);
            if fs::rename(&old, &root).is_err() {
                aside.disable_cleanup(true); // better a stray folder than a lost run
            }
        })
    }

    /// Whether the directory holds anything besides what a killed write leaves.
    fn occupied(&self) -> Result<bool> {
        if !self.root.exists() {
            return Ok(false);
        }
        let entries = fs::read_dir(&self.root).map_err(|e| Error::io(&self.root, e))?;
        for entry in entries {
            let name = entry.map_err(|e| Error::io(&self.root, e))?.file_name();
            let name = name.to_string_lossy();
            if !(name.starts_with('.') && name.ends_with(atomic::TEMPORARY_SUFFIX)) {
                return Ok(true);
            }
        }
        Ok(false)
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
        fs::write(made.metrics(), "old").unwrap();
        let made = RunDir::open(&root, "seed = 2\n", Start::Overwrite).unwrap();
        assert!(!made.metrics().exists());
        assert_eq!(fs::read_to_string(made.config()).unwrap(), "seed = 2\n");
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
