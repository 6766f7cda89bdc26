//! Resume: interrupted at any point, by Ctrl-C or `kill -9`, a run continues to the same bytes.

use crate::common::torch_generator;
use gist::config::pretrain::PretrainConfig;
use gist::error::Error;
use gist::rng::{self, Stream};
use gist::run_dir::{RunDir, Start};
use gist::train::pretrain;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tch::Device;

const WORDS: [&str; 12] =
    ["def", "return", "value", "index", "(", ")", ":", "\n    ", "total", "=", "counter +", "items"];

/// Documents of random words, one folder of text for each split.
fn corpus(folder: &Path) {
    for (split, documents) in [("train", 12), ("valid", 4)] {
        fs::create_dir_all(folder.join(split)).unwrap();
        for document in 0..documents {
            let mut draw = rng::rng(documents, Stream::Synthetic, 0, document, 0);
            let words: Vec<&str> = (0..600).map(|_| WORDS[rng::below(&mut draw, WORDS.len())]).collect();
            fs::write(folder.join(split).join(format!("{document}.txt")), words.join(" ")).unwrap();
        }
    }
}

/// An experiment file whose run goes to `folder/runs/<name>` and model to `folder/<name>`.
fn experiment(folder: &Path, name: &str, steps: usize, checkpoint_every: usize) -> String {
    let root = folder.display();
    format!(
        r#"
kind = "pretrain"
name = "{name}"
output = "{root}/{name}"
[data]
train = ["{root}/train"]
valid = ["{root}/valid"]
[tokenizer]
vocab_size = 300
[model]
hidden_size = 16
intermediate_size = 32
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
max_position_embeddings = 128
[rows]
tokens = 128
[optim]
lr = 3e-3
warmup_steps = 2
[muon]
lr = 3e-3
[train]
steps = {steps}
batch_rows = 4
micro_rows = 2
eval_every = 7
eval_rows = 4
checkpoint_every = {checkpoint_every}
[hardware]
threads = 1
"#
    )
}

fn bytes(path: PathBuf) -> Vec<u8> {
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[track_caller]
fn assert_same_run(folder: &Path, a: &str, b: &str) {
    let text = |name: &str| String::from_utf8(bytes(folder.join("runs").join(name).join("metrics.jsonl"))).unwrap();
    assert_eq!(text(a), text(b));
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        assert!(bytes(folder.join(a).join(file)) == bytes(folder.join(b).join(file)), "{file} differs");
    }
}

#[test]
fn a_stopped_run_continues_as_if_it_had_not_been() {
    let _guard = torch_generator();
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    corpus(folder);
    let run = |name: &str, start: Start, stop: bool| {
        let toml = experiment(folder, name, 9, 4);
        let config: PretrainConfig = toml::from_str(&toml).unwrap();
        let run = RunDir::open(&folder.join("runs").join(name), &toml, start).unwrap();
        let text = pretrain::PretrainingText::load(&config).unwrap();
        pretrain::run(&config, text, &run, Device::Cpu, &AtomicBool::new(stop)).map(|_| run)
    };
    let whole = run("whole", Start::Fresh, false).unwrap();
    assert_eq!(fs::read_to_string(whole.metrics()).unwrap().lines().count(), 9);

    // Asked to stop, it takes one step and checkpoints, again and again.
    for step in 1..=3 {
        let start = if step == 1 { Start::Fresh } else { Start::Resume };
        match run("stopped", start, true) {
            Err(Error::Interrupted { step: done }) => assert_eq!(done, step),
            other => panic!("expected an interruption at step {step}, got {:?}", other.map(|_| ())),
        }
    }
    // As if killed while the last checkpoint was written: the rows are ahead of the checkpoint.
    let at = RunDir::at(&folder.join("runs/stopped")).unwrap();
    fs::remove_file(at.checkpoint(3).join("manifest.json")).unwrap();
    assert_eq!(fs::read_to_string(at.metrics()).unwrap().lines().count(), 3);
    run("stopped", Start::Resume, false).unwrap();
    assert_same_run(folder, "whole", "stopped");
    // Resumed once more, a finished run only writes its model again.
    run("stopped", Start::Resume, false).unwrap();
    assert_same_run(folder, "whole", "stopped");
}

fn start(folder: &Path, name: &str, resume: bool) -> Child {
    let file = folder.join(format!("{name}.toml"));
    fs::write(&file, experiment(folder, name, 60, 5)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gist"));
    command.arg("pretrain").arg(&file).arg("--runs").arg(folder.join("runs"));
    if resume {
        command.arg("--resume");
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Sends SIGKILL `delay` after `ready` first holds.
#[track_caller]
fn kill(mut child: Child, delay: Duration, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !ready() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        assert!(Instant::now() < deadline, "it did not get there in five minutes");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(delay);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it ended before it was killed");
}

#[test]
fn a_run_killed_at_several_points_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    corpus(folder);
    finish(start(folder, "whole", false));

    let run = RunDir::at(&folder.join("runs/whole")).unwrap();
    let killed = folder.join("runs/killed");
    let rows = || fs::read_to_string(killed.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    // Before anything is saved, a little later at random, and while a checkpoint is being written.
    let mut draw = rng::rng(std::process::id() as u64, Stream::Synthetic, 0, 0, 0);
    let mut pause = || Duration::from_millis(rng::below(&mut draw, 12) as u64);
    kill(start(folder, "killed", false), Duration::ZERO, || rows() >= 2);
    kill(start(folder, "killed", true), pause(), || rows() >= 12);
    kill(start(folder, "killed", true), pause(), || rows() >= 24);
    let unfinished = killed.join("checkpoints/step_000035");
    kill(start(folder, "killed", true), Duration::ZERO, || unfinished.exists());
    let error = start(folder, "killed", false).wait_with_output().unwrap();
    assert!(!error.status.success() && String::from_utf8_lossy(&error.stderr).contains("--resume"));
    finish(start(folder, "killed", true));

    assert_same_run(folder, "whole", "killed");
    let timings = |run: &Path| fs::read_to_string(run.join("timings.jsonl")).unwrap().lines().count();
    assert_eq!((timings(run.root()), timings(&killed)), (60, 60));
    assert!(fs::read_to_string(killed.join("status.json")).unwrap().contains("\"done\""));
    let litter = fs::read_dir(killed.join("checkpoints")).unwrap().count();
    assert_eq!(litter, 2, "unfinished checkpoints are cleared away");
}
