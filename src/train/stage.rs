//! The loop that all stages of training share: one update after the other with its own dropout masks, its row in the log,
//! validation now and then, checkpoints when due, a stop when asked, and a progress bar. What an update is, each stage says;
//! what is saved and validated, its [`Learner`].

use crate::error::{Error, Result};
use crate::metrics::{Metrics, ShardSeconds};
use crate::parallel::ranks::Ranks;
use crate::rng::{self, Stream};
use crate::run_dir::{Log, RunDir};
use crate::train::checkpoint;
use crate::train::progress::Progress;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Progress of a run: updates and time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Updates done, over all stages.
    pub update: usize,
    /// Seconds of training, over all sittings.
    pub seconds: f64,
}

/// Times at which checkpoints are due, besides the end of a stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckpointRhythm {
    /// Updates between them.
    pub every: Option<usize>,
    /// Time between them.
    pub pause: Option<Duration>,
}

/// Counters, rows and the wish to stop of a run in progress.
pub struct Ledger<'a> {
    counters: Counters,
    seconds_before: f64,
    started: Instant,
    saved: Instant,
    checkpoints: CheckpointRhythm,
    run: Option<&'a RunDir>,
    log: Option<Log>,
    stop: &'a AtomicBool,
    group: Option<&'a Ranks>,
    /// Number of the next update, where it is not the one behind the last.
    next: Option<usize>,
}

impl<'a> Ledger<'a> {
    /// Goes on from `counters`, with rows in `run`; training that keeps no rows has none. `stop` is set when the user asks.
    pub fn new(
        run: Option<&'a RunDir>,
        counters: Counters,
        checkpoints: CheckpointRhythm,
        stop: &'a AtomicBool,
    ) -> Self {
        let now = Instant::now();
        let seconds_before = counters.seconds;
        Self {
            counters,
            seconds_before,
            started: now,
            saved: now,
            checkpoints,
            run,
            log: None,
            stop,
            group: None,
            next: None,
        }
    }

    /// Goes on from the run's last checkpoint, which `restore` reads, or from the beginning, with a checkpoint every so many
    /// updates.
    pub fn open(
        run: &'a RunDir,
        every: usize,
        stop: &'a AtomicBool,
        restore: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let mut counters = Counters::default();
        if let Some((_, folder)) = checkpoint::latest(&run.checkpoints())? {
            checkpoint::prune(&run.checkpoints(), checkpoint::KEPT)?;
            counters = checkpoint::state(&folder)?;
            restore(&folder)?;
        }
        let rhythm = CheckpointRhythm { every: Some(every), pause: None };
        let mut ledger = Self::new(Some(run), counters, rhythm, stop);
        ledger.open_log()?;
        Ok(ledger)
    }

    /// Goes on in step with the other ranks of a group.
    pub fn join(&mut self, group: &'a Ranks) {
        self.group = Some(group);
    }

    /// Whether this process writes: the only one, or the first of several.
    pub fn leads(&self) -> bool {
        self.group.is_none_or(Ranks::is_first)
    }

    /// Updates done.
    pub fn update(&self) -> usize {
        self.counters.update
    }

    /// The counters, as a checkpoint carries them.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Seconds of training so far.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Opens the rows of the run and cuts those that no checkpoint covers: an evaluation must not ask for it.
    pub fn open_log(&mut self) -> Result<()> {
        if let (Some(run), None) = (self.run, &self.log) {
            self.log = Some(Log::open(run, self.counters.update)?);
        }
        Ok(())
    }

    fn record(&mut self, metrics: &Metrics, timings: &Metrics, shards: &ShardSeconds) -> Result<()> {
        if !self.leads() {
            return Ok(());
        }
        self.open_log()?;
        match &mut self.log {
            Some(log) => {
                log.metrics(self.counters.update, metrics)?;
                log.timings(self.counters.update, timings, shards)
            }
            None => Ok(()),
        }
    }

    /// Set when the user asks to stop.
    pub fn stop(&self) -> &'a AtomicBool {
        self.stop
    }

    /// Whether the user asked this process, or any of its ranks, to stop.
    fn is_asked_to_stop(&self) -> Result<bool> {
        let asked = self.stop.load(Ordering::SeqCst);
        self.group.map_or(Ok(asked), |group| group.any("wish to stop", asked))
    }

    /// Fails if the user asked to stop, between things that need no checkpoint.
    pub fn check_stop(&self) -> Result<()> {
        match self.is_asked_to_stop()? {
            true => Err(self.interrupted()),
            false => Ok(()),
        }
    }

    fn interrupted(&self) -> Error {
        Error::Interrupted { step: self.counters.update }
    }

    /// Passes over the updates between the present one and `update`: a stage ends early.
    pub fn go_on_at(&mut self, update: usize) {
        self.next = Some(update);
    }

    fn count(&mut self) {
        let update = self.next.take().unwrap_or(self.counters.update + 1);
        self.counters = Counters { update, seconds: self.seconds() };
        if let Some(group) = self.group {
            group.completed(self.counters.update);
        }
    }

    fn is_due(&self) -> bool {
        let CheckpointRhythm { every, pause } = self.checkpoints;
        every.is_some_and(|every| self.counters.update.is_multiple_of(every))
            || pause.is_some_and(|pause| self.saved.elapsed() > pause)
    }
}

