//! Adapters with control tokens, to peft and back. Fixtures: `tests/fixtures/make_token_fixtures.py`; what is left for peft
//! to read is read by `tests/python/check`.

use crate::common::*;
use gist::model::decoder::Decoder;
use gist::model::lora::Adapter;
use gist::model::peft::Base;
use gist::model::read::control;
use gist::model::vocab::Head;
use gist::model::weights;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn base(name: &str) -> Decoder {
    Decoder::load(&fixture(name), Device::Cpu, Kind::Float).unwrap()
}

/// Logits `[1, T, V + 1]` of the ordinary vocabulary and of end-of-gist.
fn logits(decoder: &Decoder, ids: &Tensor, adapter: &Adapter) -> Tensor {
    let active = decoder.activate(adapter, false).unwrap();
    let hidden = decoder.forward(ids, &[0], Some(&active)).unwrap();
    Head { end: Some(&active.end), ..Head::base(decoder.head()) }.logits(&hidden)
}

fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(fixture(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

#[test]
fn trainable_tokens_made_by_peft_are_control_tokens_here() {
    for name in ["tied", "untied"] {
        let decoder = base(&format!("llama-{name}"));
        let folder = copy(&format!("peft-tokens/{name}"));
        let record = weights::read(&fixture("peft-tokens").join(name).join("logits.safetensors")).unwrap();
        let read = || Adapter::load(folder.path(), decoder.config(), Device::Cpu).unwrap();
        assert_close(&logits(&decoder, &record["ids"], &read()), &record["logits"], 1e-4);
        // What peft adds by default: the tables of the resized base, and a tied head's rows once more.
        let path = folder.path().join("adapter_model.safetensors");
        let mut named = weights::read(&path).unwrap();
        let rows = |table: &str| format!("base_model.model.{table}.token_adapter.trainable_tokens_delta");
        for table in ["model.embed_tokens", "lm_head"] {
            named.insert(format!("base_model.model.{table}.token_adapter.base_layer.weight"), noise(&[99, 32], 1.0, 1));
        }
        let embedded = named[&rows("model.embed_tokens")].shallow_clone();
        named.entry(rows("lm_head")).or_insert(embedded);
        weights::write(&path, &named.into_iter().collect::<Vec<_>>()).unwrap();
        assert_close(&logits(&decoder, &record["ids"], &read()), &record["logits"], 1e-4);
    }
}

/// Leaves `target/tmp/peft-controls/NAME` with the ids as peft has them, and logits of the ordinary vocabulary and of
/// end-of-gist.
#[test]
fn control_tokens_are_exported_as_trainable_tokens() {
    for (name, model, first) in
        [("tied", "llama-tied", 96), ("untied", "llama-untied", 96), ("spare", "llama-tied", 90)]
    {
        let decoder = base(model);
        let (v, tied) = (decoder.config().vocab_size, decoder.config().tie_word_embeddings);
        let adapter = adapter(&decoder, 3);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peft-controls").join(name);
        let of = Base {
            name: format!("tests/fixtures/{model}"),
            sha256: decoder.identity().map(String::from),
            ..Base::default()
        };
        adapter.export(&folder, &of, first, tied).unwrap();
        let mut row = ids(20, first as usize, 4);
        row.splice(5..5, [control::separator(v)]);
        row.splice(12..12, [control::separator(v), control::start(v)]);
        let here = Tensor::from_slice(&row.iter().map(|&id| i64::from(id)).collect::<Vec<_>>()).unsqueeze(0);
        let ours = logits(&decoder, &here, &adapter);
        let there = &here - here.ge(v) * (v - first);
        let named = [
            ("ids".to_string(), there),
            ("logits".to_string(), ours.narrow(-1, 0, first).contiguous()),
            ("end".to_string(), ours.narrow(-1, v, 1).contiguous()),
        ];
        weights::write(&folder.join("logits.safetensors"), &named).unwrap();

        let config: Value = serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
        let embedded = json!([first, first + 1, first + 2]);
        let expected = if tied {
            json!({"embed_tokens": embedded})
        } else {
            json!({"embed_tokens": embedded, "lm_head": [first]})
        };
        assert_eq!(config["trainable_token_indices"], expected);
        let names = weights::read(&folder.join("adapter_model.safetensors")).unwrap();
        assert!(names.keys().all(|name| name.starts_with("base_model.")), "{:?}", names.keys());
        let back = decoder.load_adapter(&folder).map(|back| logits(&decoder, &here, &back));
        match first == v {
            true => assert_close(&back.unwrap(), &ours, 1e-6),
            // Which rows are spare only the tokenizer knows.
            false => assert_says(&back.err().unwrap().to_string(), &["expected the ids [96, 97, 98]", "90"], name),
        }
    }
}

#[test]
fn trainable_tokens_that_are_not_the_control_tokens_are_refused() {
    let decoder = base("llama-untied");
    let said = |tokens: Value| {
        let folder = copy("peft-tokens/untied");
        edit_json(&folder.path().join("adapter_config.json"), |config| {
            config["trainable_token_indices"] = tokens.clone()
        });
        Adapter::load(folder.path(), decoder.config(), Device::Cpu).err().unwrap().to_string()
    };
    let expected = ["adapter_config.json: `trainable_token_indices`: expected ", ""];
    for (tokens, words) in [
        (json!({"embed_tokens": [5, 6, 7], "lm_head": [5]}), "the ids [96, 97, 98]"),
        (json!({"embed_tokens": [96, 97], "lm_head": [96]}), "<|gist_end|>"),
        (json!({"embed_tokens": [96, 97, 98], "lm_head": [97]}), "\"lm_head\": [97]"),
        (json!({"embed_tokens": [96, 97, 98], "lm_head": [96, 5]}), "\"lm_head\": [96, 5]"),
        (json!({"embed_tokens": [96, 97, 98], "visual": [96]}), "got \"visual\""),
        (json!("all"), "expected a list of ids"),
    ] {
        assert_says(&said(tokens), &[expected[0], words], words);
    }
    let folder = copy("peft-tokens/untied");
    let path = folder.path().join("adapter_model.safetensors");
    let mut named = weights::read(&path).unwrap();
    let rows = "base_model.model.lm_head.token_adapter.trainable_tokens_delta";
    named.insert(rows.into(), noise(&[3, 32], 1.0, 1));
    weights::write(&path, &named.into_iter().collect::<Vec<_>>()).unwrap();
    let error = Adapter::load(folder.path(), decoder.config(), Device::Cpu).err().unwrap().to_string();
    assert_says(&error, &["adapter_model.safetensors: `", rows, "expected shape [1, 32], got [3, 32]"], "shape");
}

#[test]
fn an_adapter_knows_its_base() {
    let (decoder, other) = (base("llama-tied"), base("decoders/qwen3"));
    assert_ne!(decoder.identity(), other.identity());
    let folder = tempfile::tempdir().unwrap();
    let save = |sha256: Option<&str>| {
        let of = Base { name: "some/base".into(), sha256: sha256.map(String::from), ..Base::default() };
        adapter(&decoder, 1).save(folder.path(), &of).unwrap();
        decoder.load_adapter(folder.path())
    };
    save(decoder.identity()).unwrap();
    // peft's own say nothing.
    save(None).unwrap();
    decoder.load_adapter(&fixture("peft-lora")).unwrap();
    let error = save(other.identity()).err().unwrap().to_string();
    let words = ["adapter_model.safetensors: `gist.base_sha256`: expected ", "got that of another, ", "\"some/base\""];
    assert_says(&error, &words, "another base");
    assert_says(&error, &[decoder.identity().unwrap(), other.identity().unwrap()], "another base");
}

#[test]
fn an_identity_is_of_the_weights_and_not_of_their_files() {
    let (sharded, whole) = (fixture("decoders/qwen3"), tempfile::tempdir().unwrap());
    let decoder = Decoder::load(&sharded, Device::Cpu, Kind::Float).unwrap();
    fs::copy(sharded.join("config.json"), whole.path().join("config.json")).unwrap();
    let kind = weights::stored_kind(&sharded).unwrap();
    let mut named = weights::read_model(&sharded, decoder.config(), kind, Device::Cpu).unwrap();
    let file = whole.path().join("model.safetensors");
    let identity = |named: &std::collections::BTreeMap<String, Tensor>| {
        let named: Vec<(String, Tensor)> = named.iter().map(|(n, t)| (n.clone(), t.shallow_clone())).collect();
        weights::write(&file, &named).unwrap();
        weights::identity(whole.path(), decoder.config()).unwrap()
    };
    assert_eq!(identity(&named), decoder.identity().unwrap());
    let norm = named.get_mut("model.norm.weight").unwrap();
    let _ = norm.narrow(0, 0, 1).fill_(0.5);
    assert_ne!(identity(&named), decoder.identity().unwrap());
}

#[test]
fn roles_have_adapters_of_their_own() {
    let runs = tempfile::tempdir().unwrap();
    let mut flags = Vec::new();
    for text in [
        "model.lora.compressor.rank=2",
        "model.lora.compressor.target_modules=[\"q_proj\", \"v_proj\"]",
        "model.lora.generator.alpha=6.0",
        "train.steps=2",
        "warm_start.windows=4",
        "eval.search_windows=0",
    ] {
        flags.extend(["--set", text]);
    }
    ok(&train(runs.path(), &flags));
    let run = run_dir(runs.path());
    let config: toml::Value = toml::from_str(&fs::read_to_string(run.join("config.toml")).unwrap()).unwrap();
    assert_eq!(config["model"]["lora"].as_table().unwrap().len(), 2, "what runs, in full");
    let decoder = Decoder::load(&world().root.join("base"), Device::Cpu, Kind::Float).unwrap();
    let checkpoint = fs::read_dir(run.join("checkpoints")).unwrap().next().unwrap().unwrap().path();
    for (role, rank, alpha, dropout, modules) in
        [("compressor", 2, 8.0, 0.1, 2), ("generator", 4, 6.0, 0.1, 7), ("empty_reader", 4, 6.0, 0.1, 7)]
    {
        let adapter = decoder.load_adapter(&checkpoint.join(role)).unwrap();
        let found = adapter.config();
        assert_eq!(
            (found.rank, found.alpha, found.dropout, found.target_modules.len()),
            (rank, alpha, dropout, modules)
        );
        let written = &config["model"]["lora"][if role == "compressor" { role } else { "generator" }];
        assert_eq!(written["rank"].as_integer(), Some(rank), "{role}");
    }
    // Its own warm start has what it asks for; the dropout is the experiment's.
    let from = format!("warm_start.from={}", run.join("warm_start").display());
    let again = tempfile::tempdir().unwrap();
    flags.extend(["--set", &from, "--set", "model.lora.generator.dropout=0.0", "--set", "warm_start.rounds=0"]);
    ok(&train(again.path(), &flags));
    let checkpoint = fs::read_dir(run_dir(again.path()).join("checkpoints")).unwrap().next().unwrap().unwrap().path();
    let dropout = |role: &str| decoder.load_adapter(&checkpoint.join(role)).unwrap().config().dropout;
    assert_eq!((dropout("compressor"), dropout("generator")), (0.1, 0.0));
}
