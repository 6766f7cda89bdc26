//! An index of runs as a SQLite database: a row a run, its settings and its final figures. It is made from the files of run
//! directories and can be thrown away; no run ever writes to it. A second pass reads only the runs whose files have changed.
//!
//! ```text
//! runs      path, experiment, name, seed, state, step, updated, …, context_value, program, problem
//! settings  run, key, value              the resolved configuration, a row a key; values as TOML
//! figures   run, reader, compressor, role, keep_ratio, kl, nll, gap_closed, … with 95 % intervals
//! ```

use crate::config::merge::flat;
use crate::error::{Error, Result};
use crate::eval::schema::summary::{Entry, Role, Summary};
use crate::run_dir::{Provenance, RunDir, State, Status, read_json, runs_under};
use crate::text_file::read_text;
use rusqlite::{Connection, ErrorCode, Transaction, params};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the tables; an index of another is made anew.
const VERSION: i64 = 1;
/// Mark of an index in the head of its file: `gist` in ASCII.
const MARK: i64 = 0x67697374;
/// Time for which another process may write the index.
const WAIT: Duration = Duration::from_secs(10);

const TABLES: &str = "
DROP TABLE IF EXISTS figures;
DROP TABLE IF EXISTS settings;
DROP TABLE IF EXISTS runs;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, stamp TEXT NOT NULL,
    experiment TEXT, name TEXT, seed INTEGER, state TEXT, step INTEGER, updated INTEGER, message TEXT,
    seconds REAL, peak_rss_mib REAL, device TEXT, split TEXT, budget_tokens INTEGER, windows INTEGER, documents INTEGER,
    context_value REAL, context_value_low REAL, context_value_high REAL, program TEXT, problem TEXT
);
CREATE TABLE settings (
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (run, key)
) WITHOUT ROWID;
CREATE TABLE figures (
    run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, reader TEXT NOT NULL, compressor TEXT NOT NULL,
    role TEXT NOT NULL, keep_ratio REAL, kl REAL, kl_low REAL, kl_high REAL, nll REAL,
    gap_closed REAL, gap_closed_low REAL, gap_closed_high REAL, top1_agreement REAL, windows INTEGER NOT NULL,
    PRIMARY KEY (run, reader, compressor)
) WITHOUT ROWID;
";

/// Counts of a pass over run directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Runs in the index that lie under the places asked for.
    pub runs: usize,
    /// Runs of them whose files were read, because they are new or have changed.
    pub read: usize,
    /// Runs that were taken out, because they are no longer there.
    pub gone: usize,
    /// A message for every run of which a file cannot be read; the rest of it is in the index.
    pub problems: Vec<String>,
}

/// Brings the index at `path` up to date with the runs at or under `places`. Readers see the index of before or of after.
///
/// # Errors
/// `path` is a file of another kind; a place is no folder.
pub fn collect(places: &[PathBuf], path: &Path) -> Result<Collected> {
    let mut found: BTreeMap<String, RunDir> = BTreeMap::new();
    let mut roots = Vec::new();
    for place in places {
        for run in runs_under(place)? {
            found.insert(absolute(run.root())?, run);
        }
        roots.push(absolute(place)?);
    }
    let failed = |error: rusqlite::Error| sqlite_error(path, error);
    let mut connection = open(path)?;
    let transaction = connection.transaction().map_err(failed)?;
    let done = refresh(&transaction, &roots, &found).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(done)
}

/// Opens an index, makes a new one, or empties one of another version.
fn open(path: &Path) -> Result<Connection> {
    let failed = |error: rusqlite::Error| sqlite_error(path, error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    let connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(WAIT).map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let tables = "SELECT count(*) FROM sqlite_schema";
    let is_empty = connection.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(failed)? == 0;
    if number("application_id")? != MARK && !is_empty {
        return Err(Error::file(path, "expected an index that `gist collect` made, or no file, got another database"));
    }
    if is_empty || number("user_version")? != VERSION {
        let head = format!("BEGIN; {TABLES} PRAGMA application_id = {MARK}; PRAGMA user_version = {VERSION}; COMMIT;");
        connection.execute_batch(&head).map_err(failed)?;
    }
    Ok(connection)
}

fn sqlite_error(path: &Path, error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            Error::file(path, "expected an index that `gist collect` made, or no file, got a file of another kind")
        }
        _ => Error::io(path, std::io::Error::other(error)),
    }
}

fn absolute(path: &Path) -> Result<String> {
    let path = std::fs::canonicalize(path).map_err(|e| Error::io(path, e))?;
    Ok(path.to_string_lossy().into_owned())
}

fn refresh(index: &Transaction, roots: &[String], found: &BTreeMap<String, RunDir>) -> rusqlite::Result<Collected> {
    let mut known: BTreeMap<String, (i64, String)> = BTreeMap::new();
    let mut all = index.prepare("SELECT path, id, stamp FROM runs")?;
    for row in all.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))? {
        let (path, state) = row?;
        known.insert(path, state);
    }
    let mut done = Collected { runs: found.len(), ..Collected::default() };
    let is_under = |path: &str| roots.iter().any(|root| Path::new(path).starts_with(root));
    for (path, (id, _)) in known.iter().filter(|(path, _)| is_under(path) && !found.contains_key(*path)) {
        done.gone += index.execute("DELETE FROM runs WHERE id = ?1 AND path = ?2", params![id, path])?;
    }
    for (path, run) in found {
        let stamp = stamp(run);
        let before = known.get(path);
        if before.is_none_or(|(_, known)| *known != stamp) {
            if let Some((id, _)) = before {
                index.execute("DELETE FROM runs WHERE id = ?1", [id])?;
            }
            insert(index, path, &stamp, run)?;
            done.read += 1;
        }
    }
    let mut problems = index.prepare("SELECT path, problem FROM runs WHERE problem IS NOT NULL ORDER BY path")?;
    for row in problems.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
        let (path, problem) = row?;
        if is_under(&path) {
            done.problems.push(problem);
        }
    }
    Ok(done)
}

