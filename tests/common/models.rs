//! Small models with seeded weights, and plain comparisons, for the other tests.

use gist::compressor::Request;
use gist::config::parts::LoraConfig;
use gist::model::config::ModelConfig;
use gist::model::copy_head;
use gist::model::decoder::Decoder;
use gist::model::lora::{Adapter, Extra};
use gist::rng::{self, Stream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Device, Kind, Tensor};

/// Held while a test draws from libtorch's one generator: another test's draws in between would change the values.
pub fn torch_generator() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Normal values that no other test can disturb.
pub fn noise(shape: &[i64], scale: f64, seed: u64) -> Tensor {
    let mut draw = rng::rng(seed, Stream::Init, 0, 0, 0);
    let values: Vec<f32> = (0..shape.iter().product::<i64>())
        .map(|_| {
            let (u, v) = (1.0 - rng::uniform(&mut draw), rng::uniform(&mut draw));
            (scale * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
        })
        .collect();
    Tensor::from_slice(&values).view(shape)
}

/// Seeded ids below `limit`.
pub fn ids(count: usize, limit: usize, seed: u64) -> Vec<u32> {
    let mut draw = rng::rng(seed, Stream::Data, 0, 0, 0);
    (0..count).map(|_| rng::below(&mut draw, limit) as u32).collect()
}

/// A row of ids as `[1, T]`.
pub fn row(ids: &[u32]) -> Tensor {
    Tensor::from_slice(&ids.iter().map(|&id| id as i64).collect::<Vec<_>>()).unsqueeze(0)
}

pub const VOCAB: i64 = 48;

/// Two layers, four query heads on two key/value heads.
pub fn tiny(tied: bool) -> ModelConfig {
    serde_json::from_value(serde_json::json!({
        "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
        "rope_theta": 300.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied,
    }))
    .unwrap()
}

/// Weights for `config` under their names.
pub fn weights(config: &ModelConfig, seed: u64) -> Vec<(String, Tensor)> {
    let make = |(i, (name, shape)): (usize, (String, Vec<i64>))| {
        let value = noise(&shape, 0.25, seed * 1000 + i as u64);
        (name, if shape.len() == 1 { value + 1.0 } else { value })
    };
    config.parameters().into_iter().enumerate().map(make).collect()
}

pub fn decoder(seed: u64) -> Decoder {
    let config = tiny(true);
    Decoder::from_named(&config, weights(&config, seed).into_iter().collect()).unwrap()
}

/// An adapter as training begins: it changes nothing.
pub fn fresh_adapter(decoder: &Decoder, lora: &LoraConfig) -> Adapter {
    let _guard = torch_generator();
    Adapter::fresh(decoder.config(), lora, decoder.embedding()).unwrap()
}

/// An adapter that has learned something: every value is drawn.
pub fn adapter(decoder: &Decoder, seed: u64) -> Adapter {
    copying_adapter(decoder, 0, seed)
}

/// A compressor's adapter with a copy head for matches of up to `longest` tokens (0 = none).
pub fn copying_adapter(decoder: &Decoder, longest: usize, seed: u64) -> Adapter {
    adapter_with(decoder, Extra::CopyHead(copy_head::rows(longest, decoder.config())), seed)
}

/// An adapter with whatever a compressor needs.
pub fn adapter_with(decoder: &Decoder, extra: Extra, seed: u64) -> Adapter {
    drawn_adapter(decoder, &LoraConfig { rank: 3, alpha: 5.0, ..LoraConfig::default() }, extra, seed)
}

/// An adapter of this rank and dropout.
pub fn drawn_adapter(decoder: &Decoder, lora: &LoraConfig, extra: Extra, seed: u64) -> Adapter {
    let mut adapter = {
        let _guard = torch_generator();
        Adapter::with_extra(decoder.config(), lora, decoder.embedding(), extra).unwrap()
    };
    let specs = adapter.params().specs().to_vec();
    let drawn = specs.into_iter().enumerate().map(|(i, (name, shape))| {
        let value = noise(&shape, 0.25, seed * 1000 + i as u64);
        (name, value)
    });
    adapter.params_mut().load(&drawn.collect()).unwrap();
    adapter
}

pub fn request(prefix: &[u32]) -> Request<'_> {
    Request { prefix, local: &[], query: &[], key: 0 }
}

/// One request a prefix, of which the second also sees a local window.
pub fn requests<'a>(prefixes: &'a [Vec<u32>], local: &'a [u32]) -> Vec<Request<'a>> {
    let mut requests: Vec<Request> = prefixes.iter().map(|prefix| request(prefix)).collect();
    requests[1].local = local;
    requests
}

/// Largest absolute difference.
pub fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    (a.detach().to_kind(Kind::Double) - b.detach().to_kind(Kind::Double)).abs().max().double_value(&[])
}

