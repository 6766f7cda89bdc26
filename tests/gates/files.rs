//! Parameters as one leaf; weights on disk, whole, damaged and of the wrong shape.

use crate::common::*;
use gist::model::decoder::Decoder;
use gist::model::lora::Adapter;
use gist::model::params::FlatParams;
use gist::model::peft::Base;
use gist::model::weights as files;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn message<T>(result: gist::error::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn flat_parameters_keep_values_names_and_gradients_apart() {
    let named = vec![("b".to_string(), noise(&[2, 3], 1.0, 1)), ("a".to_string(), noise(&[4], 1.0, 2))];
    let mut params = FlatParams::pack(&named, Device::Cpu).unwrap();
    assert_eq!(params.numel(), 10);
    for ((name, value), (stored, kept)) in named.iter().zip(params.named()) {
        assert_eq!(name, &stored);
        assert!(value.equal(&kept) && params.views()[name].equal(value));
    }
    let views = params.views();
    let loss = (&views["b"] * 2.0).sum(Kind::Float) + (&views["a"] * &named[1].1).sum(Kind::Float);
    let expected = Tensor::cat(&[Tensor::full([6], 2.0, (Kind::Float, Device::Cpu)), named[1].1.copy()], 0);
    assert!(grad_of(&loss, params.leaf()).equal(&expected));

    let copy = params.duplicate();
    let fresh: BTreeMap<String, Tensor> = named.iter().map(|(n, t)| (n.clone(), t + 1.0)).collect();
    params.load(&fresh).unwrap();
    assert!(params.views()["a"].equal(&fresh["a"]) && params.leaf().requires_grad());
    assert!(copy.views()["a"].equal(&named[1].1), "a duplicate stays what it was");

    let without = fresh.iter().filter(|(n, _)| *n != "a").map(|(n, t)| (n.clone(), t.copy())).collect();
    assert_says(&message(params.load(&without)), &["a: expected a tensor [4], got none"]);
    let mut wrong: BTreeMap<String, Tensor> = fresh.iter().map(|(n, t)| (n.clone(), t.copy())).collect();
    wrong.insert("b".into(), noise(&[3, 2], 1.0, 1));
    assert_says(&message(params.load(&wrong)), &["b: expected [2, 3], got [3, 2]"]);
    let mut more: BTreeMap<String, Tensor> = fresh.iter().map(|(n, t)| (n.clone(), t.copy())).collect();
    more.insert("c".into(), noise(&[1], 1.0, 1));
    assert_says(&message(params.load(&more)), &["c: expected no such tensor"]);
    assert!(params.views()["b"].equal(&fresh["b"]), "a refused load changes nothing");
    assert!(FlatParams::pack(&[], Device::Cpu).is_err());
}

#[test]
fn every_stored_kind_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let mut named: Vec<(String, Tensor)> =
        [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16, Kind::Int64, Kind::Int]
            .into_iter()
            .enumerate()
            .map(|(i, kind)| (format!("{kind:?}"), (noise(&[3, 5], 100.0, i as u64)).to_kind(kind)))
            .collect();
    named.push(("scalar".into(), Tensor::from(2.5f32)));
    named.push(("none".into(), noise(&[0, 4], 1.0, 1)));
    named.push(("view".into(), noise(&[4, 3], 1.0, 1).tr())); // not contiguous
    files::write(&path, &named).unwrap();
    let read = files::read(&path).unwrap();
    assert_eq!(read.len(), named.len());
    for (name, value) in &named {
        assert_eq!((read[name].kind(), read[name].size()), (value.kind(), value.size()), "{name}");
        assert!(read[name].equal(value), "{name}");
    }
    files::write(&path, &named).unwrap();
    let again = std::fs::read(&path).unwrap();
    files::write(&path, &named).unwrap();
    assert_eq!(again, std::fs::read(&path).unwrap(), "the same tensors are the same bytes");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no litter");
    assert_says(
        &message(files::write(&path, &[("flag".into(), Tensor::from(true))])),
        &["w.safetensors", "flag", "Bool"],
    );
    assert_eq!(again, std::fs::read(&path).unwrap(), "a refused write leaves the old file");
}

/// A whole model folder.
fn model(folder: &Path) -> Vec<(String, Tensor)> {
    let config = tiny(false);
    std::fs::write(folder.join("config.json"), serde_json::to_string(&config).unwrap()).unwrap();
    let named = weights(&config, 1);
    files::write(&folder.join("model.safetensors"), &named).unwrap();
    named
}

fn load(folder: &Path) -> gist::error::Result<Decoder> {
    Decoder::load(folder, Device::Cpu, Kind::Float)
}

