//! Finished runs that are to be compared: whether they fit together.

use crate::config::merge;
use crate::error::{Error, Result};
use crate::run_dir::{Hashes, hashes_now};
use crate::runs::TrainedRun;
use crate::runs::integrity::{EvaluationFiles, changed_since_training, other_program};
use crate::runs::terms::{self, Terms};

/// The names of the experiments, each once, in order, joined.
pub fn joined(runs: &[TrainedRun]) -> String {
    let mut names: Vec<&str> = Vec::new();
    runs.iter().map(|run| run.config().name.as_str()).for_each(|name| {
        if !names.contains(&name) {
            names.push(name);
        }
    });
    names.join("+")
}

/// Fails on the same seed of an experiment twice, and on seeds of an experiment that differ in more than the seed, naming the
/// keys.
pub fn check_seeds(runs: &[TrainedRun]) -> Result<()> {
    for (i, run) in runs.iter().enumerate() {
        let name = &run.config().name;
        for other in runs[..i].iter().filter(|other| other.config().name == *name) {
            let (here, there) = (run.dir().root().display(), other.dir().root().display());
            if other.config().seed == run.config().seed {
                let got = format!("got `{name}` with seed {} twice: {there} and {here}", run.config().seed);
                return Err(Error::invalid(format!("expected each run once, {got}")));
            }
            let keys = merge::differences(&merge::to_toml(other.config())?, &merge::to_toml(run.config())?)?;
            let keys = keys.into_iter().map(|(key, ..)| key);
            let keys: Vec<String> = keys.filter(|key| key != "seed" && !key.starts_with("hardware.")).collect();
            if !keys.is_empty() {
                let got = format!("got other values of `{}` in {there} and {here}", keys.join("`, `"));
                let message = format!("expected the runs of `{name}` to differ in their seed only, {got}");
                return Err(Error::invalid(message));
            }
        }
    }
    Ok(())
}

/// Terms that runs share, and what has changed since they were made.
pub struct Common {
    /// The terms of the first run, with the hashes of its files as they are now.
    pub terms: Terms,
    /// A sentence for every file that a run was made from and that has changed since, and for every other program.
    pub changes: Vec<String>,
}

/// Fails on runs that are not judged by the same settings (condition, windows), naming the keys. Files and programs that are
/// not those that a run was made from are left to the caller.
pub fn common(runs: &[TrainedRun]) -> Result<Common> {
    let Some(first) = runs.first() else { return Err(Error::invalid("expected at least one run, got none")) };
    let mut files = Vec::new();
    for run in runs {
        files.extend(EvaluationFiles::of(run.config())?.all());
    }
    let now = hashes_now(&files, &mut Hashes::new())?;
    let own = terms::of(first.config(), &now, first.dir().root())?;
    let settings = |terms: &Terms| -> Terms {
        let kept = terms.iter().filter(|(key, _)| !key.ends_with(".sha256"));
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let mut changes = Vec::new();
    for run in runs {
        let root = run.dir().root();
        let terms = terms::of(run.config(), &now, root)?;
        terms::check(first.dir().root(), &settings(&own), root, &settings(&terms))?;
        let found = changed_since_training(run.dir(), run.config(), &now)?;
        let found = found.into_iter().chain(other_program(run.dir())?);
        changes.extend(found.map(|change| format!("{}: {change}", root.display())));
        // Another base or text at another place: not what this run is judged on.
        terms::check(first.dir().root(), &own, root, &terms)?;
    }
    Ok(Common { terms: own, changes })
}
