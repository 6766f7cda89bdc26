//! Grades of programs: the answer and the tests run together in a Python of their own, which has no network, no file to write but
//! a small folder that is thrown away, and limited time and memory.
//!
//! ```text
//! gist ── waiter      alone in namespaces of users, mounts, network, processes, messages (unshare(2)); waits
//!           └ python  their first process: with it, all that it begot die; no capability, no inherited file but its last words
//! ```
//! There all mounts are read-only and without devices, but for a tmpfs as the working directory and an empty `/run`. Where the
//! kernel gives an unprivileged process no namespaces, nothing is run, and the error says so. A program passes if it comes to
//! its last line, which ends it with a code of ours: one that leaves before its tests does not.

use crate::error::{Error, Result};
use std::ffi::CString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of the address space of a program; libraries of numbers map many.
const MEMORY: u64 = 16 << 30;
/// Bytes of a file that it writes, and of all of them.
const FILE: u64 = 32 << 20;
const FILES: &str = "size=64m,nr_inodes=4096,mode=700";
/// Bytes of its last words that are kept.
const LAST_WORDS: usize = 4096;
/// Exit code of a program that came to its end.
const PASSED: i32 = 93;
/// User and group that it has inside, who are nobody's superuser.
const INSIDE: u32 = 1000;

/// The end of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It came to its end without an error.
    Passed,
    /// It failed, or left before its end; the last line that it said.
    Failed(String),
    /// It was stopped after its time.
    TimedOut,
}