#[test]
fn a_model_cut_short_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    load(folder.path()).unwrap();
    let path = folder.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 4, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_says(&message(load(folder.path())), &["model.safetensors", "not a whole safetensors file"]);
    }
    std::fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    assert_says(&message(load(folder.path())), &["model.safetensors"]);
    std::fs::write(&path, "not tensors at all, but long enough to hold a header of some size").unwrap();
    assert_says(&message(load(folder.path())), &["model.safetensors"]);
    std::fs::remove_file(&path).unwrap();
    assert_says(&message(load(folder.path())), &["model.safetensors", "No such file"]);
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let named = model(folder.path());
    let path = folder.path().join("model.safetensors");
    let copy = || named.iter().map(|(n, t)| (n.clone(), t.copy())).collect::<Vec<_>>();
    let name = "model.layers.1.self_attn.k_proj.weight";
    let at = named.iter().position(|(n, _)| n == name).unwrap();

    let mut wrong = copy();
    wrong[at].1 = noise(&[32, 16], 1.0, 1);
    files::write(&path, &wrong).unwrap();
    assert_says(&message(load(folder.path())), &["model.safetensors", name, "expected shape [16, 32], got [32, 16]"]);

    let mut missing = copy();
    let _ = missing.remove(at);
    files::write(&path, &missing).unwrap();
    assert_says(&message(load(folder.path())), &["model.safetensors", name, "missing"]);

    let mut extra = copy();
    extra.push(("model.layers.2.mlp.up_proj.weight".into(), noise(&[1], 1.0, 1)));
    files::write(&path, &extra).unwrap();
    assert_says(&message(load(folder.path())), &["model.safetensors", "model.layers.2.mlp.up_proj.weight"]);

    let bf16: Vec<_> = named.iter().map(|(n, t)| (n.clone(), t.to_kind(Kind::BFloat16))).collect();
    files::write(&path, &bf16).unwrap();
    let decoder = load(folder.path()).unwrap();
    assert_eq!(decoder.embedding().kind(), Kind::Float);
    assert_close(decoder.embedding(), &named[0].1, 0.01);
}

#[test]
fn a_config_that_is_not_supported_is_refused_by_key() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let path = folder.path().join("config.json");
    let good: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value) in [
        ("model_type", serde_json::json!("gpt2")),
        ("hidden_act", serde_json::json!("gelu")),
        ("num_key_value_heads", serde_json::json!(3)),
        ("hidden_size", serde_json::json!(0)),
        ("rope_scaling", serde_json::json!({"rope_type": "yarn", "original_max_position_embeddings": 16})),
        ("vocab_size", serde_json::json!("many")),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        std::fs::write(&path, bad.to_string()).unwrap();
        assert_says(&message(load(folder.path())), &["config.json"]);
        if key != "vocab_size" {
            assert_says(&message(load(folder.path())), &[key]);
        }
    }
    // Biases would have to lie in the file.
    let mut biased = good.clone();
    biased["attention_bias"] = true.into();
    std::fs::write(&path, biased.to_string()).unwrap();
    assert_says(
        &message(load(folder.path())),
        &["model.safetensors", "with `self_attn.q_proj.bias`, got those of one without it"],
    );
}

#[test]
fn adapters_come_back_and_bad_ones_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let decoder = decoder(1);
    let saved = copying_adapter(&decoder, 3, 2);
    saved.save(folder.path(), &Base::default()).unwrap();
    let read = || Adapter::load(folder.path(), decoder.config(), Device::Cpu);
    let back = read().unwrap();
    assert!(back.params().leaf().equal(saved.params().leaf()));
    assert_eq!((back.config(), back.params().specs()), (saved.config(), saved.params().specs()));

    let other = gist::model::config::ModelConfig { hidden_size: 64, ..tiny(true) };
    let error = message(Adapter::load(folder.path(), &other, Device::Cpu));
    assert_says(&error, &["adapter_model.safetensors", "lora_A.weight", "expected shape [3, 64], got [3, 32]"]);

    let path = folder.path().join("adapter_config.json");
    let good: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (key, value) in [
        ("peft_type", serde_json::json!("IA3")),
        ("bias", serde_json::json!("all")),
        ("fan_in_fan_out", serde_json::json!(true)),
        ("use_dora", serde_json::json!(true)),
        ("use_rslora", serde_json::json!(true)),
        ("rank_pattern", serde_json::json!({"q_proj": 2})),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("target_modules", serde_json::json!(["c_attn"])),
        ("target_modules", serde_json::json!("all-linear")),
        ("r", serde_json::json!(0)),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        std::fs::write(&path, bad.to_string()).unwrap();
        assert_says(&message(read()), &["adapter_config.json", &format!("`{key}`: ")]);
    }
    std::fs::write(&path, good.to_string()).unwrap();

    let path = folder.path().join("adapter_model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_says(&message(read()), &["adapter_model.safetensors", "not a whole safetensors file"]);
    let mut named = saved.params().named();
    let copy = named.iter_mut().find(|(name, _)| name == "gist.copy_head.weight").unwrap();
    copy.1 = copy.1.narrow(0, 0, 5);
    files::write(&path, &named).unwrap();
    assert_says(&message(read()), &["adapter_model.safetensors", "copy_head", "expected at least", "rows, got 5"]);
    let mut named = saved.params().named();
    let _ = named.remove(0);
    files::write(&path, &named).unwrap();
    assert_says(&message(read()), &["adapter_model.safetensors", "layers.0.self_attn.q_proj.lora_A.weight", "missing"]);
}
