//! A progress bar with elapsed time and ETA on a terminal; a line now and then where there is none.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Progress of a long stage.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    silent: bool,
    printed: Cell<Instant>,
    name: String,
}

const PLAIN_EVERY: Duration = Duration::from_secs(30);

impl Progress {
    /// A bar of `total` steps, of which `done` were made in an earlier sitting.
    pub fn new(name: &str, total: usize, done: usize) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        if let Ok(style) =
            ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} [{elapsed_precise} · ETA {eta_precise}] {msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_string());
        bar.set_position(done as u64);
        bar.reset_eta();
        Self { bar, plain, silent: false, printed: Cell::new(Instant::now()), name: name.to_string() }
    }

    /// Progress that somebody else shows.
    pub fn silent() -> Self {
        let (bar, name) = (ProgressBar::hidden(), String::new());
        Self { bar, plain: false, silent: true, printed: Cell::new(Instant::now()), name }
    }

    /// One step done; `message` shows the live figures.
    pub fn step(&self, message: &str) {
        self.bar.inc(1);
        self.bar.set_message(message.to_string());
        if self.plain && self.printed.get().elapsed() > PLAIN_EVERY {
            self.printed.set(Instant::now());
            let eta = self.bar.eta().as_secs();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
            eprintln!("{} {done}/{total}  ETA {}:{:02}  {message}", self.name, eta / 60, eta % 60);
        }
    }

    /// A line that stays.
    pub fn note(&self, line: &str) {
        if self.silent {
            return;
        }
        if self.plain { eprintln!("{line}") } else { self.bar.println(line) }
    }

    /// Ends the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