/// Runs a program for at most `seconds`.
///
/// # Errors
/// No `python3` on the `PATH`, or a kernel that gives no namespaces.
pub fn run(program: &str, seconds: u32) -> Result<Ended> {
    let folder = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let (file, work) = (folder.path().join("program.py"), folder.path().join("work"));
    let text = format!("{program}\nimport os\nos._exit({PASSED})\n");
    std::fs::write(&file, text).map_err(|e| Error::io(&file, e))?;
    std::fs::create_dir(&work).map_err(|e| Error::io(&work, e))?;
    let mut command = Command::new("python3");
    command.args(["-I", "-B", "-X", "utf8"]).arg(&file).env_clear();
    command.envs(["PATH", "LD_LIBRARY_PATH"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.env("OPENBLAS_NUM_THREADS", "1").env("OMP_NUM_THREADS", "1").env("MPLCONFIGDIR", &work).env("HOME", &work);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let confinement = Confinement::new(&work, seconds)?;
    // SAFETY: between fork and exec the closure makes system calls alone, on memory that was made before.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || confinement.enter());
    }
    let mut waiter = command.spawn().map_err(|error| {
        let expected =
            "expected python3 on the PATH and a kernel that gives namespaces (unshare), to run programs apart";
        Error::Machine(format!("{expected}, got {error}"))
    })?;
    let said = waiter.stderr.take();
    let listener = std::thread::spawn(move || last_words(said));
    let ended = wait(&mut waiter, Duration::from_secs(seconds.into())).map_err(|e| Error::io(&file, e))?;
    let said = listener.join().unwrap_or_default();
    Ok(match ended {
        Ended::Failed(_) => Ended::Failed(said),
        other => other,
    })
}

fn wait(waiter: &mut Child, most: Duration) -> io::Result<Ended> {
    let begun = Instant::now();
    loop {
        match waiter.try_wait()? {
            Some(status) if status.code() == Some(PASSED) => return Ok(Ended::Passed),
            Some(_) => return Ok(Ended::Failed(String::new())),
            None if begun.elapsed() > most => {
                // The program dies with its waiter.
                waiter.kill()?;
                waiter.wait()?;
                return Ok(Ended::TimedOut);
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The last line of what a program said, the rest of it thrown away.
fn last_words(said: Option<impl Read>) -> String {
    let mut kept = Vec::new();
    if let Some(mut said) = said {
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = said.read(&mut part) {
            kept.extend_from_slice(&part[..count]);
            let surplus = kept.len().saturating_sub(LAST_WORDS);
            kept.drain(..surplus);
        }
    }
    String::from_utf8_lossy(&kept).trim_end().lines().last().unwrap_or_default().to_string()
}

/// Everything that a child enters before it runs, made ready before it is born.
struct Confinement {
    work: CString,
    tmpfs: CString,
    files: CString,
    root: CString,
    run: CString,
    maps: [(CString, CString); 3],
    seconds: u32,
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const READ_ONLY_WITHOUT_DEVICES: u64 = 1 | 4;
const CLOSE_ON_EXEC: libc::c_uint = 4;

impl Confinement {
    #[allow(unsafe_code)]
    fn new(work: &Path, seconds: u32) -> Result<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|error| Error::invalid(error.to_string()));
        // SAFETY: system calls without memory.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        let map = |(path, content): (&str, String)| -> Result<(CString, CString)> {
            Ok((text(path.as_bytes())?, text(content.as_bytes())?))
        };
        let maps = [
            map(("/proc/self/setgroups", "deny".to_string()))?,
            map(("/proc/self/uid_map", format!("{INSIDE} {user} 1")))?,
            map(("/proc/self/gid_map", format!("{INSIDE} {group} 1")))?,
        ];
        Ok(Self {
            work: text(work.as_os_str().as_bytes())?,
            tmpfs: text(b"tmpfs")?,
            files: text(FILES.as_bytes())?,
            root: text(b"/")?,
            run: text(b"/run")?,
            maps,
            seconds,
        })
    }

    /// Enters: this process becomes the waiter, and the one that returns from here the first of its namespace.
    #[allow(unsafe_code)]
    fn enter(&self) -> io::Result<()> {
        let limits = [
            (libc::RLIMIT_CPU, u64::from(self.seconds) + 1),
            (libc::RLIMIT_AS, MEMORY),
            (libc::RLIMIT_FSIZE, FILE),
            (libc::RLIMIT_NOFILE, 256),
            (libc::RLIMIT_CORE, 0),
        ];
        let spaces =
            libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;
        // SAFETY: system calls on memory that lives through them.
        unsafe {
            let dies_with_parent = || sure(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into());
            dies_with_parent()?;
            sure(libc::unshare(spaces).into())?;
            for (path, content) in &self.maps {
                let file = sure(libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC).into())? as i32;
                let bytes = content.as_bytes();
                sure(libc::write(file, bytes.as_ptr().cast(), bytes.len()) as i64)?;
                libc::close(file);
            }
            self.mount()?;
            sure(libc::chdir(self.work.as_ptr()).into())?;
            for (limit, value) in limits {
                let own = libc::rlimit { rlim_cur: value, rlim_max: value };
                sure(libc::setrlimit(limit, &raw const own).into())?;
            }
            sure(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            // As fork(2), without what the C library runs around it.
            match sure(libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0))? {
                0 => {
                    dies_with_parent()?;
                    sure(libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_ON_EXEC))?;
                    Ok(())
                }
                program => wait_in_between(program as libc::pid_t),
            }
        }
    }

    /// Makes all mounts read-only and without devices, and lays an empty tmpfs over the working directory and over `/run`, where
    /// services have their sockets.
    ///
    /// # Safety
    /// The process must be alone in a namespace of mounts.
    #[allow(unsafe_code)]
    unsafe fn mount(&self) -> io::Result<()> {
        let (set, propagation) = (READ_ONLY_WITHOUT_DEVICES, libc::MS_PRIVATE);
        let attributes = MountAttributes { set, clear: 0, propagation, userns_fd: 0 };
        let (size, everywhere) = (std::mem::size_of::<MountAttributes>(), libc::AT_RECURSIVE as libc::c_uint);
        let (root, at) = (self.root.as_ptr(), libc::AT_FDCWD);
        // SAFETY: system calls on memory that lives through them.
        unsafe {
            sure(libc::syscall(libc::SYS_mount_setattr, at, root, everywhere, &raw const attributes, size))?;
            for place in [&self.work, &self.run] {
                let (tmpfs, flags) = (self.tmpfs.as_ptr(), libc::MS_NOSUID | libc::MS_NODEV);
                let made = sure(libc::mount(tmpfs, place.as_ptr(), tmpfs, flags, self.files.as_ptr().cast()).into());
                // A system without /run has no sockets there.
                if !(place == &self.run && made.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound)) {
                    made?;
                }
            }
        }
        Ok(())
    }
}

/// A system call's result, or the error that it left.
fn sure(code: i64) -> io::Result<i64> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

