//! GGUF files as bases: blocks against the `gguf` package, models against transformers, tokens against the tokenizers that
//! the vocabularies are from. Fixtures: `tests/fixtures/make_gguf_fixtures.py`.

mod bad;
mod made;
mod smollm2;
mod unknown;

use crate::common::{assert_close, fixtures};
use crate::common::{assert_says, command, ok, run_dir, world};
use gist::base;
use gist::chat::Frame;
use gist::eval::gates::checkpoints::Recorded;
use gist::gguf::Gguf;
use gist::model::config::{Ids, ModelConfig};
use gist::model::decoder::Decoder;
use gist::model::{folder, weights};
use gist::tokenizer::Tokenizer;
use made::Made;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn fixture(name: &str) -> PathBuf {
    fixtures().join("gguf").join(name)
}

#[test]
fn blocks_of_every_type_hold_the_numbers_that_the_reference_reads() {
    let gguf = Gguf::open(&fixture("blocks.gguf")).unwrap();
    let expected = weights::read(&fixture("blocks.safetensors")).unwrap();
    assert_eq!(expected.len(), 13);
    for (name, expected) in expected {
        let tensor = &gguf.tensors()[&name];
        let mut numbers = vec![0f32; tensor.numel()];
        gguf.read(tensor, 0, &mut numbers);
        let expected = Vec::<f32>::try_from(expected.reshape([-1])).unwrap();
        assert_eq!(numbers, expected, "{name}");
        // The second row alone.
        let width = tensor.shape[1] as usize;
        let mut row = vec![0f32; width];
        gguf.read(tensor, width, &mut row);
        assert_eq!(row, expected[width..2 * width], "{name}");
    }
}

#[test]
fn models_are_those_that_they_were_made_from() {
    let record = Recorded::read(&fixtures().join("decoders.safetensors")).unwrap();
    for name in ["llama3", "llama-linear", "qwen2", "qwen3"] {
        let (path, folder) = (fixture(&format!("{name}.gguf")), fixtures().join("decoders").join(name));
        let (config, original) =
            (ModelConfig::load(&path).unwrap(), ModelConfig::load(&folder.join("config.json")).unwrap());
        assert_eq!(config.parameters(), original.parameters(), "{name}");
        assert_eq!(config.model_type, original.model_type);
        assert_eq!(config.rope_scaling().unwrap(), original.rope_scaling().unwrap(), "{name}");
        assert_eq!(config.eos_token_id, Some(Ids::Many(vec![2, 1])), "{name}");
        let read = |path: &Path, kind: Kind| weights::read_model(path, &config, kind, Device::Cpu).unwrap();
        for kind in [Kind::Float, Kind::BFloat16] {
            let expected = read(&folder, kind);
            for (weight, tensor) in read(&path, kind) {
                assert_eq!(tensor.kind(), kind);
                assert!(tensor.equal(&expected[&weight]), "{name}: {weight}");
            }
        }
        let decoder = Decoder::load(&path, Device::Cpu, Kind::Float).unwrap();
        let distance = record.distance(&decoder, None, name).unwrap();
        assert!(distance < 1e-4, "{name}: {distance:e} from transformers");
    }
}

