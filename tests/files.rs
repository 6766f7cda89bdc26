//! Text files of other systems, documents that two splits share, keys that are taken away, folders that another process works
//! in, adapters that are cut to lower ranks, and results that go to a link, a pipe or the terminal: by the real program.

use crate::common::{
    assert_same_files, assert_says, command, copy, fails, files, finished_copy, gist, message, ok, rows, run_dir,
    train, world,
};
use gist::run_dir::{FolderLock, read_json};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No update of any kind: what is read, what is said, what is written.
const SHORT: [&str; 6] = ["--set", "train.steps=0", "--set", "warm_start.rounds=0", "--set", "eval.search_windows=0"];

fn short<'a>(runs: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    train(runs, &[&SHORT, flags].concat())
}

#[test]
fn text_of_another_system_gives_the_same_windows() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let examples = |name: &str, text: &Path| {
        let (runs, data) = (at(name), format!("data.test={}", text.display()));
        ok(&short(&runs, &["--set", &data, "--set", "eval.baselines=recent"]));
        fs::read_to_string(run_dir(&runs).join("eval/step_000000/examples.jsonl")).unwrap()
    };
    let plain = fs::read_to_string(world().root.join("test.jsonl")).unwrap();
    let expected = examples("plain-runs", &world().root.join("test.jsonl"));
    assert!(expected.contains("\"document\":\"2-0\""));
    let wide: Vec<u8> =
        format!("\u{feff}{}", plain.replace('\n', "\r\n")).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let packed = zstd::encode_all(&wide[..], 1).unwrap();
    fs::write(at("test.jsonl.zst"), [&packed[..], &[0; 512]].concat()).unwrap();
    assert_eq!(examples("wide-runs", &at("test.jsonl.zst")), expected);
    // Experiment and configurations saved with a mark, by a system that ends lines in `\r\n`.
    copy(&world().root.join("base"), &at("base"));
    for name in ["config.json", "tokenizer.json"] {
        let text = fs::read_to_string(at("base").join(name)).unwrap();
        fs::write(at("base").join(name), format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    }
    let experiment = fs::read_to_string(world().root.join("tiny.toml")).unwrap().replace('\n', "\r\n");
    fs::write(at("marked.toml"), format!("\u{feff}{experiment}")).unwrap();
    let (marked, runs, base) = (at("marked.toml"), at("marked-runs"), format!("model.path={}", at("base").display()));
    let flags = ["--set", &base, "--set", "eval.baselines=recent"];
    let arguments = ["train", marked.to_str().unwrap(), "--runs", runs.to_str().unwrap()];
    ok(&[&arguments[..], &SHORT, &flags].concat());
    assert_eq!(fs::read_to_string(run_dir(&runs).join("eval/step_000000/examples.jsonl")).unwrap(), expected);
}

#[test]
fn a_document_in_two_splits_is_said_and_recorded_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(world().root.join("test.jsonl")).unwrap();
    let learned = fs::read_to_string(world().root.join("train.jsonl")).unwrap();
    let mixed = folder.path().join("test.jsonl");
    let edited = learned.lines().nth(3).unwrap().replacen("hid", "found", 1);
    fs::write(&mixed, format!("{text}{}\n{edited}\n", learned.lines().next().unwrap())).unwrap();
    let data = format!("data.test={}", mixed.display());
    let runs = folder.path().join("runs");
    let refused = fails(2, &short(&runs, &["--set", &data, "--set", "data.strict_splits=true"]));
    let found = "data.test: 2 of 14 documents are in data.train too (1 word for word, 1 nearly): ";
    let pairs = "`0-0` (there: `0-0`), `0-3` (there: `0-3`)";
    assert_says(
        &refused,
        &["data.strict_splits: expected splits without common documents, got", found, pairs],
        "strict",
    );
    assert!(!runs.exists());

    let output = gist(&short(&runs, &["--set", &data]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_says(&said, &["warning: ", found, pairs, "data.strict_splits = true refuses that"], "warning");
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(run_dir(&runs).join("provenance.json")).unwrap()).unwrap();
    let shared = &record["shared_documents"][0];
    assert_eq!((shared["split"].as_str(), shared["held_out"].as_str()), (Some("data.train"), Some("data.test")));
    assert_eq!((shared["same"].as_u64(), shared["near"].as_u64()), (Some(1), Some(1)));
    // The splits as they are share nothing.
    let clean = folder.path().join("clean");
    let output = gist(&short(&clean, &["--set", "data.strict_splits=true"]));
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("warning"));
}

