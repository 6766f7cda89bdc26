//! A run of a sweep: how it is to be started, and what has become of it.

use anyhow::Context;
use gist::config::merge;
use gist::config::train::TrainConfig;
use gist::run_dir::{FolderLock, Hashes, RunDir, Start, State, Status, read_json, settle, subfolders};
use gist::runs::integrity::changed_since_finished;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One run of the sweep.
pub struct Member {
    /// Name of the run.
    pub name: String,
    /// Name of the run without the seed.
    pub label: String,
    /// Label of the run that it is compared with.
    pub rival: Option<String>,
    /// Keys that are set in it and not in others, with their values.
    pub varied: BTreeMap<String, String>,
    /// Configuration of the run.
    pub config: TrainConfig,
    /// Configuration as TOML, every default written out.
    pub toml: String,
    /// Directory of the run.
    pub folder: PathBuf,
}

impl Member {
    /// Name of the run with its settings, for `runs.json`.
    pub fn described(&self) -> Value {
        json!({"run": self.name, "arm": self.label, "seed": self.config.seed, "set": self.varied})
    }

    /// A finished run of another experiment in the folder `runs` whose configuration is this one but for the name, and that was
    /// made from the files that are there now, by this program. One that was not is passed over, unless that is accepted.
    fn twin(&self, runs: &Path, checked: &mut Checked) -> anyhow::Result<Option<PathBuf>> {
        for path in subfolders(runs).iter().flat_map(|experiment| subfolders(experiment)) {
            let Ok(run) = RunDir::at(&path) else { continue };
            if !is_done(&run) || !self.is_same(&run) {
                continue;
            }
            let changes = checked.changes(&run, &self.config)?;
            if changes.is_empty() || checked.accept(&self.label, &run, &changes) {
                return Ok(Some(path));
            }
            println!(
                "{}: the finished run {} cannot be taken for it, because it differs: {}",
                self.name,
                path.display(),
                changes.join("; ")
            );
        }
        Ok(None)
    }

    /// Has a finished run of another experiment stand in, where there is one and this run was never begun.
    pub fn settle(&mut self, runs: &Path, checked: &mut Checked) -> anyhow::Result<()> {
        let twin = if RunDir::at(&self.folder).is_err() { self.twin(runs, checked)? } else { None };
        if let Some(twin) = twin {
            println!("{}: the same as {}", self.name, twin.display());
            self.folder = twin;
        }
        Ok(())
    }

    fn is_same(&self, run: &RunDir) -> bool {
        let known = std::fs::read_to_string(run.config()).unwrap_or_default();
        merge::differences(&known, &self.toml).is_ok_and(|found| found.iter().all(|(key, ..)| key == "name"))
    }

    /// The flag that it is to be started with; nothing when it is finished.
    ///
    /// # Errors
    /// Another process works in its folder; a run of another configuration is there, or a finished one that was made from other
    /// files or by another program, and `overwrite` is not set.
    pub fn start(&self, overwrite: bool, checked: &mut Checked) -> anyhow::Result<Option<&'static str>> {
        let Ok(run) = RunDir::at(&self.folder) else { return Ok(Some("--resume")) };
        FolderLock::check(&self.folder)?;
        if is_done(&run) && self.is_same(&run) {
            let changes = checked.changes(&run, &self.config)?;
            if changes.is_empty() || checked.accept(&self.label, &run, &changes) {
                return Ok(None);
            }
            if overwrite {
                return Ok(Some("--overwrite"));
            }
            let refused = format!("{}: not kept, it was made from other things", self.folder.display());
            settle(changes, false, &refused).context("--overwrite replaces runs that have changed")?;
        }
        if let Err(changed) = RunDir::check(&self.folder, &self.toml, Start::Resume) {
            return match overwrite {
                true => Ok(Some("--overwrite")),
                false => Err(changed).context("--overwrite replaces runs that have changed"),
            };
        }
        Ok(Some("--resume"))
    }

    /// The finished run; an error describes the state of a run that is not finished.
    pub fn finished(&self) -> Result<RunDir, String> {
        let run = RunDir::at(&self.folder).map_err(|_| "never started".to_string())?;
        if is_done(&run) {
            return Ok(run);
        }
        let status = read_json::<Status>(&run.status()).ok();
        Err(status.map_or("never started".into(), |s| format!("{:?} {}", s.state, s.message).to_lowercase()))
    }
}

/// Checks of finished runs, with what was accepted of them.
pub struct Checked {
    accepts: bool,
    hashes: Hashes,
    accepted: BTreeMap<String, Vec<String>>,
}

impl Checked {
    /// State before any check; with `accepts` every difference passes.
    pub fn new(accepts: bool) -> Self {
        Self { accepts, hashes: Hashes::new(), accepted: BTreeMap::new() }
    }

    /// A sentence for everything that is not as it was when the run was made. Every file is hashed once a sweep.
    fn changes(&mut self, run: &RunDir, config: &TrainConfig) -> anyhow::Result<Vec<String>> {
        Ok(changed_since_finished(run, config, &mut self.hashes)?)
    }

    /// Whether differences pass; those that do are recorded with the arm of this label.
    fn accept(&mut self, label: &str, run: &RunDir, changes: &[String]) -> bool {
        if self.accepts {
            let known = self.accepted.entry(label.to_string()).or_default();
            let told = changes.iter().map(|change| format!("{}: {change}", run.root().display()));
            known.extend(told.filter(|change| !known.contains(change)).collect::<Vec<_>>());
        }
        self.accepts
    }

    /// Differences that were accepted, by the label of the arm.
    pub fn accepted(&self, label: &str) -> Vec<String> {
        self.accepted.get(label).cloned().unwrap_or_default()
    }
}

fn is_done(run: &RunDir) -> bool {
    read_json::<Status>(&run.status()).is_ok_and(|status| status.state == State::Done)
}
