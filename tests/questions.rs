//! Questions as probes, by the real program: rows of contexts with questions, a frame, answers of the teacher or of the row.

use crate::common::*;
use gist::eval::schema::windows::WindowExample;
use gist::run_dir::read_json;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Rows of `count` contexts with two questions each.
fn rows(path: &Path, count: usize) {
    let row = |i: usize| {
        serde_json::json!({"id": format!("c{i}"), "context": format!("Fox {i} is red. Owl {i} is old."), "questions": [
            {"question": "Fox?", "answers": ["red"]}, {"question": "How old is the owl?", "answers": ["old"]}]})
    };
    fs::write(path, (0..count).map(|i| row(i).to_string() + "\n").collect::<String>()).unwrap();
}

fn flags<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let sets = [
        "data.train=asked-train.jsonl",
        "data.valid=asked-valid.jsonl",
        "data.test=asked-test.jsonl",
        "data.prefix_tokens=32",
        "data.local_tokens=30",
        "data.future_tokens=5",
        "data.qa.answers=given",
        "reader.frame=Of {context} {local}:",
        "train.imagined_futures=0",
        "train.steps=2",
        "train.windows_per_step=2",
        "warm_start.rounds=0",
        "condition=none",
        "eval.windows=5",
        "eval.valid_windows=3",
        "eval.search_windows=0",
        "eval.examples=5",
    ];
    sets.into_iter().chain(more.iter().copied()).flat_map(|set| ["--set", set]).collect()
}

fn asked() {
    for (file, count) in [("train", 6), ("valid", 3), ("test", 5)] {
        rows(&world().root.join(format!("asked-{file}.jsonl")), count);
    }
}

#[test]
fn a_context_is_judged_by_all_its_questions_or_by_the_one_in_sight() {
    asked();
    let runs = tempfile::tempdir().unwrap();
    for (condition, answers, samples, windows) in [
        ("none", "given", 0, 5),
        ("local", "given", 0, 5),
        ("query", "given", 0, 5),
        ("none", "teacher", 0, 5),
        ("none", "teacher", 3, 5),
    ] {
        let at = runs.path().join(format!("{condition}-{answers}-{samples}"));
        let sets = [
            format!("condition={condition}"),
            format!("data.qa.answers={answers}"),
            format!("data.qa.samples={samples}"),
        ];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        ok(&[&["train", "tiny.toml", "--at", at.to_str().unwrap()][..], &flags(&sets)].concat());
        let summary: Value = read_json(&at.join("summary.json")).unwrap();
        assert_eq!(summary["eval"]["n_windows"], windows, "{condition} {answers}");
        // Every other window of a condition that shows the question is of the same context.
        let documents = if condition == "none" { 5 } else { 3 };
        assert_eq!(summary["eval"]["n_documents"], documents, "{condition} {answers}");
        let path = fs::read_dir(at.join("eval")).unwrap().next().unwrap().unwrap().path().join("examples.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        let first: WindowExample = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first.prefix, "Fox 0 is red. Owl 0 is old.");
        match (condition, answers) {
            ("none", "given") => {
                assert_eq!(
                    (first.local.as_str(), first.future.as_str()),
                    ("Fox?:\nHow old is the owl?:\n", "red\nold\n")
                );
            }
            ("local" | "query", _) => {
                assert_eq!((first.local.as_str(), first.future.as_str()), (" Fox?:", " red"));
            }
            // Each of two questions once, or with each of three samples of the teacher.
            _ => {
                assert_eq!(first.local.matches("Fox?:").count(), samples.max(1), "{:?}", first.local);
                assert!(first.future.lines().count() <= 2 * samples.max(1), "{:?}", first.future);
                assert_ne!(first.future, "red\nold\n");
            }
        }
    }
}

#[test]
fn a_context_that_the_budget_keeps_whole_is_passed_over_and_counted() {
    asked();
    let (file, runs) = (world().root.join("asked-short.jsonl"), tempfile::tempdir().unwrap());
    rows(&file, 5);
    let short = r#"{"id": "s", "context": "Red.", "questions": [{"question": "Fox?", "answers": ["Red"]}]}"#;
    fs::write(&file, fs::read_to_string(&file).unwrap() + short).unwrap();
    let sets = flags(&["data.test=asked-short.jsonl", "train.steps=0", "budget.tokens=6", "eval.windows=6"]);
    let output =
        gist(&[&["train", "tiny.toml", "--at", runs.path().join("run").to_str().unwrap()][..], &sets].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_says(&said, &["asked-short.jsonl: 1 contexts that the budget keeps whole are passed over"], "short");
    let summary: Value = read_json(&runs.path().join("run/summary.json")).unwrap();
    assert_eq!(summary["eval"]["n_windows"], 5);
}

#[test]
fn what_cannot_be_asked_is_an_error_or_a_counted_skip() {
    asked();
    let runs = tempfile::tempdir().unwrap();
    let at = runs.path().join("run");
    let run = |sets: &[&str]| {
        [&["train", "tiny.toml", "--at", at.to_str().unwrap()][..], &flags(sets)]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    let refused = |sets: &[&str], words: &[&str]| {
        let arguments = run(sets);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        assert_says(&fails_as_it_says(&arguments), words, &format!("{sets:?}"));
    };
    refused(&["reader.frame=Of {context}:"], &["reader.frame", "expected {context} and then {local}, once each"]);
    refused(&["reader.answer=So"], &["reader.answer", "expected chat = true beside it"]);
    refused(&["reader.chat=true"], &["chat template: expected one (reader.chat is true), got none"]);
    refused(&["data.qa.samples=2"], &["data.qa.samples", "expected 0 (answers is \"given\"), got 2"]);
    refused(
        &["data.prefix_tokens=4", "budget.tokens=2"],
        &["asked-train.jsonl: expected contexts that data.prefix_tokens holds and the budget does not"],
    );
    refused(&["train.imagined_futures=1"], &["train.imagined_futures", "expected 0 where probes ask", "got 1"]);
    refused(
        &["data.test=test.jsonl"],
        &["test.jsonl:1: ", "expected a JSON object with a string `context` and a list `questions`"],
    );
    refused(&["data.facts.per_context=2"], &["expected one of data.recall, data.facts and data.qa, got two"]);
    let arguments = run(&["data.local_tokens=12", "train.steps=1"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = gist(&arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_says(
        &said,
        &["asked-test.jsonl: 5 questions or answers above data.local_tokens and data.future_tokens"],
        "long",
    );
}
