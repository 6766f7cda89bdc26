//! `status`: how far runs have come, and who works on them.

use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::parallel::standing::RankStanding;
use gist::run_dir::{
    FolderLock, Holder, RunDir, State, Status, read_json, runs_under, seconds_since_1970, write_json_atomic,
};
use serde::Serialize;
use std::path::PathBuf;

/// Flags of `status`.
#[derive(Args)]
pub struct StatusArgs {
    /// Run directories, or folders that hold some.
    #[arg(default_value = "runs")]
    places: Vec<PathBuf>,
    /// Also write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// State of a run directory as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Told {
    /// A process works in it.
    Running,
    /// It was running, and no process works in it any more.
    Killed,
    /// Finished.
    Done,
    /// Stopped by an error.
    Failed,
    /// Stopped on request, at a checkpoint.
    Interrupted,
    /// There is no status yet.
    Begun,
}

/// A row: one run.
#[derive(Serialize)]
struct RunRow {
    run: PathBuf,
    state: Told,
    /// Steps completed.
    step: usize,
    /// Seconds since the status was written; none where there is none.
    age: Option<u64>,
    /// The process that works in it.
    holder: Option<Holder>,
    message: String,
    /// Progress of each of its ranks; none of a run of one process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranks: Vec<RankStanding>,
}

impl RunRow {
    fn of(run: &RunDir) -> RunRow {
        let is_held = FolderLock::check(run.root()).is_err();
        let holder = is_held.then(|| Holder::of(run.root()).map(|(holder, _)| holder)).flatten();
        let status = Status::read(run).ok();
        let state = match status.as_ref().map(|status| status.state) {
            _ if is_held => Told::Running,
            None => Told::Begun,
            Some(State::Running) => Told::Killed,
            Some(State::Done) => Told::Done,
            Some(State::Failed) => Told::Failed,
            Some(State::Interrupted) => Told::Interrupted,
        };
        let age = |status: &Status| seconds_since_1970().saturating_sub(status.updated);
        RunRow {
            run: run.root().to_path_buf(),
            state,
            step: status.as_ref().map_or(0, |status| status.step),
            age: status.as_ref().filter(|status| status.updated > 0).map(age),
            holder,
            message: status.map_or(String::new(), |status| status.message),
            ranks: if is_held { read_json(&run.ranks()).unwrap_or_default() } else { Vec::new() },
        }
    }

    fn cells(&self) -> [String; 6] {
        let by = self.holder.as_ref().map_or(String::new(), |Holder { pid, host, job, .. }| {
            format!("{pid} on {host}{}", job.as_ref().map_or(String::new(), |job| format!(", {job}")))
        });
        let state = format!("{:?}", self.state).to_lowercase();
        let age = self.age.map_or(String::new(), |age| format!("{age} s"));
        [self.run.display().to_string(), state, self.step.to_string(), age, by, self.message.clone()]
    }
}

/// The ranks of runs in progress, a row each; none where no run has any.
fn ranks(rows: &[RunRow]) -> Option<Table> {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["run", "rank", "host", "step", "last exchange", "age", "waiting"]);
    let now = seconds_since_1970();
    for (row, rank) in rows.iter().flat_map(|row| row.ranks.iter().map(move |rank| (row, rank))) {
        let RankStanding { rank, host, step, phase, waiting, told, .. } = rank;
        let (age, waiting) = (format!("{} s", now.saturating_sub(*told)), format!("{:.1} %", 100.0 * waiting));
        let run = row.run.display().to_string();
        table.add_row([run, rank.to_string(), host.clone(), step.to_string(), phase.clone(), age, waiting]);
    }
    (table.row_count() > 0).then_some(table)
}

/// Prints a row a run, and how many are in each state.
pub fn run(args: &StatusArgs) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for place in &args.places {
        rows.extend(runs_under(place)?.iter().map(RunRow::of));
    }
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["run", "state", "step", "age", "process", "message"]);
    table.add_rows(rows.iter().map(RunRow::cells));
    println!("{table}");
    if let Some(ranks) = ranks(&rows) {
        println!("{ranks}");
    }
    let all = [Told::Done, Told::Running, Told::Interrupted, Told::Killed, Told::Failed, Told::Begun];
    let counts = all.map(|state| (state, rows.iter().filter(|row| row.state == state).count()));
    let told = counts.iter().filter(|(_, count)| *count > 0);
    let told: Vec<String> = told.map(|(state, count)| format!("{count} {state:?}").to_lowercase()).collect();
    println!("{} runs: {}", rows.len(), told.join(", "));
    if let Some(path) = &args.json {
        write_json_atomic(path, &rows)?;
    }
    Ok(())
}
