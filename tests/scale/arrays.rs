//! A sweep as an array: its runs by number, the script for Slurm, and random kills.

use crate::common::*;
use gist::run_dir::{FolderLock, read_json};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A sweep of so many seeds of a short run.
pub fn sweep_file(folder: &Path, name: &str, seeds: usize) -> PathBuf {
    let seeds: Vec<usize> = (0..seeds).collect();
    let base = world().root.join("tiny.toml");
    let mut tiny: toml::Table = fs::read_to_string(&base).unwrap().parse().unwrap();
    let at = |path: &str| toml::Value::from(world().root.join(path).to_str().unwrap());
    tiny["model"]["path"] = at("base");
    for split in ["train", "valid", "test"] {
        tiny["data"][split] = at(&format!("{split}.jsonl"));
    }
    tiny["name"] = name.into();
    tiny["warm_start"]["windows"] = 4.into();
    tiny["eval"]["search_windows"] = 0.into();
    tiny["eval"].as_table_mut().unwrap().insert("baselines".into(), "recent".into());
    let path = folder.join(format!("{name}.toml"));
    fs::write(&path, format!("seeds = {seeds:?}\n{tiny}")).unwrap();
    path
}

fn sweep<'a>(file: &'a Path, runs: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    [&["sweep", file.to_str().unwrap(), "--runs", runs.to_str().unwrap()], flags].concat()
}

/// Number, name and state of every run.
fn listed(file: &Path, runs: &Path) -> Vec<[String; 3]> {
    let text = ok(&sweep(file, runs, &["--list"]));
    let row = |line: &str| line.split('\t').map(String::from).collect::<Vec<_>>().try_into().unwrap();
    text.lines().map(row).collect()
}

#[test]
fn runs_by_number_are_the_runs_of_the_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let file = sweep_file(folder.path(), "by-number", 2);
    let (whole, single) = (folder.path().join("whole"), folder.path().join("single"));
    assert_eq!(listed(&file, &single), [["1", "seed=0", "new"], ["2", "seed=1", "new"]]);
    assert!(!single.exists(), "a list writes nothing");
    ok(&sweep(&file, &whole, &[]));
    for number in ["2", "1"] {
        ok(&sweep(&file, &single, &["--index", number]));
    }
    assert_eq!(listed(&file, &single), [["1", "seed=0", "done"], ["2", "seed=1", "done"]]);
    assert_says(&ok(&sweep(&file, &single, &["--index", "1"])), &["seed=0: finished before"], "again");
    assert_says(&ok(&sweep(&file, &single, &[])), &["2 runs, 2 of them finished before"], "judged");
    for seed in ["seed=0", "seed=1"] {
        let at = |runs: &Path| results(&runs.join("by-number").join(seed));
        assert_same_files(&at(&whole), &at(&single), seed);
    }
    let root = single.join("by-number");
    assert_eq!(rows(&root.join("results.csv")), 3);
    assert_eq!(read_json::<Value>(&root.join("runs.json")).unwrap().as_array().unwrap().len(), 2);

    for bad in ["0", "3"] {
        let said = fails(2, &sweep(&file, &single, &["--index", bad]));
        assert_says(&said, &["--index: expected 1 to 2", &format!("got {bad}"), "--list"], bad);
    }
    let said = fails(1, &sweep(&file, &single, &["--index", "1", "--submitted", "0123"]));
    assert_says(
        &said,
        &["by-number.toml: expected the sweep that was submitted, 0123, got ", "submit it again"],
        "changed",
    );
}

