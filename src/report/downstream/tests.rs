//! The page from rows made by hand: every compressor and budget is on it, nothing is fetched, and what models wrote is no markup.

use super::{redraw, write};
use crate::eval::task::figures::figures;
use crate::eval::task::rows::DownstreamRow;
use serde_json::{Value, json};
use std::fs;

fn row(number: usize, compressor: &str, budget: f64) -> DownstreamRow {
    let whole = "Anna hid 12 coins in <b>Tessin</b>. Boris hid none of his own. It rained.";
    let text = if compressor == "identity" { whole } else { "Anna hid 12 coins" };
    let f1 = if compressor == "identity" { 1.0 } else { [1.0, 0.0][number % 2] };
    let mut all = json!({
        "dataset": "abc", "task_model": "openai:m", "task_model_sha256": null, "endpoint": "http://127.0.0.1:1/v1",
        "answer_tokens": 16, "seed": 3, "metric_version": "1", "git_sha": "x",
        "example_id": format!("q{number}"), "benchmark": "plain", "domain": "nl", "slice": null, "document": format!("d{number}"),
        "query": "How many <i>?", "answers": ["12"],
        "compressor": compressor, "compressor_weights": "baseline", "sees_query": true,
        "budget_requested": budget, "budget_tokens": 9,
    });
    let measured = json!({
        "full_output": "12", "compressed_output": "<script>alert(1)</script>", "closed_output": "",
        "full_exact_match": 1.0, "compressed_exact_match": f1, "closed_exact_match": 0.0, "delta_exact_match": f1 - 1.0,
        "full_f1": 1.0, "compressed_f1": f1, "closed_f1": 0.0, "delta_f1": f1 - 1.0,
        "context_tokens_full": 20, "context_tokens_compressed": 5, "compression_ratio": 0.25,
        "latency_ms_full": 1.0, "latency_ms_compressed": 1.0, "latency_ms_compressor": 1.0,
        "cost_usd_full": 0.5, "cost_usd_compressed": 0.125, "input_tokens_compressed": 30, "output_tokens_compressed": 2,
        "cut_tokens_full": 0, "answer_at": 0.1, "answer_kept": true, "compressed_text": text,
    });
    all.as_object_mut().unwrap().extend(measured.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

fn rows() -> Vec<DownstreamRow> {
    let arms = [("bm25", 0.2), ("bm25", 0.4), ("a/b:c", 0.2), ("identity", 1.0)];
    (0..4).flat_map(|number| arms.map(|(name, budget)| row(number, name, budget))).collect()
}

#[test]
fn the_page_is_whole_safe_and_the_same_again() {
    let (folder, rows) = (tempfile::tempdir().unwrap(), rows());
    let path = write(folder.path(), &rows, &figures(&rows, 50, 3)).unwrap();
    let page = fs::read_to_string(&path).unwrap();
    for part in [
        "bm25",
        "a/b:c",
        "the whole context",
        "closed book",
        "default-src 'none'",
        "cost $2.0000",
        "&lt;script&gt;alert(1)",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("<b>Tessin"));
    assert!(page.contains("<mark class=\"span\">Anna hid 12 coins</mark>"));
    // A point an arm: two of bm25, one of the other.
    let svg = fs::read_to_string(folder.path().join("figures/f1-by-tokens.svg")).unwrap();
    assert_eq!(svg.matches("class=\"point\"").count(), 3);
    let text: String = rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
    fs::write(folder.path().join("rows.jsonl"), text).unwrap();
    fs::write(folder.path().join("summary.json"), "{\"resamples\": 50}").unwrap();
    redraw(folder.path()).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), page);
}

#[test]
fn rows_without_questions_have_a_page_alone() {
    let (folder, mut rows) = (tempfile::tempdir().unwrap(), rows());
    rows[0].query.clear();
    let page = fs::read_to_string(write(folder.path(), &rows, &figures(&rows, 50, 3)).unwrap()).unwrap();
    assert!(page.contains("Every compressor and budget") && !page.contains("Contexts and answers"));
    assert!(!folder.path().join("ragas").exists() && !folder.path().join("every_eval_ever.jsonl").exists());
}

#[test]
fn exports_have_the_columns_of_their_tools() {
    let (folder, rows) = (tempfile::tempdir().unwrap(), rows());
    write(folder.path(), &rows, &figures(&rows, 50, 3)).unwrap();
    let lines = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(folder.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let ragas = lines("ragas/bm25@0.2.jsonl");
    let keys: Vec<&str> = ragas[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((ragas.len(), keys), (4, vec!["user_input", "retrieved_contexts", "response", "reference"]));
    assert_eq!(ragas[0]["retrieved_contexts"], json!(["Anna hid 12 coins"]));
    assert_eq!(fs::read_dir(folder.path().join("ragas")).unwrap().count(), 4);
    let all = lines("every_eval_ever.jsonl");
    assert_eq!(all.len(), rows.len());
    for row in &all {
        assert_eq!((&row["schema_version"], &row["interaction_type"]), (&json!("0.3.0"), &json!("single_turn")));
        assert!(row["metadata"].as_object().unwrap().values().all(Value::is_string));
    }
    assert_eq!(all[0]["token_usage"], json!({"input_tokens": 30, "output_tokens": 2, "total_tokens": 32}));
    assert_eq!(all[0]["evaluation"], json!({"score": 1.0, "is_correct": true}));
}
