//! A run of a sweep: how it is to be started, and what has become of it.

use anyhow::Context;
use gist::config::merge;
use gist::config::train::TrainConfig;
use gist::run_dir::{FolderLock, RunDir, Start, State, Status, read_json, subfolders};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One run of the sweep.
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its name without the seed.
    pub label: String,
    /// Label of the run that it is compared with.
    pub rival: Option<String>,
    /// What is set in it and not in others.
    pub varied: BTreeMap<String, String>,
    /// Its configuration.
    pub config: TrainConfig,
    /// The same as TOML, every default written out.
    pub toml: String,
    /// Its run directory.
    pub folder: PathBuf,
}

impl Member {
    /// What its name stands for.
    pub fn described(&self) -> Value {
        json!({"run": self.name, "arm": self.label, "seed": self.config.seed, "set": self.varied})
    }

    /// A finished run of another experiment in the folder `runs` whose configuration is this one but for the name.
    pub fn twin(&self, runs: &Path) -> Option<PathBuf> {
        let is_twin = |path: &PathBuf| RunDir::at(path).is_ok_and(|run| is_done(&run) && self.is_same(&run));
        subfolders(runs).iter().flat_map(|experiment| subfolders(experiment)).find(is_twin)
    }

    fn is_same(&self, run: &RunDir) -> bool {
        let known = std::fs::read_to_string(run.config()).unwrap_or_default();
        merge::differences(&known, &self.toml).is_ok_and(|found| found.iter().all(|(key, ..)| key == "name"))
    }

    /// The flag that it is to be started with; nothing when it is finished.
    ///
    /// # Errors
    /// Another process works in its folder; a run of another configuration is there, and `overwrite` is not set.
    pub fn start(&self, overwrite: bool) -> anyhow::Result<Option<&'static str>> {
        let Ok(run) = RunDir::at(&self.folder) else { return Ok(Some("--resume")) };
        FolderLock::check(&self.folder)?;
        if is_done(&run) && self.is_same(&run) {
            return Ok(None);
        }
        if let Err(changed) = RunDir::check(&self.folder, &self.toml, Start::Resume) {
            return match overwrite {
                true => Ok(Some("--overwrite")),
                false => Err(changed).context("--overwrite replaces runs that have changed"),
            };
        }
        Ok(Some("--resume"))
    }

    /// The finished run; what it says of itself when it is not finished.
    pub fn finished(&self) -> Result<RunDir, String> {
        let run = RunDir::at(&self.folder).map_err(|_| "never started".to_string())?;
        if is_done(&run) {
            return Ok(run);
        }
        let status = read_json::<Status>(&run.status()).ok();
        Err(status.map_or("never started".into(), |s| format!("{:?} {}", s.state, s.message).to_lowercase()))
    }
}

fn is_done(run: &RunDir) -> bool {
    read_json::<Status>(&run.status()).is_ok_and(|status| status.state == State::Done)
}
