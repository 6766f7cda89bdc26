//! Contents of a run directory after a write that was killed or that met a full disk, with real processes.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gist::run_dir::{Log, RunDir, Start, write_atomic};

const ROLE: &str = "GIST_TEST_RUN_DIR_ROLE";
const FOLDER: &str = "GIST_TEST_RUN_DIR_FOLDER";
const SIZE: usize = 4 << 20;

/// This test binary again, running only [`child`] in the given role; `shell` comes before it.
fn start(shell: &str, role: &str, folder: &Path) -> Child {
    let line = format!("{shell} exec \"$0\" --exact run_dir::child --nocapture");
    Command::new("bash")
        .args(["-c", &line])
        .arg(std::env::current_exe().unwrap())
        .envs([(ROLE, role.as_ref()), (FOLDER, folder.as_os_str())])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Does nothing unless one of the tests below has started it.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    match std::env::var(ROLE).unwrap().as_str() {
        "write" => {
            for round in 0.. {
                write_atomic(&folder.join("file"), &vec![b'a' + (round % 26) as u8; SIZE]).unwrap();
            }
        }
        "overwrite" => {
            let error = RunDir::open(&folder, &"x = 1\n".repeat(1000), Start::Overwrite).unwrap_err();
            panic!("{error}");
        }
        "log" => {
            let run = RunDir::open(&folder, "seed = 1\n", Start::Resume).unwrap();
            let mut log = Log::open(&run, 0).unwrap();
            let rows = (0..).map(|step| log.metrics(step, &[("loss", 0.5)]));
            let error = rows.filter_map(Result::err).next().unwrap();
            panic!("{error}");
        }
        other => panic!("unknown role {other}"),
    }
}

#[test]
fn a_killed_write_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for round in 0..8u64 {
        let mut writer = start("", "write", folder.path());
        while !file.exists() {
            assert!(writer.try_wait().unwrap().is_none(), "the writer ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(7 * round + 3));
        writer.kill().unwrap();
        assert_eq!(writer.wait().unwrap().signal(), Some(9));
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(bytes.len(), SIZE);
        assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    }
}

#[test]
fn a_file_that_does_not_fit_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "old").unwrap();
    // A size limit stands for the full disk: the write fails half way.
    let writer = start("ulimit -f 1024; trap '' XFSZ;", "write", folder.path()).wait_with_output().unwrap();
    assert!(!writer.status.success());
    assert!(String::from_utf8_lossy(&writer.stderr).contains("FileTooLarge"));
    assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the temporary file is still there");
}

#[test]
fn a_run_that_cannot_be_replaced_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunDir::open(folder.path(), "seed = 1\n", Start::Fresh).unwrap();
    std::fs::create_dir_all(run.checkpoint(3)).unwrap();
    std::fs::write(run.metrics(), "old").unwrap();
    drop(run);
    let writer = start("ulimit -f 4; trap '' XFSZ;", "overwrite", folder.path()).wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&writer.stderr);
    assert!(error.contains("config.toml: File too large"), "{error}");
    let mut left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["checkpoints", "config.toml", "metrics.jsonl"]);
    assert_eq!(std::fs::read_to_string(folder.path().join("config.toml")).unwrap(), "seed = 1\n");
    assert!(folder.path().join("checkpoints/step_000003").is_dir());
}

#[test]
fn a_row_that_does_not_fit_is_not_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let writer = start("ulimit -f 16; trap '' XFSZ;", "log", folder.path()).wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&writer.stderr);
    assert!(error.contains("metrics.jsonl: File too large"), "{error}");
    assert!(error.contains("goes on without TensorBoard"), "{error}"); // its file is the larger one
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert!(text.ends_with("}\n") && text.lines().count() > 100);
}
