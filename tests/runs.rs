//! A finished run is opened by the library alone, as a service or another evaluation would: no command.

use crate::common::{assert_says, edit, finished_copy, world};
use gist::compressor::{Compressor, Request};
use gist::eval::schema::windows::WindowExample;
use gist::reading::request;
use gist::runs::{TrainedRun, terms};
use gist::train::windows::Windows;
use std::fs;
use std::path::PathBuf;
use tch::Device;

/// A copy of the run of the tests whose files are named from the root, with the folder that holds it.
fn movable() -> (tempfile::TempDir, PathBuf) {
    let (folder, run) = finished_copy();
    for file in ["base", "train.jsonl", "valid.jsonl", "test.jsonl"] {
        let from = format!("= \"{file}\"");
        edit(&run.join("config.toml"), &from, &format!("= \"{}\"", world().root.join(file).display()));
    }
    (folder, run)
}

#[test]
fn a_run_compresses_as_its_evaluation_recorded() {
    let (_folder, run) = movable();
    let opened = TrainedRun::open_finished(&run).unwrap();
    let models = opened.models(Device::Cpu).unwrap();
    let compressor = opened.compressor(&models).unwrap();
    assert_eq!(compressor.name(), "tiny");

    // The windows that the evaluation showed, and what it says was made of them.
    let windows = Windows::load(opened.config(), &models).unwrap();
    let rows = fs::read_to_string(run.join("eval/step_000010/examples.jsonl")).unwrap();
    let examples: Vec<WindowExample> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(examples.len(), 4);
    for example in examples {
        let window = &windows.test[example.window];
        let asked = request(window, opened.config().condition, example.window as u64);
        let made = compressor.compress(&[asked], opened.config().budget_tokens()).unwrap();
        assert_eq!(models.tokenizer.decode(&made[0].ids).unwrap(), example.gists["gist"].text);
    }

    // A text of one's own.
    let text = models.tokenizer.encode("Anna hid 12 lamps in the garden. Boris hid 7 coins in the tower. ").unwrap();
    let made = compressor.compress(&[Request { prefix: &text, local: &[], query: &[], key: 0 }], 4).unwrap();
    assert!(made[0].ids.len() <= 4);
}

#[test]
fn a_run_says_what_it_is() {
    let (_folder, run) = movable();
    let opened = TrainedRun::open(&run).unwrap();
    assert_eq!((opened.step(), opened.config().seed), (10, 0));
    assert_eq!(opened.weights().unwrap().len(), 64);
    assert!(opened.adapter_folder("compressor").ends_with("step_000010/smoothed"), "the average is judged");
    assert!(opened.adapter_folder("generator").ends_with("step_000010/generator"));
    assert_eq!(opened.reader_updates().unwrap(), 4 + 6);
    assert!(opened.seconds().unwrap() > 0.0);
    // The record names files as the run was given them.
    let said = terms::recorded(opened.dir(), opened.config()).unwrap_err().to_string();
    assert_says(&said, &["provenance.json: expected the hash of "], "moved");
    let models = opened.models(Device::Cpu).unwrap();
    let [before, _] = opened.warm_started(&models).unwrap();
    let [judged, _, _] = opened.judged(&models).unwrap();
    let apart = |a: &gist::model::lora::Adapter, b: &gist::model::lora::Adapter| {
        let pairs = a.params().named().into_iter().zip(b.params().named());
        pairs.map(|((_, a), (_, b))| f64::try_from((a - b).abs().max()).unwrap()).fold(0.0, f64::max)
    };
    assert!(apart(&before, &judged) > 0.0, "co-training moved the compressor");
}

#[test]
fn what_is_no_trained_run_is_refused() {
    let (folder, run) = movable();
    let said = |root: &std::path::Path| TrainedRun::open(root).unwrap_err().to_string();
    assert_says(&said(&folder.path().join("gone")), &["gone: expected a run directory", "no such folder"], "gone");
    edit(&run.join("status.json"), "\"done\"", "\"interrupted\"");
    let unfinished = TrainedRun::open_finished(&run).unwrap_err().to_string();
    assert_says(&unfinished, &["status.json: expected a finished run", "interrupted"], "unfinished");
    assert!(TrainedRun::open(&run).is_ok());
    for folder in ["checkpoints", "warm_start"] {
        fs::remove_dir_all(run.join(folder)).unwrap();
    }
    assert_says(&said(&run), &["expected a run past its warm start"], "untrained");
    edit(&run.join("config.toml"), "kind = \"train\"", "kind = \"pretrain\"");
    assert_says(&said(&run), &["config.toml", "`kind`"], "another kind");
}
