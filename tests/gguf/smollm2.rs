//! The real model, when `./setup` has brought it; with `GIST_NEEDS_SMOLLM2` set it must be there. What transformers makes of
//! the same file was recorded by `tests/fixtures/make_smollm2_fixture.py`; what is left in `target/tmp/smollm2` is compared in
//! full by `tests/python/check_gguf.py`.

use crate::common::fixtures;
use crate::common::{assert_says, command, message, world};
use crate::gguf::fixture;
use gist::base;
use gist::chat::Frame;
use gist::compressor::prompted::Prompt;
use gist::compressor::{Compressor, Request};
use gist::config::bos::Bos;
use gist::data::read_documents;
use gist::model::decoder::Decoder;
use gist::model::vocab::Head;
use gist::model::weights;
use gist::models::{BaseName, Models};
use gist::rng::{self, Stream};
use gist::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Bytes of text whose ids are compared.
const TEXT_BYTES: usize = 10_000_000;
/// Of every so many logits one was recorded.
const STEP: i64 = 97;

/// The GGUF file; none where it may be missing and is.
fn model() -> Option<PathBuf> {
    let folder = fixtures().join("../../.smollm2");
    if !folder.exists() && std::env::var_os("GIST_NEEDS_SMOLLM2").is_none() {
        eprintln!("skipped: ./setup brings the model");
        return None;
    }
    Some(base::folder(&folder, None).unwrap())
}

fn logits(decoder: &Decoder, ids: &Tensor) -> Tensor {
    let _guard = tch::no_grad_guard();
    let hidden = decoder.forward(ids, &vec![0; ids.size()[0] as usize], None).unwrap();
    Head::base(decoder.head()).logits(&hidden).to_kind(Kind::Float)
}

/// Where the Python check finds what is left for it.
fn left() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("smollm2");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn the_real_model_answers_as_transformers_has_it() {
    let Some(path) = model() else { return };
    let record = weights::read(&fixture("smollm2.safetensors")).unwrap();
    let mut kept = vec![("ids".to_string(), record["ids"].copy())];
    let far = |a: &Tensor, b: &Tensor| (a - b).square().mean(Kind::Double).double_value(&[]);
    for (name, kind) in [("float32", Kind::Float), ("bfloat16", Kind::BFloat16)] {
        let decoder = Decoder::load(&path, Device::Cpu, kind).unwrap();
        let all = logits(&decoder, &record["ids"]);
        let some = all.slice(-1, 0, None, STEP);
        if kind == Kind::Float {
            let distance = (&some - &record[name]).abs().max().double_value(&[]);
            assert!(distance < 1e-3, "{distance:e} from transformers");
        } else {
            // As near to what transformers rounds as that is to the unrounded.
            let share = far(&some, &record[name]) / far(&record[name], &record["float32"]);
            assert!(share < 1.5, "{share} of its own rounding");
        }
        kept.push((name.to_string(), all));
    }
    weights::write(&left().join("record.safetensors"), &kept).unwrap();
}

#[test]
fn the_real_vocabulary_and_template_are_what_transformers_reads() {
    let Some(path) = model() else { return };
    let recorded: Value = serde_json::from_slice(&fs::read(fixture("smollm2.json")).unwrap()).unwrap();
    let tokenizer = Tokenizer::load(&path).unwrap();
    crate::gguf::assert_tokens(&tokenizer, &recorded, "smollm2");
    assert_eq!((tokenizer.vocab_size(), tokenizer.special_ids().len()), (49_152, 17));
    let frame = Frame::new(&path, &tokenizer, "{prefix}").unwrap();
    let [before, after] = [&frame.before, &frame.after].map(|ids| tokenizer.decode(ids).unwrap());
    assert_eq!(format!("{before}Hello.{after}"), recorded["chat"].as_str().unwrap());
}

#[test]
fn the_real_model_sums_up_a_text_and_takes_notes_of_it() {
    let Some(path) = model() else { return };
    let named = BaseName { name: &path, folder: &path, bos: Bos::default() };
    let models = Models::load(named, Kind::Float, Device::Cpu).unwrap();
    let text = "The lighthouse of Marlow was built in 1868 by the engineer Ada Selwyn. It is 41 metres high and stands on a \
        rock in the Bay of Norwood. In 1935 it was painted red, and since 1971 it has worked without a keeper. Ships see its \
        light from 23 miles away.";
    let prefix = models.tokenizer.encode(text).unwrap();
    let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
    for prompt in Prompt::ALL {
        let prompted = models.prompted(prompt).unwrap();
        let whole = &prompted.prompts(&[request], 30).unwrap()[0];
        let said = models.tokenizer.decode(whole).unwrap();
        let message = format!("<|im_start|>user\n{text}{}<|im_end|>\n<|im_start|>assistant\n", prompt.instruction(30));
        assert!(said.ends_with(&message), "{said}");
        let made = prompted.compress(&[request], 30).unwrap().remove(0);
        let gist = models.tokenizer.decode(&made.ids).unwrap();
        eprintln!("{}: {} tokens: {gist}", prompt.name(), made.ids.len());
        assert!(made.ids.iter().all(|id| !models.forbidden.contains(id)), "{gist}");
        assert!(gist.contains("1868") && gist.contains("Marlow"), "{}: {gist}", prompt.name());
    }
}

