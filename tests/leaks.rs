//! Rows of benchmarks that something was trained on: `gist benchmark leaks`, and the rows that ship.

use crate::common::{assert_says, command, fails, ok, world};
use serde_json::json;

#[test]
fn rows_that_were_trained_on_are_found() {
    let root = &world().root;
    let row = |id: &str, query: &str, context: &str| {
        json!({"id": id, "context": context, "query": query, "answers": ["7"]}).to_string()
    };
    let judged = [row("a", "How many?", "There are 7 of them in all."), row("b", "Why?", "Because 7 is a number.")];
    std::fs::write(root.join("judged.jsonl"), judged.join("\n")).unwrap();
    std::fs::write(root.join("apart.jsonl"), row("c", "When?", "At 7.")).unwrap();
    std::fs::write(
        root.join("taught.jsonl"),
        json!({"text": "Quite another.", "query": "how MANY?", "keep": [[0, 5]]}).to_string(),
    )
    .unwrap();
    let command = ["benchmark", "leaks", "plain", "--from", "judged.jsonl", "--trained-on"];
    let said = ok(&[&command[..], &["plain=apart.jsonl"]].concat());
    assert_says(&said, &["apart.jsonl", "other paragraphs"], "nothing leaks");
    let said = fails(1, &[&command[..], &["plain=apart.jsonl,labelled=taught.jsonl"]].concat());
    assert_says(
        &said,
        &["judged.jsonl: expected rows that nothing was trained on, got some in taught.jsonl (a)"],
        "a leak",
    );
    assert_says(
        &fails(2, &[&command[..], &["apart.jsonl"]].concat()),
        &["--trained-on: expected FORM=FILE"],
        "no form",
    );
    let unknown = fails(2, &[&command[..], &["trivia=apart.jsonl"]].concat());
    assert_says(&unknown, &["--trained-on: expected a benchmark among", "\"trivia\""], "no such form");
}

/// The encoder and the reader that ship were taught by rows that are apart from those that they are judged by.
#[test]
fn no_shipped_row_was_trained_on() {
    for (name, taught) in [
        ("hotpotqa", "labelled=data/hotpotqa/train.jsonl.zst,labelled=data/evidence/train.jsonl.zst"),
        ("squad", "labelled=data/hotpotqa/train.jsonl.zst,labelled=data/evidence/train.jsonl.zst"),
    ] {
        let from = format!("data/tasks/{name}.jsonl.zst");
        let arguments = ["benchmark", "leaks", name, "--from", &from, "--trained-on", taught];
        let output = command(&arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
