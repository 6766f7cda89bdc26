//! The program as it was built: commit and sources, recorded by the build script. A checkout that moves on afterwards changes
//! nothing about a binary that is there.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Digits of a commit or digest in a message.
const SHOWN: usize = 12;

/// Sources from which a program was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The commit that was checked out; `None` where the sources were in no git checkout of their own.
    commit: Option<String>,
    /// Whether the sources differed from that commit.
    dirty: Option<bool>,
    /// A digest of the sources, 16 hexadecimal digits; `None` in records that older versions wrote.
    #[serde(default)]
    source: Option<String>,
}

impl Build {
    /// Build of this program.
    pub fn own() -> Self {
        let known = |text: &str| (text != "unknown").then(|| text.to_string());
        Self {
            commit: known(env!("GIST_COMMIT")),
            dirty: known(env!("GIST_DIRTY")).map(|text| text == "true"),
            source: known(env!("GIST_SOURCE")),
        }
    }

    /// Whether both were built from the same commit. Where there is none, or changes stood on top of it, the sources decide.
    pub fn is_same(&self, other: &Build) -> bool {
        let clean = self.commit.is_some() && self.dirty == Some(false);
        self.commit == other.commit
            && self.dirty == other.dirty
            && (clean || self.source.is_none() || other.source.is_none() || self.source == other.source)
    }

    /// Sentence that names both builds, `words` saying which is which; none if they are the same.
    pub fn difference(&self, other: &Build, words: [&str; 2]) -> Option<String> {
        if self.is_same(other) {
            return None;
        }
        let alike = self.source.is_some() && self.source == other.source;
        let note = if alike { " (their sources are the same)" } else { "" };
        Some(format!("the program: {self} {}, {other} {}{note}", words[0], words[1]))
    }
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let short = |text: &str| text.get(..SHOWN).unwrap_or(text).to_string();
        let source = self.source.as_deref().map_or("unknown".into(), short);
        match (&self.commit, self.dirty) {
            (Some(commit), Some(false)) => write!(f, "commit {}", short(commit)),
            (Some(commit), _) => write!(f, "commit {} with changes (sources {source})", short(commit)),
            (None, _) => write!(f, "no commit (sources {source})"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn build(commit: Option<&str>, dirty: Option<bool>, source: &str) -> Build {
        Build { commit: commit.map(String::from), dirty, source: Some(source.into()) }
    }

    #[test]
    fn a_clean_commit_is_the_same_program_and_changes_are_told_by_the_sources() {
        let clean = build(Some("aaaa"), Some(false), "1");
        assert!(clean.is_same(&clean));
        assert!(clean.is_same(&Build { source: None, ..clean.clone() }), "an older record");
        assert!(!clean.is_same(&build(Some("bbbb"), Some(false), "2")));
        assert!(!clean.is_same(&build(Some("aaaa"), Some(true), "2")));
        let changed = build(Some("aaaa"), Some(true), "2");
        assert!(changed.is_same(&changed) && !changed.is_same(&build(Some("aaaa"), Some(true), "3")));
        let bare = build(None, None, "4");
        assert!(bare.is_same(&bare) && !bare.is_same(&build(None, None, "5")) && !bare.is_same(&clean));
    }

    #[test]
    fn both_are_named() {
        let (a, b) = (build(Some("aaaa"), Some(false), "1"), build(Some("bbbb"), Some(true), "2"));
        assert_eq!(
            a.difference(&b, ["then", "now"]).unwrap(),
            "the program: commit aaaa then, commit bbbb with changes (sources 2) now"
        );
        let c = build(Some("cccc"), Some(false), "1");
        assert!(a.difference(&c, ["then", "now"]).unwrap().ends_with("now (their sources are the same)"));
        assert_eq!(a.difference(&a, ["then", "now"]), None);
        assert_eq!(build(None, None, "4").to_string(), "no commit (sources 4)");
    }

    /// Against what git says where the tests were built.
    #[test]
    fn this_program_knows_its_commit() {
        let own = Build::own();
        assert_eq!(own.source.as_ref().map(String::len), Some(16));
        assert_eq!(own.commit.is_some(), own.dirty.is_some());
        assert!(own.commit.as_ref().is_none_or(|commit| commit.len() == 40));
    }
}
