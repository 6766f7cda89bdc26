//! Parity with transformers and peft. Fixtures: `tests/fixtures/make_fixtures.py`.

use crate::common::*;
use gist::config::parts::LoraConfig;
use gist::eval::gates::checkpoints::Recorded;
use gist::eval::gates::logits;
use gist::model::decoder::Decoder;
use gist::model::lora::{ActiveAdapter, Adapter};
use gist::model::peft::Base;
use gist::model::weights;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

fn load(folder: &str) -> Decoder {
    Decoder::load(&fixtures().join(folder), Device::Cpu, Kind::Float).unwrap()
}

fn record() -> BTreeMap<String, Tensor> {
    weights::read(&fixtures().join("logits.safetensors")).unwrap()
}

/// Compares with the recorded logits of `name`, rows in one padded batch and each alone.
#[track_caller]
fn assert_parity(decoder: &Decoder, adapter: Option<&ActiveAdapter>, name: &str) {
    let recorded = Recorded::read(&fixtures().join("logits.safetensors")).unwrap();
    let distance = recorded.distance(decoder, adapter, name).unwrap();
    assert!(distance < 1e-5, "{name}: {distance:e} of the largest logit");
}

#[test]
fn a_tied_llama_gives_the_logits_of_transformers() {
    let decoder = load("llama-tied");
    assert!(decoder.config().tie_word_embeddings && decoder.config().kv_heads() == 2);
    assert_parity(&decoder, None, "tied");
}

#[test]
fn an_untied_llama_with_wide_heads_gives_the_logits_of_transformers() {
    let decoder = load("llama-untied");
    assert!(!decoder.config().tie_word_embeddings && decoder.config().head_width() == 12);
    assert_parity(&decoder, None, "untied");
}

fn peft_adapter(decoder: &Decoder) -> Adapter {
    Adapter::load(&fixtures().join("peft-lora"), decoder.config(), Device::Cpu).unwrap()
}

#[test]
fn an_adapter_made_by_peft_gives_the_logits_of_peft() {
    let decoder = load("llama-tied");
    let adapter = peft_adapter(&decoder);
    assert_eq!((adapter.config().rank, adapter.config().alpha), (3, 5.0));
    let active = decoder.activate(&adapter, false).unwrap();
    assert_parity(&decoder, Some(&active), "tied_lora");
    // peft knows no control tokens.
    assert_eq!(active.control.abs().max().double_value(&[]), 0.0);
    assert_eq!(active.end.size(), [1, 32]);
}

#[test]
fn what_is_saved_has_the_names_and_keys_that_peft_writes() {
    let decoder = load("llama-tied");
    let ours = tempfile::tempdir().unwrap();
    peft_adapter(&decoder).save(ours.path(), &Base { name: "llama-tied".into(), ..Base::default() }).unwrap();
    let tensors = |folder: &Path| weights::read(&folder.join("adapter_model.safetensors")).unwrap();
    let (mut saved, theirs) = (tensors(ours.path()), tensors(&fixtures().join("peft-lora")));
    assert!(saved.remove("gist.control_tokens.weight").is_some() && saved.remove("gist.end_head.weight").is_some());
    assert_eq!(saved.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, value) in &saved {
        assert!(value.equal(&theirs[name]), "{name}");
    }
    let json = |folder: &Path| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
    };
    let theirs = json(&fixtures().join("peft-lora"));
    for (key, value) in json(ours.path()) {
        let expected = theirs.get(&key).unwrap_or_else(|| panic!("peft writes no `{key}`"));
        match key.as_str() {
            "base_model_name_or_path" => assert!(value.is_string()),
            "lora_alpha" | "lora_dropout" => assert_eq!(value.as_f64(), expected.as_f64()),
            "target_modules" => {
                let sorted = |list: &serde_json::Value| -> std::collections::BTreeSet<String> {
                    serde_json::from_value(list.clone()).unwrap()
                };
                assert_eq!(sorted(&value), sorted(expected));
            }
            _ => assert_eq!(&value, expected, "{key}"),
        }
    }
}

/// Leaves `target/tmp/peft-export` for `tests/python/check_export.py`, which loads it with peft.
#[test]
fn an_export_comes_back_with_the_logits_recorded_beside_it() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peft-export");
    let decoder = load("llama-tied");
    let targets = ["q_proj", "v_proj", "o_proj", "down_proj"].map(String::from).to_vec();
    let lora = LoraConfig { rank: 5, alpha: 7.0, dropout: 0.1, target_modules: targets };
    let mut adapter = fresh_adapter(&decoder, &lora);
    let drawn = adapter.params().specs().iter().enumerate().map(|(i, (n, s))| (n.clone(), noise(s, 0.3, i as u64)));
    let drawn = drawn.collect();
    adapter.params_mut().load(&drawn).unwrap();
    let base = Base { name: "tests/fixtures/llama-tied".into(), ..Base::default() };
    adapter.save(&folder, &base).unwrap();
    let ids = record()["ids"].narrow(0, 0, 1);
    let recorded = logits(&decoder, &ids, &[0], Some(&decoder.activate(&adapter, false).unwrap())).unwrap();
    let named = [("ids".to_string(), ids.copy()), ("logits".to_string(), recorded.copy())];
    weights::write(&folder.join("logits.safetensors"), &named).unwrap();

    let back = Adapter::load(&folder, decoder.config(), Device::Cpu).unwrap();
    let again = logits(&decoder, &ids, &[0], Some(&decoder.activate(&back, false).unwrap())).unwrap();
    assert!(again.equal(&recorded));
    assert!(gap(&recorded, &logits(&decoder, &ids, &[0], None).unwrap()) > 0.1);
}
