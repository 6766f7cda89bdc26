//! `status.json`: how far a run has come, for people and for programs that wait for it.

use super::{RunDir, read_json, write_json_atomic};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Steps that end sooner after the last one that was told are not told.
const EVERY: Duration = Duration::from_secs(1);

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In progress, or killed before it could write another state.
    Running,
    /// Finished, report and all.
    Done,
    /// Stopped by an error, which the message repeats.
    Failed,
    /// Stopped by the user at a checkpoint.
    Interrupted,
}

/// The content of `status.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// State of the run.
    pub state: State,
    /// Steps completed.
    pub step: usize,
    /// When this was written, in seconds since 1970; of a running run not much older than its last step. 0 in files of
    /// older versions.
    #[serde(default)]
    pub updated: u64,
    /// Note for people, such as the error that stopped the run; may be empty.
    pub message: String,
}

impl Status {
    /// The status of a run.
    pub fn read(run: &RunDir) -> Result<Self> {
        read_json(&run.status())
    }

    /// Replaces the status of a run, as of now.
    pub fn write(run: &RunDir, state: State, step: usize, message: &str) -> Result<()> {
        let status = Self { state, step, updated: seconds_since_1970(), message: message.into() };
        write_json_atomic(&run.status(), &status)
    }

    /// Replaces the status of a run, which stays at the step that it last told of.
    pub fn turn(run: &RunDir, state: State, message: &str) -> Result<()> {
        let step = Self::read(run).map_or(0, |status| status.step);
        Self::write(run, state, step, message)
    }
}

/// Keeps the status of a running run current as its steps end, at most once a second.
pub struct Pulse {
    run: RunDir,
    told: Option<Instant>,
}

impl Pulse {
    /// Pulse of a run that has not told of a step yet.
    pub fn new(run: &RunDir) -> Self {
        Self { run: run.clone(), told: None }
    }

    /// Says that so many steps are completed.
    pub fn step(&mut self, completed: usize) -> Result<()> {
        if self.told.is_some_and(|told| told.elapsed() < EVERY) {
            return Ok(());
        }
        Status::write(&self.run, State::Running, completed, "")?;
        self.told = Some(Instant::now());
        Ok(())
    }
}

/// Now, in seconds since 1970.
pub fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::run_dir::Start;

    #[test]
    fn the_status_follows_the_steps_and_keeps_the_last_when_a_run_stops() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path(), "", Start::Resume).unwrap();
        let begun = seconds_since_1970();
        let mut pulse = Pulse::new(&run);
        pulse.step(7).unwrap();
        let status = Status::read(&run).unwrap();
        assert_eq!((status.state, status.step), (State::Running, 7));
        assert!((begun..=seconds_since_1970()).contains(&status.updated));
        pulse.step(8).unwrap(); // within the second: not told
        assert_eq!(Status::read(&run).unwrap().step, 7);
        pulse.told = pulse.told.and_then(|told| told.checked_sub(EVERY));
        pulse.step(9).unwrap();
        Status::turn(&run, State::Failed, "disk full").unwrap();
        let status = Status::read(&run).unwrap();
        assert_eq!((status.state, status.step, status.message.as_str()), (State::Failed, 9, "disk full"));
        assert!(std::fs::read_to_string(run.status()).unwrap().contains("\"failed\""));
    }

    #[test]
    fn older_files_are_read() {
        let old: Status = serde_json::from_str(r#"{"state": "done", "step": 3, "message": ""}"#).unwrap();
        assert_eq!((old.state, old.step, old.updated), (State::Done, 3, 0));
    }
}