/// Characters of one script or kind, by ranges of code points.
const KINDS: [&[(u32, u32)]; 12] = [
    &[(0x41, 0x5a), (0x61, 0x7a)],
    &[(0x30, 0x39)],
    &[(0x21, 0x2f), (0x3a, 0x40), (0x5b, 0x60), (0x7b, 0x7e)],
    &[(0x4e00, 0x9fff)],
    &[(0x3040, 0x30ff), (0x3001, 0x3002)],
    &[(0xac00, 0xd7a3)],
    &[(0x1f300, 0x1faff), (0x2600, 0x27bf), (0x1f1e6, 0x1f1ff), (0x200d, 0x200d), (0xfe0f, 0xfe0f), (0x1f3fb, 0x1f3ff)],
    &[(0x660, 0x669), (0x966, 0x96f), (0xff10, 0xff19), (0xb2, 0xb3), (0xbc, 0xbe), (0x2160, 0x2188)],
    &[(0xc0, 0x24f), (0x300, 0x36f), (0x61, 0x7a)],
    &[(0x400, 0x4ff), (0x370, 0x3ff)],
    &[(0x5d0, 0x5ea), (0x620, 0x64a), (0x905, 0x939), (0xe01, 0xe3a)],
    &[(0, 0xd7ff), (0xe000, 0x10ffff)],
];
const BLANKS: [&str; 12] = [" ", " ", " ", " ", "", "", "\n", "\n\n", "\t", "  ", "\u{a0}", "\u{3000}"];
const WHOLE: [&str; 8] = ["'s", "'LL", "don't", "<|im_start|>", "<|endoftext|>", "1,234.50", "\r\n", "👩‍👩‍👧‍👦"];

/// Documents of many kinds, and how many of them, the first, are source code that ships; the others are words of all scripts
/// between all sorts of blanks.
fn mixed() -> (Vec<String>, usize) {
    let corpus = fixtures().join("../../data/code/train.jsonl.zst");
    let mut size = 0;
    let mut documents: Vec<String> =
        read_documents(&corpus).unwrap().into_iter().map(|document| document.text).collect();
    documents.retain(|text| {
        size += text.len();
        size < TEXT_BYTES / 2
    });
    let mut size: usize = documents.iter().map(String::len).sum();
    let code = documents.len();
    let mut draw = rng::rng(1, Stream::Data, 0, 0, 0);
    while size < TEXT_BYTES {
        let mut text = String::new();
        while text.len() < 5000 {
            let kind = KINDS[rng::below(&mut draw, KINDS.len())];
            for _ in 0..1 + rng::below(&mut draw, 8) {
                let (first, last) = kind[rng::below(&mut draw, kind.len())];
                text.extend(char::from_u32(first + rng::below(&mut draw, (last - first) as usize + 1) as u32));
            }
            if rng::below(&mut draw, 12) == 0 {
                text.push_str(WHOLE[rng::below(&mut draw, WHOLE.len())]);
            }
            text.push_str(BLANKS[rng::below(&mut draw, BLANKS.len())]);
        }
        size += text.len();
        documents.push(text);
    }
    (documents, code)
}

#[test]
fn ten_megabytes_of_every_script_are_left_for_the_python_check() {
    let Some(path) = model() else { return };
    let tokenizer = Tokenizer::load(&path).unwrap();
    let (documents, code) = mixed();
    let texts: Vec<&str> = documents.iter().map(String::as_str).collect();
    let ids = tokenizer.encode_all(&texts).unwrap();
    // The vocabulary lacks some bytes of rare planes, so other text need not come back.
    for (text, ids) in texts.iter().zip(&ids).take(code) {
        assert!(tokenizer.decode(ids).unwrap() == *text, "{text:?}");
    }
    // For the Python check, which asks transformers' tokenizers for the ids.
    let folder = left();
    fs::write(folder.join("texts.json"), json!(texts).to_string()).unwrap();
    fs::write(folder.join("ids.json"), json!(ids).to_string()).unwrap();
}