/// Identity, size and time of the files that an entry is made from.
fn stamp(run: &RunDir) -> String {
    let files = [run.config(), run.status(), run.summary(), run.provenance()];
    let one = |path: &PathBuf| match std::fs::metadata(path) {
        Ok(found) => format!("{}:{}:{}.{:09}", found.ino(), found.len(), found.mtime(), found.mtime_nsec()),
        Err(_) => "-".into(),
    };
    files.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A file of a run, if it is there; one that cannot be read is told under `problems`.
fn read<T>(path: &Path, problems: &mut Vec<String>, read: impl FnOnce() -> Result<T>) -> Option<T> {
    if !path.exists() {
        return None;
    }
    read().map_err(|error| problems.push(error.to_string())).ok()
}

fn insert(index: &Transaction, path: &str, stamp: &str, run: &RunDir) -> rusqlite::Result<()> {
    let problems = &mut Vec::new();
    let config = run.config();
    let settings = read(&config, problems, || flat(&read_text(&config)?, &config)).unwrap_or_default();
    let status = read(&run.status(), problems, || Status::read(run));
    let summary: Option<Summary> = read(&run.summary(), problems, || read_json(&run.summary()));
    let program = read(&run.provenance(), problems, || Ok(Provenance::read(run)?.measured().build().to_string()));
    let problem = (!problems.is_empty()).then(|| problems.join("; "));
    let text = |key: &str| settings.get(key).map(|value| value.trim_matches('"').to_string());
    let seed: Option<i64> = text("seed").and_then(|seed| seed.parse().ok());
    let state = status.as_ref().map(|status| match status.state {
        State::Running => "running",
        State::Done => "done",
        State::Failed => "failed",
        State::Interrupted => "interrupted",
    });
    let eval = summary.as_ref().map(|summary| &summary.eval);
    let row = params![
        path,
        stamp,
        text("name"),
        run.root().file_name().map(|name| name.to_string_lossy().into_owned()),
        seed,
        state,
        status.as_ref().map(|status| status.step as i64),
        status.as_ref().map(|status| status.updated as i64),
        status.as_ref().map(|status| status.message.clone()),
        summary.as_ref().map(|summary| summary.seconds),
        summary.as_ref().map(|summary| summary.peak_rss_mib),
        summary.as_ref().map(|summary| summary.device.clone()),
        summary.as_ref().map(|summary| summary.split.name()),
        summary.as_ref().map(|summary| summary.budget_tokens as i64),
        eval.map(|eval| eval.n_windows as i64),
        eval.map(|eval| eval.n_documents as i64),
        eval.map(|eval| eval.context_value),
        eval.map(|eval| eval.context_value_ci95[0]),
        eval.map(|eval| eval.context_value_ci95[1]),
        program,
        problem,
    ];
    index
        .prepare_cached(
            "INSERT INTO runs (path, stamp, experiment, name, seed, state, step, updated, message, seconds, peak_rss_mib,
             device, split, budget_tokens, windows, documents, context_value, context_value_low, context_value_high, program,
             problem) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
        )?
        .execute(row)?;
    let id = index.last_insert_rowid();
    let mut setting = index.prepare_cached("INSERT INTO settings (run, key, value) VALUES (?1, ?2, ?3)")?;
    for (key, value) in &settings {
        setting.execute(params![id, key, value])?;
    }
    let Some(summary) = summary else { return Ok(()) };
    for (name, entry) in &summary.eval.compressors {
        insert_figures(index, id, name, entry, summary.role(entry))?;
    }
    let mut others =
        summary.eval.readers.values().flatten().filter(|(name, entry)| {
            summary.eval.compressors.get(*name).is_none_or(|shared| shared.reader != entry.reader)
        });
    others.try_for_each(|(name, entry)| insert_figures(index, id, name, entry, summary.role(entry)))
}

fn insert_figures(index: &Transaction, run: i64, name: &str, entry: &Entry, role: Role) -> rusqlite::Result<()> {
    let role = match role {
        Role::Contestant => "contestant",
        Role::Search => "search",
        Role::Hindsight => "hindsight",
        Role::Reference => "reference",
        Role::LeakControl => "leak control",
    };
    let [kl_low, kl_high] = entry.kl_ci95;
    let [low, high] = entry.gap_closed_ci95;
    let windows = entry.n_windows as i64;
    index
        .prepare_cached("INSERT INTO figures VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")?
        .execute(params![
            run,
            entry.reader,
            name,
            role,
            entry.keep_ratio,
            entry.kl,
            kl_low,
            kl_high,
            entry.nll,
            entry.gap_closed,
            low,
            high,
            entry.top1_agreement,
            windows
        ])
        .map(drop)
}
