//! `export` with the real program: what a run trained comes back as PEFT has it, merged into the base, or as an encoder.

use crate::common::{
    assert_close, assert_says, command, copy, fails, finished, finished_copy, ok, torch_generator, world,
};
use gist::model::copy_head::features;
use gist::model::decoder::Decoder;
use gist::model::encoder::{Encoder, real};
use gist::model::lora::Adapter;
use gist::model::peft::Base;
use gist::model::read::control;
use gist::model::vocab::Head;
use gist::model::{merge, weights};
use gist::rng::{self, Stream};
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
    let active = adapter.map(|adapter| decoder.activate(adapter, false).unwrap());
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
        let end = |adapter: &Adapter| base.activate(adapter, false).unwrap().end;
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
    let end = expected.linear(&base.activate(&adapter, false).unwrap().end, None::<Tensor>);
    let logits = Head::base(merged.head()).logits(&got);
    assert_close(&logits.narrow(-1, id("<|gist_end|>"), 1), &end, 1e-4);
    assert!(merged.config().tie_word_embeddings, "end-of-gist is never read: its row is free for the output");
}

/// Keeps an exported encoder in `target/tmp/encoders` with what its heads make of some rows, for `scripts/export_onnx.py`.
pub fn record_encoder(exported: &Path, name: &str) {
    let base = base();
    let adapter = Adapter::load(exported, base.config(), Device::Cpu).unwrap();
    let active = base.activate(&adapter, false).unwrap();
    let (encoder, heads) = (active.encoder.as_ref().unwrap(), active.heads.as_ref().unwrap());
    let lengths = [20i64, 7, 1];
    let mask = real(&lengths, 20, Device::Cpu).to_kind(Kind::Int64);
    let rows: Vec<i64> = (0..60).map(|at| 4 + (at * at * 7 + at) % 40).collect();
    let ids = Tensor::from_slice(&rows).view([3, 20]) * &mask;
    let second = Tensor::arange(20, (Kind::Int64, Device::Cpu)).ge(4).to_kind(Kind::Int64) * &mask;
    let told_apart = encoder.config().type_vocab_size > 1;
    let hidden = encoder.forward(&ids, &lengths, told_apart.then_some(&second)).unwrap();
    let flat = hidden.reshape([60, -1]);
    let features = features(base.config());
    let alone = Tensor::eye(features, (Kind::Float, Device::Cpu));
    let places: Vec<Tensor> =
        (0..features).map(|f| heads.places(&flat, &alone.get(f).expand([60, features], false))).collect();
    let mut named = vec![
        ("input_ids".to_string(), ids),
        ("worth".into(), heads.logits(&hidden, &mask).worth()),
        ("places".into(), Tensor::stack(&places, -1).view([3, 20, -1])),
        ("end".into(), hidden.select(1, 0).linear(&active.end, None::<Tensor>).view([-1])),
        ("attention_mask".into(), mask),
    ];
    assert!(named.iter().all(|(_, tensor)| tensor.isfinite().all().int64_value(&[]) == 1));
    if told_apart {
        named.push(("token_type_ids".into(), second));
    }
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("encoders").join(name);
    if kept.exists() {
        fs::remove_dir_all(&kept).unwrap();
    }
    copy(exported, &kept);
    weights::write(&kept.join("record.safetensors"), &named).unwrap();
}

/// The real weights under fresh heads, when `./setup --minilm` has brought them.
#[test]
fn the_real_minilm_is_exported_too() {
    let minilm = Path::new(env!("CARGO_MANIFEST_DIR")).join(".minilm");
    if !minilm.exists() {
        eprintln!("skipped: ./setup --minilm brings the weights");
        return;
    }
    let (base, folder) = (base(), tempfile::tempdir().unwrap());
    let (config, named) = Encoder::read(&minilm).unwrap();
    let adapter = {
        let _guard = torch_generator();
        rng::seed_torch(5, Stream::Init, 0, 0);
        Adapter::of_encoder(&config, named, features(base.config()), 0, Device::Cpu).unwrap()
    };
    adapter.save(folder.path(), &Base { name: "base".into(), ..Base::default() }).unwrap();
    record_encoder(folder.path(), "minilm");
}

#[test]
fn what_cannot_be_exported_is_said_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let run = finished().to_str().unwrap();
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let said = fails(1, &["export", run, "--output", taken.to_str().unwrap()]);
    assert_says(&said, &["taken", "expected a folder that does not exist yet"], "an output that exists");
    let free = folder.path().join("free");
    let unknown = command(&["export", run, "--role", "nobody", "--output", free.to_str().unwrap()]).output().unwrap();
    assert_says(&String::from_utf8_lossy(&unknown.stderr), &["compressor", "generator", "empty_reader"], "roles");
    let (_runs, copy) = finished_copy();
    fs::remove_file(copy.join("checkpoints/step_000010/generator/adapter_model.safetensors")).unwrap();
    let said = fails(1, &["export", copy.to_str().unwrap(), "--merge", "--output", free.to_str().unwrap()]);
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
