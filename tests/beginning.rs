//! A base whose rows begin with a beginning-of-text token: whatever reads it reads that token first, as if it stood at the
//! beginning of every text; the controls hold as they do without.

use crate::common::*;
use gist::chat::Frame;
use gist::compressor::actions::{Draws, Trajectory, uniforms};
use gist::compressor::attended::attention;
use gist::compressor::budget::Controller;
use gist::compressor::draft::BaseDraft;
use gist::compressor::extractive::ExtractivePolicy;
use gist::compressor::gist::GistPolicy;
use gist::compressor::{Compressor, Request};
use gist::config::bos::Bos;
use gist::config::compressors::{Aggregate, Unit};
use gist::config::parts::Sampling;
use gist::data::Window;
use gist::eval::gates::roles;
use gist::model::decoder::Decoder;
use gist::model::lora::{Adapter, Extra};
use gist::model::peft::{Base, check_base};
use gist::model::read::{future_hidden, surprise};
use gist::reading::{Imagined, Taught};
use gist::tensor::to_vec;
use gist::tokenizer::{Tokenizer, begin};
use std::fs;

const BEGIN: u32 = 7;

/// One base without and with a beginning.
fn bases() -> (Decoder, Decoder) {
    (decoder(1), decoder(1).beginning(vec![BEGIN]).unwrap())
}

fn windows() -> Vec<Window> {
    (0..3)
        .map(|w| {
            let [prefix, local, future] = [(20, 10), (6, 20), (4, 30)].map(|(n, seed)| ids(n, 48, seed + w as u64));
            Window::new([w, 0], prefix, local, future)
        })
        .collect()
}

fn begun(text: &[u32]) -> Vec<u32> {
    [&[BEGIN], text].concat()
}

#[test]
fn teacher_and_readers_begin_alike_and_the_controls_hold() {
    let ((plain, base), windows) = (bases(), windows());
    assert!(roles::identity(&base, &windows).unwrap() < 1e-6);
    assert!(roles::empty(&base, &windows).unwrap() < 1e-5);
    assert!(roles::empty(&plain, &windows).unwrap() < 1e-5);
    let how = Imagined { samples: 2, beside_true: true, run_seed: 3, step: 0, first_example: 0 };
    let rows: Vec<(usize, &[u32])> = windows.iter().enumerate().map(|(w, window)| (w, &window.prefix[..])).collect();
    let nothing: Vec<(usize, &[u32])> = (0..windows.len()).map(|w| (w, &[][..])).collect();
    for taught in [Taught::new(&base, &windows).unwrap(), Taught::imagined(&base, &windows, how).unwrap()] {
        assert!(taught.measure(&base, None, &rows).unwrap().iter().all(|reading| reading.kl.abs() < 1e-6));
        assert!(taught.measure(&base, None, &nothing).unwrap().iter().all(|reading| reading.kl > 1e-4));
    }
    // Without a gist a reader reads the beginning and the local window, with an adapter too.
    let tails: Vec<Vec<u32>> = windows.iter().map(|w| [&w.probe().local[..], &w.probe().future].concat()).collect();
    let tails: Vec<&[u32]> = tails.iter().map(Vec::as_slice).collect();
    let reader = adapter(&base, 5);
    let read = |decoder: &Decoder, context: &[u32]| {
        let active = decoder.activate(&reader, false).unwrap();
        future_hidden(decoder, Some(&active), &[context; 3], &tails, 4).unwrap()
    };
    assert_close(&read(&base, &[]), &read(&plain, &[BEGIN]), 1e-5);
    assert!(gap(&read(&base, &[]), &read(&plain, &[])) > 1e-2, "the token says something");
    assert_close(&read(&base, &[3, 9]), &read(&plain, &[BEGIN, 3, 9]), 1e-5);
}

