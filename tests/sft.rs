//! `gist sft`: a compressor that learns from pairs; the best weights are kept; stopped and gone on with; the start of co-training.

use crate::common::{
    assert_same_files, assert_says, command, fails, ok, results, rows, run_dir, timeless_summary, world,
};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const UPDATES: usize = 90;

/// Files of pairs whose shorter form is the text's first three words; the second has one that is longer than its text, and one
/// that is longer than the budget.
fn pairs() -> &'static [PathBuf; 2] {
    static PAIRS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    PAIRS.get_or_init(|| {
        ["train", "valid"].map(|split| {
            let mut lines = String::new();
            for line in fs::read_to_string(world().root.join(format!("{split}.jsonl"))).unwrap().lines() {
                let row: Value = serde_json::from_str(line).unwrap();
                let words: Vec<&str> = row["text"].as_str().unwrap().split(' ').collect();
                for part in words.chunks_exact(14) {
                    lines += &format!("{}\n", json!({"verbose": part.join(" "), "compressed": part[..3].join(" ")}));
                }
            }
            if split == "valid" {
                lines += &format!("{}\n", json!({"verbose": "Anna hid", "compressed": "Anna hid one lamp"}));
                let long = "Anna hid 3 lamps in the tower. ".repeat(8);
                lines += &format!("{}\n", json!({"verbose": long, "compressed": &long[..200]}));
            }
            let path = world().root.join(format!("pairs-{split}.jsonl"));
            fs::write(&path, lines).unwrap();
            path
        })
    })
}

/// Arguments of `sft` on the pairs.
fn sft(runs: &Path, more: &[&str]) -> Vec<String> {
    let [train, valid] = pairs().each_ref().map(|path| path.to_str().unwrap());
    let own = ["sft", "tiny.toml", "--runs", runs.to_str().unwrap()].map(String::from);
    let set = [
        format!("warm_start.pairs.train={train}"),
        format!("warm_start.pairs.valid={valid}"),
        format!("warm_start.pairs.updates={UPDATES}"),
        "warm_start.pairs.eval_every=10".into(),
        "warm_start.rounds=0".into(),
        "budget.tokens=16".into(),
        "optim.imitation.lr=1e-2".into(),
    ];
    let set = set.into_iter().flat_map(|set| ["--set".to_string(), set]);
    own.into_iter().chain(set).chain(more.iter().map(|word| word.to_string())).collect()
}

fn words(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// The run, and what it said.
fn whole() -> &'static (PathBuf, String) {
    static RUN: OnceLock<(PathBuf, String)> = OnceLock::new();
    RUN.get_or_init(|| {
        let runs = world().root.join("sft");
        let output = command(&words(&sft(&runs, &[]))).current_dir(&world().root).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{err}");
        (run_dir(&runs), out + &err)
    })
}

fn figures(run: &Path, name: &str) -> Vec<f64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter_map(|row| row[name].as_f64()).collect()
}

#[test]
fn a_compressor_learns_from_pairs_and_the_best_weights_are_kept() {
    let (run, said) = whole();
    let losses = figures(run, "warm_start/pair_valid_loss");
    let best = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(losses.len() >= 3 && best < 0.92 * losses[0], "{losses:?}");
    let at = losses.iter().position(|loss| *loss == best).unwrap();
    assert_says(
        said,
        &[
            "1 pairs are passed over: shorter forms that are empty, or longer than their text",
            "1 pairs are passed over: shorter forms of more than the budget's 16 tokens",
            &format!("pairs: the weights after update {} are kept, loss {best:.4}", 10 * (at + 1)),
            "32 held-out pairs: ",
        ],
        "sft",
    );
    // What is kept is what the checkpoint, the warm start and the folder of the best have.
    let weights = |folder: &str| fs::read(run.join(folder).join("compressor/adapter_model.safetensors")).unwrap();
    assert_eq!(weights("pairs"), weights("warm_start"));
    assert_eq!(timeless_summary(run)["seed"], 0);
}

#[test]
fn patience_ends_it_early() {
    let runs = tempfile::tempdir().unwrap();
    // Steps that are far too large: the loss does not fall for long.
    let more = ["--set", "optim.imitation.lr=1.0", "--set", "warm_start.pairs.patience=1"];
    let output = command(&words(&sft(runs.path(), &more))).current_dir(&world().root).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let run = run_dir(runs.path());
    assert!(figures(&run, "warm_start/pair_loss").len() < UPDATES, "{said}");
    assert!(run.join(format!("checkpoints/step_{UPDATES:06}/manifest.json")).exists(), "the stage is over");
    assert_says(&said, &["0 more looks without a lower one end it"], "patience");
}

#[test]
fn it_goes_on_where_it_was_stopped() {
    let (alone, _) = whole();
    let runs = tempfile::tempdir().unwrap();
    let all = sft(runs.path(), &[]);
    let mut child = command(&words(&all));
    let mut child = child.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while rows(&run_dir(runs.path()).join("metrics.jsonl")) < 15 {
        assert!(begun.elapsed() < Duration::from_secs(200) && child.try_wait().unwrap().is_none(), "never got there");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-KILL", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap();
    ok(&words(&sft(runs.path(), &["--resume"])));
    assert_same_files(&results(alone), &results(&run_dir(runs.path())), "killed, and gone on with");
}

#[test]
fn what_was_learned_is_used_and_co_trained() {
    let (run, _) = whole();
    let runs = tempfile::tempdir().unwrap();
    let text = world().root.join("one.txt");
    fs::write(&text, "Anna hid 3 lamps in the tower. Boris hid 4 coins in the garden. Clara hid 5 drums.").unwrap();
    let said = ok(&["compress", "--with", run.to_str().unwrap(), "--budget", "16", text.to_str().unwrap()]);
    assert!(said.len() > 1 && said.len() < 120, "{said:?}");
    let from = format!("warm_start.from={}", run.join("warm_start").display());
    let set = ["warm_start.rounds=0", "warm_start.fresh_readers=true", "budget.tokens=16", "train.steps=2", &from];
    let flags: Vec<&str> = set.iter().flat_map(|set| ["--set", *set]).collect();
    ok(&[&["train", "tiny.toml", "--runs", runs.path().to_str().unwrap()], &flags[..]].concat());
    assert_eq!(rows(&run_dir(runs.path()).join("metrics.jsonl")), 2);
}

#[test]
fn an_experiment_without_pairs_is_refused() {
    let runs = tempfile::tempdir().unwrap();
    let plain = ["sft", "tiny.toml", "--runs", runs.path().to_str().unwrap()];
    assert_says(&fails(2, &plain), &["tiny.toml: `warm_start.pairs`: expected pairs to learn from"], "none");
    let zero = sft(runs.path(), &["--set", "warm_start.pairs.updates=0"]);
    assert_says(&fails(2, &words(&zero)), &["`warm_start.pairs.updates`: expected at least 1, got 0"], "no updates");
    let extractive = sft(runs.path(), &["--set", "compressor.type=extractive"]);
    assert_says(
        &fails(2, &words(&extractive)),
        &["warm_start.pairs.updates", "of a compressor that writes"],
        "extractive",
    );
    let none = runs.path().join("none.jsonl");
    fs::write(&none, format!("{}\n", json!({"verbose": "a", "compressed": "a b c d e f g h"}))).unwrap();
    let none = sft(runs.path(), &["--set", &format!("warm_start.pairs.train={}", none.display())]);
    let output = command(&words(&none)).current_dir(&world().root).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_says(&said, &["none.jsonl", "expected a pair that fits budget and base, got none"], "no pair");
}
