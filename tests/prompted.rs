//! The bare base, prompted for a summary or notes: what it reads, where its answer ends, and over which bases it competes.

use crate::common::{assert_says, copy, edit_json, fails, finished, ok, row, world};
use crate::compressors::{frequencies, tiny_decoder_with, tokenizer, tokens};
use gist::chat::Frame;
use gist::compressor::budget::Controller;
use gist::compressor::prompted::{Prompt, Prompted};
use gist::compressor::scorers::Parts;
use gist::compressor::{Compressor, Request};
use gist::config::bos::Bos;
use gist::config::eval::EvalConfig;
use gist::eval::run::{adaptable, evaluated};
use gist::model::decoder::Decoder;
use gist::models::{BaseName, Models};
use gist::run_dir::read_json;
use gist::tokenizer::Tokenizer;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use tch::{Device, Kind};

const FORBIDDEN: [u32; 11] = [0, 290, 291, 292, 293, 294, 295, 296, 297, 298, 299];

fn prompted<'a>(prompt: Prompt, decoder: &'a Decoder, tokenizer: &'a Tokenizer, forbidden: &'a [u32]) -> Prompted<'a> {
    Prompted::new(prompt, decoder, tokenizer, forbidden, Frame::default()).unwrap()
}

/// The likeliest token at each place that is not barred, by a whole pass for each.
fn likeliest(decoder: &Decoder, prompt: &[u32], tokens: usize, barred: &[u32]) -> Vec<u32> {
    let mut whole = prompt.to_vec();
    for _ in 0..tokens {
        let hidden = decoder.forward(&row(&whole), &[0], None).unwrap().get(0).get(whole.len() as i64 - 1);
        let mut logits = decoder.head().matmul(&hidden);
        for &id in barred {
            let _ = logits.get(i64::from(id)).fill_(f64::NEG_INFINITY);
        }
        logits = logits.argmax(-1, false);
        whole.push(logits.int64_value(&[]) as u32);
    }
    whole.split_off(prompt.len())
}

#[test]
fn the_gist_is_the_likeliest_answer_up_to_the_end_of_the_turn() {
    let (tokenizer, base) = (tokenizer(), tiny_decoder_with(1024, &[]));
    let prefixes = [tokenizer.encode("a man a plan").unwrap(), tokens(3, 1, 70)];
    let requests = prefixes.each_ref().map(|prefix| Request { prefix, local: &[], query: &[], key: 0 });
    let plain = prompted(Prompt::Summary, &base, &tokenizer, &FORBIDDEN);
    let prompts = plain.prompts(&requests, 8).unwrap();
    assert_eq!(tokenizer.decode(&prompts[0]).unwrap(), "a man a plan\n\nSummarize the text above in at most 6 words.");
    let made = plain.compress(&requests, 8).unwrap();
    let answers = prompts.iter().map(|prompt| likeliest(&base, prompt, 8, &FORBIDDEN)).collect::<Vec<_>>();
    for (made, answer) in made.iter().zip(&answers) {
        assert_eq!((&made.ids, made.joined), (answer, false));
    }
    // The token that ends a turn may be written though it is barred from gists, and is no part of one.
    let at = answers[1].iter().position(|id| *id != answers[1][0]).expect("an answer of two tokens");
    let end = answers[1][at];
    let ending = tiny_decoder_with(1024, &[0, end]);
    let forbidden: Vec<u32> = FORBIDDEN.into_iter().chain([end]).collect();
    let barred: Vec<u32> = FORBIDDEN[1..].to_vec();
    let cut = prompted(Prompt::Summary, &ending, &tokenizer, &forbidden).compress(&requests, 8).unwrap();
    for (made, prompt) in cut.iter().zip(&prompts) {
        let answer = likeliest(&base, prompt, 8, &barred);
        let length = answer.iter().position(|id| [0, end].contains(id)).unwrap_or(8);
        assert_eq!(made.ids, answer[..length]);
    }
    assert!(cut[1].ids.len() <= at);
    let nothing = Request { prefix: &[], ..requests[0] };
    assert!(plain.compress(&[nothing], 8).unwrap()[0].ids.is_empty(), "nothing to be summed up");
}

#[test]
fn a_question_is_part_of_the_prompt_without_its_control_tokens() {
    let (tokenizer, base) = (tokenizer(), tiny_decoder_with(1024, &[]));
    let notes = prompted(Prompt::DenseNotes, &base, &tokenizer, &FORBIDDEN);
    let (prefix, question) = (tokenizer.encode("a man").unwrap(), tokenizer.encode("A plan?").unwrap());
    let framed = [&[0], &question[..], &[0]].concat();
    let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
    let asked = [Request { local: &framed, ..request }, Request { query: &framed, ..request }];
    for prompt in notes.prompts(&asked, 40).unwrap() {
        assert!(!prompt.contains(&0));
        let text = tokenizer.decode(&prompt).unwrap();
        assert_says(&text, &["a man\n\nKeep what is needed for this:\nA plan?\n\nWrite dense notes"], "asked");
        assert_says(&text, &["in at most 30 words: all names, numbers, dates and codes."], "budget");
    }
}

