//! `gist judge` and the models of `gist equivalence`, against the server.

use super::server::{Act, Server, prompt};
use super::{KEY, Place, printed, refused};
use crate::common::assert_says;
use serde_json::{Value, json};
use std::fs;

#[test]
fn judges_grade_what_was_kept_and_their_agreement_is_told() {
    let (server, place) = (Server::start(), Place::new());
    let url = format!("{}/v1", server.address);
    printed(&place.run("openai:m", &url, &[]));
    let rows = place.rows();
    server.calls();
    let judge = |more: &[&str]| {
        let own = ["judge", "--from", "out", "--judges", "openai:m,openai:strict", "--base-url", &url];
        place.alone(&[&own[..], &["--resamples", "50"], more].concat()).env("OPENAI_API_KEY", KEY).output().unwrap()
    };
    let said = printed(&judge(&[]));
    assert_says(
        &said,
        &["identity", "openai:m and openai:strict: 12 rows, equal 0.0 %, at most 1 apart 100.0 %"],
        "judge",
    );
    let text = fs::read_to_string(place.path("out/judged.jsonl")).unwrap();
    let judged: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(judged.len(), rows.len());
    for (row, judged) in rows.iter().zip(&judged) {
        assert_eq!((&judged["example_id"], &judged["compressor"]), (&json!(row.example_id), &json!(row.compressor)));
        let name = row.query.split(' ').nth(4).unwrap();
        let grade = if row.compressed_text.contains(&format!("{name} hid ")) { 9.0 } else { 2.0 };
        assert_eq!(judged["grades"], json!({"openai:m": grade, "openai:strict": grade - 1.0}));
    }
    let summary: Value = serde_json::from_slice(&fs::read(place.path("out/judged.json")).unwrap()).unwrap();
    let identity =
        summary["compressors"].as_array().unwrap().iter().find(|own| own["compressor"] == "identity").unwrap();
    assert_eq!((&identity["grades"]["openai:m"]["mean"], &identity["n"]), (&json!(9.0), &json!(4)));
    assert_eq!((&summary["agreement"][0]["within_one"], &summary["examples"]), (&json!(1.0), &json!(4)));
    let kappa = summary["agreement"][0]["kappa"].as_f64().unwrap();
    assert!(kappa > 0.8 && kappa < 1.0, "{kappa}");
    let calls = server.calls();
    assert!(
        calls.iter().all(|call| prompt(call).contains("Grade from 1 to 10")) && calls.len() >= 12,
        "{}",
        calls.len()
    );
    // Again: the answers are there.
    printed(&judge(&["--limit", "2"]));
    assert!(server.calls().is_empty());
    assert_eq!(fs::read_to_string(place.path("out/judged.jsonl")).unwrap().lines().count(), 6);

    // A judge that says no grade.
    server.acts((0..12).map(|_| Act::Body("application/json", r#"{"choices": [{"message": {"content": "Fine."}}]}"#)));
    let own = ["judge", "--from", "out", "--judges", "openai:mute", "--base-url", &url, "--resamples", "50"];
    let output = place.alone(&own).env("OPENAI_API_KEY", KEY).output().unwrap();
    assert_says(&refused(&output), &["--judges: expected a reply that can be read, got none"], "no grade");
    let twice = ["judge", "--from", "out", "--judges", "openai:m,openai:m", "--base-url", &url];
    assert_says(&refused(&place.alone(&twice).output().unwrap()), &["--judges: expected each model once"], "twice");
    let nowhere = ["judge", "--from", "nowhere", "--judges", "openai:m", "--base-url", &url];
    assert_says(&refused(&place.alone(&nowhere).output().unwrap()), &["nowhere/rows.jsonl"], "no rows");
}

#[test]
fn equivalence_asks_models_and_a_judge() {
    let Some(folder) = crate::encoders::minilm() else { return };
    let (server, place) = (Server::start(), Place::new());
    let pair = |short: &str| {
        let verbose = "Anna hid 12 coins. How many coins did Anna hide?";
        json!({"verbose": verbose, "compressed": short, "domain": "nl"}).to_string()
    };
    let pairs = [
        pair("Anna hid 12 coins. How many coins did Anna hide?"),
        pair("Anna hid 13 coins. How many coins did Anna hide?"),
    ];
    fs::write(place.path("pairs.jsonl"), pairs.join("\n")).unwrap();
    let url = format!("{}/v1", server.address);
    let own = ["equivalence", "--from", "pairs.jsonl", "--output", "equal", "--resamples", "50", "--base-url", &url];
    let more = ["--embedding", folder.to_str().unwrap(), "--models", "openai:m,openai:n", "--judge", "openai:judge"];
    printed(&place.alone(&[&own[..], &more].concat()).env("OPENAI_API_KEY", KEY).output().unwrap());
    let text = fs::read_to_string(place.path("equal/rows.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Both models answer with the number of coins: the judge sees whether it is the same.
    assert_eq!(rows.iter().map(|row| row["judge"].as_f64().unwrap()).collect::<Vec<_>>(), [1.0, 0.25]);
    assert_eq!(rows[0]["models"].as_object().unwrap().len(), 2);
    assert_eq!((&rows[0]["passed"], &rows[1]["passed"]), (&json!(true), &json!(false)));
    // A verdict a pair and task: what both models answered alike is judged once.
    let judged = server.calls().iter().filter(|call| prompt(call).contains("With the short form")).count();
    assert_eq!(judged, 4);
}

#[test]
fn a_model_is_asked_for_pairs_and_what_was_paid_for_stays() {
    let (server, place) = (Server::start(), Place::new());
    let url = format!("{}/v1", server.address);
    let ask = |more: &[&str]| {
        let own =
            ["pairs", "generate", "asked.jsonl", "--field", "context", "--output", "pairs.jsonl", "--ask", "openai:m"];
        let words = [&own[..], &["--base-url", &url], more].concat();
        place.alone(&words).env("OPENAI_API_KEY", KEY).output().unwrap()
    };
    printed(&ask(&["--limit", "2"]));
    let calls = server.calls();
    let asked = "You make texts shorter. ";
    assert!(calls.len() == 2 && calls.iter().all(|call| prompt(call).starts_with(asked)), "{}", calls.len());
    assert!(calls.iter().any(|call| prompt(call).contains("\n\nCompress:\nAnna hid 10 coins.")));
    std::fs::remove_file(place.path("pairs.jsonl")).unwrap();
    printed(&ask(&[]));
    assert_eq!(server.calls().len(), 2, "two of the four answers are there");
    let text = fs::read_to_string(place.path("pairs.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), &rows[0]["made_by"]["model"], &rows[1]["document"]), (4, &json!("openai:m"), &json!("q1")));
    assert!(rows.iter().all(|row| !row["compressed"].as_str().unwrap().is_empty()));
    assert_says(&refused(&ask(&[])), &["expected no such file, got one"], "there");
}
