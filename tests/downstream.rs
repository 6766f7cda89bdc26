//! `gist downstream`: answers and rows against plain ways to get them, resuming, refusals, figures by hand.

use crate::common::{assert_says, command, fails, finished, ok, row as ids_row, world};
use gist::config::bos::Bos;
use gist::data::task::{TaskPrompt, TaskRow};
use gist::eval::task::figures::figures;
use gist::eval::task::reader::LocalReader;
use gist::eval::task::rows::DownstreamRow;
use gist::models::{BaseName, Models};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// Questions with a prompt of their own, for which the world's base has positions.
fn questions(name: &str) {
    let row = |number: usize| {
        let people = ["Anna", "Boris", "Clara", "David"];
        let facts: Vec<String> =
            (0..3).map(|at| format!("{} hid {} coins.", people[(number + at) % 4], 10 + number * 3 + at)).collect();
        json!({"id": format!("q{number}"), "document": format!("d{}", number / 2), "context": facts.join(" "),
            "query": format!("How many coins did {} hide?", people[number % 4]), "answers": [format!("{}", 10 + number * 3)],
            "slice": if number.is_multiple_of(2) { "even" } else { "odd" },
            "prompt": {"before": "", "after": format!(" {} hid", people[number % 4]), "answer_tokens": 6}})
    };
    let text: String = (0..6).map(|number| format!("{}\n", row(number))).collect();
    fs::write(world().root.join(name), text).unwrap();
}