#[test]
fn what_the_bare_base_says_of_a_text_it_says_behind_the_beginning() {
    let (plain, base) = bases();
    // Short texts, and one of several stretches: 96 positions hold 95 tokens.
    for length in [1, 2, 30, 95, 96, 230] {
        let text = ids(length, 48, length as u64);
        let found = surprise(&base, &[&text]).unwrap().remove(0);
        assert_eq!(found.len(), length);
        if length <= 95 {
            let expected = surprise(&plain, &[&begun(&text)]).unwrap().remove(0).split_off(1);
            assert!(
                found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4),
                "{length}: {found:?}, {expected:?}"
            );
        }
    }
    let (text, local) = (ids(30, 48, 1), ids(5, 48, 2));
    fn seen<'a>(prefix: &'a [u32], local: &'a [u32]) -> Request<'a> {
        Request { local, ..request(prefix) }
    }
    let mut expected = attention(&plain, &[seen(&begun(&text), &local)]).unwrap().remove(0);
    expected.iter_mut().for_each(|head| _ = head.remove(0));
    let found = attention(&base, &[seen(&text, &local)]).unwrap().remove(0);
    let apart = found.iter().flatten().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.len() == expected.len() && found[0].len() == 30 && apart < 1e-5, "{apart}");
    let long = attention(&base, &[seen(&ids(200, 48, 3), &local)]).unwrap().remove(0);
    assert!(long.iter().all(|head| head.len() == 200));
    let draft = |decoder: &Decoder, prefix: &[u32]| {
        BaseDraft { decoder, forbidden: &[] }.compress(&[seen(prefix, &local)], 6).unwrap().remove(0).ids
    };
    assert_eq!(draft(&base, &text), draft(&plain, &begun(&text)));
    assert_eq!(draft(&base, &ids(300, 48, 4)).len(), 6);
}

#[test]
fn the_compressor_writes_and_learns_behind_the_beginning() {
    let (plain, base) = bases();
    let compressor = adapter(&base, 4);
    let texts = [ids(20, 48, 5), ids(14, 48, 6)];
    let sampled = |decoder: &Decoder, texts: &[Vec<u32>]| {
        let policy = GistPolicy::new(decoder, &[]).framed(Frame { before: vec![11, 12], after: vec![13] });
        let requests: Vec<Request> = texts.iter().map(|text| request(text)).collect();
        let uniforms = |r: usize, s: usize| uniforms(0, 0, r as u64, s as u64, 5);
        let draws = Draws { group: 3, budget: 5, how: &Sampling::default(), uniforms: &uniforms };
        let active = decoder.activate(&compressor, false).unwrap();
        let groups = policy.sample(&active, &requests, draws).unwrap();
        let slices: Vec<_> = groups.iter().map(Vec::as_slice).collect();
        let states = policy.action_states(&active, &requests, &slices).unwrap();
        // One plain pass a gist, nothing shared.
        let alone = requests.iter().zip(&groups).flat_map(|(r, group)| group.iter().map(move |gist| (r, gist)));
        let alone: Vec<_> =
            alone.map(|(r, gist)| roles::plain_states(decoder, &active, &policy.prompt(r), gist).unwrap()).collect();
        assert_close(&states.hidden, &tch::Tensor::cat(&alone, 0), 1e-4);
        groups
    };
    // In the plain base the beginning is a part of the instruction.
    let framed = Frame { before: vec![BEGIN, 11, 12], after: vec![13] };
    assert_eq!(framed.clone().behind(&[BEGIN]).before, [11, 12]);
    let policy = GistPolicy::new(&plain, &[]).framed(framed);
    let active = plain.activate(&compressor, false).unwrap();
    let requests: Vec<Request> = texts.iter().map(|text| request(text)).collect();
    let uniforms = |r: usize, s: usize| uniforms(0, 0, r as u64, s as u64, 5);
    let draws = Draws { group: 3, budget: 5, how: &Sampling::default(), uniforms: &uniforms };
    let expected = policy.sample(&active, &requests, draws).unwrap();
    let tokens = |groups: &[Vec<Trajectory>]| -> Vec<Vec<u32>> {
        groups.iter().flatten().map(|gist| gist.ids.clone()).collect()
    };
    assert_eq!(tokens(&sampled(&base, &texts)), tokens(&expected));
    assert_ne!(tokens(&sampled(&plain, &texts)), tokens(&expected));
    // A prefix longer than the base is written in parts that have room for the token.
    let long = ids(400, 48, 9);
    let greedy = GistPolicy::new(&base, &[]).compress(&compressor, &[request(&long)], 12, &Sampling::greedy(), 0);
    assert!(greedy.unwrap()[0].ids.len() <= 12);
}

