//! Damage to a run that was under way, met by the real program: a checkpoint cut short, a disk that is full. What was whole
//! stays whole, and once the cause is gone the run goes on to the same end.

use crate::common::{
    assert_same_files, assert_says, cut, fails, files, finished, finished_copy, ok, results, train, world,
};
use gist::run_dir::read_json;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn a_checkpoint_cut_short_is_named_and_one_without_manifest_ignored() {
    let (runs, run) = finished_copy();
    let last = run.join("checkpoints/step_000010");
    for (file, words) in [
        ("compressor/adapter_model.safetensors", "checkpoint is damaged: expected "),
        ("generator_optimizer.safetensors", "checkpoint is damaged: expected "),
        ("state.json", "checkpoint is damaged: expected "),
        ("manifest.json", "EOF while parsing"),
    ] {
        let path = last.join(file);
        let whole = fs::read(&path).unwrap();
        cut(&path, 0.7);
        let before = files(&run);
        for arguments in [train(runs.path(), &["--resume"]), vec!["eval", run.to_str().unwrap()]] {
            let said = fails(1, &arguments);
            assert_says(&said, &["checkpoints/step_000010", file, words], file);
        }
        let mut after = files(&run);
        for told in ["status.json", "provenance.json"] {
            after.insert(told.into(), before[Path::new(told)].clone());
        }
        assert_same_files(&before, &after, file);
        fs::write(path, whole).unwrap();
    }
    let missing = last.join("empty_reader/adapter_model.safetensors");
    fs::remove_file(&missing).unwrap();
    assert_says(&fails(1, &train(runs.path(), &["--resume"])), &[missing.to_str().unwrap(), "No such file"], "missing");

    fs::remove_file(last.join("manifest.json")).unwrap();
    fs::remove_file(run.join("summary.json")).unwrap();
    ok(&train(runs.path(), &["--resume"]));
    assert_same_files(&results(finished()), &results(&run), "resumed from the checkpoint before");
}

/// A run that is at its last checkpoint but one and has work to do, and what of it must survive.
fn unfinished() -> (tempfile::TempDir, PathBuf) {
    let (runs, run) = finished_copy();
    fs::remove_dir_all(run.join("checkpoints/step_000010")).unwrap();
    (runs, run)
}

/// After a full disk: what was whole still is, nothing is half there, and with room the run goes on as if nothing
/// had been.
fn check_after_full_disk(runs: &Path, run: &Path, before: &Path) {
    let (old, new) = (files(&before.join("checkpoints")), files(&run.join("checkpoints")));
    for (path, bytes) in &old {
        assert!(new.get(path) == Some(bytes), "{} is not what it was", path.display());
    }
    assert!(!new.contains_key(Path::new("step_000010/manifest.json")), "an unfinished checkpoint has a manifest");
    for (path, bytes) in files(run) {
        assert!(!path.to_str().unwrap().ends_with(".tmp"), "left {}", path.display());
        let lines = path.extension().is_some_and(|extension| extension == "jsonl");
        assert!(!lines || bytes.ends_with(b"\n"), "{} ends within a row", path.display());
    }
    ok(&train(runs, &["--resume"]));
    assert_same_files(&results(finished()), &results(run), "resumed with room");
}

#[test]
fn a_checkpoint_that_does_not_fit() {
    let ((runs, run), (_kept, before)) = (unfinished(), unfinished());
    // A size limit stands for the full disk: rows fit, the first file of a checkpoint fails half way.
    let mut limited = Command::new("bash");
    limited.args(["-c", "ulimit -f 16; trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_gist")]);
    limited.args(train(runs.path(), &["--resume"])).current_dir(&world().root);
    let output = limited.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let said = stderr.lines().last().unwrap_or_default();
    assert_says(said, &["error: ", "checkpoints/step_000010/", ".safetensors: File too large"], "limit");
    assert_says(&fs::read_to_string(run.join("status.json")).unwrap(), &["\"failed\"", "File too large"], "limit");
    check_after_full_disk(runs.path(), &run, &before);
}

/// Needs the right to mount in a namespace of its own; passes without a word where there is none.
#[test]
fn a_disk_that_is_full() {
    let may_mount = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        return;
    }
    let ((runs, run), (_kept, before)) = (unfinished(), unfinished());
    let kib: usize = files(&run).values().map(|bytes| bytes.len().div_ceil(4096) * 4).sum();
    // Runs on a copy in a small file system, then copies back what is there.
    let script = r#"
        set -e
        disk=$(mktemp -d)
        mount -t tmpfs -o size="$1"k none "$disk"
        cp -a "$2/tiny" "$disk"
        set +e
        "$0" train tiny.toml --runs "$disk" --resume
        code=$?
        rm -r "$2/tiny" && cp -a "$disk/tiny" "$2" || exit 99
        exit $code"#;
    let room = (kib + 160).to_string();
    let mut small = Command::new("unshare");
    small.args(["-rm", "bash", "-c", script, env!("CARGO_BIN_EXE_gist"), &room, runs.path().to_str().unwrap()]);
    let output = small.current_dir(&world().root).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let said = stderr.lines().last().unwrap_or_default();
    assert_says(said, &["error: ", "tiny/seed=0/", "No space left on device"], "full");
    check_after_full_disk(runs.path(), &run, &before);
}

/// Takes what `path` names (a file or a folder) out of a checkpoint's manifest.
fn unlist(checkpoint: &Path, name: &str) {
    let path = checkpoint.join("manifest.json");
    let mut manifest: Value = read_json(&path).unwrap();
    let listed = manifest["files"].as_object_mut().unwrap();
    let before = listed.len();
    listed.retain(|file, _| !Path::new(file).starts_with(name));
    assert!(listed.len() < before, "{name} was not there");
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn nothing_stands_in_for_state_that_a_checkpoint_does_not_have() {
    for name in ["stale", "averaged", "smoothed"] {
        let (runs, run) = finished_copy();
        let last = run.join("checkpoints/step_000010");
        fs::remove_dir_all(last.join(name)).unwrap();
        unlist(&last, name);
        let said = fails(1, &train(runs.path(), &["--resume"]));
        let expected = "expected an adapter that co-training goes on from, got none";
        assert_says(&said, &[last.join(name).to_str().unwrap(), expected], name);
        if name == "smoothed" {
            let said = fails(1, &["eval", run.to_str().unwrap()]);
            assert_says(&said, &["step_000010/smoothed", "No such file"], "the judged compressor");
        }
    }
    let (runs, run) = finished_copy();
    let last = run.join("checkpoints/step_000010");
    let mut state: Value = read_json(&last.join("state.json")).unwrap();
    assert!(state["d_ref"].is_number());
    state["d_ref"] = Value::Null;
    fs::write(last.join("state.json"), state.to_string()).unwrap();
    unlist(&last, "state.json");
    let said = fails(1, &train(runs.path(), &["--resume"]));
    assert_says(&said, &["step_000010/state.json", "d_ref: expected a number", "got none"], "d_ref");
}
