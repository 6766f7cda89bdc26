//! Progress of the ranks of a run, as each last told the store through which all met.

use crate::parallel::place::Place;
use crate::parallel::shim::{self, Handle, ShimResult, get, set};
use serde::{Deserialize, Serialize};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time between two looks of a [`StandingWatch`].
const EVERY: Duration = Duration::from_secs(2);

/// Progress of a rank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankStanding {
    /// Its number.
    pub rank: usize,
    /// Name of its machine.
    pub host: String,
    /// Updates done.
    pub step: usize,
    /// Exchanges that it has come to.
    pub exchanges: u64,
    /// The last of them: what it was for.
    pub phase: String,
    /// Share of its time that it spent in exchanges, waiting included, since all met.
    pub waiting: f64,
    /// Seconds since 1970 at which it came to the last.
    pub told: u64,
}

impl RankStanding {
    /// The rank as messages name it.
    pub fn name(&self) -> String {
        match self.host.is_empty() {
            true => format!("rank {}", self.rank),
            false => format!("rank {} on {}", self.rank, self.host),
        }
    }

    /// Tells the store, with the time of now.
    pub(super) fn tell(&mut self, handle: Handle) -> ShimResult {
        self.told = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let text = serde_json::to_vec(&self).map_err(|e| e.to_string())?;
        set(handle, &key(self.rank), &text)
    }
}

fn key(rank: usize) -> String {
    format!("at/{rank}")
}

/// The last that each of `count` ranks told; a number alone of one that has told nothing.
pub(super) fn standings(handle: Handle, count: usize) -> ShimResult<Vec<RankStanding>> {
    let of = |rank| {
        let told = get(handle, &key(rank))?.and_then(|told| serde_json::from_slice(&told).ok());
        Ok(told.unwrap_or_else(|| RankStanding { rank, ..RankStanding::default() }))
    };
    (0..count).map(of).collect()
}

/// A look at the store now and then, in a thread and through a connection of its own, for as long as this is kept.
pub struct StandingWatch {
    _kept: Sender<()>,
}

impl StandingWatch {
    pub(super) fn begin(place: Place, mut tell: impl FnMut(&[RankStanding]) + Send + 'static) -> Self {
        let (kept, over) = channel();
        // Not joined: a store whose process is stopped does not answer. Without a store there is nothing to tell.
        thread::spawn(move || {
            let Ok(handle) = shim::meet(&place, false, EVERY) else { return };
            while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(EVERY) {
                match standings(handle, place.count) {
                    Ok(standings) => tell(&standings),
                    Err(_) => break,
                }
            }
            shim::leave(handle);
        });
        Self { _kept: kept }
    }
}