#[test]
fn an_adapter_names_the_file_by_its_hash() {
    use sha2::{Digest, Sha256};
    let path = fixture("qwen3.gguf");
    let hex: String = Sha256::digest(fs::read(&path).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(Decoder::load(&path, Device::Cpu, Kind::Float).unwrap().identity(), Some(hex.as_str()));
}

/// Texts with their ids under the name of each vocabulary.
fn recorded() -> Value {
    serde_json::from_reader(zstd::Decoder::new(fs::File::open(fixture("tokens.json.zst")).unwrap()).unwrap()).unwrap()
}

#[track_caller]
fn assert_tokens(tokenizer: &Tokenizer, recorded: &Value, name: &str) {
    let texts = recorded["texts"].as_array().unwrap();
    let expected = recorded["ids"][name].as_array().unwrap();
    assert_eq!(texts.len(), expected.len());
    for (text, expected) in texts.iter().zip(expected) {
        let text = text.as_str().unwrap();
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(serde_json::json!(ids), *expected, "{name}: {text:?}");
        assert_eq!(ids, tokenizer.aligned(text).unwrap().0, "{name}: {text:?}");
    }
}

/// A byte-level vocabulary under other rules for words.
fn under(pre: &str) -> Tokenizer {
    let mut bytes = fs::read(fixture("byte-level.gguf")).unwrap();
    let key = b"tokenizer.ggml.pre";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let value = [&(pre.len() as u64).to_le_bytes()[..], pre.as_bytes()].concat();
    bytes.splice(at..at + 8 + length, value);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocabulary.gguf");
    fs::write(&path, bytes).unwrap();
    Tokenizer::load(&path).unwrap()
}

#[test]
fn every_pre_tokenizer_cuts_as_its_family_does() {
    let recorded = recorded();
    let names = ["gpt-2", "smollm", "llama-bpe", "smaug-bpe", "qwen2", "deepseek-r1-qwen", "tekken", "gpt-4o"];
    for name in names.into_iter().chain(["seed-coder", "deepseek-coder"]) {
        let tokenizer = under(name);
        assert_tokens(&tokenizer, &recorded, name);
        for text in recorded["texts"].as_array().unwrap().iter().filter_map(Value::as_str) {
            let back = tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap();
            // Qwen brings texts to NFC.
            assert!(back == text || name == "qwen2", "{name}: {back:?}");
        }
    }
    // The rules tell the texts apart, or the comparison says nothing.
    let all = recorded["ids"].as_object().unwrap();
    let different = |a: &str, b: &str| assert_ne!(all[a], all[b], "{a}, {b}");
    for (a, b) in [
        ("gpt-2", "smollm"),
        ("smollm", "llama-bpe"),
        ("llama-bpe", "qwen2"),
        ("qwen2", "deepseek-r1-qwen"),
        ("tekken", "gpt-4o"),
        ("qwen2", "seed-coder"),
        ("seed-coder", "deepseek-coder"),
    ] {
        different(a, b);
    }
}

#[test]
fn sentence_pieces_are_cut_as_sentencepiece_does() {
    let recorded = recorded();
    for name in ["merges", "unigram"] {
        assert_tokens(&Tokenizer::load(&fixture(&format!("{name}.gguf"))).unwrap(), &recorded, name);
    }
    let tokenizer = Tokenizer::load(&fixture("merges.gguf")).unwrap();
    for text in recorded["texts"].as_array().unwrap().iter().filter_map(Value::as_str) {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
    }
}

#[test]
fn special_tokens_are_those_of_their_types() {
    let tokenizer = under("gpt-2");
    assert_eq!(tokenizer.special_ids(), [0, 1, 2]);
    // The user-defined one is always whole; what pads the vocabulary is no part of it.
    let think = tokenizer.id_of("<think>").unwrap();
    assert_eq!(tokenizer.encode("<think>").unwrap(), [think]);
    assert_eq!(tokenizer.vocab_size() as u32, think + 1);
    assert_eq!(tokenizer.id_of("[PAD1]"), None);
    assert_eq!(tokenizer.encode_control("<|im_end|>").unwrap(), [2]);
    assert_ne!(tokenizer.encode("<|im_end|>").unwrap(), [2]);
    // A beginning is put before texts where the file, or the family, says so.
    let begins = |path: &Path| base::json::<Value>(path, base::TOKENIZER).unwrap().unwrap()["post_processor"].clone();
    assert_eq!(begins(&fixture("byte-level.gguf")), Value::Null);
    assert_eq!(begins(&fixture("merges.gguf"))["single"][0]["SpecialToken"]["id"], "<s>");
}

#[test]
fn the_chat_template_comes_from_the_metadata() {
    let path = fixture("byte-level.gguf");
    let tokenizer = Tokenizer::load(&path).unwrap();
    let frame = Frame::new(&path, &tokenizer, "Keep this: {prefix}.").unwrap();
    assert_eq!((frame.before[0], *frame.after.last().unwrap()), (1, 2));
    assert_eq!(tokenizer.decode(&frame.before).unwrap(), "<|im_start|>Keep this: ");
}

#[test]
fn a_folder_with_one_file_is_that_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert_eq!(base::folder(folder.path(), None).unwrap(), folder.path());
    fs::copy(fixture("qwen3.gguf"), at("one.gguf")).unwrap();
    assert_eq!(base::folder(folder.path(), None).unwrap(), at("one.gguf"));
    assert_eq!(base::file(&at("one.gguf"), base::CONFIG), at("one.gguf"));
    // Without the ending it is known by its first bytes.
    fs::copy(fixture("qwen3.gguf"), at("blob")).unwrap();
    assert_eq!(base::file(&at("blob"), base::TOKENIZER), at("blob"));
    assert_eq!(base::folder(folder.path(), None).unwrap(), at("one.gguf"));
    fs::copy(fixture("qwen2.gguf"), at("two.GGUF")).unwrap();
    let said = base::folder(folder.path(), None).unwrap_err().to_string();
    assert_says(&said, &["expected one GGUF file, got one.gguf, two.GGUF; name one of them"], "two");
    // Safetensors beside them are the base.
    fs::write(at("model.safetensors"), "").unwrap();
    assert_eq!(base::folder(folder.path(), None).unwrap(), folder.path());
}

/// The base of the test world as a GGUF file in a folder of its own.
fn world_base() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Made::from_folder(&world().root.join("base")).write(&folder.path().join("base.gguf"));
    folder
}

