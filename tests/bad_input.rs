//! Bad input, met by the real program: one message that names file, key, expected and got; nothing overwritten, nothing
//! half-written. Models and adapters are in `bad_models`.

use crate::common::{
    assert_same_files, assert_says, command, fails, fails_as_it_says, files, finished_copy, train, world,
};
use std::fs;
use std::path::Path;

/// A fault, made in a folder of its own; the overrides that lead to it; words of the message.
pub type Case = (&'static str, fn(&Path), &'static [&'static str], &'static [&'static str]);

/// `DIR` in an override stands for the case's folder.
pub fn refuse(cases: &[Case], subcommand: &str, experiment: &str) {
    for (name, prepare, overrides, words) in cases {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let (dir, runs) = (folder.path().to_str().unwrap(), folder.path().join("runs"));
        let overrides: Vec<String> = overrides.iter().map(|text| text.replace("DIR", dir)).collect();
        let mut arguments = vec![subcommand, experiment, "--runs", runs.to_str().unwrap()];
        arguments.extend(overrides.iter().flat_map(|text| ["--set", text]));
        let said = fails_as_it_says(&arguments);
        assert_says(&said, words, name);
        assert!(!runs.exists(), "{name}: left a run directory");
    }
}

pub fn nothing(_: &Path) {}

fn write(dir: &Path, bytes: &[u8]) {
    fs::write(dir.join("text.jsonl"), bytes).unwrap();
}

const TEXT: &str = "data.train=DIR/text.jsonl";

#[test]
fn text() {
    let cases: &[Case] = &[
        ("no file", nothing, &["data.valid=DIR/gone.jsonl"], &["gone.jsonl: No such file"]),
        (
            "another kind of file",
            nothing,
            &["data.test=tiny.toml"],
            &["tiny.toml: expected a folder or a .txt or .jsonl"],
        ),
        (
            "empty file",
            |dir| write(dir, b""),
            &[TEXT],
            &["text.jsonl: expected .txt or .jsonl files", "1 without text"],
        ),
        ("blank file", |dir| write(dir, b"\n{\"text\": \" \"}\n"), &[TEXT], &["text.jsonl: ", "1 without text"]),
        ("empty folder", nothing, &["data.train=DIR"], &["expected .txt or .jsonl files", "got none"]),
        (
            "not UTF-8",
            |dir| write(dir, b"{\"text\": \"one\"}\n{\"text\": \"caf\xe9\"}\n"),
            &[TEXT],
            &["text.jsonl:2: expected UTF-8, got byte 0xe9"],
        ),
        (
            "not JSON",
            |dir| write(dir, b"{\"text\": \"one\"}\nplain\n"),
            &[TEXT],
            &["text.jsonl:2: expected a JSON object with a string `text`"],
        ),
        (
            "no document as long as a window",
            |dir| write(dir, b"{\"text\": \"Anna hid 3 lamps.\"}\n"),
            &[TEXT],
            &[
                "text.jsonl: windows of prefix 32 + local 8 + future 8: expected a document of at least 48 tokens, got 1",
            ],
        ),
        (
            "no test document as long as a window",
            |dir| write(dir, b"{\"text\": \"Anna hid 3 lamps.\"}\n"),
            &["data.test=DIR/text.jsonl"],
            &["text.jsonl: windows of prefix 32", "at least 48 tokens"],
        ),
        (
            "one test document, so no gist of another",
            |dir| write(dir, format!("{{\"text\": \"{}\"}}\n", "Anna hid 3 lamps. ".repeat(30)).as_bytes()),
            &["data.test=DIR/text.jsonl"],
            &[
                "text.jsonl: windows for `other_document`: expected at most half of the 2 windows in one document, got 2",
            ],
        ),
    ];
    refuse(cases, "train", "tiny.toml");
}

#[test]
fn keys() {
    let cases: &[Case] = &[
        ("unknown key", nothing, &["train.stpes=3"], &["--set: `train.stpes`: unknown key", "did you mean `steps`?"]),
        ("budget twice", nothing, &["budget.keep_ratio=0.1"], &["tiny.toml: `budget.tokens`: ", "got both"]),
        ("no budget", nothing, &["budget.tokens=0"], &["--set: `budget.tokens`: ", "at least 1 token, got 0"]),
        (
            "budget of a prefix",
            nothing,
            &["budget.tokens=32"],
            &["`budget.tokens`: ", "below the prefix's 32", "got 32"],
        ),
        (
            "shares",
            nothing,
            &["generator.stale=0.9"],
            &["`generator`: expected shares", "sum to 1, got 0.4 + 0.2 + 0.2 + 0.9"],
        ),
        (
            "no one to leave out",
            nothing,
            &["algo.estimator.type=rloo", "rollout.group_size=1"],
            &["--set: `rollout.group_size`: expected at least 2, got 1"],
        ),
        ("no query", nothing, &["condition=query"], &["--set: `condition`: expected \"none\" or \"local\""]),
        ("malformed override", nothing, &["train.steps"], &["--set: `train.steps`: expected dotted.key=value"]),
    ];
    refuse(cases, "train", "tiny.toml");
    let runs = tempfile::tempdir().unwrap();
    let runs = runs.path().to_str().unwrap();
    for (arguments, words) in [
        (vec!["train", "gone.toml", "--runs", runs], "gone.toml: No such file"),
        (vec!["train", "base.toml", "--runs", runs], "base.toml: `kind`: expected \"train\", got \"pretrain\""),
        (vec!["pretrain", "tiny.toml", "--runs", runs], "tiny.toml: `kind`: expected \"pretrain\", got \"train\""),
        (vec!["eval", runs], "expected a run directory with a config.toml, got a folder without one"),
        (vec!["report", runs], "expected a run directory with a config.toml, got a folder without one"),
        (vec!["pool", "gone"], "gone: expected a run directory with a config.toml, got no such folder"),
    ] {
        assert_says(&fails_as_it_says(&arguments), &[words], &format!("{arguments:?}"));
    }
    assert_eq!(fs::read_dir(runs).unwrap().count(), 0);
}

#[test]
fn pretraining() {
    let cases: &[Case] = &[
        ("no file", nothing, &["data.train=[\"gone.jsonl\"]"], &["gone.jsonl: No such file"]),
        (
            "empty corpus",
            |dir| write(dir, b""),
            &["data.valid=[\"DIR/text.jsonl\"]"],
            &["text.jsonl: ", "1 without text"],
        ),
        (
            "not UTF-8",
            |dir| write(dir, b"caf\xe9"),
            &["data.train=[\"DIR/text.jsonl\"]"],
            &["text.jsonl:1: expected UTF-8"],
        ),
        ("no tokenizer", nothing, &["tokenizer.path=DIR/gone.json"], &["gone.json: No such file"]),
        (
            "a tokenizer without an end of text",
            |dir| {
                let text = fs::read_to_string(world().root.join("base/tokenizer.json")).unwrap();
                fs::write(dir.join("tokenizer.json"), text.replace("<|endoftext|>", "</s>")).unwrap();
            },
            &["tokenizer.path=DIR/tokenizer.json"],
            &["tokenizer.json: expected the token \"<|endoftext|>\" between documents, got none"],
        ),
        ("no text", nothing, &["data.train=[]"], &["`data`: expected train and valid files"]),
        ("odd heads", nothing, &["model.num_key_value_heads=3"], &["`model.num_key_value_heads`: ", "got 3"]),
        (
            "short model",
            nothing,
            &["model.max_position_embeddings=64"],
            &["`model.max_position_embeddings`: ", "got 64"],
        ),
        ("long rows", nothing, &["rows.tokens=200"], &["`rows.tokens`: expected at most", "128, got 200"]),
    ];
    refuse(cases, "pretrain", "base.toml");
    // Lengths are known once the tokenizer is trained: the run has begun and says so, but no model is written.
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), b"{\"text\": \"Anna hid 3 lamps.\"}\n");
    let [text, output] = ["text.jsonl", "model"].map(|name| folder.path().join(name).to_str().unwrap().to_string());
    for key in ["train", "valid"] {
        let (data, output) = (format!("data.{key}=[\"{text}\"]"), format!("output={output}"));
        let runs = folder.path().join(key);
        let said =
            fails(1, &["pretrain", "base.toml", "--runs", runs.to_str().unwrap(), "--set", &data, "--set", &output]);
        assert_says(&said, &["text.jsonl: ", "expected", "tokens, got"], key);
        let status = fs::read_to_string(runs.join("base/status.json")).unwrap();
        assert_says(&status, &["\"failed\"", "text.jsonl"], key);
    }
    assert!(!Path::new(&output).exists());
}

#[test]
fn an_existing_run_is_not_touched() {
    let (runs, run) = finished_copy();
    let before = files(&run);
    let said = fails(1, &train(runs.path(), &[]));
    assert_says(&said, &["tiny/seed=0: expected a new or empty folder", "--resume", "--overwrite"], "fresh");
    let said =
        fails(1, &train(runs.path(), &["--resume", "--set", "train.steps=7", "--set", "optim.generator.lr=0.5"]));
    assert_says(&said, &["tiny/seed=0/config.toml: ", "`train.steps` was 6, is now 7"], "resume");
    assert_says(&said, &["`optim.generator.lr` was 0.001, is now 0.5"], "resume");
    let said = fails(1, &train(runs.path(), &["--overwrite", "--set", "data.train=gone.jsonl"]));
    assert_says(&said, &["gone.jsonl: No such file"], "overwrite");
    assert_same_files(&before, &files(&run), "existing run");
    fs::remove_file(run.join("config.toml")).unwrap();
    let said = fails(1, &train(runs.path(), &["--overwrite"]));
    assert_says(&said, &["expected a run directory to overwrite, got a folder without config.toml"], "no run");
    assert_eq!(files(&run).len(), before.len() - 1);
}

#[test]
fn an_evaluation_needs_a_run_past_its_warm_start() {
    let (_runs, run) = finished_copy();
    for folder in ["warm_start", "checkpoints"] {
        fs::remove_dir_all(run.join(folder)).unwrap();
    }
    let before = files(&run);
    let said = fails(1, &["eval", run.to_str().unwrap()]);
    assert_says(&said, &["expected a run past its warm start", "record.json: No such file"], "eval");
    assert_same_files(&before, &files(&run), "eval");
}

#[test]
fn what_the_command_line_does_not_know() {
    for arguments in [&["trian"][..], &["train", "tiny.toml", "--resume", "--overwrite"], &["train"]] {
        let output = command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_says(&String::from_utf8_lossy(&output.stderr), &["error: ", "Usage: "], &arguments.join(" "));
    }
}
