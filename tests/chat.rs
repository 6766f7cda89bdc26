//! Instructions to a compressor that writes, with the real program.

use crate::common::{assert_says, fails, ok, train};
use gist::chat::render;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

#[test]
fn an_instruction_stands_around_what_the_compressor_reads() {
    let runs = tempfile::tempdir().unwrap();
    let short = ["--set", "train.steps=1", "--set", "warm_start.windows=4", "--set", "eval.search_windows=0"];
    let gist = ["--set", "compressor.type=gist", "--set"];
    let told = ["compressor.instruction=Keep the facts: {prefix} Short:", "--set", "name=told"];
    ok(&train(runs.path(), &[&short[..], &gist, &told].concat()));
    ok(&train(runs.path(), &short));
    let first = |name: &str| fs::read_to_string(runs.path().join(name).join("seed=0/metrics.jsonl")).unwrap();
    assert_ne!(first("told"), first("tiny"), "it changes what is read");
    for (text, words) in [
        ("no place", "`compressor.instruction`: expected `{prefix}` once, got it 0 times"),
        ("{prefix}{prefix}", "got it 2 times"),
    ] {
        let set = format!("compressor.instruction={text}");
        let said = fails(2, &train(runs.path(), &[&gist[..], &[&set, "--overwrite"]].concat()));
        assert_says(&said, &[words], text);
    }
    let long = format!("compressor.instruction={} {{prefix}}", "word ".repeat(60));
    let said = fails(1, &train(runs.path(), &[&gist[..], &[&long, "--overwrite"]].concat()));
    assert_says(&said, &["max_position_embeddings: expected at least"], "an instruction too long for the base");
}

/// Templates in the shapes that models come with, and each thing that transformers' renderer offers: the same text, or an
/// error on both sides. Fixture: `tests/fixtures/make_chat_fixtures.py`.
#[test]
fn templates_are_rendered_as_transformers_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat");
    let packed = fs::File::open(folder.join("rendered.json.zst")).unwrap();
    let cases: Map<String, Value> = serde_json::from_reader(zstd::Decoder::new(packed).unwrap()).unwrap();
    assert!(cases.len() > 120);
    let mut apart = Vec::new();
    for (name, case) in &cases {
        let template = match case["file"].as_str() {
            Some(file) => fs::read_to_string(folder.join(file)).unwrap(),
            None => case["template"].as_str().unwrap().to_string(),
        };
        let got = render(&template, &case["variables"]);
        if got.as_deref().ok() != case["text"].as_str() {
            apart.push(format!("{name}: expected {}, got {got:?}", case["text"]));
        }
    }
    assert!(apart.is_empty(), "{} of {}:\n{}", apart.len(), cases.len(), apart.join("\n"));
}
