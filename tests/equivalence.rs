//! `gist equivalence`: scores against the rule in Python (`fixtures/make_equivalence_fixture.py`), means and minima, refusals.

use crate::common::{assert_says, fails, fixtures, ok, world};
use crate::encoders::minilm;
use gist::compressor::scorers::embedding::Embedding;
use gist::data::pairs::{Domain, TextPair};
use gist::data::read_documents;
use gist::eval::asked::AskedModel;
use gist::eval::equivalence::{Equivalence, EquivalenceRow};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::Path;
use tch::Device;

fn recorded() -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(fixtures().join("equivalence.json")).unwrap()).unwrap()
}

/// A pair of the fixture, its texts as often as it says.
fn pair(row: &Value) -> TextPair {
    let text = |key: &str| row[key].as_str().unwrap().repeat(row["times"].as_u64().unwrap_or(1) as usize);
    TextPair { verbose: text("verbose"), compressed: text("compressed"), domain: None }
}

#[test]
fn the_first_two_gates_are_those_of_the_rule_in_python() {
    let Some(folder) = minilm() else { return };
    let embedding = Embedding::load(&folder, Device::Cpu).unwrap();
    let equivalence = Equivalence { embedding: &embedding, models: Vec::new(), judge: None };
    let mut passed = 0;
    for row in recorded() {
        let own = equivalence.row(1, &pair(&row)).unwrap();
        let expected = |key: &str| row[key].as_f64().unwrap();
        assert!((own.scores.embedding - expected("embedding")).abs() < 1e-4, "{own:?}: {row}");
        assert!((own.scores.facts - expected("facts")).abs() < 1e-6, "{own:?}: {row}");
        assert_eq!(json!(own.domain), row["domain"], "{row}");
        assert_eq!(own.passed, expected("embedding") >= 0.60 && expected("facts") >= 0.55);
        passed += usize::from(own.passed);
    }
    assert!(passed >= 1 && passed < recorded().len());
}