fn rows(folder: &str) -> Vec<DownstreamRow> {
    let text = fs::read_to_string(world().root.join(folder).join("rows.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn arguments<'a>(from: &'a str, output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let run = finished().to_str().unwrap();
    let own = [
        "downstream",
        "--benchmark",
        "plain",
        "--from",
        from,
        "--budgets",
        "0.2,0.4",
        "--resamples",
        "100",
        "--output",
        output,
    ];
    [&own[..], &["--base", run], more].concat()
}

#[test]
fn an_evaluation_in_shards_is_the_one_that_was_never_cut() {
    questions("shards.jsonl");
    let with = ["--compressors", "random,recent"];
    ok(&arguments("shards.jsonl", "whole-down", &with));
    let shard = |part: &str| ok(&arguments("shards.jsonl", "cut-down", &[&with[..], &["--shard", part]].concat()));
    assert_says(&shard("2/4"), &["shard 2/4: "], "a shard");
    let said = fails(1, &["merge", "cut-down"]);
    assert_says(&said, &["expected 4 finished shards, got 1", "--shard 1/4"], "shards that are missing");
    for part in ["1/4", "3/4", "4/4"] {
        shard(part);
    }
    let said = ok(&["merge", "cut-down"]);
    assert_says(&said, &["identity", "closed book", "downstream: 4 shards", "merged: cut-down"], "merged");
    // Equal but for the times that it took.
    let timeless = |folder: &str| -> Vec<DownstreamRow> {
        let reset =
            |row| DownstreamRow { latency_ms_full: 0.0, latency_ms_compressed: 0.0, latency_ms_compressor: 0.0, ..row };
        rows(folder).into_iter().map(reset).collect()
    };
    assert_eq!(timeless("cut-down"), timeless("whole-down"));
    ok(&["merge", "cut-down"]);
    let said = fails(2, &arguments("shards.jsonl", "other", &[&with[..], &["--shard", "1/7"]].concat()));
    assert_says(&said, &["--shard: expected at most 6 shards, as many as there are examples, got 1/7"], "too many");
}

fn models() -> Models {
    let folder = world().root.join("base");
    Models::load(BaseName { name: &folder, folder: &folder, bos: Bos::default() }, Kind::Float, Device::Cpu).unwrap()
}

/// The likeliest tokens behind a prompt, a whole pass for each.
fn likeliest(models: &Models, prompt: &str, tokens: usize) -> String {
    let mut ids = models.tokenizer.encode(prompt).unwrap();
    let begun = ids.len();
    let ends = models.decoder.config().end_ids();
    for _ in 0..tokens {
        let hidden = models.decoder.forward(&ids_row(&ids), &[0], None).unwrap().get(0).get(ids.len() as i64 - 1);
        let logits = models.decoder.head().matmul(&hidden);
        for id in
            models.forbidden.iter().filter(|id| !ends.contains(&i64::from(**id)) && i64::from(**id) < logits.size()[0])
        {
            let _ = logits.get(i64::from(*id)).fill_(f64::NEG_INFINITY);
        }
        let next = logits.argmax(-1, false).int64_value(&[]);
        if ends.contains(&next) {
            break;
        }
        ids.push(next as u32);
    }
    models.tokenizer.decode(&ids[begun..]).unwrap().trim().to_string()
}

#[test]
fn every_example_has_its_rows_and_identity_loses_nothing() {
    questions("asked.jsonl");
    let run = finished().to_str().unwrap();
    let compressors = format!("mine={run},bm25,recent");
    let out = ok(&arguments("asked.jsonl", "down", &["--compressors", &compressors]));
    assert_says(&out, &["mine", "bm25", "identity", "closed book", "gap closed"], "table");
    let all = rows("down");
    assert_eq!(all.len(), 6 * (3 * 2 + 1));
    assert_eq!(all.iter().map(DownstreamRow::key).collect::<BTreeSet<_>>().len(), all.len());
    let models = models();
    for row in &all {
        // The whole context and nothing are asked once.
        let first = all.iter().find(|other| other.example_id == row.example_id).unwrap();
        assert_eq!(
            row.shared().map(|answer| (answer.output, answer.latency_ms)),
            first.shared().map(|answer| (answer.output, answer.latency_ms))
        );
        assert!(row.context_tokens_compressed <= row.budget_tokens, "{row:?}");
        assert_eq!(row.delta_f1, row.compressed_f1 - row.full_f1);
        assert!(row.answer_at.is_some() && row.cut_tokens_full == 0);
        if row.compressor == "identity" {
            assert_eq!((row.delta_f1, row.delta_exact_match, row.compression_ratio), (0.0, 0.0, 1.0));
            assert_eq!((&row.compressed_output, row.answer_kept), (&row.full_output, true));
        }
    }
    let asked = fs::read_to_string(world().root.join("asked.jsonl")).unwrap();
    let asked: Vec<TaskRow> = asked.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in all.iter().filter(|row| row.example_id == "q3") {
        let example = &asked[3];
        let after = &example.prompt.as_ref().unwrap().after;
        assert_eq!(
            row.compressed_output,
            likeliest(&models, &format!("{}{after}", row.compressed_text), 6),
            "{}",
            row.compressor
        );
        assert_eq!(row.full_output, likeliest(&models, &format!("{}{after}", example.context), 6));
        assert_eq!(row.closed_output, likeliest(&models, after, 6));
    }
    // What is read is what `gist compress` gives.
    fs::write(world().root.join("one.txt"), &asked[3].context).unwrap();
    for (with, name) in [(run, "mine"), ("bm25", "bm25")] {
        let out = ok(&[
            "compress",
            "one.txt",
            "--with",
            with,
            "--base",
            run,
            "--keep-ratio",
            "0.4",
            "--query",
            &asked[3].query,
            "--json",
        ]);
        let made: Value = serde_json::from_str(&out).unwrap();
        let row = all.iter().find(|row| row.key() == ("q3".into(), name.into(), 400_000)).unwrap();
        assert_eq!(made["text"], row.compressed_text.as_str(), "{name}");
    }
    let summary: Value = serde_json::from_slice(&fs::read(world().root.join("down/summary.json")).unwrap()).unwrap();
    let arms = summary["compressors"].as_array().unwrap();
    assert_eq!(arms.len(), 7);
    assert!(arms.iter().all(|arm| arm["n"] == 6 && arm["documents"] == 3 && arm["slices"]["nl/odd"]["n"] == 3));
    assert_eq!(fs::read_to_string(world().root.join("down/summary.csv")).unwrap().lines().count(), 8);
    // The page, and the same again from the files.
    let page = fs::read_to_string(world().root.join("down/report.html")).unwrap();
    assert_says(&page, &["mine", "bm25", "How many coins did", "default-src 'none'"], "page");
    ok(&["report", "down"]);
    assert!(fs::read_to_string(world().root.join("down/report.html")).unwrap() == page);
    let samples = fs::read_to_string(world().root.join("down/ragas/bm25@0.4.jsonl")).unwrap();
    assert_eq!(samples.lines().count(), 6);
}

#[test]
fn a_killed_run_goes_on_to_the_same_rows() {
    questions("again.jsonl");
    let compressors = ["--compressors", "bm25,random"];
    ok(&arguments("again.jsonl", "whole", &compressors));
    ok(&arguments("again.jsonl", "cut", &compressors));
    let path = world().root.join("cut/rows.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    // In the middle of a row, within an example.
    let cut = text.match_indices('\n').nth(11).unwrap().0 + 40;
    fs::write(&path, [&text.as_bytes()[..cut], b"\xe6\x9d"].concat()).unwrap();
    ok(&arguments("again.jsonl", "cut", &[&compressors[..], &["--resume"]].concat()));
    let timeless = |folder: &str| -> BTreeMap<_, _> {
        let still = |mut row: DownstreamRow| {
            [row.latency_ms_full, row.latency_ms_compressed, row.latency_ms_compressor] = [0.0; 3];
            (row.key(), row)
        };
        rows(folder).into_iter().map(still).collect()
    };
    assert_eq!(timeless("cut"), timeless("whole"));
    // A further compressor shares the answers that are there.
    ok(&arguments("again.jsonl", "cut", &["--compressors", "bm25,random,recent", "--resume"]));
    assert_eq!(rows("cut").len(), 6 * 7);
    let shared: BTreeSet<String> =
        rows("cut").iter().filter(|row| row.example_id == "q0").map(|row| row.latency_ms_full.to_string()).collect();
    assert_eq!(shared.len(), 1, "asked once");
}

#[test]
fn rows_of_other_things_are_not_gone_on_from() {
    questions("refused.jsonl");
    let compressors = ["--compressors", "recent", "--limit", "2"];
    let again = |more: &[&str]| {
        arguments("refused.jsonl", "refused", &[&compressors[..], more].concat())
            .iter()
            .map(|one| one.to_string())
            .collect::<Vec<_>>()
    };
    let said = |code: i32, arguments: &[String]| fails(code, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    ok(&arguments("refused.jsonl", "refused", &compressors));
    assert_says(
        &said(2, &again(&[])),
        &["refused/rows.jsonl: expected no rows of an earlier evaluation without --resume"],
        "no flag",
    );
    assert_says(
        &said(1, &again(&["--resume", "--seed", "1"])),
        &["refused/rows.jsonl:1: `seed`: expected 1, got 0"],
        "seed",
    );
    assert_says(
        &said(1, &again(&["--resume", "--answer-tokens", "9"])),
        &["rows.jsonl:1: `answer_tokens`: expected 9, got 16"],
        "tokens",
    );
    let path = world().root.join("refused/rows.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"compressor_weights\":\"baseline\"", "\"compressor_weights\":\"abc\"", 1))
        .unwrap();
    assert_says(
        &said(1, &again(&["--resume"])),
        &["rows.jsonl:1: `compressor_weights` of recent: expected baseline, got abc"],
        "weights",
    );
    fs::write(&path, format!("{}{}\n", text, text.lines().next().unwrap())).unwrap();
    assert_says(
        &said(1, &again(&["--resume"])),
        &["rows.jsonl:7: expected each row once, got that of line 1 again"],
        "twice",
    );
    fs::write(&path, format!("{{}}\n{text}")).unwrap();
    assert_says(&said(1, &again(&["--resume"])), &["rows.jsonl:1: expected a row, got"], "no row");
    let bad = |more: &[&str]| fails(2, &arguments("refused.jsonl", "unused", more));
    assert_says(&bad(&["--compressors", "bm26"]), &["--compressors: expected names among", "got \"bm26\""], "name");
    let unknown = [
        "downstream",
        "--benchmark",
        "trivia",
        "--from",
        "refused.jsonl",
        "--compressors",
        "bm25",
        "--output",
        "unused",
        "--base",
        "base",
    ];
    assert_says(&fails(2, &unknown), &["--benchmark: expected a benchmark among", "got \"trivia\""], "benchmark");
    assert!(!world().root.join("unused").exists());
    let estimate = ok(&arguments("refused.jsonl", "unused", &["--compressors", "bm25,recent", "--estimate-only"]));
    assert_says(&estimate, &["6 examples, 36 answers", "$0"], "estimate");
}

#[test]
fn a_context_without_room_loses_its_middle() {
    let models = models();
    let reader = LocalReader { models: &models, answer_tokens: 8 };
    let context: String = (0..80).map(|number| format!("coin {number} ")).collect();
    let prompt = TaskPrompt { before: "Text: ".into(), after: " So:".into(), answer_tokens: 4 };
    let example = TaskRow { id: "x".into(), context, query: "?".into(), prompt: Some(prompt), ..TaskRow::default() };
    let asked = reader.question(&example, Some(&example.context)).unwrap();
    assert_eq!(asked.ids.len(), models.decoder.room() - 4);
    let text = models.tokenizer.decode(&asked.ids).unwrap();
    assert!(
        text.starts_with("Text: coin 0 ") && text.ends_with("coin 79  So:") && !text.contains("coin 40 "),
        "{text}"
    );
    assert!(asked.cut > 0 && reader.question(&example, None).unwrap().cut == 0);
    // Worked examples alone are too long for so small a base.
    let bare = TaskRow { prompt: None, ..example };
    let said = reader.question(&bare, Some("x")).err().unwrap().to_string();
    assert_says(&said, &["x: expected at least", "positions around a context, got 128"], "no room");
}

#[test]
fn figures_are_those_by_hand() {
    let template = {
        questions("figures.jsonl");
        ok(&arguments("figures.jsonl", "figures", &["--compressors", "recent", "--limit", "1"]));
        rows("figures").remove(0)
    };
    let row = |number: usize, [full, compressed, closed]: [f64; 3], tokens: [usize; 2]| DownstreamRow {
        example_id: format!("{number}"),
        document: format!("{}", number / 2),
        full_f1: full,
        compressed_f1: compressed,
        closed_f1: closed,
        delta_f1: compressed - full,
        context_tokens_full: tokens[0],
        context_tokens_compressed: tokens[1],
        compression_ratio: tokens[1] as f64 / tokens[0] as f64,
        answer_at: [Some(0.1), Some(0.5), Some(0.99), None][number],
        ..template.clone()
    };
    let all = [
        row(0, [1.0, 0.5, 0.0], [10, 5]),
        row(1, [1.0, 1.0, 0.0], [10, 1]),
        row(2, [0.5, 0.0, 0.5], [100, 10]),
        row(3, [0.5, 0.5, 0.0], [80, 4]),
    ];
    let own = figures(&all, 500, 0).remove(0);
    assert_eq!((own.n, own.documents), (4, 2));
    assert!(own.f1_less.is_empty(), "nobody stands beside it");
    let beside = |row: &DownstreamRow| DownstreamRow { compressor: "other".into(), compressed_f1: 0.25, ..row.clone() };
    let both: Vec<DownstreamRow> = all.iter().cloned().chain(all[1..].iter().map(beside)).collect();
    let less = figures(&both, 500, 0).remove(0).f1_less;
    assert_eq!(less.keys().collect::<Vec<_>>(), ["other"]);
    // Of the three examples of both: 1.0, 0.0 and 0.5 less 0.25 each.
    assert_eq!(less["other"].mean, 0.25);
    assert_eq!(
        (own.full_f1.mean, own.compressed_f1.mean, own.closed_f1.mean, own.delta_f1.mean),
        (0.75, 0.5, 0.125, -0.25)
    );
    assert_eq!(own.gap_closed.mean, (0.5 - 0.125) / (0.75 - 0.125));
    assert_eq!((own.keep_ratio_macro, own.keep_ratio_micro), ((0.5 + 0.1 + 0.1 + 0.05) / 4.0, 0.1));
    // Two documents: a resample is one of them twice, or both.
    assert_eq!(own.compressed_f1.ci95, [0.25, 0.75]);
    assert_eq!(own.delta_f1.ci95, [-0.25, -0.25]);
    let places: Vec<_> = own.places.iter().map(|(name, part)| (name.as_str(), part.n, part.compressed_f1)).collect();
    assert_eq!(places, [("first third", 1, 0.5), ("last third", 1, 0.0), ("middle third", 1, 1.0)]);
}

/// SmolLM2 answers from a paragraph what it does not know by itself.
#[test]
fn smollm2_answers_questions_of_squad() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = root.join(".smollm2");
    if !base.exists() {
        assert!(
            std::env::var_os("GIST_NEEDS_SMOLLM2").is_none(),
            "GIST_NEEDS_SMOLLM2 is set, and .smollm2 is not there"
        );
        return;
    }
    let output: PathBuf = tempfile::tempdir().unwrap().keep();
    let from = root.join("data/tasks/squad.jsonl.zst");
    let [output_name, from, base] = [&output, &from, &base].map(|path| path.to_str().unwrap());
    let arguments = [
        "downstream",
        "--benchmark",
        "squad",
        "--from",
        from,
        "--compressors",
        "bm25:sentence",
        "--budgets",
        "0.33",
        "--limit",
        "12",
        "--answer-tokens",
        "12",
        "--task-model",
        base,
        "--output",
        output_name,
    ];
    let out = command(&arguments).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let summary: Value = serde_json::from_slice(&fs::read(output.join("summary.json")).unwrap()).unwrap();
    let arm = &summary["compressors"][0];
    let mean = |key: &str| arm[key]["mean"].as_f64().unwrap();
    assert!(mean("full_f1") > mean("closed_f1") + 0.1, "{arm}");
    assert!(arm["keep_ratio_macro"].as_f64().unwrap() <= 0.33);
    fs::remove_dir_all(&output).unwrap();
}
