//! Merging: the files of all shards, each checked against its record, become those of the whole job. Nothing is written unless
//! every shard is there, whole, and of the same job; what all share is written last.

use crate::error::{Error, Result};
use crate::hash::FileHash;
use crate::run_dir::{FolderLock, read_json, settle, subfolders, write_atomic};
use crate::shard::record::{RECORD, ShardRecord};
use crate::shard::{SHARDS, Shard};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::read;
use std::path::{Path, PathBuf};

/// The finished shards of a job, all of them there, whole, and of one job. The job's folder is locked while this is held.
#[derive(Debug)]
pub struct Verified {
    /// Command that made the shards.
    pub job: String,
    /// Words of the command line of shard 1, the program left out.
    pub argv: Vec<String>,
    /// Count of shards.
    pub shards: usize,
    /// Rows of the job.
    pub rows: usize,
    /// Name and place of every row's file, by name.
    pub files: Vec<(String, PathBuf)>,
    /// Name and place of every file that all shards have alike.
    pub common: Vec<(String, PathBuf)>,
    /// Differences between the programs of shards, in words, that were accepted.
    pub accepted: Vec<String>,
    folder: PathBuf,
    _lock: FolderLock,
}

impl Verified {
    /// Copies the files of all shards into the job's folder, the common ones last.
    ///
    /// # Errors
    /// The folder already has a file of such a name with other bytes.
    pub fn copy(&self) -> Result<()> {
        let files = || self.files.iter().chain(&self.common);
        for (name, path) in files() {
            let target = self.folder.join(name);
            if target.exists() && FileHash::of(&target)? != FileHash::of(path)? {
                let message = "expected no file or the one of the shards, got another; not replaced";
                return Err(Error::file(target, message));
            }
        }
        for (name, path) in files() {
            write_atomic(&self.folder.join(name), &read(path).map_err(|e| Error::io(path, e))?)?;
        }
        Ok(())
    }
}

/// Checks the shards of the job whose folder is `folder`; shards of different programs pass only where the user accepts it.
/// Nothing is written.
///
/// # Errors
/// A shard is missing, not finished, in progress, torn, or of another job. The message names the shards and the command that
/// makes them again.
pub fn verify(folder: &Path, accept_changes: bool) -> Result<Verified> {
    let count = count(folder)?;
    let shards: Vec<Shard> = (1..=count).filter_map(|index| Shard::new(index, count)).collect();
    let lock = FolderLock::take(folder)?;
    let mut records: Vec<(Shard, PathBuf, ShardRecord)> = Vec::new();
    let mut missing = Vec::new();
    for &shard in &shards {
        let place = shard.folder(folder);
        FolderLock::check(&place)?;
        match ShardRecord::read(&place, shard)? {
            Some(record) => records.push((shard, place, record)),
            None => missing.push(shard),
        }
    }
    let Some((_, _, first)) = records.first() else {
        return Err(Error::file(folder.join(SHARDS), format!("expected {count} finished shards, got none")));
    };
    let again = |shards: &[Shard]| shards.iter().map(|&shard| first.command(shard)).collect::<Vec<_>>().join("; ");
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(Shard::to_string).collect();
        let message = format!(
            "expected {count} finished shards, got {} (not {}); they are made by: {}",
            records.len(),
            names.join(", "),
            again(&missing)
        );
        return Err(Error::file(folder.join(SHARDS), message));
    }
    for (shard, place, record) in &records {
        if let Some(torn) = record.torn(place) {
            let message = format!(
                "expected the file that shard {shard} recorded, got another or none; remove {} and make it again: {}",
                place.display(),
                again(&[*shard])
            );
            return Err(Error::file(torn, message));
        }
    }
    let accepted = check_alike(&records, accept_changes)?;
    let files = gather(&records, first)?;
    let common = first.common.keys().map(|name| (name.clone(), records[0].1.join(name))).collect();
    Ok(Verified {
        job: first.job.clone(),
        argv: first.argv.clone(),
        shards: count,
        rows: first.rows,
        files,
        common,
        accepted,
        folder: folder.to_path_buf(),
        _lock: lock,
    })
}