#[test]
fn an_encoder_over_the_base_reads_it_too() {
    let ((plain, base), tokenizer) = (bases(), Tokenizer::train(["a b c"].into_iter(), 260).unwrap());
    let adapter = adapter_with(&base, Extra::Heads { hints: 0 }, 4);
    let worths = |decoder: &Decoder, prefix: &[u32]| {
        let policy = ExtractivePolicy {
            decoder,
            tokenizer: &tokenizer,
            unit: Unit::Token {},
            aggregate: Aggregate::Mean,
            foreign: None,
            blocks: None,
            hints: Vec::new(),
            evidence: None,
            controller: Controller::default(),
        };
        let asked = [request(prefix)];
        let own = policy.worths(&decoder.activate(&adapter, false).unwrap(), &asked).unwrap().remove(0);
        (own.prefix.units.len(), to_vec(&own.logits).unwrap())
    };
    let text = ids(20, 48, 3);
    let ((units, found), (_, without)) = (worths(&base, &text), worths(&plain, &text));
    assert_eq!((units, found.len()), (20, 21));
    assert!(found.iter().zip(&without).all(|(a, b)| (a - b).abs() > 1e-6), "every token and the end see it");
    let (units, long) = worths(&base, &ids(300, 48, 4));
    assert!(units == 300 && long.iter().all(|worth| worth.is_finite()));
}

#[test]
fn an_adapter_says_what_its_rows_began_with() {
    let (_, base) = bases();
    let sha256 = Some("aa".to_string());
    for (of, fits, not) in [(vec![BEGIN], [BEGIN].as_slice(), [].as_slice()), (Vec::new(), &[], &[BEGIN])] {
        let folder = tempfile::tempdir().unwrap();
        let told = Base { name: "base".into(), sha256: sha256.clone(), begin: of.clone() };
        adapter(&base, 2).save(folder.path(), &told).unwrap();
        check_base(folder.path(), "aa", fits).unwrap();
        let said = check_base(folder.path(), "aa", not).unwrap_err().to_string();
        assert!(
            said.contains(&format!("`gist.begin`: expected {not:?}")) && said.contains(&format!("got {of:?}")),
            "{said}"
        );
        assert!(Adapter::load(folder.path(), base.config(), tch::Device::Cpu).is_ok());
    }
    assert!(decoder(1).beginning(vec![48]).is_err(), "no row of the embedding");
}

#[test]
fn the_experiment_the_tokenizer_and_the_dry_run_agree() {
    let root = &world().root;
    let shown = |base: &str, set: &[&str]| {
        let path = format!("model.path={base}");
        let args = [&["train", "tiny.toml", "--dry-run", "--set", &path][..], set].concat();
        let said = ok(&args);
        said.lines().find(|line| line.starts_with("bos = ")).map(String::from)
    };
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root.join("base")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let (base, told) = (copy.path().to_str().unwrap(), copy.path().join("tokenizer_config.json"));
    assert_eq!(shown(base, &[]).unwrap(), "bos = false");
    assert_eq!(shown(base, &["--set", "model.bos=true"]).unwrap(), "bos = true");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&told).unwrap()).unwrap();
    config["add_bos_token"] = true.into();
    fs::write(&told, config.to_string()).unwrap();
    assert_eq!(shown(base, &[]).unwrap(), "bos = true");
    assert_eq!(shown(base, &["--set", "model.bos=false"]).unwrap(), "bos = false");
    assert_eq!(begin(&copy.path().join("tokenizer.json"), Bos::Auto).unwrap(), [0]);
    // A base that is not there yet decides nothing.
    assert_eq!(shown("some/where", &[]), None);

    let runs = tempfile::tempdir().unwrap();
    let set = |name: &str| -> Vec<String> {
        let all = [
            &format!("name={name}"),
            &format!("model.path={base}"),
            "train.steps=1",
            "warm_start.windows=4",
            "eval.search_windows=1",
        ];
        all.iter().flat_map(|set| ["--set".to_string(), set.to_string()]).collect()
    };
    let with = |name: &str, more: &[&str]| {
        let set = set(name);
        let all: Vec<&str> = set.iter().map(String::as_str).chain(more.iter().copied()).collect();
        ok(&train(runs.path(), &all));
        fs::read_to_string(runs.path().join(name).join("seed=0/summary.json")).unwrap()
    };
    let figures =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["eval"]["context_value"].clone();
    let (auto, told, none) =
        (with("auto", &[]), with("told", &["--set", "model.bos=true"]), with("none", &["--set", "model.bos=false"]));
    assert_eq!(figures(&auto), figures(&told));
    assert_ne!(figures(&auto), figures(&none));
}
