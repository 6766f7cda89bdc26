//! Exit codes of the real program, its signals, and `gist status`.

use crate::common::*;
use gist::run_dir::{FolderLock, State, Status, read_json, write_json_atomic};
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn code(arguments: &[&str]) -> (Option<i32>, String) {
    let output = gist(arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_exit_code_says_whether_another_try_may_help() {
    let runs = tempfile::tempdir().unwrap();
    let at = runs.path().to_str().unwrap();
    for (arguments, expected, said) in [
        (&["validate", "tiny.toml"][..], 0, ""),
        (&["train", "absent.toml"], 1, "absent.toml"),
        (&["train", "tiny.toml", "--set", "train.stepz=1"], 2, "stepz"),
        (&["train", "tiny.toml", "--set", "train.micro_windows=0"], 2, "train.micro_windows"),
        (&["compare", "--runs", at, "--readers", "both"], 2, "--readers"),
        (&["label", "tiny.toml", "--shard", "5/4"], 2, "--shard"),
        (&["label", "tiny.toml", "--shard", "0/0"], 2, "--shard"),
        (&["status", "absent"], 1, "absent"),
        (&["merge", at], 1, "shards/"),
        (&["train", "tiny.toml", "--runs", at, "--set", "optim.imitation.lr=1e38"], 1, "not finite"),
    ] {
        let (found, stderr) = code(arguments);
        assert_eq!(found, Some(expected), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_folder_in_use_is_3_and_a_stop_on_request_is_75() {
    let runs = tempfile::tempdir().unwrap();
    let run = run_dir(runs.path());
    let lock = FolderLock::take(&run).unwrap();
    let (found, said) = code(&train(runs.path(), &[]));
    assert_eq!(found, Some(3), "{said}");
    assert_says(&said, &["in progress", &format!("process {}", std::process::id())], "in use");
    fs::write(run.join("config.toml"), "").unwrap();
    let running = ok(&["status", runs.path().to_str().unwrap()]);
    assert_says(&running, &["running", &format!("{} on ", std::process::id()), "1 runs: 1 running"], "status");
    fs::remove_file(run.join("config.toml")).unwrap();
    drop(lock);

    let mut child = command(&train(runs.path(), &[]))
        .current_dir(&world().root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while rows(&run.join("metrics.jsonl")) < 2 {
        assert!(begun.elapsed() < Duration::from_secs(120) && child.try_wait().unwrap().is_none(), "never got there");
        std::thread::sleep(Duration::from_millis(2));
    }
    // A scheduler may say it more than once, and in more than one way.
    let say = "kill -USR1 $0; kill -TERM $0; kill -TERM $0";
    assert!(Command::new("bash").args(["-c", say, &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(read_json::<Status>(&run.join("status.json")).unwrap().state, State::Interrupted);
    assert_says(&ok(&["status", runs.path().to_str().unwrap()]), &["1 runs: 1 interrupted"], "status");

    ok(&train(runs.path(), &["--resume"]));
    assert_same_files(&results(finished()), &results(&run), "stopped by USR1 and resumed");
}

#[test]
fn status_tells_the_killed_from_the_running() {
    let (runs, run) = finished_copy();
    let other = runs.path().join("sweep/a__seed=1");
    copy(&run, &other);
    edit_json(&other.join("status.json"), |status| status["state"] = "running".into());
    let begun = runs.path().join("sweep/b__seed=1");
    fs::create_dir(&begun).unwrap();
    fs::write(begun.join("config.toml"), "").unwrap();
    let json = runs.path().join("rows.json");
    let said = ok(&["status", runs.path().to_str().unwrap(), "--json", json.to_str().unwrap()]);
    assert_says(&said, &["3 runs: 1 done, 1 killed, 1 begun"], "status");
    let rows: Value = read_json(&json).unwrap();
    let state = |at: usize| rows[at]["state"].as_str().unwrap().to_string();
    assert_eq!([state(0), state(1), state(2)], ["killed", "begun", "done"]);
    assert!(rows[0]["holder"].is_null() && rows[0]["step"].as_u64() == Some(UPDATES as u64));
    // A process of another machine, heard of just now.
    let holder =
        serde_json::json!({"pid": 7, "host": "elsewhere", "job": "slurm 4_2", "since": "now", "command": "gist"});
    write_json_atomic(&begun.join("run.lock"), &holder).unwrap();
    assert_says(&ok(&["status", begun.to_str().unwrap()]), &["7 on elsewhere, slurm 4_2", "1 running"], "elsewhere");
}
