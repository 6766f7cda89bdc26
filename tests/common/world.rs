//! A tiny world for tests that run the real program: text, a base trained on it, an experiment, and a finished run of it.

use regex::Regex;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{LazyLock, OnceLock};

/// Supervised updates and policy-gradient steps of [`TRAIN`].
pub const UPDATES: usize = 4 + 6;

const PRETRAIN: &str = r#"
kind = "pretrain"
name = "base"
output = "base"

[data]
train = ["train.jsonl"]
valid = ["valid.jsonl"]

[tokenizer]
vocab_size = 300

[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
max_position_embeddings = 128

[rows]
tokens = 96

[optim]
lr = 1e-2

[muon]
lr = 1e-2

[train]
steps = 12
batch_rows = 4
eval_every = 6
eval_rows = 8
checkpoint_every = 5

[hardware]
threads = 1
"#;

/// Whatever a checkpoint may have to carry is in use: a moving baseline, a price of length, an averaged reader and
/// compressor, stale gists, dropout.
const TRAIN: &str = r#"
kind = "train"
name = "tiny"
condition = "local"

[model]
path = "base"

[model.lora]
rank = 4
alpha = 8.0
dropout = 0.1

[data]
train = "train.jsonl"
valid = "valid.jsonl"
test = "test.jsonl"
prefix_tokens = 32
local_tokens = 8
future_tokens = 8

[budget]
tokens = 4

[warm_start]
rounds = 1
windows = 16
span_tokens = 2
stride = 2
shortlist = 3
epochs = 1
batch = 4

[train]
steps = 6
windows_per_step = 4
micro_windows = 2
eval_every = 3
checkpoint_every = 2
log_rollouts_every = 2
average_decay = 0.5

[rollout]
group_size = 4

[reward.reader]
type = "ema"
decay = 0.9

[reward.length]
type = "target_keep_ratio"
target = 0.1

[algo]
entropy_coef = 0.01
reference_kl_coef = 0.01

[algo.estimator]
type = "reinforce"

[generator]
gists_per_window = 2
current = 0.4
empty = 0.2
extractive = 0.2
stale = 0.2
stale_refresh_steps = 3

[optim.compressor]
lr = 1e-3

[optim.generator]
lr = 1e-3

[optim.imitation]
lr = 1e-3

[eval]
windows = 12
windows_per_document = 2
valid_windows = 8
search_windows = 4
resamples = 100
examples = 4

[hardware]
threads = 1
"#;

/// The folder that the program runs in.
pub struct World {
    /// Holds `train.jsonl`, `valid.jsonl`, `test.jsonl`, `base/`, `base.toml`, `tiny.toml`.
    pub root: PathBuf,
    _lock: File,
}

/// The world, made once a process.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::make)
}

/// The run directory of the experiment, trained once a process and only ever read.
pub fn finished() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let runs = world().root.join("runs");
        ok(&train(&runs, &[]));
        run_dir(&runs)
    })
}

/// The run directory of the experiment under `runs`.
pub fn run_dir(runs: &Path) -> PathBuf {
    runs.join("tiny/seed=0")
}

/// Arguments of `train` with some of its flags.
pub fn train<'a>(runs: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--runs", runs.to_str().unwrap()], flags].concat()
}

impl World {
    fn make() -> World {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(parent).unwrap();
        // Two test processes at once take turns.
        let lock = File::create(parent.join("world.lock")).unwrap();
        lock.lock().unwrap();
        let root = parent.join("world");
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        fs::create_dir(&root).unwrap();
        for (split, name, count) in [(0, "train", 24), (1, "valid", 8), (2, "test", 12)] {
            fs::write(root.join(format!("{name}.jsonl")), documents(split, count)).unwrap();
        }
        fs::write(root.join("base.toml"), PRETRAIN).unwrap();
        fs::write(root.join("tiny.toml"), TRAIN).unwrap();
        let made = command(&["pretrain", "base.toml"]).current_dir(&root).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        World { root, _lock: lock }
    }
}

