//! One suite for every compressor: the budget, determinism, independence of the batch, what "kept" means.

use crate::common::{tiny_bert, tiny_encoder, tiny_kompress};
use gist::chat::Frame;
use gist::compressor::baseline::Identity;
use gist::compressor::budget::Controller;
use gist::compressor::chain::Chain;
use gist::compressor::extractive::ExtractivePolicy;
use gist::compressor::foreign::Foreign;
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::gist::GistPolicy;
use gist::compressor::llmlingua::LlmLingua;
use gist::compressor::policy::{Policy, Trained};
use gist::compressor::prompted::{Prompt, Prompted};
use gist::compressor::recent_joined::RecentJoined;
use gist::compressor::scorer::Extractive;
use gist::compressor::scorers::{Parts, ScorerKind};
use gist::compressor::{Compressed, Compressor, Request, baselines};
use gist::config::compressors::{Aggregate, FrozenScorer, Unit};
use gist::config::parts::{LoraConfig, Sampling};
use gist::error::Result;
use gist::model::config::ModelConfig;
use gist::model::copy_head::features;
use gist::model::decoder::Decoder;
use gist::model::encoder::Encoder;
use gist::model::lora::{Adapter, Extra};
use gist::rng::{self, Stream};
use gist::tokenizer::Tokenizer;
use regex::Regex;
use std::cell::RefCell;
use std::collections::BTreeSet;
use tch::{Device, Tensor};

pub const VOCABULARY: i64 = 300;

fn draw(seed: u64, shape: &[i64], scale: f64) -> Tensor {
    let mut rng = rng::rng(seed, Stream::Init, 0, 0, 0);
    let values: Vec<f32> =
        (0..shape.iter().product::<i64>()).map(|_| ((rng::uniform(&mut rng) - 0.5) * scale) as f32).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// A small decoder with random weights.
pub fn tiny_decoder() -> Decoder {
    tiny_decoder_with(256, &[])
}

/// The decoder's weights with so many positions, and with these ends of a text.
pub fn tiny_decoder_with(positions: usize, ends: &[u32]) -> Decoder {
    let config: ModelConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": positions, "eos_token_id": ends
    }))
    .unwrap();
    let weight = |(i, (name, shape)): (usize, (String, Vec<i64>))| {
        let weight = draw(i as u64, &shape, 0.6);
        let value = if shape.len() == 1 { weight * 0.2 + 1.0 } else { weight };
        (name, value)
    };
    let named = config.parameters().into_iter().enumerate().map(weight).collect();
    Decoder::from_named(&config, named).unwrap()
}

/// An adapter with random weights everywhere.
pub fn random_adapter(decoder: &Decoder, seed: u64) -> Adapter {
    random_adapter_with(decoder, Extra::Nothing, seed)
}

/// An adapter with what a compressor needs.
pub fn random_adapter_with(decoder: &Decoder, extra: Extra, seed: u64) -> Adapter {
    let lora = LoraConfig { rank: 4, ..LoraConfig::default() };
    let mut adapter = Adapter::with_extra(decoder.config(), &lora, decoder.embedding(), extra).unwrap();
    let fill = |(i, (name, old)): (usize, (String, Tensor))| (name, draw(seed * 1000 + i as u64, &old.size(), 0.2));
    let named = adapter.params().named().into_iter().enumerate().map(fill).collect();
    adapter.params_mut().load(&named).unwrap();
    adapter
}

pub fn tokens(seed: u64, example: u64, len: usize) -> Vec<u32> {
    let mut rng = rng::rng(seed, Stream::Synthetic, 0, example, 0);
    (0..len).map(|_| 1 + rng::below(&mut rng, 40) as u32).collect()
}

pub fn frequencies() -> DocumentFrequencies {
    DocumentFrequencies::count(&tokenizer(), &(0..30).map(|i| tokens(9, i, 25)).collect::<Vec<_>>()).unwrap()
}

/// Single characters, one and two letters long.
pub fn tokenizer() -> Tokenizer {
    Tokenizer::train(["a man a plan a canal 1914 panama. A second sentence! héllo 漢字"].into_iter(), 280).unwrap()
}

const UNITS: [Unit; 4] = [Unit::Token {}, Unit::Word {}, Unit::Sentence {}, Unit::Span { tokens: 5, stride: 3 }];

pub fn scored<'a>(kind: ScorerKind, parts: Parts<'a>, tokenizer: &'a Tokenizer) -> Extractive<'a> {
    Extractive::plain(kind, parts, tokenizer)
}