/// Closes all files, so that nobody waits for this process but its parent, and ends as the program ends.
///
/// # Safety
/// The process must have nothing else to do.
#[allow(unsafe_code)]
unsafe fn wait_in_between(program: libc::pid_t) -> ! {
    // SAFETY: system calls on memory that lives through them.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        let mut status = 0;
        let ended = loop {
            let code = libc::waitpid(program, &raw mut status, 0);
            if code >= 0 || *libc::__errno_location() != libc::EINTR {
                break code;
            }
        };
        let left = ended == program && libc::WIFEXITED(status);
        libc::_exit(if left { libc::WEXITSTATUS(status) } else { 1 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Whether programs can be run here; with `GIST_NEEDS_NAMESPACES` set they must.
    fn can_run() -> bool {
        match run("", 20) {
            Ok(ended) => ended == Ended::Passed,
            Err(error) if std::env::var_os("GIST_NEEDS_NAMESPACES").is_none() => {
                eprintln!("skipped: {error}");
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn ended(program: &str) -> Ended {
        run(program, 10).unwrap()
    }

    fn fails_with(program: &str, expected: &str) {
        match ended(program) {
            Ended::Failed(said) => assert!(said.contains(expected), "{program}: {said}"),
            other => panic!("{program}: {other:?}"),
        }
    }

    #[test]
    fn a_program_passes_fails_and_is_stopped() {
        if !can_run() {
            return;
        }
        assert_eq!(ended("assert 1 + 1 == 2\nprint('x' * 1000000)"), Ended::Passed);
        fails_with("import sys\nsys.stderr.write('y' * 1000000)\nassert 1 == 2, 'no é'", "AssertionError: no é");
        fails_with("def f(:", "SyntaxError");
        // One that leaves before its tests does not pass.
        fails_with("exit()\nassert False", "");
        fails_with("import os\nos._exit(0)\nassert False", "");
        let begun = Instant::now();
        assert_eq!(run("while True: pass", 1).unwrap(), Ended::TimedOut);
        // Neither a child that leaves the group nor a program that leads its own outlives its time.
        let escape = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\ntime.sleep(60)";
        assert_eq!(run(escape, 1).unwrap(), Ended::TimedOut);
        assert_eq!(run("import os, time\nos.setsid()\ntime.sleep(60)", 1).unwrap(), Ended::TimedOut);
        let orphan = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)";
        assert_eq!(ended(orphan), Ended::Passed);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_program_reaches_no_network_and_no_file_and_takes_no_more_memory() {
        if !can_run() {
            return;
        }
        assert_eq!(ended("open('own', 'w').write('x')\nassert open('own').read() == 'x'"), Ended::Passed);
        let folder = tempfile::tempdir().unwrap();
        let mine = folder.path().join("mine");
        std::fs::write(&mine, "safe").unwrap();
        let path = format!("{:?}", mine.display().to_string());
        fails_with(&format!("open({path}, 'w')"), "Read-only file system");
        fails_with(&format!("import os\nos.remove({path})"), "Read-only file system");
        // Mounts cannot be made writable again from inside.
        let remount = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n\
            for flags in (4096 | 32, 32):\n    libc.mount(None, b'/', None, flags, None)\n";
        fails_with(&format!("{remount}open({path}, 'w')"), "Read-only file system");
        assert_eq!(std::fs::read_to_string(&mine).unwrap(), "safe");
        fails_with("open('big', 'wb').write(b'x' * (40 << 20))", "File too large");
        fails_with("x = bytearray(20 << 30)", "MemoryError");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        fails_with(&format!("import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)"), "unreachable");
        // It has none of the secrets that the program around it has, and is nobody's superuser.
        assert!(std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("CARGO")));
        let secret = "import os\nassert not any(name.startswith('CARGO') for name in os.environ), set(os.environ)";
        assert_eq!(ended(secret), Ended::Passed);
        let nobody = "import os\nassert os.getpid() == 1 and os.geteuid() == 1000\n\
            assert 'CapEff:\\t0000000000000000' in open('/proc/self/status').read()";
        assert_eq!(ended(nobody), Ended::Passed);
        assert_eq!(
            ended("import os\nassert os.listdir('/run') == []\nassert len(os.listdir('/proc/self/fd')) <= 5"),
            Ended::Passed
        );
    }
}