/// Rows of `count` documents, each about four facts of its own, told over and over.
fn documents(split: u64, count: u64) -> String {
    let mut rows = String::new();
    for document in 0..count {
        let mut state = split * 1000 + document + 1;
        let mut below = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let names = ["Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas"];
        let things = ["lamp", "rope", "coin", "drum", "kite", "ring", "sail", "harp", "bell", "mask"];
        let places = ["harbour", "garden", "cellar", "tower", "market", "forest", "bridge", "chapel"];
        let facts: Vec<String> = (0..4)
            .map(|_| {
                let (name, number) = (names[below(names.len())], 2 + below(97));
                format!("{name} hid {number} {}s in the {}. ", things[below(things.len())], places[below(places.len())])
            })
            .collect();
        let text: String = (0..24).map(|_| facts[below(facts.len())].as_str()).collect();
        rows.push_str(&serde_json::json!({"id": format!("{split}-{document}"), "text": text}).to_string());
        rows.push('\n');
    }
    rows
}

/// The program with `arguments`, in whatever folder the caller says.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gist"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs the program in the world.
pub fn gist(arguments: &[&str]) -> Output {
    command(arguments).current_dir(&world().root).output().unwrap()
}

/// Runs the program in the world; it must succeed. Returns what it printed.
pub fn ok(arguments: &[&str]) -> String {
    let output = gist(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program in the world; it must end with this exit code (1 failed at work, 2 bad input, 3 a folder in use, 75 stopped
/// on request). Returns its message.
pub fn fails(code: i32, arguments: &[&str]) -> String {
    message(code, &gist(arguments), &format!("{arguments:?}"))
}

/// [`fails`] for tables whose rows differ in what is wrong: 2 where the message begins with a flag, or with a key (of an
/// experiment file, where one is named), and 1 where it begins with any other file.
pub fn fails_as_it_says(arguments: &[&str]) -> String {
    static FLAG: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^error: (--|(?:run [^:]*: )?[^:]*\.toml: `)").unwrap());
    static KEY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^error: ([a-z_]+(?:\.[a-z_]+)+): expected").unwrap());
    let output = gist(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    // A file that is no experiment where it is named may look like a key.
    let key = KEY.captures(&said).is_some_and(|found| !found[1].ends_with(".toml"));
    let code = if FLAG.is_match(&said) || key { 2 } else { 1 };
    message(code, &output, &format!("{arguments:?}"))
}

/// The one line that a program left on stderr which ended with this exit code.
pub fn message(code: i32, output: &Output, what: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{what}: expected one message, got:\n{stderr}");
    lines[0].trim_start_matches("error: ").to_string()
}

/// Fails unless `text` contains every one of `parts`.
pub fn assert_says(text: &str, parts: &[&str], what: &str) {
    for part in parts {
        assert!(text.contains(part), "{what}: expected {part:?} in {text:?}");
    }
}

/// Complete lines of a file; none when it is not there.
pub fn rows(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Every file under a folder by its relative path.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Fails on the first file that is not the same in both.
pub fn assert_same_files(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{what}: other files");
    for (path, bytes) in a {
        assert!(*bytes == b[path], "{what}: {} differs", path.display());
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    for (path, bytes) in files(from) {
        let target = to.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
}

/// Writes a JSON file again, with a change.
#[track_caller]
pub fn edit_json(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

/// Cuts a file to a share of its bytes.
pub fn cut(path: &Path, share: f64) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
}

/// A copy of the finished run in a folder of its own: that folder and the run directory in it.
pub fn finished_copy() -> (tempfile::TempDir, PathBuf) {
    let runs = tempfile::tempdir().unwrap();
    let run = run_dir(runs.path());
    copy(finished(), &run);
    (runs, run)
}

/// Files of a run that must come out again: all of its files but those that hold times or the story of its sittings, and what a killed
/// write leaves.
pub fn results(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = files(run);
    let told = ["timings.jsonl", "provenance.json", "status.json", "report.html", "record.json", "state.json"];
    let skipped = [&told[..], &["manifest.json", "summary.json"]].concat();
    all.retain(|path, _| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !path.starts_with("tensorboard") && !skipped.contains(&name) && !name.ends_with(".tmp")
    });
    all.insert("summary.json".into(), timeless_summary(run).to_string().into_bytes());
    all
}

/// `summary.json` without what differs from sitting to sitting.
pub fn timeless_summary(run: &Path) -> serde_json::Value {
    let mut summary: serde_json::Value = serde_json::from_slice(&fs::read(run.join("summary.json")).unwrap()).unwrap();
    for key in ["seconds", "peak_rss_mib"] {
        assert!(summary[key].as_f64().unwrap() > 0.0, "{key}");
        summary.as_object_mut().unwrap().remove(key);
    }
    summary
}
