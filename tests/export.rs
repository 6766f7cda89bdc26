//! `export` with the real program: what a run trained comes back as PEFT has it, merged into the base, or as an encoder.

use crate::common::{assert_says, command, fails, finished, finished_copy, ok, world};
use crate::support::assert_close;
use gist::model::decoder::Decoder;
use gist::model::lora::Adapter;
use gist::model::read::control;
use gist::model::vocab::Head;
use gist::model::{merge, weights};
use gist::tokenizer::Tokenizer;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn export(role: &str, output: &Path, more: &[&str]) -> String {
    let output = output.to_str().unwrap();
    ok(&[&["export", finished().to_str().unwrap(), "--role", role, "--output", output], more].concat())
}

fn last_checkpoint() -> std::path::PathBuf {
    finished().join("checkpoints/step_000010")
}

fn base() -> Decoder {
    Decoder::load(&world().root.join("base"), Device::Cpu, Kind::Float).unwrap()
}

/// Hidden states of a row.
fn hidden(decoder: &Decoder, ids: &[i64], adapter: Option<&Adapter>) -> Tensor {
    let active = adapter.map(|adapter| decoder.activate(adapter, false));
    let ids = Tensor::from_slice(ids).unsqueeze(0);
    decoder.forward(&ids, &[0], active.as_ref()).unwrap()
}

#[test]
fn an_adapter_is_exported_with_its_control_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let base = base();
    let v = base.config().vocab_size;
    for (role, saved) in [("generator", "generator"), ("compressor", "smoothed")] {
        let output = folder.path().join("sub").join(role);
        assert_says(&export(role, &output, &[]), &[&format!("sub/{role}")], "export");
        let original = base.load_adapter(&last_checkpoint().join(saved)).unwrap();
        let back = base.load_adapter(&output).unwrap();
        let ids = [5, 6, i64::from(control::separator(v)), 7, i64::from(control::start(v))];
        let expected = hidden(&base, &ids, Some(&original));
        assert_close(&hidden(&base, &ids, Some(&back)), &expected, 0.0);
        let end = |adapter: &Adapter| base.activate(adapter, false).end;
        assert_close(&end(&back), &end(&original), 0.0);
        // Loaded by name, with the vocabulary that goes with it.
        let tokenizer = Tokenizer::load(&output.join("tokenizer.json")).unwrap();
        let first = i64::from(tokenizer.id_of("<|gist_end|>").unwrap());
        assert_eq!(first, tokenizer.vocab_size() as i64 - 3);
        let json = |file: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(output.join(file)).unwrap()).unwrap()
        };
        let tokens = serde_json::json!({"embed_tokens": [first, first + 1, first + 2]});
        assert_eq!(json("adapter_config.json")["trainable_token_indices"], tokens);
        let silent: Vec<i64> = (first + i64::from(role == "compressor")..first + 3).collect();
        assert_eq!(json("generation_config.json")["suppress_tokens"], serde_json::json!(silent));
        assert!(output.join("tokenizer_config.json").exists());
    }
    assert_eq!(fs::read_dir(folder.path().join("sub")).unwrap().count(), 2, "nothing beside them");
}

#[test]
fn a_merged_reader_reads_as_base_and_adapter_do() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("reader");
    export("generator", &output, &["--merge"]);
    let (base, merged) = (base(), Decoder::load(&output, Device::Cpu, Kind::Float).unwrap());
    let adapter = Adapter::load(&last_checkpoint().join("generator"), base.config(), Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&output.join("tokenizer.json")).unwrap();
    let separator = i64::from(tokenizer.id_of("<|gist_separator|>").unwrap());
    let v = base.config().vocab_size;
    assert_eq!(separator, tokenizer.vocab_size() as i64 - 1);
    assert!(merged.config().tie_word_embeddings == base.config().tie_word_embeddings);
    let (ours, theirs) = ([5, 9, i64::from(control::separator(v)), 7, 8], [5, 9, separator, 7, 8]);
    let expected = hidden(&base, &ours, Some(&adapter));
    assert!((&expected - hidden(&base, &[5, 9, 0, 7, 8], None)).abs().max().double_value(&[]) > 1e-3);
    let got = hidden(&merged, &theirs, None);
    assert_close(&got, &expected, 1e-4);
    let logits = |decoder: &Decoder, hidden: &Tensor| Head::base(decoder.head()).logits(hidden).narrow(-1, 0, v);
    assert_close(&logits(&merged, &got), &logits(&base, &expected), 1e-4);
    let generation: serde_json::Value =
        serde_json::from_slice(&fs::read(output.join("generation_config.json")).unwrap()).unwrap();
    assert_eq!(generation["suppress_tokens"], serde_json::json!([separator - 2, separator - 1, separator]));
}

#[test]
fn a_merged_compressor_ends_its_gist_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("writer");
    export("compressor", &output, &["--merge"]);
    let (base, merged) = (base(), Decoder::load(&output, Device::Cpu, Kind::Float).unwrap());
    // The moving average is what was judged.
    let adapter = Adapter::load(&last_checkpoint().join("smoothed"), base.config(), Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&output.join("tokenizer.json")).unwrap();
    let id = |name: &str| i64::from(tokenizer.id_of(name).unwrap());
    let v = base.config().vocab_size;
    let expected = hidden(&base, &[5, 6, 7, i64::from(control::start(v))], Some(&adapter));
    let got = hidden(&merged, &[5, 6, 7, id("<|gist_start|>")], None);
    assert_close(&got, &expected, 1e-4);
    let end = expected.linear(&base.activate(&adapter, false).end, None::<Tensor>);
    let logits = Head::base(merged.head()).logits(&got);
    assert_close(&logits.narrow(-1, id("<|gist_end|>"), 1), &end, 1e-4);
    assert!(merged.config().tie_word_embeddings, "end-of-gist is never read: its row is free for the output");
}

#[test]
fn what_cannot_be_exported_is_said_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let run = finished().to_str().unwrap();
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let said = fails(&["export", run, "--output", taken.to_str().unwrap()]);
    assert_says(&said, &["taken", "expected a folder that does not exist yet"], "an output that exists");
    let free = folder.path().join("free");
    let unknown = command(&["export", run, "--role", "nobody", "--output", free.to_str().unwrap()]).output().unwrap();
    assert_says(&String::from_utf8_lossy(&unknown.stderr), &["compressor", "generator", "empty_reader"], "roles");
    let (_runs, copy) = finished_copy();
    fs::remove_file(copy.join("checkpoints/step_000010/generator/adapter_model.safetensors")).unwrap();
    let said = fails(&["export", copy.to_str().unwrap(), "--merge", "--output", free.to_str().unwrap()]);
    assert_says(&said, &["generator/adapter_model.safetensors"], "a damaged checkpoint");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    // The compressor that ships has a copy head.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints/code-4m");
    let decoder = Decoder::load(&root, Device::Cpu, Kind::Float).unwrap();
    let adapter = Adapter::load(&root.join("warm-start/compressor"), decoder.config(), Device::Cpu).unwrap();
    let named = weights::read(&root.join("model.safetensors")).unwrap();
    let refused = merge::merged(decoder.config(), named, &adapter, 4096).err().unwrap().to_string();
    assert_says(&refused, &["copy head", "model.copy_lengths"], "a copy head");
}
