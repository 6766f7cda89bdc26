//! Decoder folders: what their configurations say and which files they have, and what one that is not whole says. What they
//! compute is compared with transformers in `check.rs`. Fixtures: `tests/fixtures/make_decoder_fixtures.py`.

use crate::common::*;
use gist::config::parts::Projection;
use gist::model::config::{Ids, ModelConfig};
use gist::model::decoder::Decoder;
use gist::model::weights;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders").join(name)
}

/// A copy of a fixture in one file, its tensors cast by `cast`.
fn stored(name: &str, cast: impl Fn(usize, &Tensor) -> Tensor) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::copy(folder(name).join("config.json"), copy.path().join("config.json")).unwrap();
    let config = ModelConfig::load(&copy.path().join("config.json")).unwrap();
    let named = weights::read_model(&folder(name), &config, Kind::Float, Device::Cpu).unwrap();
    let cast: Vec<(String, Tensor)> =
        named.into_iter().enumerate().map(|(i, (name, tensor))| (name, cast(i, &tensor))).collect();
    weights::write(&copy.path().join("model.safetensors"), &cast).unwrap();
    copy
}

#[test]
fn weights_of_any_kind_and_of_several_are_read_in_the_kind_asked_for() {
    let kinds = [Kind::Half, Kind::BFloat16, Kind::Float];
    let ids = Tensor::from_slice(&[3i64, 9, 27, 14]).unsqueeze(0);
    for name in ["llama3", "qwen3"] {
        let run = |folder: &Path, kind: Kind| {
            Decoder::load(folder, Device::Cpu, kind).unwrap().forward(&ids, &[0], None).unwrap().to_kind(Kind::Float)
        };
        for shift in [None, Some(0), Some(1)] {
            let kind = |i: usize| shift.map_or(Kind::Half, |shift| kinds[(i + shift) % 3]);
            let folder = stored(name, |i, tensor| tensor.to_kind(kind(i)));
            // The same values, rounded as they were stored, in float32.
            let rounded = stored(name, |i, tensor| tensor.to_kind(kind(i)).to_kind(Kind::Float));
            assert_close(&run(folder.path(), Kind::Float), &run(rounded.path(), Kind::Float), 0.0);
            assert_close(&run(folder.path(), Kind::BFloat16), &run(rounded.path(), Kind::BFloat16), 0.0);
            let identity = |folder: &Path| {
                weights::identity(folder, &ModelConfig::load(&folder.join("config.json")).unwrap()).unwrap()
            };
            assert_ne!(identity(folder.path()), identity(rounded.path()), "another checkpoint");
        }
    }
}

#[test]
fn configurations_say_what_differs() {
    let config = |name: &str| ModelConfig::load(&folder(name).join("config.json")).unwrap();
    assert_eq!(config("llama3").eos_token_id, Some(Ids::Many(vec![1, 2])));
    assert_eq!((config("mistral").window(0), config("mistral").head_width()), (Some(5), 12));
    assert_eq!([0, 1].map(|layer| config("qwen2-window").window(layer)), [None, Some(4)]);
    assert_eq!(config("qwen2").window(1), None);
    assert!(config("qwen3").has_head_norms() && !config("qwen3").has_bias(Projection::Q));
    let some = [Projection::Q, Projection::V, Projection::O, Projection::Gate];
    assert_eq!(some.map(|projection| config("qwen2").has_bias(projection)), [true, true, false, false]);
    assert!(Projection::ALL.into_iter().all(|projection| config("llama-linear").has_bias(projection)));
}

#[test]
fn the_files_of_a_folder_are_one_or_an_index_and_its_shards() {
    let names = |name: &str| -> Vec<String> {
        let name_of = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
        weights::files(&folder(name)).into_iter().map(name_of).collect()
    };
    assert_eq!(names("llama3"), ["model.safetensors"]);
    let shards = (1..=3).map(|i| format!("model-0000{i}-of-00003.safetensors"));
    assert_eq!(
        names("qwen3"),
        std::iter::once("model.safetensors.index.json".into()).chain(shards).collect::<Vec<_>>()
    );
}

/// A copy of a fixture with `file` changed by `edit`, and what loading it says.
fn said(name: &str, file: &str, edit: impl Fn(&Path)) -> String {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    edit(&copy.path().join(file));
    Decoder::load(copy.path(), Device::Cpu, Kind::Float).err().unwrap().to_string()
}

#[test]
fn a_folder_that_is_not_whole_or_of_another_kind_is_named() {
    let replace = |from: &'static str, to: &'static str| {
        move |path: &Path| {
            let text = fs::read_to_string(path).unwrap();
            assert!(text.contains(from));
            fs::write(path, text.replace(from, to)).unwrap();
        }
    };
    const INDEX: &str = "model.safetensors.index.json";
    const SHARD: &str = "model-00002-of-00003.safetensors";
    type Edit<'a> = Box<dyn Fn(&Path) + 'a>;
    let cases: Vec<(&str, &str, Edit, &[&str])> = vec![
        ("qwen3", SHARD, Box::new(|path| fs::remove_file(path).unwrap()), &[SHARD]),
        ("qwen3", SHARD, Box::new(|path| fs::write(path, b"not safetensors").unwrap()), &[SHARD, "not a whole"]),
        (
            "qwen3",
            SHARD,
            Box::new(|path| {
                let bytes = fs::read(path).unwrap();
                fs::write(path, &bytes[..bytes.len() - 9]).unwrap();
            }),
            &[SHARD, "not a whole safetensors file"],
        ),
        (
            "qwen3",
            INDEX,
            Box::new(replace("model-00002-of-00003", "../model-00002")),
            &["expected names of files beside it"],
        ),
        (
            "qwen3",
            INDEX,
            Box::new(replace("\"model.norm.weight\": \"model-00003", "\"model.norm.weight\": \"model-00002")),
            &["`model.norm.weight`", "the index has it in"],
        ),
        (
            "qwen3",
            "config.json",
            Box::new(replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1")),
            &["layer_types"],
        ),
        (
            "llama3",
            "config.json",
            Box::new(replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")),
            &["`model.layers.2.input_layernorm.weight` is missing"],
        ),
        (
            "llama3",
            "config.json",
            Box::new(replace("\"llama\"", "\"gpt2\"")),
            &["`model_type`", "\"qwen3\"", "\"gpt2\""],
        ),
        (
            "llama3",
            "config.json",
            Box::new(replace("\"llama\"", "\"qwen2\"")),
            &[
                "model.safetensors: expected weights of `model_type` \"qwen2\", with `self_attn.q_proj.bias`, got those of one",
            ],
        ),
        (
            "qwen3",
            "config.json",
            Box::new(replace("\"qwen3\"", "\"mistral\"")),
            &["index.json: expected weights of `model_type` \"mistral\", without `self_attn.q_norm.weight`"],
        ),
        (
            "qwen2",
            "config.json",
            Box::new(replace("\"qwen2\"", "\"llama\"")),
            &["model.safetensors: expected weights of `model_type` \"llama\", without `self_attn.q_proj.bias`"],
        ),
        ("llama3", "config.json", Box::new(replace("\"llama3\"", "\"longrope\"")), &["`rope_parameters`", "longrope"]),
        (
            "llama3",
            "config.json",
            Box::new(replace("\"hidden_size\": 16", "\"hidden_size\": 32")),
            &["expected shape [48, 32], got [48, 16]"],
        ),
    ];
    for (name, file, edit, words) in cases {
        assert_says(&said(name, file, edit), words, &format!("{name}: {file}"));
    }
}