/// The count of shards that the names of their folders agree on.
fn count(folder: &Path) -> Result<usize> {
    let place = folder.join(SHARDS);
    let mut counts = BTreeSet::new();
    for path in subfolders(&place) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match Shard::named(&name) {
            Some(shard) if path == shard.folder(folder) => _ = counts.insert(shard.count()),
            _ => return Err(Error::file(&path, "expected folders of shards such as 0003-of-0064 only, got another")),
        }
    }
    match counts.iter().collect::<Vec<_>>().as_slice() {
        [count] => Ok(**count),
        [] => {
            Err(Error::file(folder, format!("expected a folder with {SHARDS}/ in it, as --shard makes it, got none")))
        }
        several => {
            Err(Error::file(place, format!("expected shards of one count, got {several:?}; remove those of the other")))
        }
    }
}

/// Fails unless all shards are of one job; returns the differences between their programs that were accepted.
fn check_alike(records: &[(Shard, PathBuf, ShardRecord)], accept_changes: bool) -> Result<Vec<String>> {
    let (_, first_place, first) = &records[0];
    let mut programs = Vec::new();
    for (shard, place, record) in &records[1..] {
        let path = place.join(RECORD);
        if (&record.job, record.rows) != (&first.job, first.rows) {
            let message = format!(
                "expected a shard of `{}` over {} rows, as shard 1 is, got one of `{}` over {}",
                first.job, first.rows, record.job, record.rows
            );
            return Err(Error::file(path, message));
        }
        for name in first.common.keys().chain(record.common.keys()) {
            if first.common.get(name) != record.common.get(name) {
                let keys = differing(&first_place.join(name), &place.join(name));
                let message = format!("expected the same as in shard 1, got another job's{keys}");
                return Err(Error::file(place.join(name), message));
            }
        }
        let words = [&*format!("of shard {shard}"), "of shard 1"];
        programs.extend(record.program.difference(&first.program, words));
    }
    settle(programs, accept_changes, "not merged, the shards were made by different programs")
}

/// The keys in which two JSON objects differ, in words; nothing where they are none.
fn differing(a: &Path, b: &Path) -> String {
    let (Ok(Value::Object(a)), Ok(Value::Object(b))) = (read_json(a), read_json(b)) else { return String::new() };
    let mut keys = BTreeSet::new();
    let mut pairs = vec![(String::new(), Value::Object(a), Value::Object(b))];
    while let Some((at, a, b)) = pairs.pop() {
        let names: BTreeSet<String> =
            [&a, &b].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys()).cloned().collect();
        if names.is_empty() || !a.is_object() || !b.is_object() {
            keys.insert(at);
            continue;
        }
        let below = names.into_iter().filter(|name| a.get(name) != b.get(name)).map(|name| {
            let value = |of: &Value| of.get(&name).cloned().unwrap_or_default();
            (if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, value(&a), value(&b))
        });
        pairs.extend(below.collect::<Vec<_>>());
    }
    format!("; they differ in {}", keys.into_iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
}

/// Names of all rows' files with the place of each.
fn gather(records: &[(Shard, PathBuf, ShardRecord)], first: &ShardRecord) -> Result<Vec<(String, PathBuf)>> {
    let mut own: BTreeMap<&String, PathBuf> = BTreeMap::new();
    for (shard, place, record) in records {
        for name in record.files.keys() {
            if own.insert(name, place.join(name)).is_some() || first.common.contains_key(name) {
                let message = format!("expected every file in one shard, got `{name}` in shard {shard} and another");
                return Err(Error::file(place.join(RECORD), message));
            }
        }
    }
    Ok(own.into_iter().map(|(name, path)| (name.clone(), path)).collect())
}
