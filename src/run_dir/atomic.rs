//! Files that are either whole or absent: written beside their target, synced, then renamed over it.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::text_file::read_text;

/// Writes `bytes` to `path`, making its folder if need be. On any error what was at `path` before is still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_by(path, |file| file.write_all(bytes))
}

/// The same of what `fill` writes, for what should not be in memory at once.
pub fn write_atomic_by(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let folder = parent(path);
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut temporary = tempfile::Builder::new()
            .prefix(".")
            .suffix(TEMPORARY_SUFFIX)
            .permissions(Permissions::from_mode(0o666)) // less the umask, like any other file
            .tempfile_in(folder)?;
        fill(temporary.as_file_mut())?;
        temporary.as_file().sync_all()?;
        temporary.persist(path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| Error::io(path, source))
}

/// [`write_atomic`] of `value` as indented JSON.
pub fn write_json_atomic<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| Error::file(path, e.to_string()))?;
    text.push('\n');
    write_atomic(path, text.as_bytes())
}

/// The JSON file at `path`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read_text(path)?).map_err(|e| Error::file(path, e.to_string()))
}

/// What a killed process may leave behind ends in this, and starts with a dot.
pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";

/// The folder that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_whole_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/a.json");
        write_json_atomic(&path, &[1, 2, 3]).unwrap();
        write_json_atomic(&path, &[4]).unwrap();
        assert_eq!(read_json::<Vec<i32>>(&path).unwrap(), [4]);
        assert_eq!(names(&folder.path().join("new")), ["a.json"]);
        let beside = folder.path().join("plain");
        std::fs::write(&beside, "").unwrap();
        let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&beside));
    }

    #[test]
    fn a_failed_write_leaves_the_target_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("inside"), "old").unwrap();
        let error = write_atomic(&target, b"new").unwrap_err().to_string(); // a folder cannot be renamed over
        assert!(error.contains("target"), "{error}");
        assert_eq!(std::fs::read_to_string(target.join("inside")).unwrap(), "old");
        assert_eq!(names(folder.path()), ["target"]);

        let through_a_file = target.join("inside").join("x.json");
        assert!(write_atomic(&through_a_file, b"new").is_err());
        assert_eq!(std::fs::read_to_string(target.join("inside")).unwrap(), "old");
    }

    #[test]
    fn bad_json_names_file_and_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.json");
        std::fs::write(&path, "{\"a\": 1,\n").unwrap();
        let error = read_json::<serde_json::Value>(&path).unwrap_err().to_string();
        assert!(error.contains("cut.json") && error.contains("line 2"), "{error}");
        assert!(read_json::<u8>(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
