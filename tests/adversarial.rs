//! Adversarial rows: what they promise, on the rows that ship, and that BM25 falls on them.

use crate::common::{assert_says, gist, ok, world};
use gist::data::task::adversarial::{AdversarialRows, adversarial, alike, content_words};
use gist::data::task::{TaskRow, benchmark, read_task};
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const SHARE: f64 = 0.33;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/tasks/{name}.jsonl.zst"))
}

fn made(name: &str, seed: u64) -> AdversarialRows {
    let rows = read_task(benchmark(name).unwrap(), &shipped(name)).unwrap().rows;
    adversarial(&rows, SHARE, seed, &|text| Ok(text.split_whitespace().count())).unwrap()
}

/// The words of all parts between line breaks and sentence ends in which a reference stands. A few are longer than ICU's sentences.
fn held(row: &TaskRow) -> BTreeSet<String> {
    let ends = Regex::new(r#"\n|[.!?]["')\]]* "#).unwrap();
    let all = ends.split(&row.context).filter(|part| row.answers.iter().any(|answer| part.contains(answer)));
    let word = Regex::new(r"[^\W_]+").unwrap();
    all.flat_map(|part| word.find_iter(part).map(|own| own.as_str().to_lowercase()).collect::<Vec<_>>()).collect()
}

#[test]
fn questions_and_filler_are_what_they_promise() {
    for (name, least) in [("squad", 120), ("hotpotqa", 60)] {
        let found = made(name, 0);
        let passed: usize = found.passed.values().sum();
        let n = found.rows.len();
        assert!(
            n >= least && n + passed == read_task(benchmark(name).unwrap(), &shipped(name)).unwrap().rows.len(),
            "{n}"
        );
        let (mut kinds, mut sharing) = (BTreeSet::new(), 0);
        for own in &found.rows {
            let (plain, hard) = (&own.plain, &own.hard);
            let named = content_words(&hard.query);
            assert!(named.len() >= 2);
            let held = held(plain);
            let shared: Vec<_> = named.iter().filter(|word| held.iter().any(|own| alike(own, word))).collect();
            sharing += usize::from(!shared.is_empty());
            kinds.insert(hard.slice.clone().unwrap());
            assert_eq!(hard.slice.as_deref() == Some("unchanged"), hard.query == plain.query, "{}", hard.query);

            // Without its filler the context is the plain one.
            let paragraphs: Vec<&str> = hard.context.split("\n\n").collect();
            let without = |at: usize| [&paragraphs[..at], &paragraphs[at + 1..]].concat().join("\n\n");
            let at = (0..paragraphs.len()).find(|&at| without(at) == plain.context).unwrap();
            let filler = paragraphs[at].to_lowercase();
            assert!(named.iter().all(|word| filler.contains(word)), "{filler}");
            assert!(plain.answers.iter().all(|answer| !filler.contains(&answer.to_lowercase())), "{filler}");
            let words = |text: &str| text.split_whitespace().count() as f64;
            assert!(words(&filler) > SHARE * words(&hard.context), "{filler}");
            assert_eq!((&hard.id, &hard.answers, &hard.document), (&plain.id, &plain.answers, &plain.document));
        }
        assert_eq!(kinds.len(), 3, "{kinds:?}");
        assert!(sharing * 25 <= n, "{sharing} of {n} questions share a word");
        assert!(found == made(name, 0) && found != made(name, 1), "the seed alone decides");
    }
}

#[test]
fn bm25_falls_and_the_command_says_so() {
    let from = shipped("squad");
    let from = from.to_str().unwrap();
    let own = ["benchmark", "adversarial", "squad", "--from", from, "--base", "base", "--output", "adversarial.jsonl"];
    let more = ["--budgets", "0.2", "--resamples", "200", "--figures", "adversarial.json"];
    let out = ok(&[&own[..], &more].concat());
    assert_says(&out, &["bm25:sentence", "adversarial less plain", "rows: adversarial.jsonl"], "table");
    let root = &world().root;
    let figures: Value = serde_json::from_slice(&std::fs::read(root.join("adversarial.json")).unwrap()).unwrap();
    let bm25 = &figures["answer_kept"][0];
    let mean = |key: &str| bm25[key]["mean"].as_f64().unwrap();
    assert_eq!(bm25["n"], figures["rows"]);
    assert!((mean("difference") - (mean("adversarial") - mean("plain"))).abs() < 1e-12);
    assert!(mean("difference") < -0.2 && bm25["difference"]["ci95"][1].as_f64().unwrap() < -0.1, "{bm25}");
    assert!(mean("paraphrase") > mean("adversarial"), "{bm25}");
    let rows = std::fs::read_to_string(root.join("adversarial.jsonl")).unwrap();
    assert_eq!(rows.lines().count() as u64, figures["rows"].as_u64().unwrap());
    ok(&["benchmark", "show", "plain", "--from", "adversarial.jsonl"]);

    std::fs::write(
        root.join("one.jsonl"),
        r#"{"id": "1", "context": "A zebra ran.", "query": "What zebra?", "answers": ["zebra"]}"#,
    )
    .unwrap();
    for (arguments, expected) in [
        (vec!["squad", "--from", from, "--budgets", "1.5"], vec!["--budgets", "1.5"]),
        (vec!["zebra", "--from", from], vec!["expected a benchmark among", "zebra"]),
        (
            vec!["plain", "--from", "one.jsonl"],
            vec!["one.jsonl", "expected rows that can be made adversarial", "none of 1"],
        ),
    ] {
        let all = [&["benchmark", "adversarial", "--output", "none.jsonl", "--base", "base"][..], &arguments].concat();
        let output = gist(&all);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert_says(&said, &expected, "refusal");
        assert!(!root.join("none.jsonl").exists());
    }
}
