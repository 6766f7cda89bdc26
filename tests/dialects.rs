//! Configurations as they are met in the wild: what transformers computes from each is computed here. Fixtures:
//! `tests/fixtures/make_config_fixtures.py`.

use gist::eval::gates::logits;
use gist::model::config::ModelConfig;
use gist::model::decoder::Decoder;
use gist::model::weights;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn json(path: &Path) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The cases, with what transformers computes of each.
fn computed() -> Map<String, Value> {
    let packed = fs::File::open(fixtures().join("configs/computed.json.zst")).unwrap();
    serde_json::from_reader(zstd::Decoder::new(packed).unwrap()).unwrap()
}

/// The decoder of a case in a folder of its own: the weights that it is over, its configuration, its output head.
fn made(case: &Value, own_head: &Tensor) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixtures().join("decoders").join(case["base"].as_str().unwrap())).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config = json(&path);
    let mut change = case["change"].as_object().unwrap().clone();
    let without = change.remove("without").unwrap_or_default();
    config.extend(change);
    without.as_array().into_iter().flatten().for_each(|key| _ = config.remove(key.as_str().unwrap()));
    fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
    if let Some(heads) = case["heads"].as_str() {
        let path = folder.path().join("model.safetensors");
        let mut named = weights::read(&path).unwrap();
        let embedding = named["model.embed_tokens.weight"].copy();
        named.insert("lm_head.weight".into(), if heads == "own" { own_head.copy() } else { embedding });
        if heads == "only" {
            named.remove("model.embed_tokens.weight");
        }
        weights::write(&path, &named.into_iter().collect::<Vec<_>>()).unwrap();
    }
    folder
}

/// Statements of a configuration, in the words of the fixtures.
fn assert_says(config: &ModelConfig, expected: &Value, name: &str) {
    let windows: Vec<Value> = (0..config.num_hidden_layers).map(|layer| config.window(layer).into()).collect();
    assert_eq!(Value::Array(windows), expected["windows"], "{name}");
    assert_eq!((config.kv_heads(), config.head_width()), {
        (expected["kv_heads"].as_i64().unwrap(), expected["head_width"].as_i64().unwrap())
    });
    assert_eq!(config.max_position_embeddings, expected["positions"].as_i64().unwrap(), "{name}");
    // Where nothing says, weights are read as they are stored.
    let kind = expected["kind"].as_str().unwrap_or("float32");
    assert_eq!(config.torch_dtype, kind, "{name}");
}

#[test]
fn each_gives_the_logits_of_transformers() {
    let tensors = weights::read(&fixtures().join("configs/logits.safetensors")).unwrap();
    let ids = &tensors["ids"];
    let cases: BTreeMap<String, Value> = serde_json::from_value(Value::Object(computed())).unwrap();
    assert!(cases.len() > 40);
    for (name, case) in &cases {
        let folder = made(case, &tensors["lm_head.weight"]);
        let decoder = Decoder::load(folder.path(), Device::Cpu, Kind::Float).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_says(decoder.config(), case, name);
        assert_eq!(decoder.config().tie_word_embeddings, case["tied"].as_bool().unwrap(), "{name}");
        let expected = &tensors[name];
        let last = expected.size()[1];
        let got = tch::no_grad(|| logits(&decoder, ids, &[0], None)).unwrap();
        let got = got.narrow(1, got.size()[1] - last, last);
        let scale = expected.abs().max().double_value(&[]);
        let apart = (got - expected).abs().max().double_value(&[]) / scale;
        assert!(apart < 1e-5, "{name}: {apart:e} of the largest logit");
    }
}

#[test]
fn what_no_file_says_is_the_familys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    for (name, case) in json(&fixtures().join("configs/said.json")) {
        fs::write(&path, case["config"].to_string()).unwrap();
        assert_says(&ModelConfig::load(&path).unwrap(), &case, &name);
    }
}

#[test]
fn what_is_written_is_read_as_it_was_meant() {
    let cases = computed();
    let own = Tensor::ones([48, 16], (Kind::Float, Device::Cpu));
    for (name, case) in cases.iter().filter(|(_, case)| case["heads"].is_null()) {
        let folder = made(case, &own);
        let path = folder.path().join("config.json");
        let read = ModelConfig::load(&path).unwrap();
        fs::write(&path, serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(ModelConfig::load(&path).unwrap(), read, "{name}");
    }
}

#[test]
fn a_stretched_rope_reaches_beyond_the_stated_positions() {
    let cases = computed();
    let own = Tensor::ones([48, 16], (Kind::Float, Device::Cpu));
    let positions = |name: &str| {
        let folder = made(&cases[name], &own);
        let config = ModelConfig::load(&folder.path().join("config.json")).unwrap();
        (config.max_position_embeddings, config.positions())
    };
    assert_eq!(positions("qwen-yarn"), (16, 64));
    assert_eq!(positions("yarn-of-the-stated-positions"), (24, 48));
    assert_eq!(positions("old-linear"), (64, 192));
    // Stated stretched, or not stretched at all.
    assert_eq!(positions("yarn-positions-beside"), (64, 64));
    assert_eq!(positions("old-llama3"), (64, 64));
    assert_eq!(positions("default-with-a-factor"), (64, 64));
    let folder = made(&cases["qwen-yarn"], &own);
    let decoder = Decoder::load(folder.path(), Device::Cpu, Kind::Float).unwrap();
    let run = |tokens: i64| {
        let ids = Tensor::ones([1, tokens], (Kind::Int64, Device::Cpu));
        decoder.forward(&ids, &[0], None).err().map(|error| error.to_string())
    };
    assert_eq!(run(64), None);
    assert!(run(65).unwrap().contains("at most 64"));
}

#[test]
fn what_transformers_cannot_read_either_is_refused_by_key() {
    let cases = computed();
    let own = Tensor::ones([48, 16], (Kind::Float, Device::Cpu));
    for (base, change, words) in [
        (
            "qwen2-window",
            serde_json::json!({"use_sliding_window": false}),
            "`layer_types`: expected no \"sliding_attention\"",
        ),
        ("mistral", serde_json::json!({"sliding_window": 0}), "`sliding_window`: expected at least 1, got 0"),
        ("llama3", serde_json::json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor`: expected 1"),
        (
            "llama3",
            serde_json::json!({"rope_scaling": {"rope_type": 3}}),
            "`rope_scaling`: `rope_type`: expected one of",
        ),
        ("llama3", serde_json::json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), "got \"dynamic\""),
        (
            "llama3",
            serde_json::json!({"rope_scaling": {"type": "yarn"}}),
            "`factor`: rope_type \"yarn\" needs a number",
        ),
        ("llama3", serde_json::json!({"vocab_size": null}), "missing field `vocab_size`"),
        ("llama3", serde_json::json!({"dtype": 16}), "invalid type: integer `16`, expected a string"),
    ] {
        let mut case = cases["null-kind"].clone();
        case["base"] = base.into();
        case["change"] = change;
        let said = ModelConfig::load(&made(&case, &own).path().join("config.json")).unwrap_err().to_string();
        assert!(said.contains("config.json: ") && said.contains(words), "{said}");
    }
}
