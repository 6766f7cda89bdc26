//! One process at a time in a folder. The lock is the operating system's, on the file `run.lock`: it ends with the process,
//! however that ends. The file says who holds it and goes when the lock is given back.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the file in the folder.
pub(super) const LOCK: &str = "run.lock";

/// A folder that no other process may work in until this is dropped.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// Locked file; none where the file system has no locks.
    file: Option<File>,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    since: String,
    command: String,
}

impl Holder {
    fn this_process() -> Holder {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        Holder {
            pid: std::process::id(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            since: httpdate::fmt_http_date(SystemTime::now()),
            command: words.collect::<Vec<_>>().join(" "),
        }
    }
}

impl FolderLock {
    /// Takes the lock of `folder`, which is made if need be; an error that names the holder when another process has it.
    pub fn take(folder: &Path) -> Result<FolderLock> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let path = folder.join(LOCK);
        let io = |e| Error::io(&path, e);
        loop {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(in_progress(folder)),
                Err(TryLockError::Error(e)) if has_no_locks(&e) => {
                    eprintln!("warning: {}: {e}: nothing keeps a second process out of this folder", path.display());
                    return Ok(FolderLock { path, file: None });
                }
                Err(TryLockError::Error(e)) => return Err(io(e)),
            }
            // Whoever held it before may have removed the file between the two calls.
            if !is_at(&file, &path) {
                continue;
            }
            let mut text = serde_json::to_string(&Holder::this_process()).map_err(|e| io(e.into()))?;
            text.push('\n');
            let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(io);
            let lock = FolderLock { path: path.clone(), file: Some(file) };
            return written.map(|()| lock);
        }
    }

    /// Fails where [`FolderLock::take`] would find another process; writes nothing.
    pub fn check(folder: &Path) -> Result<()> {
        let Ok(file) = File::open(folder.join(LOCK)) else { return Ok(()) };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(in_progress(folder)),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Removed while the lock is held: nobody else's file goes.
        if self.file.as_ref().is_some_and(|file| is_at(file, &self.path)) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether `path` still names this open file.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), path.metadata()) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

fn has_no_locks(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported || [libc::ENOLCK, libc::ENOSYS].map(Some).contains(&error.raw_os_error())
}

/// The error about a folder whose lock another process has.
fn in_progress(folder: &Path) -> Error {
    let mut text = String::new();
    let read = File::open(folder.join(LOCK)).and_then(|mut file| file.read_to_string(&mut text));
    let holder = read.ok().and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    let by = holder.map_or("another process".into(), |Holder { pid, host, since, command }| {
        format!("process {pid} on {host}, since {since} (`{command}`)")
    });
    Error::file(folder, format!("expected a folder that no process works in, got one in progress: {by} holds {LOCK}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("new/run");
        let lock = FolderLock::take(&run).unwrap();
        let holder: Holder = serde_json::from_str(&std::fs::read_to_string(run.join(LOCK)).unwrap()).unwrap();
        assert!(holder.since.ends_with("GMT") && !holder.host.is_empty());
        for error in [FolderLock::take(&run).map(drop).unwrap_err(), FolderLock::check(&run).unwrap_err()] {
            let expected = format!("in progress: process {} on {}", std::process::id(), holder.host);
            assert!(error.to_string().contains(&expected), "{error}");
        }
        drop(lock);
        assert_eq!(std::fs::read_dir(&run).unwrap().count(), 0);
        assert!(FolderLock::check(&run).is_ok() && FolderLock::check(&folder.path().join("absent")).is_ok());
        assert!(!folder.path().join("absent").exists());
    }

    #[test]
    fn a_file_that_nobody_holds_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join(LOCK),
            "left by a killed process, and longer than what is written over it".repeat(9),
        )
        .unwrap();
        assert!(FolderLock::check(folder.path()).is_ok());
        let _lock = FolderLock::take(folder.path()).unwrap();
        let text = std::fs::read_to_string(folder.path().join(LOCK)).unwrap();
        assert_eq!(serde_json::from_str::<Holder>(&text).unwrap().pid, std::process::id());
    }

    #[test]
    fn of_many_that_ask_at_once_one_holds_it_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let taken = std::sync::atomic::AtomicUsize::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        let Ok(_lock) = FolderLock::take(folder.path()) else { continue };
                        assert_eq!(inside.fetch_add(1, order), 0);
                        taken.fetch_add(1, order);
                        std::thread::yield_now();
                        inside.fetch_sub(1, order);
                    }
                });
            }
        });
        assert!(taken.load(order) > 0);
    }
}