/// No `sbatch`: the folder of programs is empty.
#[test]
fn the_script_says_what_the_section_asks_and_is_kept_where_slurm_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = sweep_file(folder.path(), "to-submit", 3);
    let (runs, section) = (folder.path().join("runs"), "[submit]\ntype = \"slurm\"\npartition = \"cpu\"\n");
    let section = format!("{section}max_parallel = 8\noptions = [\"--mem=2G\"]\nsetup = \"module load x\"\n");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &section).unwrap();
    let said = ok(&sweep(&file, &runs, &["--submit", "slurm", "--dry-run"]));
    let lines =
        ["#SBATCH --array=1-3%8\n", "#SBATCH --partition=cpu\n", "#SBATCH --mem=2G\n", "#SBATCH --signal=B:USR1@120\n"];
    assert_says(&said, &lines, "script");
    assert_says(
        &said,
        &["\nmodule load x\n", "#SBATCH --cpus-per-task=1\n", "--index \"$SLURM_ARRAY_TASK_ID\" &\n"],
        "script",
    );
    assert!(!runs.exists(), "a dry run writes nothing");
    assert_says(
        &ok(&sweep(&file, &runs, &["--submit", "slurm", "--dry-run", "--max-parallel", "2"])),
        &["1-3%2\n"],
        "most",
    );
    let parsed = Command::new("bash").args(["-n", "-c", &said]).output().unwrap();
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));

    // The digest in the script binds a task to the sweep as it was.
    let digest = said.split("--submitted ").nth(1).unwrap().split_whitespace().next().unwrap();
    let task = ["--index", "1", "--submitted", digest, "--set", "train.steps=5"];
    assert_says(&fails(1, &sweep(&file, &runs, &task)), &["expected the sweep that was submitted", digest], "changed");
    assert!(!runs.exists(), "a refused task writes nothing");

    let alone = |flags: &[&str]| {
        command(&sweep(&file, &runs, flags)).env("PATH", folder.path()).current_dir(&world().root).output().unwrap()
    };
    let said = message(1, &alone(&["--submit", "slurm"]), "no sbatch");
    let script = runs.join("to-submit/submit/array.sh");
    assert_says(
        &said,
        &["expected `sbatch` on the PATH", "the script is kept: ", script.to_str().unwrap()],
        "no sbatch",
    );
    assert!(script.exists());
    let refuses = folder.path().join("sbatch");
    fs::write(&refuses, "#!/bin/sh\necho 'error: invalid partition specified: cpu' >&2\nexit 1\n").unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&refuses).status().unwrap().success());
    let said = message(1, &alone(&["--submit", "slurm"]), "refused");
    assert_says(&said, &["sbatch said: error: invalid partition specified: cpu", "the script is kept"], "refused");

    // The same file trains and validates; a template of one's own is rendered, and its mistakes are named.
    ok(&["validate", file.to_str().unwrap()]);
    let template = folder.path().join("own.sh");
    for (text, expected) in [("run {{ tasks }}: {{ command }}", "run 1-3: "), ("{{ task }}", "own.sh: line 1: ")] {
        fs::write(&template, text).unwrap();
        let own = format!("submit.template={}", template.display());
        let output = gist(&sweep(&file, &runs, &["--submit", "slurm", "--dry-run", "--set", &own]));
        let said = [output.stdout, output.stderr].concat();
        assert_says(&String::from_utf8_lossy(&said), &[expected], text);
    }
    edit(&file, "partition = \"cpu\"", "partitions = \"cpu\"");
    assert_says(
        &fails(2, &["train", file.to_str().unwrap()]),
        &["to-submit.toml: `submit.", "partitions"],
        "unknown key",
    );
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Kill -9 at random moments of a task that was started twice: what is there at the end is what one that was left alone leaves, and no
/// step of any run was made by two processes at a time. `GIST_KILLS` says how many.
#[test]
fn no_run_is_lost_or_done_twice_whatever_is_killed() {
    let kills: usize = std::env::var("GIST_KILLS").map_or(6, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (count, whole, cut) = (kills.div_ceil(2), folder.path().join("whole"), folder.path().join("cut"));
    let file = sweep_file(folder.path(), "killed", count);
    ok(&sweep(&file, &whole, &[]));
    let begun = Instant::now();
    let mut state: u64 = 12345;
    let mut below = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let start = |number: usize| -> Child {
        command(&sweep(&file, &cut, &["--index", &number.to_string()]))
            .current_dir(&world().root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // A task that is started while another has its run.
    let held = FolderLock::take(&cut.join("killed/seed=0")).unwrap();
    assert_eq!(start(1).wait().unwrap().code(), Some(3));
    drop(held);
    let mut killed = 0;
    loop {
        let todo: Vec<usize> = (listed(&file, &cut).iter().enumerate())
            .filter_map(|(i, row)| (row[2] != "done").then_some(i + 1))
            .collect();
        let Some(&number) = todo.get(below(todo.len().max(1) as u64) as usize) else { break };
        // The same task, started twice.
        let mut pair = [start(number), start(number)];
        if killed < kills {
            std::thread::sleep(Duration::from_millis(below(600)));
            pair.iter_mut().for_each(|child| child.kill().unwrap());
        }
        let codes = pair.map(|mut child| child.wait().unwrap().code());
        assert!(codes.iter().all(|code| [None, Some(0), Some(3)].contains(code)), "{codes:?}");
        killed += usize::from(codes.contains(&None)); // at work when the signal came
        assert!(begun.elapsed() < Duration::from_secs(60 + 20 * kills as u64), "never done: {todo:?}");
    }
    assert_eq!(killed, kills, "kills that found the task at work");
    ok(&sweep(&file, &cut, &[]));
    for seed in 0..count {
        let at = |runs: &Path| results(&runs.join(format!("killed/seed={seed}")));
        assert_same_files(&at(&whole), &at(&cut), &format!("seed {seed} after {killed} kills"));
        assert_eq!(rows(&cut.join(format!("killed/seed={seed}/metrics.jsonl"))), 1 + 6, "a row a step");
    }
    assert_eq!(rows(&cut.join("killed/results.csv")), 1 + count);
}