/// Every compressor that is not a control, with what it needs: every scorer on every unit, and under a controller that has
/// more to mind.
fn for_each(check: impl Fn(&dyn Compressor)) {
    let (decoder, frequencies, tokenizer) = (tiny_decoder(), frequencies(), tokenizer());
    let forbidden: Vec<u32> = [0].into_iter().chain(290..300).collect();
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let strict = Controller {
        must_keep: vec![Regex::new("[0-9]+|an").unwrap()],
        drop_consecutive: true,
        ..Controller::default()
    };
    for compressor in baselines(parts, &tokenizer, &forbidden, &Controller::default()) {
        check(compressor.as_ref());
    }
    let roomy = tiny_decoder_with(1024, &[]);
    for prompt in Prompt::ALL {
        check(&Prompted::new(prompt, &roomy, &tokenizer, &forbidden, Frame::default()).unwrap());
    }
    let controller = strict.clone();
    check(&Named("llmlingua, strict", &LlmLingua { decoder: &decoder, tokenizer: &tokenizer, controller }));
    for &kind in ScorerKind::ALL {
        for unit in UNITS {
            check(&Extractive { unit, ..scored(kind, parts, &tokenizer) });
            let name = format!("{} by {unit:?}, strict", kind.name());
            check(&Extractive { unit, name, controller: strict.clone(), ..scored(kind, parts, &tokenizer) });
        }
    }
    for (kind, folder) in [
        ("encoder", tiny_encoder("xlm-roberta")),
        ("encoder", tiny_kompress()),
        ("embedding", tiny_encoder("modernbert")),
        ("evidence", tiny_encoder("bert")),
    ] {
        let named = FrozenScorer::try_from(format!("{kind}:{}", folder.path().display())).unwrap();
        let frozen = || Extractive::frozen(&named, Device::Cpu, &tokenizer).unwrap();
        check(&frozen());
        check(&Extractive { unit: UNITS[3], name: format!("{named}, strict"), controller: strict.clone(), ..frozen() });
    }
    let gist = (Policy::Gist(GistPolicy::new(&decoder, &forbidden)), random_adapter(&decoder, 1));
    let (decoder, tokenizer) = (&decoder, &tokenizer);
    let extractive = |unit, aggregate, foreign, controller: &Controller| -> Policy<'_> {
        let controller = controller.clone();
        Policy::Extractive(ExtractivePolicy {
            decoder,
            tokenizer,
            unit,
            aggregate,
            foreign,
            blocks: None,
            hints: Vec::new(),
            evidence: None,
            controller,
        })
    };
    let heads = || random_adapter_with(decoder, Extra::Heads { hints: 0 }, 1);
    let plain = Controller::default();
    let all = UNITS.map(|unit| (extractive(unit, Aggregate::Mean, None, &plain), heads()));
    let words = [Aggregate::First, Aggregate::Max].map(|how| (extractive(UNITS[1], how, None, &plain), heads()));
    let minding = (extractive(UNITS[1], Aggregate::Mean, None, &strict), heads());
    let own = |folder: tempfile::TempDir| {
        let (config, weights) = Encoder::read(folder.path()).unwrap();
        let adapter = Adapter::of_encoder(&config, weights, features(decoder.config()), 0, Device::Cpu).unwrap();
        let foreign = Some(Box::new(Foreign::load(&folder.path().join("tokenizer.json")).unwrap()));
        (extractive(UNITS[3], Aggregate::Mean, foreign, &plain), adapter)
    };
    let encoders = [own(tiny_bert()), own(tiny_encoder("roberta")), own(tiny_encoder("modernbert"))];
    for (policy, adapter) in [gist, minding].iter().chain(&encoders).chain(&all).chain(&words) {
        for (kind, sampling) in [("greedy", Sampling::greedy()), ("sampled", Sampling::default())] {
            let name = format!("{kind} trained");
            let trained = Trained { name, policy, adapter, sampling, seed: 3 };
            check(&trained);
            check(&Chain::new(Box::new(scored(ScorerKind::Overlap, parts, tokenizer)), Box::new(trained)));
        }
    }
}

/// Another name for a compressor.
struct Named<'a>(&'a str, &'a dyn Compressor);

impl Compressor for Named<'_> {
    fn name(&self) -> &str {
        self.0
    }
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        self.1.compress(requests, budget)
    }
}

/// Whether it may keep less than the budget holds: by a rule of its controller, or because it has learned when to end.
fn may_stop_early(compressor: &dyn Compressor) -> bool {
    compressor.name().ends_with("strict") || compressor.name().ends_with("trained")
}

pub struct Case {
    prefix: Vec<u32>,
    local: Vec<u32>,
    query: Vec<u32>,
}

