//! Shards of a job: made apart, killed, merged, and refused where one is missing, torn or foreign.

use crate::common::*;
use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const BLOCKS: usize = 5;
const SETTINGS: [&str; 7] = [
    "compressor.type=extractive",
    "compressor.unit.type=span",
    "compressor.unit.tokens=8",
    "compressor.unit.stride=8",
    "warm_start.rounds=0",
    "distill.windows=200",
    "name=shards",
];

fn label<'a>(output: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    let set = SETTINGS.iter().flat_map(|setting| ["--set", *setting]);
    let head = ["label", "tiny.toml", "--output", output.to_str().unwrap()];
    head.into_iter().chain(set).chain(flags.iter().copied()).collect()
}

/// Labels that were never cut, and a folder with three finished shards of the same; made once.
fn made() -> &'static (PathBuf, PathBuf) {
    static MADE: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    MADE.get_or_init(|| {
        let (whole, parts) = (world().root.join("labels-whole"), world().root.join("labels-parts"));
        ok(&label(&whole, &[]));
        for shard in ["2/3", "3/3", "1/3"] {
            ok(&label(&parts, &["--shard", shard]));
        }
        (whole, parts)
    })
}

/// Files of merged labels: those of the shards left out.
fn merged(folder: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(folder);
    all.retain(|path, _| !path.starts_with("shards"));
    all
}

fn copied() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&made().1, folder.path());
    folder
}

#[test]
fn merged_labels_are_those_that_were_never_cut() {
    let (whole, _) = made();
    let folder = copied();
    let at = folder.path().to_str().unwrap();
    assert_eq!(merged(whole).len(), BLOCKS + 1);
    for _ in 0..2 {
        assert_says(&ok(&["merge", at]), &["label: 3 shards, 5 files of rows"], "merge");
        assert_same_files(&merged(whole), &merged(folder.path()), "merged labels");
    }
    let said = fails(2, &label(folder.path(), &["--shard", "1/6"]));
    assert_says(
        &said,
        &["--shard: expected at most 5 shards, as many as there are blocks of 48 windows, got 1/6"],
        "6",
    );
    // Results that are there already and differ are not replaced.
    cut(&folder.path().join("labels_0003.json"), 0.9);
    let before = files(folder.path());
    assert_says(
        &fails(1, &["merge", at]),
        &["labels_0003.json: expected no file or the one of the shards"],
        "other results",
    );
    assert_same_files(&before, &files(folder.path()), "a refused merge");
}

#[test]
fn what_is_missing_torn_or_foreign_is_refused_with_the_command_that_makes_it_again() {
    let place = |folder: &Path, shard: usize| folder.join(format!("shards/{shard:04}-of-0003"));
    let refused = |change: &dyn Fn(&Path), expected: &[&str]| {
        let folder = copied();
        change(folder.path());
        let before = files(folder.path());
        // Shards of another program can be accepted by a flag; all else is a file that is not as it was.
        let code = if expected.contains(&"--accept-changes") { 2 } else { 1 };
        let said = fails(code, &["merge", folder.path().to_str().unwrap()]);
        assert_says(&said, expected, "refused");
        assert_same_files(&before, &files(folder.path()), "a refused merge");
    };
    refused(
        &|folder| fs::remove_dir_all(place(folder, 2)).unwrap(),
        &["expected 3 finished shards, got 2 (not 2/3)", "gist label tiny.toml", "--shard 2/3"],
    );
    refused(
        &|folder| fs::remove_file(place(folder, 3).join("shard.json")).unwrap(),
        &["got 2 (not 3/3)", "--shard 3/3"],
    );
    refused(
        &|folder| cut(&place(folder, 1).join("labels_0000.json"), 0.5),
        &["0001-of-0003/labels_0000.json: expected the file that shard 1/3 recorded", "remove ", "--shard 1/3"],
    );
    refused(
        &|folder| fs::create_dir(folder.join("shards/0001-of-0004")).unwrap(),
        &["expected shards of one count, got [3, 4]"],
    );
    refused(
        &|folder| fs::rename(place(folder, 3), folder.join("shards/third")).unwrap(),
        &["shards/third: expected folders of shards such as 0003-of-0064 only"],
    );
    refused(
        &|folder| {
            fs::remove_dir_all(place(folder, 2)).unwrap();
            ok(&label(folder, &["--shard", "2/3", "--set", "seed=1"]));
        },
        &[
            "0002-of-0003/manifest.json: expected the same as in shard 1, got another job's; they differ in `settings.seed`",
        ],
    );
    refused(
        &|folder| {
            edit_json(&place(folder, 2).join("shard.json"), |record| {
                record["program"]["commit"] = "0123456789abcdef".into()
            })
        },
        &["the shards were made by different programs", "commit 0123456789ab", "--accept-changes"],
    );
    refused(
        &|folder| edit_json(&place(folder, 2).join("shard.json"), |record| record["shard"] = "1/3".into()),
        &["0002-of-0003/shard.json: expected the record of shard 2/3, got that of 1/3"],
    );
}