#[test]
fn the_real_model_trains() {
    if model().is_none() {
        return;
    }
    let runs = tempfile::tempdir().unwrap();
    let folder = fixtures().join("../../.smollm2");
    let (set, at) = (format!("model.path={}", folder.display()), runs.path().join("run"));
    let short = [
        "data.prefix_tokens=24",
        "data.local_tokens=8",
        "data.future_tokens=4",
        "budget.tokens=4",
        "warm_start.windows=4",
        "warm_start.epochs=1",
        "train.steps=2",
        "train.windows_per_step=2",
        "rollout.group_size=2",
        "eval.windows=4",
        "eval.valid_windows=2",
        "eval.search_windows=0",
        "eval.baselines=recent",
        "eval.examples=1",
        "compressor.type=gist",
        "compressor.instruction=Keep what matters: {prefix}",
    ];
    let mut arguments = vec!["train", "tiny.toml", "--at", at.to_str().unwrap(), "--set", &set];
    arguments.extend(short.iter().flat_map(|set| ["--set", set]));
    let output = command(&arguments).current_dir(&world().root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metrics = fs::read_to_string(at.join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last.to_string().len() > 2 && at.join("summary.json").exists(), "{last}");
    let said = message(
        1,
        &command(&["export", at.to_str().unwrap(), "--output", at.to_str().unwrap()]).output().unwrap(),
        "taken",
    );
    assert!(said.contains("expected a folder that does not exist yet"), "{said}");
}

#[test]
fn facts_are_asked_of_the_real_model_and_evidence_answers_them() {
    if model().is_none() {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    let (root, to) = (fixtures().join("../.."), output.path().to_str().unwrap());
    let few = ["eval.windows=6", "eval.valid_windows=2", "eval.baselines=all", "hardware.threads=1"];
    let mut arguments = vec!["ceiling", "experiments/facts.toml", "--output", to];
    arguments.extend(few.iter().flat_map(|set| ["--set", set]));
    let told = command(&arguments).current_dir(&root).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let found: Value = serde_json::from_slice(&fs::read(output.path().join("facts/ceiling.json")).unwrap()).unwrap();
    let kl = |name: &str| found["eval"]["compressors"][name]["kl"].as_f64().unwrap();
    // Measured in PyTorch on training contexts: nothing 3.5, the facts 0.2 nats a token.
    assert!(kl("empty") > 2.0 && kl("recent") > 1.5, "{} {}", kl("empty"), kl("recent"));
    assert!(kl("gold") < 0.25 * kl("empty"), "{} {}", kl("gold"), kl("empty"));
    // The base with its chat template is prompted too; neither prompt finds all three facts in so few tokens.
    for name in ["summary", "dense_notes"] {
        assert!(kl(name) > kl("gold") && kl(name) < 1.5 * kl("empty"), "{name}: {}", kl(name));
    }
}

#[test]
fn the_shipped_compressor_finds_facts_and_gives_up_the_rest() {
    if model().is_none() {
        return;
    }
    let output = tempfile::tempdir().unwrap();
    let (root, at) = (fixtures().join("../.."), output.path().join("run"));
    let few = [
        "train.steps=0",
        "eval.windows=8",
        "eval.valid_windows=2",
        "eval.unasked_windows=4",
        "eval.examples=2",
        "hardware.threads=1",
    ];
    let mut arguments = vec!["train", "experiments/facts.toml", "--at", at.to_str().unwrap()];
    arguments.extend(few.iter().flat_map(|set| ["--set", set]));
    let told = command(&arguments).current_dir(&root).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let table = String::from_utf8(told.stdout).unwrap();
    assert_says(&table, &["K_e/K_g", "Asked for names and numbers of the text round the facts"], "table");
    let found: Value = serde_json::from_slice(&fs::read(at.join("summary.json")).unwrap()).unwrap();
    let kl = |reader: &str, name: &str| found["eval"]["readers"][reader][name]["kl"].as_f64().unwrap();
    let ledger = &found["eval"]["ledger"];
    // Eight contexts; 0.09 of it over a hundred, after co-training.
    assert!(kl("generator", "gist") < 0.35 * kl("generator", "recent"), "{ledger}");
    // What is not asked is not in the gist: it helps there no more than recent text does.
    assert!(kl("unasked", "gist") > 0.8 * kl("unasked", "recent"), "{}", found["eval"]["readers"]["unasked"]);
}
