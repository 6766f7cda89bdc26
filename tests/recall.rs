//! Generated documents end to end: a base that learns their words, then a run on them.

use crate::common::command;
use gist::eval::schema::comparison::Comparison;
use gist::eval::schema::summary::Summary;
use gist::run_dir::read_json;
use gist::tokenizer::Tokenizer;
use std::fs;

const BASE: &str = r#"
kind = "pretrain"
name = "base"
output = "base"

[data.recall]
words = 40
prefix = 24
facts = 2
rounds = 6
train_documents = 200
held_out_documents = 20

[tokenizer]
vocab_size = 400

[model]
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 2
num_attention_heads = 2
num_key_value_heads = 1
max_position_embeddings = 96

[rows]
tokens = 64
packed = false

[optim]
lr = 1e-2

[train]
steps = 10
batch_rows = 4
eval_rows = 8

[hardware]
threads = 1
"#;

const RUN: &str = r#"
kind = "train"
name = "recall"
condition = "none"

[model]
path = "base"
copy_lengths = 2
start_like = " recall"

[data]
prefix_tokens = 24
local_tokens = 3
future_tokens = 4

[data.recall]
words = 40
prefix = 24
facts = 2
train_documents = 40
held_out_documents = 20

[budget]
tokens = 7

[warm_start]
rounds = 1
windows = 8
span_tokens = 3
stride = 1
epochs = 1
batch = 4

[train]
steps = 2
windows_per_step = 4

[rollout]
group_size = 4

[eval]
windows = 12
valid_windows = 8
resamples = 100

[optim.compressor]
lr = 1e-3
[optim.generator]
lr = 1e-3
[optim.imitation]
lr = 1e-3

[hardware]
threads = 1
"#;

#[test]
fn a_run_on_generated_documents() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("base.toml"), BASE).unwrap();
    fs::write(folder.path().join("recall.toml"), RUN).unwrap();
    for arguments in [["pretrain", "base.toml"], ["train", "recall.toml"]] {
        let output = command(&arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Every word is one token, so that a document of 31 words is a window of 31 tokens.
    let tokenizer = Tokenizer::load(&folder.path().join("base/tokenizer.json")).unwrap();
    let document = gist::data::recall_document(
        &gist::data::RecallConfig { words: 40, prefix: 24, facts: 2, rounds: 1 },
        gist::data::Split::Test,
        0,
        0,
    );
    assert_eq!(tokenizer.encode(&document.text()).unwrap().len(), 31);
    assert_eq!(tokenizer.encode(&document.sufficient_gist).unwrap().len(), 6);
    let run = folder.path().join("runs/recall/seed=0");
    let summary: Summary = read_json(&run.join("summary.json")).unwrap();
    assert_eq!((summary.eval.n_windows, summary.eval.n_documents), (12, 12));
    assert!(summary.eval.compressors["gist"].keep_ratio <= 7.0 / 24.0);
    // What a gist of a rate must leave is known here, and drawn under the curves.
    let arguments = ["compare", "--runs", "runs/recall/seed=0", "--budgets", "0.1,0.3", "--compressors", "recent"];
    let flags = ["--updates", "1", "--readers", "shared", "--output", "compared"];
    let output = command(&[&arguments[..], &flags].concat()).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let compared: Comparison = read_json(&folder.path().join("compared/comparison.json")).unwrap();
    let bound = compared.bound.unwrap();
    assert!(bound.len() > 1 && bound.windows(2).all(|pair| pair[1][1] <= pair[0][1]), "{bound:?}");
    for file in ["comparison.html", "figures/rate-distortion-shared.svg"] {
        let text = fs::read_to_string(folder.path().join("compared").join(file)).unwrap();
        assert!(text.contains("class=\"bound\""), "{file}");
    }
}

#[test]
fn rows_that_begin_documents_need_documents_as_long() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("base.toml"), BASE).unwrap();
    let arguments = ["pretrain", "base.toml", "--set", "rows.tokens=90"];
    let output = command(&arguments).current_dir(folder.path()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !folder.path().join("base").exists());
    assert!(message.contains("a document of at least 90 tokens, as rows.packed = false needs"), "{message}");
}