/// A thing that learns in a stage, as far as the loop has to know it. One that keeps nothing has neither checkpoints nor
/// validation.
pub trait Learner<'a> {
    /// Counters and rows of the learner.
    fn ledger(&mut self) -> &mut Ledger<'a>;

    /// Seconds of the shards of the update that has ended; none where updates are whole.
    fn shard_seconds(&mut self) -> ShardSeconds {
        ShardSeconds::new()
    }

    /// Figures on held-out data as it is now.
    fn validate(&mut self) -> Result<HeldOut> {
        Ok(HeldOut::default())
    }

    /// Writes a checkpoint of all that the next update depends on.
    fn save(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Figures on held-out data.
#[derive(Clone, Debug, Default)]
pub struct HeldOut {
    /// Figures for the log.
    pub metrics: Metrics,
    /// Text for the terminal.
    pub said: String,
}

/// Outcome of an update.
pub struct Updated {
    /// Figures for the log.
    pub metrics: Metrics,
    /// Text for the progress bar.
    pub live: String,
}

/// Times at which a stage is validated, besides its end.
#[derive(Clone, Copy, Debug)]
pub struct ValidationRhythm {
    /// Updates between validations.
    pub every: usize,
    /// The update from which they are counted.
    pub from: usize,
}

/// A stretch of updates of one kind.
pub struct Stage<'a> {
    /// Name on the progress bar.
    pub title: &'a str,
    /// Updates of the stage, numbered over the whole run.
    pub updates: Range<usize>,
    /// Seed of the run, from which each update has its dropout masks.
    pub run_seed: u64,
    /// Times of validation; none = never.
    pub validation: Option<ValidationRhythm>,
    /// Held-out figures from before its first update, for the row of that update.
    pub before: Option<Metrics>,
    /// Tokens of an update, for a rate among the timings.
    pub tokens: Option<usize>,
}

impl Stage<'_> {
    /// Runs whatever is left of it; `update` is told the number of the update.
    pub fn run<'l, L: Learner<'l>>(
        mut self,
        learner: &mut L,
        mut update: impl FnMut(&mut L, usize) -> Result<Updated>,
    ) -> Result<()> {
        let Range { start, end } = self.updates;
        let done = learner.ledger().update().clamp(start, end) - start;
        let progress = match learner.ledger().leads() {
            true => Progress::new(self.title, self.updates.len(), done),
            false => Progress::silent(),
        };
        while self.updates.contains(&learner.ledger().update()) {
            let (number, clock) = (learner.ledger().update(), Instant::now());
            rng::seed_torch(self.run_seed, Stream::Dropout, number as u64, 0);
            let Updated { mut metrics, live } = update(learner, number)?;
            let before = self.before.take();
            if self.is_validated(number) {
                let held_out = learner.validate()?;
                progress.note(&format!("update {}: {}", number + 1, held_out.said));
                metrics.extend(held_out.metrics);
            } else {
                metrics.extend(before.unwrap_or_default());
            }
            let mut timings = self.timings(clock);
            timings.extend(learner.ledger().group.map(|group| ("time/ranks_s", group.take_waited())));
            let shards = learner.shard_seconds();
            learner.ledger().record(&metrics, &timings, &shards)?;
            let rate = timings.get("time/tokens_per_second");
            progress.step(&rate.map_or(live.clone(), |rate| format!("{live}  {rate:.0} tokens/s")));
            advance(learner, end)?;
        }
        progress.finish();
        Ok(())
    }

    fn is_validated(&self, number: usize) -> bool {
        let due = |rhythm: ValidationRhythm| (number + 1 - rhythm.from).is_multiple_of(rhythm.every);
        self.validation.is_some_and(|rhythm| due(rhythm) || number + 1 == self.updates.end)
    }

    fn timings(&self, clock: Instant) -> Metrics {
        let seconds = clock.elapsed().as_secs_f64();
        let mut timings = Metrics::from([("time/step_s", seconds)]);
        if let Some(tokens) = self.tokens {
            timings.push("time/tokens_per_second", tokens as f64 / seconds);
        }
        timings
    }
}

/// Counts an update, saves when due, asked or at the `end` of a stage, stops when asked.
fn advance<'l>(learner: &mut impl Learner<'l>, end: usize) -> Result<()> {
    learner.ledger().count();
    let asked = learner.ledger().is_asked_to_stop()?;
    let last = learner.ledger().update() >= end;
    if last || asked || learner.ledger().is_due() {
        learner.save()?;
        learner.ledger().saved = Instant::now();
    }
    if !asked {
        return Ok(());
    }
    // A launcher ends all when one has ended: nobody leaves before the checkpoint is whole.
    if let Some(group) = learner.ledger().group {
        group.gather("last checkpoint", &[])?;
    }
    Err(learner.ledger().interrupted())
}