#[test]
fn training_over_it_is_training_over_the_folder_that_it_was_made_from() {
    let (base, runs) = (world_base(), tempfile::tempdir().unwrap());
    let set = format!("model.path={}", base.path().display());
    let metrics = |sets: &[&str], name: &str| {
        let at = runs.path().join(name);
        let mut arguments = vec!["train", "tiny.toml", "--runs", at.to_str().unwrap()];
        arguments.extend(sets.iter().chain(&["train.steps=2", "eval.search_windows=0"]).flat_map(|set| ["--set", set]));
        ok(&arguments);
        let run = run_dir(&at);
        (fs::read_to_string(run.join("metrics.jsonl")).unwrap(), run)
    };
    let (expected, _) = metrics(&[], "folder");
    let (got, run) = metrics(&[&set], "gguf");
    assert_eq!(got, expected);
    // The file is the one input of the model, and what the run is judged by.
    let provenance: Value = serde_json::from_slice(&fs::read(run.join("provenance.json")).unwrap()).unwrap();
    let inputs: Vec<&str> =
        provenance["inputs"].as_array().unwrap().iter().filter_map(|input| input["path"].as_str()).collect();
    assert_eq!(inputs.iter().filter(|path| path.ends_with("base.gguf")).count(), 1, "{inputs:?}");
    assert!(inputs.iter().all(|path| !path.ends_with(".json")), "{inputs:?}");
    let run = run.to_str().unwrap();
    ok(&["eval", run]);
    let table = runs.path().join("table");
    ok(&[
        "compare",
        "--runs",
        run,
        "--budgets",
        "0.125",
        "--updates",
        "2",
        "--windows",
        "6",
        "--readers",
        "shared",
        "--output",
        table.to_str().unwrap(),
    ]);
    // Its roles leave for other tools with the tokenizer that the file holds.
    let merged = runs.path().join("merged");
    ok(&["export", run, "--merge", "--output", merged.to_str().unwrap()]);
    let decoder = Decoder::load(&merged, Device::Cpu, Kind::Float).unwrap();
    let tokenizer = Tokenizer::load(&merged.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.vocab_size() as i64, decoder.config().vocab_size);
    assert!(tokenizer.id_of("<|gist_end|>").is_some());
}

#[test]
fn plan_and_bench_know_it() {
    let (base, runs) = (world_base(), tempfile::tempdir().unwrap());
    let set = format!("model.path={}/base.gguf", base.path().display());
    let figures = runs.path().join("plan.json");
    let plan = |set: &[&str]| {
        ok(&[&["plan", "tiny.toml", "--json", figures.to_str().unwrap()], set].concat());
        let plan: Value = serde_json::from_slice(&fs::read(&figures).unwrap()).unwrap();
        plan["held"].as_array().unwrap().iter().find(|part| part["name"] == "weights of the base").unwrap().clone()
    };
    assert_eq!(plan(&["--set", &set]), plan(&[]));
    ok(&["bench", "tiny.toml", "--set", &set, "--repeats", "1", "--runs", runs.path().to_str().unwrap()]);
    assert!(runs.path().join("bench.json").exists());
}

#[test]
fn a_base_is_exported_as_a_folder_with_the_same_answers() {
    let (made, out) = (world_base(), tempfile::tempdir().unwrap());
    let (file, folder) = (made.path().join("base.gguf"), out.path().join("sub/folder"));
    let export = |from: &Path, to: &Path, more: &[&str]| {
        let paths = ["export", "--base", from.to_str().unwrap(), "--output", to.to_str().unwrap()];
        ok(&[&paths, more].concat())
    };
    assert_says(&export(made.path(), &folder, &[]), &["sub/folder"], "export");
    let (ours, theirs) = (
        Decoder::load(&file, Device::Cpu, Kind::Float).unwrap(),
        Decoder::load(&folder, Device::Cpu, Kind::Float).unwrap(),
    );
    let ids = Tensor::from_slice(&[3i64, 9, 27, 14]).unsqueeze(0);
    let hidden = |decoder: &Decoder| decoder.forward(&ids, &[0], None).unwrap();
    assert_close(&hidden(&ours), &hidden(&theirs), 0.0);
    let tokenizers = [&file, &folder.join("tokenizer.json")].map(|path| Tokenizer::load(path).unwrap());
    assert_eq!(tokenizers[0].to_json().unwrap(), tokenizers[1].to_json().unwrap());
    let json = |name: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(name)).unwrap()).unwrap() };
    assert_eq!(json("config.json")["torch_dtype"], "float32");
    assert_eq!(json("tokenizer_config.json")["eos_token"], "<|endoftext|>");
    assert_eq!(json("special_tokens_map.json")["eos_token"], "<|endoftext|>");
    assert_eq!(json("generation_config.json")["eos_token_id"], 0);
    // From a folder as well, in another kind.
    let again = out.path().join("again");
    export(&folder, &again, &["--dtype", "bfloat16"]);
    assert_eq!(weights::stored_kind(&again).unwrap(), Kind::BFloat16);
    let rounded = Decoder::load(&again, Device::Cpu, Kind::BFloat16).unwrap();
    assert_close(&hidden(&rounded), &hidden(&Decoder::load(&file, Device::Cpu, Kind::BFloat16).unwrap()), 0.0);
    let both = command(&["export", "runs/x", "--base", "base", "--output", "y"]).output().unwrap();
    assert_says(&String::from_utf8_lossy(&both.stderr), &["cannot be used with"], "a run and a base");
    assert_eq!(folder::DTYPES.map(|(name, _)| name), ["float32", "bfloat16", "float16"]);
}
