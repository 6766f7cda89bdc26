//! `gist pairs`: made by a compressor, cleaned, sanitised, put into the form of a chat, split; stopped and gone on with; bad rows.

use crate::common::{assert_says, command, fails, ok, world};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The tokenizer of the world, which counts.
const BASE: [&str; 2] = ["--base", "base"];

fn parsed(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// A file of the folder with these rows.
fn file(folder: &Path, name: &str, rows: &[Value]) -> String {
    let path = folder.join(name);
    fs::write(&path, lines(rows)).unwrap();
    path.to_str().unwrap().into()
}

fn out(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    (path.clone(), path.to_str().unwrap().into())
}

/// Forty texts of the world, four a document.
fn texts() -> Vec<Value> {
    let story = fs::read_to_string(world().root.join("train.jsonl")).unwrap();
    let row: Value = serde_json::from_str(story.lines().next().unwrap()).unwrap();
    let words: Vec<&str> = row["text"].as_str().unwrap().split_whitespace().collect();
    let text = |number: usize| words[number * 3..number * 3 + 30].join(" ");
    (0..40).map(|number| json!({"text": text(number), "id": number, "document": format!("d{}", number / 4)})).collect()
}

#[test]
fn pairs_go_through_all_stages() {
    let folder = tempfile::tempdir().unwrap();
    let texts = file(folder.path(), "texts.jsonl", &texts());
    let (made, made_name) = out(folder.path(), "made/pairs.jsonl");
    let generate = ["pairs", "generate", &texts, "--output", &made_name, "--with", "recent", "--keep-ratio", "0.4"];
    assert_says(&ok(&[&generate[..], &BASE].concat()), &["40 pairs, 40 of them new"], "generate");
    let pairs = parsed(&made);
    assert_eq!(pairs.len(), 40);
    for pair in &pairs {
        let [verbose, compressed] = ["verbose", "compressed"].map(|key| pair[key].as_str().unwrap());
        assert!(verbose.ends_with(compressed.trim()) && !compressed.is_empty(), "{pair}");
        assert_eq!(
            (&pair["made_by"], &pair["domain"]),
            (&json!({"compressor": "recent", "keep_ratio": 0.4}), &json!("nl"))
        );
        assert!(pair["document"].as_str().unwrap().starts_with('d'));
    }

    let mut all = pairs.clone();
    all.push(pairs[3].clone());
    all.push(json!({"verbose": "nothing is kept of this", "compressed": " "}));
    all.push(json!({"verbose": "a copy of this", "compressed": "a copy of this"}));
    let all = file(folder.path(), "all.jsonl", &all);
    let (clean, clean_name) = out(folder.path(), "clean.jsonl");
    let (counts, counts_name) = out(folder.path(), "counts.json");
    ok(&[&["pairs", "clean", &all, "--output", &clean_name, "--json", &counts_name][..], &BASE].concat());
    assert_eq!(parsed(&clean), pairs, "what is clean stays as it is, in order");
    let counts: Value = serde_json::from_slice(&fs::read(counts).unwrap()).unwrap();
    assert_eq!((&counts["before"], &counts["after"]), (&json!(43), &json!(40)));
    let left_out = &counts["left_out"];
    assert_eq!(left_out["a text that came before"], 1);
    assert_eq!(left_out["nothing kept"], 1);
    assert_eq!(left_out["too few or too many characters"], 1);

    let (chats, chats_name) = out(folder.path(), "chats.jsonl");
    ok(&["pairs", "format", &clean_name, "--output", &chats_name]);
    let chat = &parsed(&chats)[7];
    assert_eq!(chat["messages"][1]["content"], format!("Compress:\n{}", pairs[7]["verbose"].as_str().unwrap()));
    assert_eq!((&chat["messages"][2]["content"], &chat["document"]), (&pairs[7]["compressed"], &pairs[7]["document"]));

    // Of pairs and of their chats the same documents are in the same parts.
    let documents = |rows: &[Value]| -> BTreeSet<String> {
        rows.iter().map(|row| row["document"].as_str().unwrap().to_string()).collect()
    };
    let parts = |input: &str, name: &str| {
        let (split, split_name) = out(folder.path(), name);
        ok(&["pairs", "split", input, "--output", &split_name, "--shares", "40,30,30"]);
        ["train", "valid", "test"].map(|part| parsed(&split.join(format!("{part}.jsonl"))))
    };
    let (plain, chat) = (parts(&clean_name, "plain"), parts(&chats_name, "chat"));
    assert_eq!(plain.iter().map(Vec::len).sum::<usize>(), 40);
    let sets = plain.each_ref().map(|rows| documents(rows));
    assert_eq!(sets, chat.each_ref().map(|rows| documents(rows)));
    assert_eq!(sets.iter().map(BTreeSet::len).sum::<usize>(), 10, "no document is in two parts: {sets:?}");
    assert!(sets.iter().filter(|set| !set.is_empty()).count() > 1, "{sets:?}");
}

#[test]
fn what_breaks_a_rule_is_kept_apart_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let pair = |verbose: &str, compressed: &str| json!({"verbose": verbose, "compressed": compressed});
    let good = pair("The boat did not leave the harbour.", "boat ¬leave harbour");
    let long = pair("The boat left.", "The boat left the harbour in the night with all that it had.");
    let denied = pair("The boat did not leave the harbour.", "boat left harbour");
    let loose = pair("The boat and the harbour and the sea.", "boat | harbour |");
    let place = pair("The boat lies near the harbour.", "boat lies by harbour");
    let rows = file(folder.path(), "rows.jsonl", &[good.clone(), long, denied, loose, place.clone()]);
    let (kept, kept_name) = out(folder.path(), "kept.jsonl");
    let (rejected, rejected_name) = out(folder.path(), "rejected.jsonl");
    let sanitize = ["pairs", "sanitize", &rows, "--output", &kept_name, "--rejected", &rejected_name];
    let said = ok(&[&sanitize[..], &BASE].concat());
    assert_says(&said, &["without: length", "without: negation", "without: symbols"], "counts");
    assert_eq!(parsed(&kept), [good.clone(), place]);
    let reasons = parsed(&rejected);
    let reasons: Vec<&str> = reasons.iter().map(|row| row["rejected"].as_str().unwrap()).collect();
    assert!(reasons[0].starts_with("length: ") && reasons[0].ends_with(" times the tokens of the text"), "{reasons:?}");
    assert!(reasons[1].starts_with("negation: "), "{reasons:?}");
    assert_eq!(reasons[2], "symbols: ends with '|'");
    ok(&[&sanitize[..], &BASE, &["--rules", "notation"]].concat());
    assert_eq!(parsed(&rejected)[0]["rejected"], "notation: the text says where, its shorter form has no '@'");
    let poetry = command(&[&sanitize[..], &["--rules", "poetry"]].concat()).output().unwrap();
    assert_says(&String::from_utf8_lossy(&poetry.stderr), &["length, symbols, negation, notation"], "rule");
    let same = ["pairs", "sanitize", &rows, "--output", &kept_name, "--rejected", &kept_name];
    assert_says(&fails(2, &same), &["--rejected: expected another file than --output"], "one file");
}

