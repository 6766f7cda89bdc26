//! Models and adapters that are not what they should be, met by the real program: one message that names file, key, expected
//! and got, and nothing left behind.

use crate::bad_input::{Case, nothing, refuse};
use crate::common::{copy, cut, edit_json, finished, world};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn base(folder: &Path) {
    copy(&world().root.join("base"), &folder.join("base"));
}

const BASE: &str = "model.path=DIR/base";

fn warm(folder: &Path) {
    copy(&finished().join("warm_start"), &folder.join("warm"));
}

const WARM: &str = "warm_start.from=DIR/warm";

#[test]
fn models() {
    let cases: &[Case] = &[
        ("no model", nothing, &["model.path=DIR/gone"], &["gone/config.json: No such file"]),
        (
            "no tokenizer",
            |dir| {
                base(dir);
                fs::remove_file(dir.join("base/tokenizer.json")).unwrap();
            },
            &[BASE],
            &["base/tokenizer.json: No such file"],
        ),
        (
            "weights cut short",
            |dir| {
                base(dir);
                cut(&dir.join("base/model.safetensors"), 0.9);
            },
            &[BASE],
            &["base/model.safetensors: not a whole safetensors file: "],
        ),
        (
            "weights cut within the header",
            |dir| {
                base(dir);
                cut(&dir.join("base/model.safetensors"), 0.01);
            },
            &[BASE],
            &["base/model.safetensors: not a whole safetensors file: "],
        ),
        (
            "no weights at all",
            |dir| {
                base(dir);
                fs::write(dir.join("base/model.safetensors"), "").unwrap();
            },
            &[BASE],
            &["base/model.safetensors: "],
        ),
        (
            "weights of text",
            |dir| {
                base(dir);
                fs::write(dir.join("base/model.safetensors"), "version https://git-lfs.example/spec/v1\n").unwrap();
            },
            &[BASE],
            &["base/model.safetensors: not a whole safetensors file: "],
        ),
        (
            "weights of another shape",
            |dir| {
                base(dir);
                edit_json(&dir.join("base/config.json"), |config| config["intermediate_size"] = 80.into());
            },
            &[BASE],
            &["base/model.safetensors: `model.layers.0.mlp.", "expected shape [80, 32], got [64, 32]"],
        ),
        (
            "weights missing",
            |dir| {
                base(dir);
                edit_json(&dir.join("base/config.json"), |config| config["num_hidden_layers"] = 3.into());
            },
            &[BASE],
            &["base/model.safetensors: `model.layers.2.", "is missing"],
        ),
        (
            "weights too many",
            |dir| {
                base(dir);
                edit_json(&dir.join("base/config.json"), |config| config["num_hidden_layers"] = 1.into());
            },
            &[BASE],
            &["base/model.safetensors: `model.layers.1.", "is not a weight of this model"],
        ),
        (
            "vocabulary of the tokenizer larger than the model's",
            |dir| {
                base(dir);
                edit_json(&dir.join("base/tokenizer.json"), |tokenizer| {
                    let extra = serde_json::json!({"id": 300, "content": "<extra>", "single_word": false,
                        "lstrip": false, "rstrip": false, "normalized": false, "special": true});
                    tokenizer["added_tokens"].as_array_mut().unwrap().push(extra);
                });
            },
            &[BASE],
            &["base/config.json: vocab_size: expected at least the tokenizer's 301 entries, got 300"],
        ),
        (
            "a vocabulary with a hole",
            |dir| {
                base(dir);
                edit_json(&dir.join("base/tokenizer.json"), |tokenizer| {
                    let extra = serde_json::json!({"id": 305, "content": "<extra>", "single_word": false,
                        "lstrip": false, "rstrip": false, "normalized": false, "special": true});
                    tokenizer["added_tokens"].as_array_mut().unwrap().push(extra);
                });
            },
            &[BASE],
            &["base/tokenizer.json: vocabulary: expected a token for every id below 306, got none for 300"],
        ),
        (
            "fewer rows than ids",
            |dir| {
                base(dir);
                edit_json(&dir.join("base/config.json"), |config| config["vocab_size"] = 299.into());
            },
            &[BASE],
            &["base/model.safetensors: `model.embed_tokens.weight`: expected shape [299, 32], got [300, 32]"],
        ),
        (
            "a beginning of text that no file names",
            |dir| {
                base(dir);
                edit_json(&dir.join("base/config.json"), |config| config["bos_token_id"] = Value::Null);
                fs::remove_file(dir.join("base/tokenizer_config.json")).unwrap();
            },
            &[BASE, "model.bos=true"],
            &["base/tokenizer.json: model.bos is true: expected a token before a text", "got none"],
        ),
        (
            "a beginning of text that is no word",
            nothing,
            &["model.bos=\"yes\""],
            &["`model.bos`: expected \"auto\", true or false, got string \"yes\""],
        ),
        (
            "tokenizer of text",
            |dir| {
                base(dir);
                fs::write(dir.join("base/tokenizer.json"), "[1, 2").unwrap();
            },
            &[BASE],
            &["base/tokenizer.json: "],
        ),
        (
            "config of text",
            |dir| {
                base(dir);
                fs::write(dir.join("base/config.json"), "{\"vocab_size\": 300,\n").unwrap();
            },
            &[BASE],
            &["base/config.json: ", "line 2"],
        ),
        (
            "another family",
            |dir| {
                base(dir);
                edit_json(&dir.join("base/config.json"), |config| config["model_type"] = "gpt2".into());
            },
            &[BASE],
            &[
                "base/config.json: `model_type`: expected one of [\"llama\", \"mistral\", \"qwen2\", \"qwen3\"], got \"gpt2\"",
            ],
        ),
        (
            "window longer than the model",
            nothing,
            &["data.prefix_tokens=200"],
            &["base/config.json: max_position_embeddings: expected at least 217, got 128"],
        ),
        (
            "window as long as the model, behind a beginning of text",
            nothing,
            &["data.prefix_tokens=111", "model.bos=true"],
            &["base/config.json: max_position_embeddings: expected at least 129, got 128"],
        ),
    ];
    refuse(cases, "train", "tiny.toml");
}

