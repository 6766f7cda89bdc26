//! A comparison in shards: each teaches the readers of some entrants and measures those; together they give the comparison that
//! was never cut. The readers that several need are taught by who comes first. Speeds are those of the machine that measured.
//!
//! ```text
//! <output>/shards/0001-of-0004/entrant_000.json   the rows of an entrant, by budget
//! <output>/shards/0001-of-0004/ground.json        what all rows stand on; the same in all shards
//! ```

use crate::error::{Error, Result};
use crate::eval::schema::comparison::Budget;
use crate::eval::shards::GROUND;
use crate::run_dir::{FolderLock, read_json, write_json_atomic};
use crate::runs::terms::Terms;
use crate::shard::Shard;
use crate::shard::merge::Verified;
use crate::shard::record::ShardRecord;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Time between two looks at a reader that another shard teaches.
const LOOK: Duration = Duration::from_millis(500);

/// Entrants that one process measures.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// All of them.
    Whole,
    /// Those of a shard, whose files go into a folder.
    Shard(Shard, &'a Path),
    /// None: shards have measured them.
    Joined(&'a Verified),
}

/// Facts on which all rows of a comparison stand.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparisonGround {
    /// Budgets, ascending.
    pub budgets: Vec<Budget>,
    /// Held-out windows.
    pub windows: usize,
    /// Updates of every reader.
    pub updates: usize,
    /// Whether there is a shared reader, and whether there are adapted ones.
    pub readers: [bool; 2],
    /// Hashes and settings.
    pub terms: Terms,
    /// Every compressor with its weights.
    pub entrants: Vec<(String, String)>,
    /// KL of the reader adapted to nothing, by window.
    pub context: Vec<f64>,
}

/// The rows of one entrant.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntrantRows {
    /// A row a budget.
    pub rows: Vec<Value>,
    /// Differences that were accepted, in words.
    pub accepted: Vec<String>,
}

/// Writes the files of a shard that measured the entrants `own` of `count`, and its record.
pub(super) fn save(
    folder: &Path,
    shard: Shard,
    count: usize,
    ground: &ComparisonGround,
    own: Range<usize>,
    rows: impl Fn(usize) -> Result<EntrantRows>,
) -> Result<()> {
    write_json_atomic(&folder.join(GROUND), ground)?;
    let mut files = Vec::new();
    for entrant in own {
        let file = format!("entrant_{entrant:03}.json");
        write_json_atomic(&folder.join(&file), &rows(entrant)?)?;
        files.push(file);
    }
    ShardRecord::write(folder, "compare", shard, count, &files, &[GROUND.to_string()])
}

/// The level of each window and the rows of all entrants, as shards measured them; an error unless all but the level is as in
/// `expected`.
pub(super) fn read(verified: &Verified, expected: &ComparisonGround) -> Result<(Vec<f64>, Vec<EntrantRows>)> {
    let [(_, path)] = verified.common.as_slice() else {
        return Err(Error::invalid("expected ground.json in every shard of a comparison, got another set of files"));
    };
    let found: ComparisonGround = read_json(path)?;
    let context = found.context.clone();
    if (ComparisonGround { context: Vec::new(), ..found }) != *expected {
        let message =
            "expected the runs, files and settings that the shards measured, got others: they have changed since";
        return Err(Error::file(path, message));
    }
    let rows = verified.files.iter().map(|(_, path)| read_json(path)).collect::<Result<_>>()?;
    Ok((context, rows))
}

/// Takes the lock of a reader's folder, waiting for another shard that has it.
pub(super) fn wait_for(folder: &Path, stop: &AtomicBool) -> Result<FolderLock> {
    loop {
        match FolderLock::take(folder) {
            Err(Error::InProgress { .. }) if !stop.load(Ordering::SeqCst) => std::thread::sleep(LOOK),
            Err(Error::InProgress { .. }) => return Err(Error::Interrupted { step: 0 }),
            other => return other,
        }
    }
}
