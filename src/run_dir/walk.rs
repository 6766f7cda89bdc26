//! Run directories under a folder: of an experiment, of a sweep, or of all that a machine has run.

use super::RunDir;
use crate::error::{Error, Result};
use std::path::Path;

/// Every run directory at or under `root`, sorted by path; hidden folders and what lies inside a run are passed over.
///
/// # Errors
/// `root` is no folder, or a folder under it cannot be read.
pub fn runs_under(root: &Path) -> Result<Vec<RunDir>> {
    if !root.is_dir() {
        return Err(Error::file(root, "expected a run directory or a folder that holds some, got no folder"));
    }
    let (mut found, mut folders) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        if let Ok(run) = RunDir::at(&folder) {
            found.push(run);
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            // A link that leads back up would never end.
            if !is_hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found.sort_by(|a, b| a.root().cmp(b.root()));
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_at_any_depth_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        for run in ["b/seed=0", "a/x/seed=1", "a/x/seed=0", ".hidden/seed=0", "b/seed=0/labels"] {
            std::fs::create_dir_all(folder.path().join(run)).unwrap();
            std::fs::write(folder.path().join(run).join("config.toml"), "").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).unwrap();
        let found = runs_under(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|run| run.root().strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, ["a/x/seed=0", "a/x/seed=1", "b/seed=0"].map(Path::new));
        assert_eq!(runs_under(found[0].root()).unwrap().len(), 1);
        assert!(runs_under(&folder.path().join("absent")).unwrap_err().to_string().contains("absent: expected a run"));
    }
}