#[test]
fn warm_starts() {
    let cases: &[Case] = &[
        ("no warm start", nothing, &["warm_start.from=DIR/gone"], &["gone/record.json: No such file"]),
        (
            "warm start cut short",
            |dir| {
                warm(dir);
                cut(&dir.join("warm/generator/adapter_model.safetensors"), 0.5);
            },
            &[WARM],
            &["warm/generator/adapter_model.safetensors: not a whole safetensors file: "],
        ),
        (
            "warm start of another shape",
            |dir| {
                warm(dir);
                edit_json(&dir.join("warm/compressor/adapter_config.json"), |config| config["r"] = 8.into());
            },
            &[WARM],
            &["warm/compressor/adapter_model.safetensors: `", "expected shape [8, 32], got [4, 32]"],
        ),
        (
            "warm start for another budget",
            warm,
            &[WARM, "warm_start.rounds=0", "budget.tokens=3"],
            &[
                "warm/record.json: `budget`: expected 3 (`budget` of the experiment), got a warm start for gists of 4 tokens",
            ],
        ),
        (
            "warm start of another rank than the experiment's",
            warm,
            &[WARM, "model.lora.compressor.rank=2"],
            &[
                "warm/compressor/adapter_config.json: `r`: expected 2 (model.lora.compressor.rank, or model.lora.rank), got 4",
            ],
        ),
        (
            "warm start of another scaling",
            warm,
            &[WARM, "model.lora.generator.alpha=3.0"],
            &["warm/generator/adapter_config.json: `lora_alpha`: expected 3 (model.lora.generator.alpha", "got 8"],
        ),
        (
            "warm start of other targets",
            warm,
            &[WARM, "model.lora.target_modules=[\"q_proj\"]"],
            &["warm/compressor/adapter_config.json: `target_modules`: expected {\"q_proj\"}", "\"v_proj\"}"],
        ),
        (
            "warm start of a projection that no architecture has",
            |dir| {
                warm(dir);
                edit_json(&dir.join("warm/generator/adapter_config.json"), |config| {
                    config["target_modules"] = serde_json::json!(["q_proj", "query_key_value"]);
                });
            },
            &[WARM],
            &[
                "warm/generator/adapter_config.json: `target_modules`: expected names among [\"q_proj\"",
                "got \"query_key_value\"",
            ],
        ),
        (
            "warm start of rank 0",
            |dir| {
                warm(dir);
                edit_json(&dir.join("warm/generator/adapter_config.json"), |config| config["r"] = 0.into());
            },
            &[WARM],
            &["warm/generator/adapter_config.json: `r`: expected at least 1, got 0"],
        ),
        (
            "warm start of another base of the same shape",
            |dir| {
                warm(dir);
                base(dir);
                let path = dir.join("base/model.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(path, bytes).unwrap();
            },
            &[WARM, BASE],
            &[
                "warm/compressor/adapter_model.safetensors: `gist.base_sha256`: expected ",
                "got that of another, ",
                "(its `base_model_name_or_path` is \"base\")",
            ],
        ),
        (
            "warm start of the same base, read without a beginning of text",
            warm,
            &[WARM, "model.bos=true"],
            &["warm/compressor/adapter_model.safetensors: `gist.begin`: expected [0]", "model.bos, got []"],
        ),
        (
            "warm start whose beginning was subtracted from its base",
            |dir| init(dir, "PiSSA_niter_4".into()),
            &[WARM],
            &[
                "warm/generator/adapter_config.json: `init_lora_weights`: expected an adapter of the base as it is, \
                 got \"PiSSA_niter_4\"",
                "path_initial_model_for_weight_conversion",
            ],
        ),
        (
            "warm start over a base that was quantised",
            |dir| init(dir, "loftq".into()),
            &[WARM],
            &["warm/generator/adapter_config.json: `init_lora_weights`: ", "LoftQ quantised it"],
        ),
        (
            "warm start begun in a way that nobody knows",
            |dir| init(dir, "newest".into()),
            &[WARM],
            &["warm/generator/adapter_config.json: `init_lora_weights`: expected true, false or one of [\"eva\""],
        ),
    ];
    refuse(cases, "train", "tiny.toml");
}

fn init(folder: &Path, value: Value) {
    warm(folder);
    edit_json(&folder.join("warm/generator/adapter_config.json"), |config| config["init_lora_weights"] = value.clone());
}

/// Rewrites the header of the base's weights, the bytes behind it as they are.
fn header(folder: &Path, edit: impl Fn(&mut Value)) {
    base(folder);
    let path = folder.join("base/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut value: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
    edit(&mut value);
    let text = value.to_string();
    let all = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &bytes[end..]].concat();
    fs::write(path, all).unwrap();
}

const NORM: &str = "model.norm.weight";
const OTHER: &str = "model.layers.0.input_layernorm.weight";

#[test]
fn weights_whose_header_lies() {
    let cases: &[Case] = &[
        (
            "a header longer than the file",
            |dir| {
                base(dir);
                let path = dir.join("base/model.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                bytes[..8].copy_from_slice(&90_000_000u64.to_le_bytes());
                fs::write(path, bytes).unwrap();
            },
            &[BASE],
            &[
                "base/model.safetensors: not a whole safetensors file: expected a header of 90000000 bytes, got a file of ",
            ],
        ),
        (
            "a tensor beyond the end",
            |dir| header(dir, |all| all[NORM]["data_offsets"] = serde_json::json!([0, 1_000_000])),
            &[BASE],
            &[
                "base/model.safetensors: not a whole safetensors file: `model.norm.weight`: expected 128 bytes",
                "got 1000000",
            ],
        ),
        (
            "two tensors in one place",
            |dir| header(dir, |all| all[NORM]["data_offsets"] = all[OTHER]["data_offsets"].clone()),
            &[BASE],
            &["base/model.safetensors: not a whole safetensors file: ", "expected it at byte "],
        ),
        (
            "a negative offset",
            |dir| header(dir, |all| all[NORM]["data_offsets"] = serde_json::json!([-128, 0])),
            &[BASE],
            &["base/model.safetensors: not a whole safetensors file: ", "invalid value: integer `-128`"],
        ),
        (
            "a kind of another size",
            |dir| header(dir, |all| all[NORM]["dtype"] = "F16".into()),
            &[BASE],
            &["not a whole safetensors file: `model.norm.weight`: expected 64 bytes (F16, [32]), got 128"],
        ),
        (
            "a kind that no model has",
            |dir| {
                header(dir, |all| {
                    all[NORM]["dtype"] = "U8".into();
                    all[NORM]["shape"] = serde_json::json!([128]);
                })
            },
            &[BASE],
            &["base/model.safetensors: `model.norm.weight`: unsupported kind U8"],
        ),
        (
            "a shape past counting",
            |dir| header(dir, |all| all[NORM]["shape"] = serde_json::json!([1u64 << 40, 1u64 << 40])),
            &[BASE],
            &["base/model.safetensors: not a whole safetensors file: overflow"],
        ),
    ];
    refuse(cases, "train", "tiny.toml");
}
