//! `gist scale`: what more ranks make of a step, measured on this machine and predicted for others.

use super::ranks::{SHARDS, alone};
use crate::common::*;
use gist::run_dir::read_json;
use serde_json::Value;
use std::fs;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, got {value}"))
}

#[test]
fn a_link_is_measured_and_steps_are_predicted_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (link, json, figure) = (at("link.json"), at("predicted.json"), at("scaling.svg"));
    let said = ok(&["scale", "bench", "--ranks", "2", "--repeats", "3", "--json", &link]);
    assert_says(&said, &["bytes", "ms of a sum", "2 ranks: ", "Gbit/s"], "bench");
    let found: Value = read_json(link.as_ref()).unwrap();
    assert!(number(&found["link"]["bytes_per_s"]) > 1e7, "{found}");
    assert_eq!(found["sums"].as_array().unwrap().len(), 6);
    let run = alone().to_str().unwrap();
    let said = ok(&["scale", "simulate", run, "--link", &link, "--json", &json, "--figure", &figure]);
    assert_says(
        &said,
        &["5 steps of 4 shards", "MB of gradients", "times as fast", "ranks are at least 80 %"],
        "simulate",
    );
    let predicted: Value = read_json(json.as_ref()).unwrap();
    let seconds: Vec<f64> = predicted["step_s"].as_array().unwrap().iter().map(|p| number(&p["seconds"])).collect();
    assert_eq!(seconds.len(), 3, "1, 2 and 4 ranks");
    assert!(fs::read_to_string(figure).unwrap().contains("Gbit/s"));
    // What a step spends in its shards is what can be shared.
    let fast = ["scale", "simulate", run, "--gbit", "1000", "--latency-us", "0.001", "--ranks", "1,4", "--json", &json];
    ok(&fast);
    let shared: Value = read_json(json.as_ref()).unwrap();
    let [one, four] = [0, 1].map(|i| number(&shared["step_s"][i]["seconds"]));
    assert!(four < one && four > one / 4.1, "{one} {four}");
}

#[test]
fn ranks_of_this_machine_are_measured_beside_processes_that_do_not_talk() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("measured.json");
    let arguments =
        ["scale", "measure", "tiny.toml", "--set", SHARDS, "--ranks", "1,2", "--steps", "4", "--repeats", "1"];
    let said = ok(&[&arguments[..], &["--json", json.to_str().unwrap()]].concat());
    assert_says(&said, &["E/C", "in exchanges", "4 shards, medians of 1 runs"], "measure");
    let found: Value = read_json(&json).unwrap();
    let scaling = found["scaling"].as_array().unwrap();
    assert_eq!((scaling.len(), scaling[0]["ranks"].as_u64(), scaling[1]["ranks"].as_u64()), (2, Some(1), Some(2)));
    for one in scaling {
        for key in ["step_s", "alone_s", "at_once_s", "peak_rss_mib"] {
            assert!(number(&one[key]) > 0.0, "{key}: {one}");
        }
    }
    assert_eq!(number(&scaling[0]["in_exchanges"]), 0.0);
    assert!(number(&scaling[1]["in_exchanges"]) > 0.0 && number(&scaling[1]["predicted_s"]) > 0.0);
    assert!(scaling[0].get("predicted_s").is_none());
}

#[test]
fn what_cannot_be_measured_or_predicted_is_refused() {
    let run = alone().to_str().unwrap();
    let whole = finished().to_str().unwrap();
    for (arguments, expected) in [
        (vec!["scale", "simulate", run, "--ranks", "3"], "--ranks: expected divisors of the run's 4 shards, got 3"),
        (vec!["scale", "simulate", run, "--gbit", "0"], "--gbit: expected a number above 0, got 0"),
        (vec!["scale", "simulate", whole], "expected seconds of shards (parallel.grad_shards above 1), got none"),
        (vec!["scale", "bench", "--ranks", "3"], "--ranks: expected 2, 4, 8, …, got 3"),
        (vec!["scale", "measure", "tiny.toml", "--ranks", "2", "--set", SHARDS], "--ranks: expected 1 among them"),
        (vec!["scale", "measure", "tiny.toml"], "--ranks: expected a power of two up to parallel.grad_shards (1)"),
        (vec!["scale", "measure", "tiny.toml", "--set", SHARDS, "--steps", "2"], "expected --steps of at least 3"),
    ] {
        assert_says(&fails(2, &arguments), &[expected], "refused");
    }
}