#[test]
fn generating_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let texts = file(folder.path(), "texts.jsonl", &texts());
    let (whole, whole_name) = out(folder.path(), "whole/pairs.jsonl");
    let (cut, cut_name) = out(folder.path(), "cut/pairs.jsonl");
    let generate = |output: &str, more: &[&str]| {
        let own = ["pairs", "generate", &texts, "--output", output, "--with", "random", "--keep-ratio", "0.5"];
        [&own[..], &BASE, more].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let run = |words: Vec<String>| ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let refused = |code, words: Vec<String>| fails(code, &words.iter().map(String::as_str).collect::<Vec<_>>());
    run(generate(&whole_name, &[]));
    run(generate(&cut_name, &["--limit", "18"]));
    assert_eq!(parsed(&cut).len(), 18);
    assert_says(&refused(2, generate(&cut_name, &[])), &["expected no such file, got one; --resume"], "there");
    // A process that was killed leaves half a row.
    let text = fs::read_to_string(&cut).unwrap();
    fs::write(&cut, &text[..text.len() - 11]).unwrap();
    assert_says(&run(generate(&cut_name, &["--resume"])), &["40 pairs, 23 of them new"], "resumed");
    assert_eq!(fs::read_to_string(&cut).unwrap(), fs::read_to_string(&whole).unwrap());
    assert_says(&run(generate(&cut_name, &["--resume"])), &["40 pairs, 0 of them new"], "nothing left");

    let other = generate(&cut_name, &["--resume"]).iter().map(|word| word.replace("0.5", "0.6")).collect();
    assert_says(
        &refused(1, other),
        &["cut/pairs.jsonl", "pairs.jsonl:1: `made_by`: expected ", "0.6"],
        "another budget",
    );
    let mut rows = parsed(&cut);
    rows.swap(4, 5);
    fs::write(&cut, lines(&rows)).unwrap();
    let said = refused(1, generate(&cut_name, &["--resume"]));
    assert_says(&said, &["pairs.jsonl:5: `verbose`: expected the text of ", "texts.jsonl line 5"], "another order");
}

#[test]
fn bad_rows_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let good = json!({"verbose": "a text", "compressed": "text"});
    let (output, output_name) = out(folder.path(), "output.jsonl");
    for (row, expected) in [
        (json!({"verbose": "a text"}), "`compressed`: expected a text, got nothing"),
        (json!({"verbose": "a text", "compressed": "b", "domain": 3}), "`domain`: expected nl, code or mixed, got 3"),
        (
            json!({"messages": [{"role": "user", "content": "Compress: a"}]}),
            "`messages`: expected a turn of the assistant",
        ),
    ] {
        let rows = file(folder.path(), "bad.jsonl", &[good.clone(), row]);
        for stage in ["format", "clean"] {
            let more: &[&str] = if stage == "clean" { &BASE } else { &[] };
            let said = fails(1, &[&["pairs", stage, &rows, "--output", &output_name][..], more].concat());
            assert_says(&said, &["bad.jsonl", "bad.jsonl:2: ", expected], stage);
        }
    }
    let texts = file(folder.path(), "texts.jsonl", &[json!({"text": "a b c d e f"}), json!({"words": "a"})]);
    let generate = ["pairs", "generate", &texts, "--output", &output_name, "--with", "recent", "--base", "base"];
    assert_says(&fails(1, &generate), &["texts.jsonl", "texts.jsonl:2: `text`: expected a text, got none"], "no text");
    for (more, expected) in [
        (&["--keep-ratio", "0"][..], "--keep-ratio: expected a share above 0 and at most 1, got 0"),
        (&["--max-cost", "1"], "--max-cost: expected --ask openai:NAME"),
    ] {
        assert_says(&fails(2, &[&generate[..], more].concat()), &[expected], "refused");
    }
    let pairs = file(folder.path(), "pairs.jsonl", &[good]);
    let shares = ["pairs", "split", &pairs, "--output", &output_name, "--shares", "1,2"];
    let refused = command(&shares).output().unwrap();
    assert_says(&String::from_utf8_lossy(&refused.stderr), &["expected three numbers, 0 or more"], "shares");
    assert!(!output.exists(), "nothing is written");
}