pub fn cases() -> Vec<Case> {
    let mut rng = rng::rng(1, Stream::Synthetic, 0, 0, 0);
    let mut lengths = vec![0, 1, 2, 3, 4, 7, 8, 9, 40];
    lengths.extend((0..6).map(|_| rng::below(&mut rng, 60)));
    let case = |(i, len): (usize, usize)| Case {
        prefix: tokens(2, i as u64, len),
        local: if i % 3 == 1 { tokens(3, i as u64, 6) } else { Vec::new() },
        query: if i % 3 == 2 { tokens(4, i as u64, 4) } else { Vec::new() },
    };
    lengths.into_iter().enumerate().map(case).collect()
}

pub fn requests(cases: &[Case]) -> Vec<Request<'_>> {
    let numbered = cases.iter().enumerate();
    numbered.map(|(i, c)| Request { prefix: &c.prefix, local: &c.local, query: &c.query, key: i as u64 }).collect()
}

#[test]
fn no_compressor_passes_the_budget() {
    let cases = cases();
    let requests = requests(&cases);
    for_each(|compressor| {
        for budget in [0, 1, 2, 3, 4, 5, 8, 13, 59, 100] {
            let made = compressor.compress(&requests, budget).unwrap();
            assert_eq!(made.len(), requests.len(), "{}", compressor.name());
            for (c, case) in made.iter().zip(&cases) {
                let place = format!("{} with budget {budget} on {} tokens", compressor.name(), case.prefix.len());
                assert!(c.ids.len() <= budget || c.identity, "{place}: {} tokens", c.ids.len());
                assert_eq!(c.identity, compressor.name() == "identity", "{place}");
                if let Some(kept) = &c.kept {
                    assert!(kept.windows(2).all(|pair| pair[0] < pair[1]), "{place}: {kept:?}");
                    assert_eq!(c.ids, kept.iter().map(|&at| case.prefix[at]).collect::<Vec<_>>(), "{place}");
                    let fill = if c.identity { case.prefix.len() } else { budget.min(case.prefix.len()) };
                    let less = compressor.name() == "empty" || may_stop_early(compressor);
                    assert!(c.ids.len() == fill || less, "{place}: {} tokens", c.ids.len());
                    assert!(c.scores.as_ref().is_none_or(|scores| scores.len() == case.prefix.len()), "{place}");
                }
                assert!(c.ids.iter().all(|&id| id < 290), "{place}: a forbidden id");
            }
        }
    });
}

#[test]
fn the_same_again_alone_and_in_any_company() {
    let cases = cases();
    let requests = requests(&cases);
    for_each(|compressor| {
        let made = |requests: &[Request]| {
            // Scores may differ in the last digits with the batch that they were computed in.
            let made = compressor.compress(requests, 9).unwrap().into_iter();
            made.map(|c| Compressed { scores: None, ..c }).collect::<Vec<_>>()
        };
        let together = made(&requests);
        assert_eq!(together, made(&requests), "{}", compressor.name());
        for (request, expected) in requests.iter().zip(&together) {
            let alone = made(std::slice::from_ref(request));
            assert_eq!(&alone[0], expected, "{} on {} tokens", compressor.name(), request.prefix.len());
        }
        assert!(compressor.compress(&[], 9).unwrap().is_empty());
    });
}

#[test]
fn at_full_budget_extraction_is_the_prefix() {
    let cases = cases();
    let requests = requests(&cases);
    for_each(|compressor| {
        let whole = compressor.compress(&requests, 1000).unwrap();
        for (c, case) in whole.iter().zip(&cases).filter(|(c, _)| c.kept.is_some() && compressor.name() != "empty") {
            assert!(c.ids == case.prefix || may_stop_early(compressor), "{}", compressor.name());
        }
    });
}

#[test]
fn any_text_can_be_compressed() {
    let tokenizer = tokenizer();
    let texts = ["héllo 漢字 🦀\u{0}\r\n\t", &"x".repeat(700), " \n\n ", "1914", "a\u{301}\u{301} b"];
    let prefixes: Vec<Vec<u32>> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    let local = tokenizer.encode("a plan 漢").unwrap();
    // The last begins in the middle of a character.
    let halves: Vec<Vec<u32>> = prefixes.iter().map(|ids| ids[ids.len().min(2) / 2..].to_vec()).collect();
    let requests: Vec<Request> = (prefixes.iter().chain(&halves).enumerate())
        .map(|(i, prefix)| Request { prefix, local: &local, query: &[], key: i as u64 })
        .collect();
    for_each(|compressor| {
        for made in compressor.compress(&requests, 6).unwrap() {
            assert!(made.ids.len() <= 6 || made.identity, "{}", compressor.name());
        }
    });
}

/// Compressors that read with no model.
const LEXICAL: [&str; 9] =
    ["truncate", "recent", "recent_joined", "random", "idf", "tf_idf", "bm25", "overlap", "prompt_lookup"];