/// Models that repeat a part of what they are asked, and a judge: mean over tasks, minimum over models.
#[test]
fn a_model_is_its_mean_and_a_gate_its_worst_model() {
    let Some(folder) = minilm() else { return };
    let embedding = Embedding::load(&folder, Device::Cpu).unwrap();
    let prompts = RefCell::new(Vec::new());
    // The same answer to everything, and one that differs for the first text of the first task.
    let steady = |asked: &[String]| Ok(vec!["The mill stands on the east bank.".to_string(); asked.len()]);
    let unsteady = |asked: &[String]| {
        prompts.borrow_mut().extend(asked.to_vec());
        let mut all = vec!["The mill stands on the east bank.".to_string(); asked.len()];
        all[0] = String::new();
        Ok(all)
    };
    let judge = |asked: &[String]| {
        let answer = if asked[0].contains("text:\nThe mill") { "equivalent" } else { "not_equivalent" };
        Ok(vec![format!(r#"{{"verdict": "{answer}", "confidence": 1}}"#)])
    };
    let models = vec![
        AskedModel { name: "steady".into(), ask: Box::new(steady) },
        AskedModel { name: "unsteady".into(), ask: Box::new(unsteady) },
    ];
    let judge = Some(AskedModel { name: "judge".into(), ask: Box::new(judge) });
    let equivalence = Equivalence { embedding: &embedding, models, judge };
    let of = |domain| TextPair { verbose: "a = 1".into(), compressed: "a=1".into(), domain: Some(domain) };
    let row = equivalence.row(7, &of(Domain::Code)).unwrap();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-5, "{a} {b}: {row:?}");
    let steady = row.models["steady"];
    [steady.embedding, steady.facts, steady.judge.unwrap()].into_iter().for_each(|own| near(own, 1.0));
    let unsteady = row.models["unsteady"];
    near(unsteady.embedding, 0.5);
    near(unsteady.facts, 0.5);
    near(unsteady.judge.unwrap(), (0.25 + 1.0) / 2.0);
    assert_eq!((row.scores, row.line, row.passed, row.domain_given), (unsteady, 7, false, true));
    near(row.min_equivalence, 0.5);
    equivalence.row(8, &of(Domain::Mixed)).unwrap();
    let asked = prompts.borrow();
    assert!(asked.len() == 8 && asked[0].contains("Write the code") && asked[4].contains("List every fact"));
    assert!(asked[0].contains("a = 1") && asked[1].contains("a=1"));
}

#[test]
fn texts_that_ship_have_their_domain() {
    let read = |name: &str| read_documents(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)).unwrap();
    let (code, prose) = (read("code/test.jsonl.zst"), read("wiki/test.jsonl.zst"));
    assert!(code.iter().filter(|own| Domain::of(&own.text) == Domain::Code).count() * 100 >= code.len() * 95);
    assert!(prose.iter().all(|own| Domain::of(&own.text) == Domain::Nl));
    for (code, prose) in code.iter().zip(&prose) {
        let lines = |text: &str, from: usize| {
            text.lines().filter(|line| !line.trim().is_empty()).skip(from).take(8).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(Domain::of(&format!("{}\n{}", lines(&prose.text, 0), lines(&code.text, 20))), Domain::Mixed);
    }
}

#[test]
fn rows_and_figures_come_out_and_bad_pairs_are_named() {
    let Some(folder) = minilm() else { return };
    let folder = folder.to_str().unwrap().to_string();
    let root = &world().root;
    let line =
        |row: &Value| json!({"verbose": pair(row).verbose, "compressed": pair(row).compressed}).to_string() + "\n";
    let text: String = recorded().iter().map(line).collect();
    std::fs::write(root.join("pairs.jsonl.zst"), zstd::encode_all(text.as_bytes(), 3).unwrap()).unwrap();
    let own = ["equivalence", "--embedding", &folder, "--resamples", "100", "--output", "equal", "--from"];
    let out = ok(&[&own[..], &["pairs.jsonl.zst"]].concat());
    assert_says(&out, &["all", "code", "nl", "embedding ≥ 0.60"], "table");
    let rows = std::fs::read_to_string(root.join("equal/rows.jsonl")).unwrap();
    let rows: Vec<EquivalenceRow> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let summary: Value = serde_json::from_slice(&std::fs::read(root.join("equal/summary.json")).unwrap()).unwrap();
    let passed = rows.iter().filter(|row| row.passed).count() as f64;
    assert_eq!(summary["domains"]["all"]["n"], rows.len());
    assert_eq!(summary["domains"]["all"]["passed"]["mean"], passed / rows.len() as f64);
    assert_eq!(summary["domains"]["code"]["n"], 2);
    assert_eq!(summary["thresholds"], json!({"embedding": 0.60, "facts": 0.55, "judge": 0.75}));
    assert_eq!(summary["classified"], rows.len());

    let good = r#"{"verbose": "a", "compressed": ""}"#;
    for (bad, expected) in [
        (r#"{"verbose": "a"}"#, vec!["bad.jsonl:2", "compressed"]),
        (r#"{"verbose": " ", "compressed": ""}"#, vec!["bad.jsonl:2", "`verbose`: expected a text"]),
        (r#"{"verbose": "a", "compressed": "b", "domain": "poem"}"#, vec!["bad.jsonl:2", "`domain`", "poem"]),
        (r#"{"verbose": 3, "compressed": "b"}"#, vec!["bad.jsonl:2", "`verbose`", "3"]),
    ] {
        std::fs::write(root.join("bad.jsonl"), format!("{good}\n{bad}\n")).unwrap();
        let said = fails(1, &["equivalence", "--embedding", &folder, "--output", "unequal", "--from", "bad.jsonl"]);
        assert_says(&said, &expected, bad);
    }
    let said = fails(2, &[&own[..], &["pairs.jsonl.zst", "--base-url", "http://127.0.0.1:1"]].concat());
    assert_says(&said, &["--base-url", "--models or --judge"], "no model behind HTTP");
    let said = fails(2, &["equivalence", "--embedding", "none", "--output", "unequal", "--from", "pairs.jsonl.zst"]);
    assert_says(&said, &["--embedding", "./setup --minilm"], "no encoder");
    assert!(!root.join("unequal").exists());
}