#[test]
fn a_key_of_a_base_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (tiny, middle, top) = (world().root.join("tiny.toml"), at("middle.toml"), at("top.toml"));
    fs::write(&middle, format!("base = \"{}\"\n[warm_start]\noutput = \"adapters\"\n", tiny.display())).unwrap();
    let write = |unset: &str| fs::write(&top, format!("base = \"middle.toml\"\nunset = {unset}\n")).unwrap();
    write("[\"warm_start.output\", \"train.average_decay\"]");
    let dry = |arguments: &[&str]| ok(&[&["train", "--dry-run"], arguments].concat());
    let plain = dry(&[&middle]);
    assert_says(&plain, &["output = \"adapters\"", "average_decay = 0.5"], "plain");
    let by_file = dry(&[&top]);
    assert!(!by_file.contains("output"), "{by_file}");
    assert_says(&by_file, &["average_decay = 0.0"], "the default");
    let flags = ["--set", "unset=warm_start.output", "--set", "unset=train.average_decay"];
    assert_eq!(dry(&[&[middle.as_str()], &flags[..]].concat()), by_file);

    write("[\"train.averaged_decay\"]");
    let said = fails(2, &["train", &top]);
    let absent = "`unset`: expected keys that are set below, got `train.averaged_decay`, which is not";
    assert_says(&said, &["top.toml: ", absent, "(did you mean `train.average_decay`?)"], "unknown");
    let said = fails(2, &["train", "tiny.toml", "--set", "unset=optim.compressor.lr"]);
    assert_says(&said, &["--set: `optim.compressor`: missing", "`unset` takes it away"], "needed");

    let (runs, run) = finished_copy();
    let before = files(&run);
    let resume = ["train", &middle, "--runs", runs.path().to_str().unwrap(), "--resume"];
    let said = fails(1, &resume);
    assert_says(&said, &["`warm_start.output` was absent, is now \"adapters\""], "resume");
    let said =
        fails(1, &[&resume[..], &["--set", "unset=train.average_decay", "--set", "unset=warm_start.output"]].concat());
    assert_says(&said, &["`train.average_decay` was 0.5, is now 0.0"], "resume");
    assert_same_files(&before, &files(&run), "a refused run");
    // Paths are relative to where the program runs, so this is the configuration of the finished run.
    ok(&[&resume[..], &["--set", "unset=warm_start.output"]].concat());
}

