//! Shards: equal parts of a job that separate processes do, on one machine or on many, and the merging of what they leave.
//!
//! ```text
//! DIR/shards/0003-of-0064/      what one shard leaves: the same files as the whole job would, as far as they are its own
//! DIR/shards/0003-of-0064/shard.json   its record, written last: a shard without one is not finished
//! DIR/                          after `gist merge DIR`: the bytes of the job that was never cut
//! ```

pub mod merge;
pub mod record;

use crate::error::{Error, Result};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of the folder of shards in a job's folder.
pub const SHARDS: &str = "shards";

/// One part of a job: number `index` of `count`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// The whole job.
    pub const WHOLE: Shard = Shard { index: 1, count: 1 };

    /// Shard `index` of `count`; none unless 1 ≤ `index` ≤ `count`.
    pub fn new(index: usize, count: usize) -> Option<Shard> {
        (1..=count).contains(&index).then_some(Shard { index, count })
    }

    /// Number of the shard, from 1.
    pub fn index(self) -> usize {
        self.index
    }

    /// Count of all shards.
    pub fn count(self) -> usize {
        self.count
    }

    /// The rows of `rows` that are this shard's: a stretch, no two stretches differing by more than one row.
    pub fn range(self, rows: usize) -> Range<usize> {
        let at = |index: usize| rows * index / self.count;
        at(self.index - 1)..at(self.index)
    }

    /// Fails where some shard would have nothing to do; `row` is what a shard has at least one of.
    pub fn check(self, rows: usize, row: &str) -> Result<()> {
        match self.count <= rows.max(1) {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "--shard: expected at most {rows} shards, as many as there are {row}, got {self}"
            ))),
        }
    }

    /// The folder of the shard in that of the job.
    pub fn folder(self, job: &Path) -> PathBuf {
        job.join(SHARDS).join(format!("{:04}-of-{:04}", self.index, self.count))
    }

    /// The shard that a folder's name says; none for other names.
    pub fn named(name: &str) -> Option<Shard> {
        let (index, count) = name.split_once("-of-")?;
        Shard::new(index.parse().ok()?, count.parse().ok()?)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let parts = text.split_once('/').and_then(|(index, count)| Shard::new(number(index)?, number(count)?));
        parts.ok_or_else(|| format!("expected i/n with 1 ≤ i ≤ n, such as 3/64, got {text:?}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_row_belongs_to_one_shard() {
        for rows in 0..40 {
            for count in 1..=12 {
                let ranges: Vec<_> = (1..=count).map(|i| Shard::new(i, count).unwrap().range(rows)).collect();
                let all: Vec<usize> = ranges.iter().cloned().flatten().collect();
                assert_eq!(all, (0..rows).collect::<Vec<_>>());
                let sizes: Vec<usize> = ranges.iter().map(|range| range.len()).collect();
                assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            }
        }
        assert_eq!(Shard::WHOLE.range(7), 0..7);
    }

    #[test]
    fn bad_shards_are_refused() {
        assert_eq!("3/64".parse::<Shard>().unwrap(), Shard { index: 3, count: 64 });
        for bad in ["5/4", "0/4", "0/0", "1/0", "1", "", "a/b", "-1/4", "+1/4", "1/4/2", " 1/4"] {
            let said = bad.parse::<Shard>().unwrap_err();
            assert!(said.contains("expected i/n with 1 ≤ i ≤ n") && said.contains(bad), "{said}");
        }
        let shard = Shard::new(3, 64).unwrap();
        assert_eq!(Shard::named(shard.folder(Path::new("a")).file_name().unwrap().to_str().unwrap()), Some(shard));
        assert_eq!(Shard::named("9-of-8"), None);
        let said = shard.check(5, "blocks of 48 windows").unwrap_err().to_string();
        assert_eq!(said, "--shard: expected at most 5 shards, as many as there are blocks of 48 windows, got 3/64");
        assert!(shard.check(64, "rows").is_ok() && Shard::WHOLE.check(0, "rows").is_ok());
    }
}