#[test]
fn a_million_tokens_under_one_budget() {
    let long = tokens(8, 0, 1_000_000);
    let local = tokens(8, 1, 20);
    let seen = RefCell::new(BTreeSet::new());
    for_each(|compressor| {
        let name = compressor.name();
        // What reads with a model reads all once; on other units and under other rules, several times its positions.
        let quick = ["empty", "identity"].contains(&name) || LEXICAL.contains(&name.split(' ').next().unwrap());
        let first = !name.ends_with("strict") && seen.borrow_mut().insert(name.to_string());
        let prefix = &long[..if quick || first { long.len() } else { 1_500 }];
        let request = Request { prefix, local: &local, query: &[], key: 0 };
        let made = compressor.compress(&[request], 100).unwrap().remove(0);
        assert!(made.ids.len() <= 100 || made.identity, "{name}");
        assert!(made.ids.len() == 100 || made.identity || name == "empty" || may_stop_early(compressor), "{name}");
    });
}

#[test]
fn a_million_tokens_are_ranked_all_together() {
    let (tokenizer, decoder, controller) = (tokenizer(), tiny_decoder(), Controller::default());
    let (long, local) = (tokens(8, 0, 1_000_000), tokens(8, 1, 20));
    let (unit, aggregate) = (Unit::Span { tokens: 20, stride: 20 }, Aggregate::Mean);
    let (decoder, tokenizer) = (&decoder, &tokenizer);
    let policy = ExtractivePolicy {
        decoder,
        tokenizer,
        unit,
        aggregate,
        foreign: None,
        blocks: None,
        hints: Vec::new(),
        evidence: None,
        controller,
    };
    let (policy, adapter) = (Policy::Extractive(policy), random_adapter_with(decoder, Extra::Heads { hints: 0 }, 1));
    let trained =
        Trained { name: "trained".into(), policy: &policy, adapter: &adapter, sampling: Sampling::greedy(), seed: 3 };
    let request = Request { prefix: &long, local: &local, query: &[], key: 0 };
    let made = trained.compress(&[request], 100).unwrap().remove(0);
    let kept = made.kept.unwrap();
    assert!(kept.len() <= 100 && kept.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(kept.is_empty() || kept[kept.len() - 1] - kept[0] > 200_000, "from one stretch: {kept:?}");
}

pub fn ids(compressor: &dyn Compressor, prefix: &[u32], local: &[u32], budget: usize) -> Vec<u32> {
    let request = Request { prefix, local, query: &[], key: 0 };
    compressor.compress(&[request], budget).unwrap().remove(0).ids
}

#[test]
fn identity_is_the_prefix() {
    let prefix = tokens(1, 1, 30);
    assert_eq!(ids(&Identity, &prefix, &[], 3), prefix);
}

#[test]
fn a_chain_keeps_places_of_the_prefix_and_the_second_sees_only_what_the_first_kept() {
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 2 };
    let (recent, truncate) =
        (scored(ScorerKind::Recent, parts, &tokenizer), scored(ScorerKind::Truncate, parts, &tokenizer));
    let chain = Chain::new(Box::new(recent), Box::new(truncate));
    assert_eq!(chain.name(), "recent+truncate");
    let prefix = tokens(1, 1, 30);
    let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
    let made = chain.compress(&[request], 3).unwrap().remove(0);
    assert_eq!(made.ids, prefix[18..21]);
    assert_eq!((made.kept, made.joined), (Some(vec![18, 19, 20]), false));
    let last = |tokenizer| Box::new(RecentJoined { tokenizer });
    let truncate = || Box::new(scored(ScorerKind::Truncate, parts, &tokenizer));
    let joined = |chain: Chain| chain.compress(&[request], 3).unwrap().remove(0).joined;
    assert!(joined(Chain::new(truncate(), last(&tokenizer))), "as the second has it");
    assert!(!joined(Chain::new(last(&tokenizer), truncate())));
}

#[test]
fn joined_recent_tokens_are_the_recent_ones_and_cut_no_character() {
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 2 };
    let (recent, joined) = (scored(ScorerKind::Recent, parts, &tokenizer), RecentJoined { tokenizer: &tokenizer });
    let prefix = tokens(1, 1, 30);
    let request = |prefix| Request { prefix, local: &[], query: &[], key: 0 };
    for budget in [0, 1, 7, 30, 99] {
        let made = joined.compress(&[request(&prefix)], budget).unwrap().remove(0);
        assert_eq!(made.ids, ids(&recent, &prefix, &[], budget));
        assert!(made.joined && !made.identity);
    }
    let crab = tokenizer.encode("a 🦀b").unwrap();
    assert_eq!(crab.len(), 7, "four bytes of one character");
    let kept = |budget| tokenizer.decode(&ids(&joined, &crab, &[], budget)).unwrap();
    assert_eq!([1, 2, 4, 5, 6].map(kept), ["b", "b", "b", "🦀b", " 🦀b"]);
}