#[test]
fn a_folder_in_progress_is_left_to_its_holder() {
    let (runs, run) = finished_copy();
    let folder = |name: &str| {
        let path = runs.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (sweep, labels, compared) = (folder("tiny"), folder("labels"), folder("compared"));
    let at = |path: &Path| path.to_str().unwrap().to_string();
    let [run_at, runs_at, labels_at, compared_at] = [&run, runs.path(), &labels, &compared].map(at);
    let locks = [&run, &sweep, &labels, &compared].map(|folder| FolderLock::take(folder).unwrap());
    let before = files(runs.path());
    let label = ["label", "tiny.toml", "--output", &labels_at, "--set", "compressor.type=extractive"];
    let labelled = [&label[..], &["--set", "distill.windows=2", "--set", "warm_start.rounds=0"]].concat();
    for arguments in [
        train(runs.path(), &["--resume"]),
        train(runs.path(), &["--overwrite"]),
        train(runs.path(), &[]),
        vec!["eval", &run_at],
        vec!["sweep", "tiny.toml", "--runs", &runs_at],
        labelled,
        vec!["compare", "--runs", &run_at, "--output", &compared_at, "--budgets", "0.2"],
    ] {
        let said = fails(3, &arguments);
        let holder = format!("got one in progress: process {} on ", std::process::id());
        assert_says(
            &said,
            &["expected a folder that no process works in", &holder, "holds run.lock"],
            &arguments[0..1].join(""),
        );
    }
    assert_same_files(&before, &files(runs.path()), "refused");
    drop(locks);
    ok(&["eval", &run_at]);
    assert!(!run.join("run.lock").exists());
}

#[test]
fn a_killed_process_leaves_no_lock() {
    let runs = tempfile::tempdir().unwrap();
    let arguments = train(runs.path(), &["--set", "train.steps=4000"]);
    let run = run_dir(runs.path());
    let start = |arguments: &[&str]| {
        let mut command = command(arguments);
        command.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let wait = |rows_wanted: usize| {
        let begun = Instant::now();
        while rows(&run.join("metrics.jsonl")) < rows_wanted {
            assert!(begun.elapsed().as_secs() < 120, "never got there");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let mut first = start(&arguments);
    wait(7);
    let resumed = [&arguments[..], &["--resume"]].concat();
    let said = fails(3, &resumed);
    assert_says(&said, &[&format!("in progress: process {} on ", first.id()), "train tiny.toml"], "second");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(run.join("run.lock").exists(), "the file is left, the lock is not");
    let steps = rows(&run.join("metrics.jsonl"));
    let mut second = start(&resumed);
    wait(steps + 3);
    second.kill().unwrap();
    second.wait().unwrap();
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let told: Vec<u64> = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect();
    assert!(told.windows(2).all(|pair| pair[1] == pair[0] + 1), "{told:?}");
}

#[test]
fn results_go_through_links_pipes_and_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plan = |json: &str| ["plan", "tiny.toml", "--json", json].map(String::from);
    let run = |json: &Path, stdout: Stdio| {
        let arguments = plan(json.to_str().unwrap());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        command(&arguments).current_dir(&world().root).stdout(stdout).output().unwrap()
    };
    run(&at("plain.json"), Stdio::null());
    let keys = |text: &str| -> Vec<String> {
        let parsed: serde_json::Value = serde_json::from_str(text).unwrap();
        parsed.as_object().unwrap().keys().cloned().collect()
    };
    let expected = keys(&fs::read_to_string(at("plain.json")).unwrap());

    fs::create_dir(at("there")).unwrap();
    std::os::unix::fs::symlink("there/target.json", at("link.json")).unwrap();
    for _ in 0..2 {
        assert!(run(&at("link.json"), Stdio::null()).status.success());
        assert!(at("link.json").is_symlink());
        assert_eq!(keys(&fs::read_to_string(at("there/target.json")).unwrap()), expected);
    }

    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let pipe = at("pipe");
    let reader = std::thread::spawn(move || fs::read_to_string(pipe).unwrap());
    assert!(run(&at("pipe"), Stdio::null()).status.success());
    assert_eq!(keys(&reader.join().unwrap()), expected);

    // Printed text and figures in one file, in their order, none over the other.
    for kind in ["pipe", "file"] {
        let text = match kind {
            "pipe" => String::from_utf8(run(Path::new("/dev/stdout"), Stdio::piped()).stdout).unwrap(),
            _ => {
                fs::write(at("out"), "before\n").unwrap();
                let file = fs::OpenOptions::new().append(true).open(at("out")).unwrap();
                assert!(run(Path::new("/dev/stdout"), file.into()).status.success());
                fs::read_to_string(at("out")).unwrap().strip_prefix("before\n").unwrap().to_string()
            }
        };
        let from = text.find("{\n").unwrap();
        assert!(text[..from].contains("peak memory about"), "{text}");
        assert_eq!(keys(&text[from..]), expected);
    }

    // A folder is wanted, and a pipe is none.
    let (_runs, finished) = finished_copy();
    let arguments =
        ["compare", "--runs", finished.to_str().unwrap(), "--output", at("pipe").to_str().unwrap(), "--budgets", "0.2"]
            .map(String::from);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = message(2, &command(&arguments).current_dir(&world().root).output().unwrap(), "compare");
    assert_says(&said, &["--output: ", "pipe: expected a new or empty folder", "got a file"], "compare");
}

#[test]
fn a_run_behind_a_link_stays_there() {
    let (runs, run) = finished_copy();
    let elsewhere = tempfile::tempdir().unwrap();
    copy(&run, &elsewhere.path().join("run"));
    fs::remove_dir_all(&run).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("run"), &run).unwrap();
    ok(&short(runs.path(), &["--overwrite"]));
    assert!(run.is_symlink());
    assert!(elsewhere.path().join("run/eval/step_000000/metrics.json").exists());
    assert!(!elsewhere.path().join("run/eval/step_000010").exists(), "the old run is gone");
    let left: Vec<String> = fs::read_dir(elsewhere.path().join("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.') || name.ends_with(".lock"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn warm_started_adapters_are_cut_to_the_ranks_that_are_asked_for() {
    let runs = tempfile::tempdir().unwrap();
    let cut = runs.path().join("cut");
    let output = format!("warm_start.output={}", cut.display());
    let flags = ["--set", "train.steps=0", "--set", &output, "--set", "warm_start.output_rank.compressor=2"];
    ok(&train(runs.path(), &flags));
    let rank =
        |role: &str| -> Value { read_json::<Value>(&cut.join(role).join("adapter_config.json")).unwrap()["r"].clone() };
    assert_eq!(["compressor", "generator", "empty_reader"].map(rank), [2, 4, 4].map(Value::from));
    let from = format!("warm_start.from={}", cut.display());
    let flags = ["--set", &from, "--set", "warm_start.rounds=0", "--set", "name=onwards", "--set", "train.steps=1"];
    let said = fails(1, &train(runs.path(), &flags));
    assert_says(&said, &["adapter_config.json", "`r`: expected 4", "got 2"], "another rank");
    let ranks = ["--set", "model.lora.compressor.rank=2", "--set", "model.lora.compressor.alpha=4.0"];
    ok(&train(runs.path(), &[&flags[..], &ranks].concat()));
}