/// Any damage to any file of any shard: refused with nothing written, or harmless.
#[test]
fn damaged_shards_never_merge_into_other_bytes() {
    let (whole, _) = made();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut refused = 0;
    for case in 0..60 {
        let folder = copied();
        let all: Vec<PathBuf> = files(folder.path()).into_keys().collect();
        let path = folder.path().join(&all[below(&mut random, all.len())]);
        let mut bytes = fs::read(&path).unwrap();
        match case % 6 {
            0 => fs::remove_file(&path).unwrap(),
            1 => cut(&path, below(&mut random, 100) as f64 / 100.0),
            2 => {
                let at = below(&mut random, bytes.len());
                bytes[at] ^= 1 << below(&mut random, 8);
                fs::write(&path, bytes).unwrap();
            }
            3 => fs::write(&path, [&bytes[..], b"x"].concat()).unwrap(),
            4 => fs::copy(folder.path().join(&all[below(&mut random, all.len())]), &path).map(drop).unwrap(),
            _ => {
                let other = folder.path().join(&all[below(&mut random, all.len())]);
                fs::write(&path, fs::read(&other).unwrap()).unwrap();
                fs::write(&other, bytes).unwrap();
            }
        }
        let before = files(folder.path());
        let output = gist(&["merge", folder.path().to_str().unwrap()]);
        match output.status.code() {
            Some(0) => assert_same_files(&merged(whole), &merged(folder.path()), &format!("case {case}")),
            Some(1) => {
                refused += 1;
                assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: "), "case {case}");
                assert_same_files(&before, &files(folder.path()), &format!("case {case}: a refused merge"));
            }
            other => panic!("case {case}: {other:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    assert!(refused > 30, "most damage is noticed: {refused} of 60");
}

fn below(random: &mut TestRng, n: usize) -> usize {
    random.random_range(0..n)
}

#[test]
fn an_evaluation_in_shards_is_the_one_that_was_never_cut() {
    let (_runs, whole) = finished_copy();
    let (_others, run) = finished_copy();
    let flags = ["--adapt-readers=gist,recent"];
    ok(&[&["eval", whole.to_str().unwrap()][..], &flags].concat());
    let at = run.join("eval").join(fs::read_dir(run.join("eval")).unwrap().next().unwrap().unwrap().file_name());
    // Nothing of the earlier evaluation stands in.
    for name in ["metrics.json", "windows.jsonl", "examples.jsonl"] {
        fs::remove_file(at.join(name)).unwrap();
    }
    for shard in ["3/3", "1/3", "2/3"] {
        ok(&[&["eval", run.to_str().unwrap(), "--shard", shard][..], &flags].concat());
        assert!(!at.join("metrics.json").exists(), "a shard alone is no evaluation");
    }
    assert_says(&ok(&["merge", at.to_str().unwrap()]), &["eval: 3 shards, ", "report: "], "merge");
    let without_shards = |run: &Path| {
        let mut all = results(run);
        all.retain(|path, _| !path.components().any(|part| part.as_os_str() == "shards"));
        all
    };
    assert_same_files(&without_shards(&whole), &without_shards(&run), "merged evaluation");

    let many = fails(2, &["eval", run.to_str().unwrap(), "--shard", "1/99"]);
    assert_says(
        &many,
        &["--shard: expected at most ", "as many as there are compressors in the table, got 1/99"],
        "99",
    );
    fs::remove_file(at.join("shards/0002-of-0003/shard.json")).unwrap();
    let said = fails(1, &["merge", at.to_str().unwrap()]);
    assert_says(&said, &["(not 2/3)", "gist eval", "--shard 2/3 --adapt-readers=gist,recent"], "missing");
}

#[test]
fn a_comparison_in_shards_is_the_one_that_was_never_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let compare = |output: &Path, flags: &[&str]| -> Vec<String> {
        let run = finished().to_str().unwrap();
        let head = ["compare", "--runs", run, "--compressors", "recent,idf", "--budgets", "0.1,0.25", "--updates", "2"];
        head.iter().chain(&["--output", output.to_str().unwrap()]).chain(flags).map(|word| word.to_string()).collect()
    };
    let done = |all: &[String]| ok(&all.iter().map(String::as_str).collect::<Vec<_>>());
    done(&compare(&whole, &[]));
    // Two at once: the readers that both need are taught once.
    let start = |shard: &str| {
        let all = compare(&parts, &["--shard", shard]);
        let mut one = command(&all.iter().map(String::as_str).collect::<Vec<_>>());
        one.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let two = [start("1/2"), start("2/2")];
    let said = two.map(|child| child.wait_with_output().unwrap()).map(|output| {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    });
    let taught = |what: &str| said.iter().filter(|said| said.contains(&format!("{what} …"))).count();
    assert_eq!([taught("of nothing"), taught("shared by all")], [1, 1], "{said:?}");
    assert!(!parts.join("comparison.json").exists());
    assert_says(
        &ok(&["merge", parts.to_str().unwrap()]),
        &["compare: 2 shards, 3 files of rows", "comparison: "],
        "merge",
    );
    let timeless = |folder: &Path| {
        let mut found: serde_json::Value = gist::run_dir::read_json(&folder.join("comparison.json")).unwrap();
        for entrant in found["compressors"].as_array_mut().unwrap() {
            assert_eq!(entrant["speed"].as_array().unwrap().len(), 2);
            entrant.as_object_mut().unwrap().remove("speed");
        }
        found.to_string()
    };
    assert_eq!(timeless(&whole), timeless(&parts));
}

/// Under GNU parallel, where it is installed (`GIST_NEEDS_PARALLEL`: it must be): one task killed, then all of them again.
#[test]
fn shards_under_gnu_parallel_survive_a_kill() {
    let version = Command::new("parallel").arg("--version").output();
    if !version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).starts_with("GNU parallel")) {
        assert!(
            std::env::var_os("GIST_NEEDS_PARALLEL").is_none(),
            "GIST_NEEDS_PARALLEL is set, but there is no GNU parallel"
        );
        return;
    }
    let (whole, _) = made();
    let folder = tempfile::tempdir().unwrap();
    let program = [&[env!("CARGO_BIN_EXE_gist")][..], &label(folder.path(), &["--shard", "{}/5"])].concat();
    let parallel = || {
        let mut all = Command::new("parallel");
        all.args(["--jobs", "2", "--retries", "1"]).args(&program).arg(":::").args(["1", "2", "3", "4", "5"]);
        all.current_dir(&world().root).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        all
    };
    let mut running = parallel().spawn().unwrap();
    let begun = Instant::now();
    let lock = folder.path().join("shards/0002-of-0005/run.lock");
    let pid = loop {
        let held = fs::read_to_string(&lock).ok();
        let holder = held.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        if let Some(holder) = holder {
            break holder["pid"].to_string();
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "never got there");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(1), "parallel counts the task that was killed");
    assert_says(
        &fails(1, &["merge", folder.path().to_str().unwrap()]),
        &["(not 2/5)", "--shard 2/5"],
        "one is missing",
    );
    assert!(parallel().status().unwrap().success());
    ok(&["merge", folder.path().to_str().unwrap()]);
    assert_same_files(&merged(whole), &merged(folder.path()), "merged after a kill");
}
