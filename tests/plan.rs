//! `plan` against what `bench` then measures, and what activation checkpointing saves, on a base of random weights.

use crate::common::ok;
use serde_json::Value;
use std::path::Path;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Peak memory in MiB, estimated and measured.
fn peaks(folder: &Path, checkpointing: bool) -> [f64; 2] {
    let (shape, json, runs) = (folder.join("config.json"), folder.join("plan.json"), folder.join("runs"));
    let [shape, json_path, runs_path] = [&shape, &json, &runs].map(|path| path.to_str().unwrap());
    let checkpoint = format!("train.checkpoint_activations={checkpointing}");
    let sizes = ["train.windows_per_step=32", "train.micro_windows=32", "rollout.group_size=8", &checkpoint];
    let shared: Vec<&str> = sizes.iter().flat_map(|set| ["--set", *set]).collect();
    let random = [&["tiny.toml", "--random-weights", shape, "--device", "cpu"], &shared[..]].concat();
    let said = ok(&[&["plan"], &random[..], &["--json", json_path]].concat());
    assert!(said.contains("policy update") && said.contains("peak memory about"), "{said}");
    ok(&[&["bench"], &random[..], &["--runs", runs_path, "--repeats", "1"]].concat());
    let (plan, bench) = (read(&json), read(&runs.join("bench.json")));
    assert!(plan["step_seconds"].as_f64().unwrap() > 0.0);
    assert!(bench["parts"].as_array().unwrap().iter().all(|part| part["seconds"].as_f64().unwrap() > 0.0));
    [plan["peak_mib"].as_f64().unwrap(), bench["peak_rss_mib"].as_f64().unwrap()]
}

#[test]
fn memory_is_foretold_and_checkpointing_saves_it() {
    let folder = tempfile::tempdir().unwrap();
    let shape = serde_json::json!({
        "vocab_size": 1000, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 12,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": true,
    });
    std::fs::write(folder.path().join("config.json"), shape.to_string()).unwrap();
    let ([plain_said, plain], [checkpointed_said, checkpointed]) =
        (peaks(folder.path(), false), peaks(folder.path(), true));
    assert!(checkpointed < 0.6 * plain, "{checkpointed} MiB checkpointed, {plain} MiB plain");
    for (said, measured) in [(plain_said, plain), (checkpointed_said, checkpointed)] {
        assert!((said / measured - 1.0).abs() < 0.25, "{said} MiB estimated, {measured} MiB measured");
    }
}
