//! `--device`: another place for what is computed, not another experiment.

use crate::common::{assert_says, fails, finished_copy, ok};
use std::fs;

#[test]
fn a_run_is_evaluated_and_compared_on_another_device_than_its_own() {
    let (folder, run) = finished_copy();
    let config = run.join("config.toml");
    let elsewhere = fs::read_to_string(&config).unwrap().replace("device = \"cpu\"", "device = \"cuda:77\"");
    assert!(elsewhere.contains("cuda:77"));
    fs::write(&config, &elsewhere).unwrap();
    let run = run.to_str().unwrap();
    assert_says(&fails(2, &["eval", run]), &["hardware.device: expected \"cuda:77\""], "a device that is not there");
    assert_says(&fails(2, &["eval", run, "--device", "tpu"]), &["--device: expected \"cpu\"", "\"tpu\""], "no device");
    ok(&["eval", run, "--device", "cpu"]);
    let summary = fs::read_to_string(format!("{run}/summary.json")).unwrap();
    assert!(summary.contains("\"cpu (1 threads, float32)\""), "{summary}");
    let output = folder.path().join("compared");
    let compare = ["compare", "--runs", run, "--device", "cpu", "--compressors", "recent", "--budgets", "0.1"];
    let short = ["--updates", "1", "--readers", "shared", "--output", output.to_str().unwrap()];
    ok(&[&compare[..], &short].concat());
    assert_eq!(fs::read_to_string(&config).unwrap(), elsewhere);
}

#[test]
fn it_is_the_key_of_an_experiment() {
    let said = ok(&["train", "tiny.toml", "--dry-run", "--set", "hardware.device=auto", "--device", "cuda:1"]);
    assert!(said.contains("device = \"cuda:1\""), "{said}");
    for command in ["train", "bench", "plan", "label"] {
        assert_says(&fails(2, &[command, "tiny.toml", "--device", "tpu"]), &["`hardware.device`", "\"tpu\""], command);
    }
}
