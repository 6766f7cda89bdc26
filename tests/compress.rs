//! `gist compress`: the same text as an evaluation has, protected spans, rows as a stream, pieces of what is too long, bad input.

use crate::common::{assert_says, command, fails, finished, message, ok, world};
use crate::compressors::{tiny_decoder_with, tokenizer};
use gist::chat::Frame;
use gist::compressor::prompted::{Prompt, Prompted};
use gist::compressor::{Compressor, Request};
use gist::condense::{Condenser, PlainText};
use gist::config::choices::BudgetConfig;
use gist::data::{WindowShape, held_out_windows, read_documents};
use gist::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The last evaluation's examples of the finished run.
fn examples() -> Vec<Value> {
    let folders = fs::read_dir(finished().join("eval")).unwrap().map(|entry| entry.unwrap().path());
    let last = folders.filter(|folder| folder.join("examples.jsonl").exists()).max().unwrap();
    let text = fs::read_to_string(last.join("examples.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write(name: &str, text: &str) -> PathBuf {
    let path = world().root.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn parsed(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_text_comes_out_as_the_evaluation_has_it() {
    let tokenizer = Tokenizer::load(&world().root.join("base/tokenizer.json")).unwrap();
    let documents = read_documents(&world().root.join("test.jsonl")).unwrap();
    let ids: Vec<Vec<u32>> = documents.iter().map(|own| tokenizer.encode(&own.text).unwrap()).collect();
    let shape = WindowShape { prefix: 32, local: 8, future: 8 };
    let windows = held_out_windows(&ids, shape, 12, 2, 0).unwrap();
    let (mut rows, mut expected) = (String::new(), Vec::new());
    for example in examples() {
        let window = &windows[example["window"].as_u64().unwrap() as usize];
        let [prefix, local] = [&window.prefix, &window.probe().local].map(|ids| tokenizer.decode(ids).unwrap());
        assert_eq!(prefix, example["prefix"]);
        // A window may begin or end inside what is one token of a text.
        if tokenizer.encode(&prefix).unwrap() == window.prefix
            && tokenizer.encode(&local).unwrap() == window.probe().local
        {
            rows += &format!("{}\n", json!({"text": prefix, "question": local}));
            expected.push(example["gists"].clone());
        }
    }
    assert!(expected.len() >= 2, "{} windows that are encoded alike", expected.len());
    write("same.jsonl", &rows);
    let run = finished().to_str().unwrap();
    for (name, with) in
        [("gist", run), ("bm25", "bm25"), ("idf", "idf"), ("recent", "recent"), ("attention", "attention")]
    {
        let out = ok(&[
            "compress",
            "same.jsonl",
            "--with",
            with,
            "--base",
            run,
            "--budget",
            "4",
            "--query-field",
            "question",
        ]);
        let made: Vec<Value> = parsed(&out).into_iter().map(|row| row["text"].clone()).collect();
        let evaluated: Vec<Value> = expected.iter().map(|gists| gists[name]["text"].clone()).collect();
        assert_eq!(made, evaluated, "{name}");
    }
}

#[test]
fn kept_ranges_are_the_text_and_protected_spans_stay() {
    let text = "Anna hid 7 lamps in the tower. <gist_keep>Order #4711</gist_keep> Boris hid 9 coins in the cellar.\n";
    write("plain.txt", text);
    for with in ["bm25", "recent", "truncate", "bm25:sentence", "recent+truncate"] {
        let flags = ["compress", "plain.txt", "--base", "base", "--with", with, "--keep-ratio", "0.5", "--json"];
        let found = &parsed(&ok(&[&flags[..], &["--query", "How many coins?"]].concat()))[0];
        let number = |key: &str| found[key].as_u64().unwrap() as usize;
        assert_eq!(number("budget"), number("tokens_before") / 2);
        assert!(number("tokens_after") <= number("budget"), "{with}: {found}");
        let out = found["text"].as_str().unwrap();
        assert!(out.contains("Order #4711") && !out.contains("gist_keep"), "{with}: {out}");
        let ranges = found["kept"].as_array().unwrap();
        let at = |range: &Value, key: &str| range[key].as_u64().unwrap() as usize;
        let kept: String = ranges.iter().map(|range| &text[at(range, "start")..at(range, "end")]).collect();
        assert_eq!(kept, out, "{with}");
        let scored = ranges.iter().filter(|range| range["score"].is_f64()).count();
        assert_eq!(scored > 0, !with.contains('+'), "{with}: {found}");
    }
    let whole = ok(&["compress", "plain.txt", "--base", "base", "--with", "draft", "--keep-ratio", "1.0"]);
    assert_eq!(whole, text.replace("<gist_keep>", "").replace("</gist_keep>", ""), "what fits its budget stays");
    let must = ok(&[
        "compress",
        "plain.txt",
        "--base",
        "base",
        "--with",
        "recent",
        "--budget",
        "22",
        "--must-keep",
        "text:Anna",
    ]);
    assert!(must.contains("Anna") && must.contains("Order #4711"), "{must}");
}

#[test]
fn rows_keep_their_fields_and_come_as_a_stream() {
    let mut child =
        command(&["compress", "--base", "base", "--with", "recent", "--budget", "3", "--field", "body", "--json"])
            .current_dir(&world().root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    let (mut input, mut lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
    let mut send = |from: usize, count: usize| {
        for number in from..from + count {
            writeln!(input, "{}", json!({"id": number, "body": format!("row {number} of a stream"), "more": [1]}))
                .unwrap();
        }
        input.flush().unwrap();
    };
    // The first rows are there while the input is still open.
    send(0, 64);
    let mut take = |number: u64| -> Value {
        let row: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!((&row["id"], &row["more"]), (&json!(number), &json!([1])));
        assert_eq!(row["compression"]["tokens_after"], 3);
        row
    };
    let first: Vec<Value> = (0..64).map(&mut take).collect();
    assert!("row 5 of a stream".ends_with(first[5]["body"].as_str().unwrap()), "{}", first[5]);
    send(64, 7);
    drop(input);
    (64..71).for_each(|number| drop(take(number)));
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_text_too_long_for_a_prompt_is_read_in_pieces_under_one_budget() {
    let (tokenizer, base) = (tokenizer(), tiny_decoder_with(700, &[]));
    let prompted = Prompted::new(Prompt::Summary, &base, &tokenizer, &[0], Frame::default()).unwrap();
    let text: String = (0..900).map(|number| format!("a man {number} a plan ")).collect();
    let ids = tokenizer.encode(&text).unwrap();
    let budget = 40;
    let room = prompted.reads_at_once(budget).unwrap();
    let parts = ids.len().div_ceil(room);
    assert!(parts >= 3, "{} tokens in pieces of {room}", ids.len());
    let condenser = Condenser { compressor: &prompted, tokenizer: &tokenizer };
    let texts = [PlainText { text: &text, query: "", key: 0 }];
    let size = BudgetConfig { tokens: Some(budget), keep_ratio: None };
    let made = condenser.condense(&texts, &size).unwrap().remove(0).unwrap();
    let mut expected = Vec::new();
    for part in 0..parts {
        let cut = |part: usize| part * ids.len() / parts;
        let share = cut(part + 1) * budget / ids.len() - cut(part) * budget / ids.len();
        let request = Request { prefix: &ids[cut(part)..cut(part + 1)], local: &[], query: &[], key: 0 };
        // Nothing of a piece is lost.
        let prompt = prompted.prompts(&[request], share).unwrap().remove(0);
        assert!(prompt.windows(request.prefix.len()).any(|run| run == request.prefix));
        expected.extend(prompted.compress(&[request], share).unwrap().remove(0).ids);
    }
    assert_eq!(made.text, tokenizer.decode(&expected).unwrap());
    assert!(made.tokens_after <= budget && made.tokens_after == expected.len() && made.kept.is_none());
}

#[test]
fn bad_input_names_file_line_and_flag() {
    write("short.txt", "A lamp.");
    write("spans.jsonl", "{\"text\":\"one two\"}\n{\"text\":\"<gist_keep>a long protected span</gist_keep> b\"}\n");
    write("kinds.jsonl", "{\"text\":5}\n");
    write("open.txt", "a <gist_keep>b");
    let run = finished().to_str().unwrap();
    let base = ["--base", "base"];
    let bm25 = ["--with", "bm25", "--budget", "3"];
    let cases: [(i32, &[&str], &[&str]); 12] = [
        (2, &["short.txt", "--with", "bm26", "--budget", "3"], &["--with: expected names among", "got \"bm26\""]),
        (2, &["short.txt", "--with", "bm25"], &["expected --budget TOKENS or --keep-ratio SHARE, got neither"]),
        (2, &["short.txt", "--with", "bm25", "--keep-ratio", "1.5"], &["--keep-ratio: expected a share", "got 1.5"]),
        (
            2,
            &["short.txt", "--with", "idf", "--budget", "3"],
            &["--with: \"idf\" counts", "expected --counts TEXT, or --base RUN"],
        ),
        (2, &["none.txt", "--with", "bm25", "--budget", "3"], &["none.txt: expected a file, got none"]),
        (2, &["short.txt", "open.txt", "--with", "bm25", "--budget", "3"], &["expected one text", "got 2 files"]),
        (
            2,
            &["short.txt", "--with", "draft", "--budget", "3", "--must-keep", "numbers"],
            &["--must-keep: expected", "\"draft\""],
        ),
        (2, &["short.txt", "--query-field", "q", "--with", "bm25", "--budget", "3"], &["--query-field: expected rows"]),
        (
            1,
            &["spans.jsonl", "--with", "bm25", "--budget", "3"],
            &["spans.jsonl:2: `text`: expected protected spans of at most the budget's 3 tokens"],
        ),
        (1, &["kinds.jsonl", "--with", "bm25", "--budget", "3"], &["kinds.jsonl:1: `text`: expected a text, got 5"]),
        (
            1,
            &["kinds.jsonl", "--field", "body", "--with", "bm25", "--budget", "3"],
            &["kinds.jsonl:1: `body`: expected a text, got nothing"],
        ),
        (
            1,
            &["open.txt", "--with", "bm25", "--budget", "3"],
            &["open.txt: expected <gist_keep> and </gist_keep> in pairs, got a beginning"],
        ),
    ];
    for (code, arguments, said) in cases {
        let arguments = [&["compress"], arguments, &base[..]].concat();
        assert_says(&fails(code, &arguments), said, &format!("{arguments:?}"));
    }
    assert_says(
        &fails(2, &["compress", "short.txt", "--with", run, "--must-keep", "numbers"]),
        &["--must-keep", "\"tiny\""],
        "a run",
    );
    // Rows before the bad one are written; a file stays as it was.
    let partly = command(&[&["compress", "spans.jsonl"], &base[..], &bm25].concat())
        .current_dir(&world().root)
        .output()
        .unwrap();
    assert_eq!(parsed(&String::from_utf8_lossy(&partly.stdout)).len(), 1);
    message(1, &partly, "a bad row");
    let kept = write("kept.jsonl", "as it was");
    fails(1, &[&["compress", "spans.jsonl", "--output", "kept.jsonl"], &base[..], &bm25].concat());
    assert_eq!(fs::read_to_string(&kept).unwrap(), "as it was");
    ok(&[&["compress", "short.txt", "--output", "kept.jsonl"], &base[..], &bm25].concat());
    assert!(fs::read_to_string(&kept).unwrap().len() <= "A lamp.".len());
    assert!(!Path::new(&world().root).join(".kept.jsonl.tmp").exists());
}
