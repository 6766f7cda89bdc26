//! One process at a time in a folder. The lock is the operating system's, on the file `run.lock`: it ends with the process,
//! however that ends. The file says who holds it and goes when the lock is given back.
//!
//! Not every shared file system carries locks from one machine to another. So the holder also changes the file's time every
//! half minute, its heartbeat: a file that another machine left is honoured until it is ten minutes old, unless a scheduler
//! started the same job again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the file in the folder.
pub(super) const LOCK: &str = "run.lock";
/// Time between two heartbeats.
const BEAT: Duration = Duration::from_secs(30);
/// Age of a heartbeat from which its process is taken for dead.
const STALE: Duration = Duration::from_secs(600);
/// Wait between two tries of a lock that another process has, and how often it is tried again.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES: usize = 5;

/// A folder that no other process may work in until this is dropped.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    file: File,
    heart: Option<(Sender<()>, JoinHandle<()>)>,
}

/// The process that works in a folder, as its `run.lock` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of its machine.
    pub host: String,
    /// Job of a scheduler that it belongs to, such as `slurm 17_3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Date and time at which it took the folder.
    pub since: String,
    /// Its command line.
    pub command: String,
}

impl Holder {
    fn this_process() -> Holder {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        Holder {
            pid: std::process::id(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            job: job(|name| std::env::var(name).ok()),
            since: httpdate::fmt_http_date(SystemTime::now()),
            command: words.collect::<Vec<_>>().join(" "),
        }
    }

    /// The holder that the file in `folder` names, and the age of its heartbeat; none where there is no such file, or a torn
    /// one. The process may be dead.
    pub fn of(folder: &Path) -> Option<(Holder, Duration)> {
        Holder::read(&mut File::open(folder.join(LOCK)).ok()?)
    }

    fn read(file: &mut File) -> Option<(Holder, Duration)> {
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let age = SystemTime::now().duration_since(file.metadata().ok()?.modified().ok()?).unwrap_or_default();
        Some((serde_json::from_str(&text).ok()?, age))
    }

    /// Whether a holder whose file nobody has locked keeps `other` out all the same: it may live where locks do not reach.
    fn bars(&self, age: Duration, other: &Holder) -> bool {
        let is_again = self.job.is_some() && self.job == other.job;
        self.host != other.host && age < STALE && !is_again
    }
}

/// The job of Slurm that the environment names; of an array its task too.
fn job(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let task = variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID"));
    let name = task.map(|(job, task)| format!("{job}_{task}")).or_else(|| variable("SLURM_JOB_ID"));
    name.map(|name| format!("slurm {name}"))
}

impl FolderLock {
    /// Takes the lock of `folder`, which is made if need be; an error that names the holder when another process has it.
    pub fn take(folder: &Path) -> Result<FolderLock> {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let path = folder.join(LOCK);
        let io = |e| Error::io(&path, e);
        let mut pauses = PAUSES;
        loop {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
            match file.try_lock() {
                Ok(()) => {}
                // A look by `check` lasts for less than a pause.
                Err(TryLockError::WouldBlock) if pauses > 0 => {
                    pauses -= 1;
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Err(in_progress(folder)),
                Err(TryLockError::Error(e)) if has_no_locks(&e) => {
                    eprintln!("warning: {}: {e}: only its heartbeat keeps other machines out", path.display());
                }
                Err(TryLockError::Error(e)) => return Err(io(e)),
            }
            // Whoever held it before may have removed the file between the two calls.
            if !is_at(&file, &path) {
                continue;
            }
            let own = Holder::this_process();
            if Holder::read(&mut file).is_some_and(|(before, age)| before.bars(age, &own)) {
                return Err(in_progress(folder));
            }
            let mut text = serde_json::to_string(&own).map_err(|e| io(e.into()))?;
            text.push('\n');
            file.rewind().and_then(|()| file.set_len(0)).and_then(|()| file.write_all(text.as_bytes())).map_err(io)?;
            let heart = Some(beat(file.try_clone().map_err(io)?));
            return Ok(FolderLock { path, file, heart });
        }
    }

    /// Fails where [`FolderLock::take`] would find another process; writes nothing.
    pub fn check(folder: &Path) -> Result<()> {
        let Ok(mut file) = File::open(folder.join(LOCK)) else { return Ok(()) };
        let is_locked = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        let bars = |(holder, age): (Holder, Duration)| holder.bars(age, &Holder::this_process());
        match is_locked || Holder::read(&mut file).is_some_and(bars) {
            true => Err(in_progress(folder)),
            false => Ok(()),
        }
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.heart.take() {
            drop(stop);
            let _ = thread.join();
        }
        // Removed while the lock is held: nobody else's file goes.
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Changes the file's time now and then, until the sender is dropped.
fn beat(file: File) -> (Sender<()>, JoinHandle<()>) {
    let (stop, stopped): (Sender<()>, Receiver<()>) = channel();
    let thread = std::thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(BEAT) {
            let _ = file.set_modified(SystemTime::now());
        }
    });
    (stop, thread)
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
    let by = Holder::of(folder).map_or("another process".into(), |(holder, age)| {
        let Holder { pid, host, job, since, command } = holder;
        let job = job.map_or(String::new(), |job| format!(", job {job}"));
        format!("process {pid} on {host}{job}, since {since}, last heard of {} s ago (`{command}`)", age.as_secs())
    });
    let message = format!("expected a folder that no process works in, got one in progress: {by} holds {LOCK}");
    Error::InProgress { path: folder.to_path_buf(), message }
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
    fn the_file_of_another_machine_is_honoured_until_its_heartbeat_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK);
        let elsewhere = Holder { host: "elsewhere".into(), job: Some("slurm 7_1".into()), ..Holder::this_process() };
        std::fs::write(&path, serde_json::to_string(&elsewhere).unwrap()).unwrap();
        for error in
            [FolderLock::take(folder.path()).map(drop).unwrap_err(), FolderLock::check(folder.path()).unwrap_err()]
        {
            assert!(matches!(error, Error::InProgress { .. }));
            assert!(error.to_string().contains("on elsewhere, job slurm 7_1, since"), "{error}");
        }
        let fresh = Duration::from_secs(1);
        assert!(!elsewhere.bars(fresh, &Holder { job: elsewhere.job.clone(), ..Holder::this_process() }));
        let before = SystemTime::now() - STALE;
        File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
        assert!(FolderLock::check(folder.path()).is_ok());
        let _lock = FolderLock::take(folder.path()).unwrap();
        let (holder, age) = Holder::of(folder.path()).unwrap();
        assert!(holder.pid == std::process::id() && age < Duration::from_secs(60));
    }

    #[test]
    fn the_job_of_an_array_has_its_task() {
        let none = |_: &str| None;
        let one = |name: &str| (name == "SLURM_JOB_ID").then(|| "9".to_string());
        let array = |name: &str| Some(if name.ends_with("TASK_ID") { "3" } else { "17" }.to_string());
        assert_eq!(
            [job(none), job(one), job(array)],
            [None, Some("slurm 9".to_string()), Some("slurm 17_3".to_string())]
        );
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
