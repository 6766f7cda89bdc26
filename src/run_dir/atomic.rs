//! Files that are either whole or absent: written beside their target, synced, then renamed over it. A link stays a link:
//! what it points to is replaced. A pipe or a device is written to as it is, and so is `/dev/stdout`.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::text_file::read_text;

/// Writes `bytes` to `path`, making its folder if need be. On any error what was at `path` before is still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_by(path, |file| file.write_all(bytes))
}

/// [`write_atomic`] of what `fill` writes, for what should not be in memory at once.
pub fn write_atomic_by(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let write = || match target(path)? {
        Target::Stream(mut file) => fill(&mut file),
        Target::File(path) => replace(&path, fill),
    };
    write().map_err(|source| Error::io(path, source))
}

fn replace(path: &Path, fill: impl FnOnce(&mut File) -> std::io::Result<()>) -> std::io::Result<()> {
    let folder = parent(path);
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
}

/// Where a result goes.
enum Target {
    /// The file to replace or to make, no link.
    File(PathBuf),
    /// A pipe, a device, or what is open already.
    Stream(File),
}

fn target(path: &Path) -> std::io::Result<Target> {
    let place = followed(path)?;
    let kind = match std::fs::metadata(path) {
        Ok(found) => Some(found.file_type()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    match kind {
        // What is redirected to a file must not be cut off from it, nor written over.
        Some(kind) if !kind.is_dir() && is_descriptor(&place) => open_descriptor(&place).map(Target::Stream),
        Some(kind) if !kind.is_dir() && !kind.is_file() => {
            OpenOptions::new().write(true).open(path).map(Target::Stream)
        }
        _ => Ok(Target::File(place)),
    }
}

/// Links from one path to another that are followed, as the kernel does.
const MOST_LINKS: usize = 40;

/// The path that `path` points to, link by link; what is there need not exist. Stops at an open file of a process.
fn followed(path: &Path) -> std::io::Result<PathBuf> {
    let mut place = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        if !place.is_symlink() || is_descriptor(&place) {
            return Ok(place);
        }
        place = parent(&place).join(std::fs::read_link(&place)?);
    }
    Err(std::io::Error::from_raw_os_error(libc::ELOOP))
}

/// Whether the path is `/proc/<process>/fd/<number>`, in whatever words.
fn is_descriptor(path: &Path) -> bool {
    let folder = std::fs::canonicalize(parent(path)).unwrap_or_default();
    folder.starts_with("/proc") && folder.ends_with("fd")
}

/// What this process has open under that number, with the place in it; another is opened to be written on at its end.
fn open_descriptor(path: &Path) -> std::io::Result<File> {
    let is_own = std::fs::canonicalize(parent(path)).ok() == std::fs::canonicalize("/proc/self/fd").ok();
    match path.file_name().and_then(|name| name.to_str()) {
        Some("1") if is_own => {
            std::io::stdout().flush()?;
            Ok(std::io::stdout().as_fd().try_clone_to_owned()?.into())
        }
        Some("2") if is_own => Ok(std::io::stderr().as_fd().try_clone_to_owned()?.into()),
        _ => OpenOptions::new().append(true).open(path),
    }
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
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        std::fs::create_dir_all(at("there")).unwrap();
        std::fs::write(at("there/file"), "old").unwrap();
        link("there/file", "near");
        link("near", "far");
        link("there/new/made", "dangling");
        link("there", "folder");
        for name in ["near", "far"] {
            write_atomic(&at(name), name.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(at("there/file")).unwrap(), name);
        }
        write_atomic(&at("dangling"), b"made").unwrap();
        assert_eq!(std::fs::read_to_string(at("there/new/made")).unwrap(), "made");
        write_atomic(&at("folder/beside"), b"beside").unwrap();
        assert!(["near", "far", "dangling", "folder"].iter().all(|name| at(name).is_symlink()));
        assert_eq!(names(&at("there")), ["beside", "file", "new"]);
        link("loop", "loop");
        assert!(write_atomic(&at("loop"), b"").unwrap_err().to_string().contains("loop: "));
        assert!(at("loop").is_symlink());
        // The old file behind a link is still there when the new one cannot be written.
        write_atomic_by(&at("far"), |_| Err(std::io::Error::other("full"))).unwrap_err();
        assert_eq!((std::fs::read_to_string(at("far")).unwrap().as_str(), names(&at("there")).len()), ("far", 3));
    }

    #[test]
    fn a_pipe_and_a_device_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        write_json_atomic(&pipe, &[1, 2]).unwrap();
        assert_eq!(reader.join().unwrap(), "[\n  1,\n  2\n]\n");
        assert_eq!(names(folder.path()), ["pipe"]);
        assert!(!std::fs::metadata(&pipe).unwrap().is_file());
        write_atomic(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        let full = write_atomic(Path::new("/dev/full"), b"more").unwrap_err().to_string();
        assert!(full.contains("/dev/full: ") && full.contains("No space"), "{full}");
    }

    #[test]
    fn what_is_open_is_written_on_at_its_end() {
        use std::os::fd::AsRawFd;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before ").unwrap();
        let number = file.as_file().as_raw_fd();
        for path in [format!("/dev/fd/{number}"), format!("/proc/{}/fd/{number}", std::process::id())] {
            write_atomic(Path::new(&path), b"more ").unwrap();
        }
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "before more more ");
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