#[test]
fn a_prefix_too_long_for_the_base_loses_its_beginning() {
    let (tokenizer, base) = (tokenizer(), tiny_decoder_with(700, &[]));
    let frame = Frame { before: vec![70, 71], after: vec![72] };
    let long = tokens(5, 0, 3000);
    fn request(prefix: &[u32]) -> Request<'_> {
        Request { prefix, local: &[], query: &[], key: 0 }
    }
    for prompt in Prompt::ALL {
        let own = Prompted::new(prompt, &base, &tokenizer, &FORBIDDEN, frame.clone()).unwrap();
        let room = 700 - 20;
        let ids = own.prompts(&[request(&long)], 20).unwrap().remove(0);
        assert_eq!(ids.len(), room);
        let end = [&tokenizer.encode(&prompt.instruction(20)).unwrap()[..], &frame.after].concat();
        let text = &ids[frame.before.len()..room - end.len()];
        assert!(ids.starts_with(&frame.before) && ids.ends_with(&end) && long.ends_with(text));
        let [made, end] = [&long[..], text].map(|prefix| own.compress(&[request(prefix)], 20).unwrap().remove(0));
        assert_eq!((made.ids.len(), &made.ids), (20, &end.ids));
        let most = own.compress(&[request(&long)], 5000).unwrap().remove(0);
        assert_eq!(most.ids.len(), 350, "half of the positions at most are written");
    }
    let small = tiny_decoder_with(128, &[]);
    let frame = Frame { before: vec![70; 64], after: Vec::new() };
    let error = Prompted::new(Prompt::Summary, &small, &tokenizer, &FORBIDDEN, frame).err().unwrap().to_string();
    assert_says(&error, &["max_position_embeddings: expected at least", "prompt of `summary`, got 128"], "no room");
}

/// The world's base with more positions, and with a chat template where one is wanted.
fn base(folder: &Path, has_template: bool) {
    copy(&world().root.join("base"), folder);
    edit_json(&folder.join("config.json"), |config| config["max_position_embeddings"] = 1024.into());
    let template = "<|endoftext|>user\n{{ messages[0].content }}<|endoftext|>model\n";
    if has_template {
        edit_json(&folder.join("tokenizer_config.json"), |config| config["chat_template"] = template.into());
    }
}

#[test]
fn a_base_with_a_chat_template_is_prompted_in_every_table_and_another_only_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for has_template in [true, false] {
        let own = folder.path().join(if has_template { "instruct" } else { "plain" });
        base(&own, has_template);
        let named = BaseName { name: &own, folder: &own, bos: Bos::default() };
        let models = Models::load(named, Kind::Float, Device::Cpu).unwrap();
        let frequencies = frequencies();
        let parts = Parts { decoder: &models.decoder, frequencies: &frequencies, seed: 0 };
        let made = models.baselines(parts, &Controller::default()).unwrap();
        let names: BTreeSet<&str> = made.iter().map(|compressor| compressor.name()).collect();
        let told = evaluated(&EvalConfig::default(), has_template);
        let trained = ["gist", "gist_sampled", "other_document", "shuffled"];
        assert_eq!(names, told.iter().map(String::as_str).filter(|name| !trained.contains(name)).collect());
        assert_eq!(names.contains("summary") && names.contains("dense_notes"), has_template);
        assert_eq!(adaptable(&EvalConfig::default(), has_template).contains(&"summary".to_string()), has_template);
        let prefix = models.tokenizer.encode("Anna hid 7 lamps.").unwrap();
        let summary = models.prompted(Prompt::Summary).unwrap();
        let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
        let prompt = summary.prompts(&[request], 8).unwrap().remove(0);
        // The base reads its own beginning, if it has one, before every row.
        let ends = if has_template { 2 - models.decoder.begin().len() } else { 0 };
        assert_eq!(prompt.iter().filter(|&&id| id == 0).count(), ends);
        let said = models.tokenizer.decode(&prompt).unwrap();
        assert_eq!((said.contains("user\nAnna hid"), said.ends_with("words.")), (has_template, !has_template));
    }
}

#[test]
fn prompts_compete_in_a_ceiling_and_by_name_in_a_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let (own, output) = (folder.path().join("instruct"), folder.path().join("out"));
    base(&own, true);
    let (path, to) = (format!("model.path={}", own.display()), output.to_str().unwrap());
    ok(&["ceiling", "tiny.toml", "--set", &path, "--set", "eval.windows=4", "--output", to]);
    let found: Value = read_json(&output.join("tiny/ceiling.json")).unwrap();
    for name in ["summary", "dense_notes", "recent_joined", "prompt_lookup"] {
        let entry = &found["eval"]["compressors"][name];
        assert!(entry["kl"].as_f64().unwrap() >= 0.0 && entry["keep_ratio"].as_f64().unwrap() <= 4.0 / 32.0, "{name}");
    }
    let (run, other) = (finished().to_str().unwrap(), folder.path().join("other"));
    let to = other.to_str().unwrap();
    let compare = |names: &'static str| {
        let flags = ["--output", to, "--budgets", "0.1", "--readers", "shared", "--updates", "1", "--windows", "4"];
        [&["compare", "--runs", run, "--compressors", names][..], &flags].concat()
    };
    let said = fails(2, &compare("nobody"));
    assert_says(&said, &["recent_joined", "prompt_lookup", "draft, summary, dense_notes, one that scores"], "names");
    // The world's own base has no chat template, and too few positions for the longer prompt.
    let said = fails(2, &compare("dense_notes"));
    assert_says(&said, &["max_position_embeddings: expected at least", "`dense_notes`, got 128"], "by name");
    ok(&compare("summary,recent_joined,prompt_lookup:word"));
    let found: Value = read_json(&other.join("comparison.json")).unwrap();
    let names: Vec<&str> =
        found["points"].as_array().unwrap().iter().map(|p| p["compressor"].as_str().unwrap()).collect();
    assert_eq!(names, ["tiny", "summary", "recent_joined", "prompt_lookup:word"]);
}