#[track_caller]
pub fn assert_close(a: &Tensor, b: &Tensor, tolerance: f64) {
    let gap = gap(a, b);
    assert!(gap <= tolerance, "largest difference {gap:e}, allowed {tolerance:e}");
}

/// log-probabilities of `targets` `[N]` under logits `[N, A]`, by plain operations.
pub fn log_probs(logits: &Tensor, targets: &Tensor) -> Tensor {
    logits.log_softmax(-1, Kind::Float).gather(-1, &targets.unsqueeze(-1), false).squeeze_dim(-1)
}

/// The gradient that `loss` sends to `leaf`, which is left without one.
pub fn grad_of(loss: &Tensor, leaf: &Tensor) -> Tensor {
    let mut leaf = leaf.shallow_clone();
    if leaf.grad().defined() {
        leaf.zero_grad();
    }
    loss.backward();
    let grad = leaf.grad().copy();
    leaf.zero_grad();
    grad
}

pub fn floats(values: &[f64]) -> Tensor {
    gist::tensor::floats(values, Device::Cpu)
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A tiny BERT in a folder: see [`tiny_encoder`].
pub fn tiny_bert() -> tempfile::TempDir {
    tiny_encoder("bert")
}

/// A tiny encoder in a folder: the fixture's weights, and a WordPiece of single letters that is told to cut what is long. BERT
/// and XLM-R come without a template of pairs, RoBERTa and ModernBERT with their own.
pub fn tiny_encoder(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixtures().join(name).join(file), folder.path().join(file)).unwrap();
    }
    let roberta = name.ends_with("roberta");
    let special = if roberta { ["<s>", "<unk>", "</s>", "<pad>"] } else { ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] };
    let special = special.map(String::from);
    // As many as the fixture has rows for.
    let (letters, digits) = if name == "bert" { ('a'..='z', "0123456789") } else { ('a'..='v', "") };
    let letters = letters.chain(digits.chars()).flat_map(|c| [c.to_string(), format!("##{c}")]);
    let words: Vec<String> = special.iter().cloned().chain(letters).collect();
    let vocab: serde_json::Map<String, serde_json::Value> =
        words.iter().enumerate().map(|(id, word)| (word.clone(), id.into())).collect();
    let added: Vec<serde_json::Value> = (special.iter().enumerate())
        .map(|(id, word)| {
            serde_json::json!({"id": id, "content": word, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let template = match name {
        "roberta" => serde_json::json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
            "trim_offsets": true, "add_prefix_space": false}),
        "modernbert" => {
            let mark = |id: &str| serde_json::json!({"SpecialToken": {"id": id, "type_id": 0}});
            let text = |id: &str| serde_json::json!({"Sequence": {"id": id, "type_id": 0}});
            let known = |id: &str, number: u32| serde_json::json!({"id": id, "ids": [number], "tokens": [id]});
            serde_json::json!({
                "type": "TemplateProcessing",
                "single": [mark("[CLS]"), text("A"), mark("[SEP]")],
                "pair": [mark("[CLS]"), text("A"), mark("[SEP]"), text("B"), mark("[SEP]")],
                "special_tokens": {"[CLS]": known("[CLS]", 2), "[SEP]": known("[SEP]", 3)},
            })
        }
        _ => serde_json::Value::Null,
    };
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": special[1], "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    folder
}

/// Kompress in a folder: ModernBERT's encoder under its two heads, as `make_encoder_fixtures.py` has them.
pub fn tiny_kompress() -> tempfile::TempDir {
    let folder = tiny_encoder("modernbert");
    let path = folder.path().join("model.safetensors");
    let cosines = |(name, shape): (&str, &[i64])| {
        let places = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
        (name.to_string(), (places.cos() * 0.3).to_kind(Kind::Float).view(shape))
    };
    let kept = gist::model::weights::read(&path).unwrap().into_iter();
    let mut named: Vec<(String, Tensor)> =
        kept.filter_map(|(name, tensor)| Some((format!("encoder.{}", name.strip_prefix("model.")?), tensor))).collect();
    let heads: [(&str, &[i64]); 6] = [
        ("token_head.weight", &[2, 16]),
        ("token_head.bias", &[2]),
        ("span_conv.0.weight", &[256, 16, 5]),
        ("span_conv.0.bias", &[256]),
        ("span_conv.2.weight", &[1, 256, 3]),
        ("span_conv.2.bias", &[1]),
    ];
    named.extend(heads.map(cosines));
    gist::model::weights::write(&path, &named).unwrap();
    folder
}

/// Writes a file of a folder again, with `from` changed to `to`.
#[track_caller]
pub fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{}: {from}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// The window with another future.
pub fn with_future(window: &gist::data::Window, future: Vec<u32>) -> gist::data::Window {
    let mut window = window.clone();
    window.probes[0].future = future;
    window
}
