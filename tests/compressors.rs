//! One suite for every compressor: the budget, determinism, independence of the batch, what "kept" means.

use clap::ValueEnum;
use gist::compressor::baseline::Identity;
use gist::compressor::budget::{Controller, calibrate};
use gist::compressor::controls::{Memory, OtherDocument, Shuffled, donors};
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::gist::{GistCompressor, GistPolicy};
use gist::compressor::scorer::Extractive;
use gist::compressor::scorers::{Parts, build};
use gist::compressor::units::Unit;
use gist::compressor::{Compressed, Compressor, Request, baselines};
use gist::config::compressors::ScorerKind;
use gist::config::parts::{LoraConfig, Sampling};
use gist::data::Window;
use gist::error::Result;
use gist::model::config::ModelConfig;
use gist::model::decoder::Decoder;
use gist::model::lora::Adapter;
use gist::rng::{self, Stream};
use gist::tokenizer::Tokenizer;
use regex::Regex;
use std::cell::Cell;
use tch::Tensor;

pub const VOCABULARY: i64 = 300;

fn draw(seed: u64, shape: &[i64], scale: f64) -> Tensor {
    let mut rng = rng::rng(seed, Stream::Init, 0, 0, 0);
    let values: Vec<f32> =
        (0..shape.iter().product::<i64>()).map(|_| ((rng::uniform(&mut rng) - 0.5) * scale) as f32).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// A small decoder with random weights.
pub fn tiny_decoder() -> Decoder {
    let json = format!(
        r#"{{"vocab_size": {VOCABULARY}, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256}}"#
    );
    let config: ModelConfig = serde_json::from_str(&json).unwrap();
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
    let lora = LoraConfig { rank: 4, ..LoraConfig::default() };
    let mut adapter = Adapter::fresh(decoder.config(), &lora, decoder.embedding()).unwrap();
    let fill = |(i, (name, old)): (usize, (String, Tensor))| (name, draw(seed * 1000 + i as u64, &old.size(), 0.2));
    let named = adapter.params().named().into_iter().enumerate().map(fill).collect();
    adapter.params_mut().load(&named).unwrap();
    adapter
}

fn tokens(seed: u64, example: u64, len: usize) -> Vec<u32> {
    let mut rng = rng::rng(seed, Stream::Synthetic, 0, example, 0);
    (0..len).map(|_| 1 + rng::below(&mut rng, 40) as u32).collect()
}

fn frequencies() -> DocumentFrequencies {
    DocumentFrequencies::count(&(0..30).map(|i| tokens(9, i, 25)).collect::<Vec<_>>())
}

/// Single characters, one and two letters long.
fn tokenizer() -> Tokenizer {
    Tokenizer::train(["a man a plan a canal 1914 panama. A second sentence! héllo 漢字"].into_iter(), 280).unwrap()
}

const UNITS: [Unit; 4] = [Unit::Token, Unit::Word, Unit::Sentence, Unit::Span { tokens: 5, stride: 3 }];

fn scored<'a>(kind: ScorerKind, parts: Parts<'a>, tokenizer: &'a Tokenizer) -> Extractive<'a> {
    Extractive::plain(build(kind, parts), tokenizer)
}

/// Every compressor that is not a control, with what it needs: every scorer on every unit, and under a controller that has
/// more to mind.
fn for_each(check: impl Fn(&dyn Compressor)) {
    let (decoder, frequencies, tokenizer) = (tiny_decoder(), frequencies(), tokenizer());
    let forbidden: Vec<u32> = [0].into_iter().chain(290..300).collect();
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    for compressor in baselines(parts, &tokenizer, &forbidden) {
        check(compressor.as_ref());
    }
    let strict =
        Controller { must_keep: Some(Regex::new("[0-9]+|an").unwrap()), drop_consecutive: true, threshold: None };
    for &kind in ScorerKind::value_variants() {
        for unit in UNITS {
            check(&Extractive { unit, ..scored(kind, parts, &tokenizer) });
            let name = format!("{kind:?} by {unit:?}, strict");
            check(&Extractive { unit, name, controller: strict.clone(), ..scored(kind, parts, &tokenizer) });
        }
    }
    let (policy, adapter) = (GistPolicy::new(&decoder, &forbidden), random_adapter(&decoder, 1));
    for (name, sampling) in [("gist", Sampling::greedy()), ("gist_sampled", Sampling::default())] {
        check(&GistCompressor { name: name.into(), policy: &policy, adapter: &adapter, sampling, seed: 3 });
    }
}

struct Case {
    prefix: Vec<u32>,
    local: Vec<u32>,
    query: Vec<u32>,
}

fn cases() -> Vec<Case> {
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

fn requests(cases: &[Case]) -> Vec<Request<'_>> {
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
                    let less = compressor.name() == "empty" || compressor.name().ends_with("strict");
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
            assert!(c.ids == case.prefix || compressor.name().ends_with("strict"), "{}", compressor.name());
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

#[test]
fn a_million_tokens_under_one_budget() {
    let (frequencies, tokenizer, decoder) = (frequencies(), tokenizer(), tiny_decoder());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let long = tokens(8, 0, 1_000_000);
    let local = tokens(8, 1, 20);
    for &kind in ScorerKind::value_variants() {
        // What the base reads is long enough for many stretches; the rest is a million.
        let read = matches!(kind, ScorerKind::SelfInformation | ScorerKind::Attention);
        let prefix = &long[..if read { 3_000 } else { 1_000_000 }];
        let request = Request { prefix, local: &local, query: &[], key: 0 };
        let made = scored(kind, parts, &tokenizer).compress(&[request], 100).unwrap().remove(0);
        assert_eq!(made.ids.len(), 100, "{kind:?}");
    }
}

fn ids(compressor: &dyn Compressor, prefix: &[u32], local: &[u32], budget: usize) -> Vec<u32> {
    let request = Request { prefix, local, query: &[], key: 0 };
    compressor.compress(&[request], budget).unwrap().remove(0).ids
}

#[test]
fn lexical_rules() {
    // Token 1 is in every document, 2 in half, 3 in one, 4 in none.
    let frequencies = DocumentFrequencies::count(&[vec![1, 2, 3], vec![1, 1, 2], vec![1], vec![1]]);
    assert!((frequencies.idf(2) - ((5.0f64 / 3.0).ln() + 1.0)).abs() < 1e-12);
    let (tokenizer, decoder) = (tokenizer(), tiny_decoder());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let prefix = [1, 4, 1, 3, 2, 4, 2, 3];
    assert_eq!(ids(&scored(ScorerKind::Idf, parts, &tokenizer), &prefix, &[], 3), [4, 3, 2]);
    let pairs = Unit::Span { tokens: 2, stride: 2 };
    let overlap = Extractive { unit: pairs, ..scored(ScorerKind::Overlap, parts, &tokenizer) };
    let prefix = [1, 1, 7, 8, 1, 1, 7, 9, 1, 1];
    assert_eq!(ids(&overlap, &prefix, &[8, 30], 2), [7, 8]);
    assert_eq!(ids(&overlap, &prefix, &[7, 30], 2), [7, 9], "of equal spans the later");
    let tf_idf = Extractive { unit: pairs, ..scored(ScorerKind::TfIdf, parts, &tokenizer) };
    assert_eq!(ids(&tf_idf, &prefix, &[9, 30], 2), [7, 9]);
}

#[test]
fn bm25_finds_the_sentence_with_the_words_of_the_question() {
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let text = "A man has a plan. The canal is in Panama. A canal, a canal! The end of it.";
    let (prefix, query) = (tokenizer.encode(text).unwrap(), tokenizer.encode("where is the canal, panama?").unwrap());
    let bm25 = scored(ScorerKind::Bm25, parts, &tokenizer);
    let budget = tokenizer.encode("The canal is in Panama. ").unwrap().len();
    let request = Request { prefix: &prefix, local: &[], query: &query, key: 0 };
    let made = bm25.compress(&[request], budget).unwrap().remove(0);
    assert!(
        tokenizer.decode(&made.ids).unwrap().starts_with("The canal is in Panama."),
        "{:?}",
        tokenizer.decode(&made.ids)
    );
}

#[test]
fn self_information_prefers_what_the_base_finds_hard() {
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let prefix = tokens(6, 0, 24);
    let row = Tensor::from_slice(&prefix.iter().map(|&t| i64::from(t)).collect::<Vec<_>>()).unsqueeze(0);
    let hidden = decoder.forward(&row, &[0], None).unwrap();
    let logp = hidden.linear(decoder.head(), None::<Tensor>).log_softmax(-1, tch::Kind::Double);
    let surprise = |at: usize| -logp.double_value(&[0, at as i64 - 1, i64::from(prefix[at])]);
    let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
    let single = Extractive { unit: Unit::Token, ..scored(ScorerKind::SelfInformation, parts, &tokenizer) };
    let kept = single.compress(&[request], 7).unwrap().remove(0).kept.unwrap();
    assert_eq!(kept[0], 0, "nothing precedes the first token");
    let worst = kept[1..].iter().map(|&at| surprise(at)).fold(f64::INFINITY, f64::min);
    let left = (1..24).filter(|at| !kept.contains(at)).map(surprise).fold(0.0, f64::max);
    assert!(worst >= left, "kept {worst}, left {left}");
    let phrases = scored(ScorerKind::SelfInformation, parts, &tokenizer);
    let kept = phrases.compress(&[request], 8).unwrap().remove(0).kept.unwrap();
    for phrase in kept.chunks(4) {
        assert!(phrase[0] % 4 == 0 && phrase[3] == phrase[0] + 3, "{kept:?}");
    }
}

#[test]
fn the_controller_keeps_what_must_be_kept_within_the_budget_and_says_nothing_twice() {
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let prefix = tokenizer.encode("a man 1914 a plan 2 a canal").unwrap();
    let numbers = Controller { must_keep: Some(Regex::new("[0-9]+").unwrap()), ..Controller::default() };
    let keep = |controller: &Controller, budget: usize| {
        let truncate = Extractive { controller: controller.clone(), ..scored(ScorerKind::Truncate, parts, &tokenizer) };
        tokenizer.decode(&ids(&truncate, &prefix, &[], budget)).unwrap()
    };
    let room = tokenizer.encode("1914").unwrap().len() + tokenizer.encode("2").unwrap().len();
    assert_eq!(keep(&numbers, room).replace(' ', ""), "19142");
    assert_eq!(keep(&numbers, 1).len(), 1, "of too many the first");
    assert!(keep(&numbers, room + 1).starts_with('a'));

    let twice = tokenizer.encode("x x x x y").unwrap();
    let once = Controller { drop_consecutive: true, ..Controller::default() };
    let letters = |controller: &Controller, budget: usize| {
        let last = Extractive { controller: controller.clone(), ..scored(ScorerKind::Truncate, parts, &tokenizer) };
        let doubled: Vec<u32> = twice.iter().flat_map(|&id| [id, id]).collect();
        ids(&last, &doubled, &[], budget)
    };
    let kept = letters(&once, 6);
    assert!(kept.windows(2).all(|pair| pair[0] != pair[1]) && kept.len() == 6, "{kept:?}");
}

#[test]
fn a_calibrated_threshold_meets_the_rate_over_documents_not_in_each() {
    let units: Vec<_> = (0..10).map(|at| at..at + 1).collect();
    let (rich, poor): (Vec<f64>, Vec<f64>) = ((10..20).map(f64::from).collect(), (0..10).map(f64::from).collect());
    let threshold = calibrate(&[(&units, &rich, 10), (&units, &poor, 10)], 0.4).unwrap();
    assert_eq!(threshold, 12.0);
    assert_eq!(calibrate(&[(&units, &rich, 10)], 0.05), None, "not even one");
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let controller = Controller { threshold: Some(7.0), ..Controller::default() };
    let recent = Extractive { controller, ..scored(ScorerKind::Recent, parts, &tokenizer) };
    assert_eq!(ids(&recent, &[9; 10], &[], 8).len(), 3, "places 7, 8, 9");
    assert_eq!(ids(&recent, &[9; 10], &[], 2).len(), 2, "the budget stays a cap");
}

struct Counting<'a>(&'a dyn Compressor, Cell<usize>);

impl Compressor for Counting<'_> {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        self.1.set(self.1.get() + requests.len());
        self.0.compress(requests, budget)
    }
}

#[test]
fn memory_compresses_once() {
    let cases = cases();
    let requests = requests(&cases);
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 2 };
    let random = scored(ScorerKind::Random, parts, &tokenizer);
    let counting = Counting(&random, Cell::new(0));
    let memory = Memory::new(&counting);
    let expected = random.compress(&requests, 5).unwrap();
    assert_eq!(memory.compress(&requests[..4], 5).unwrap(), expected[..4]);
    assert_eq!(memory.compress(&requests, 5).unwrap(), expected);
    assert_eq!(counting.1.get(), requests.len());
    memory.compress(&requests, 6).unwrap();
    assert_eq!(counting.1.get(), 2 * requests.len(), "another budget is another gist");
    // The same key with another prefix is another request.
    let other = Request { prefix: requests[8].prefix, ..requests[6] };
    assert_eq!(memory.compress(&[other], 5).unwrap(), random.compress(&[other], 5).unwrap());
}

fn windows(documents: &[usize]) -> Vec<Window> {
    let window = |(i, &document): (usize, &usize)| Window {
        document,
        start: i,
        prefix: tokens(7, i as u64, 20),
        local: vec![1],
        future: vec![2],
    };
    documents.iter().enumerate().map(window).collect()
}

#[test]
fn the_leak_control_reads_another_document() {
    for documents in [vec![0, 1], vec![0, 0, 1, 1], vec![3, 1, 1, 2, 2, 2, 0, 4, 4], vec![5, 5, 5, 1, 2, 3]] {
        let windows = windows(&documents);
        for seed in 0..20 {
            let donors = donors(&windows, seed).unwrap();
            let mut all = donors.clone();
            all.sort_unstable();
            assert_eq!(all, (0..windows.len()).collect::<Vec<_>>(), "a permutation");
            assert!((0..windows.len()).all(|w| documents[w] != documents[donors[w]]), "{documents:?}: {donors:?}");
        }
    }
    assert!(donors(&windows(&[0, 0, 1]), 0).unwrap_err().to_string().contains("at most half of the 3 windows"));

    let windows = windows(&[0, 0, 1, 2]);
    let requests: Vec<Request> = (windows.iter().enumerate())
        .map(|(i, w)| Request { prefix: &w.prefix, local: &[], query: &[], key: i as u64 })
        .collect();
    let donors = donors(&windows, 1).unwrap();
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 1 };
    let random = scored(ScorerKind::Random, parts, &tokenizer);
    let own = random.compress(&requests, 6).unwrap();
    let other = OtherDocument::new(&random, donors.clone());
    for (made, &donor) in other.compress(&requests, 6).unwrap().iter().zip(&donors) {
        assert_eq!(made.ids, own[donor].ids);
    }
    assert!(other.compress(&requests[..2], 6).is_err());

    let shuffled = Shuffled { inner: &random, seed: 4 }.compress(&requests, 6).unwrap();
    assert_eq!(shuffled, Shuffled { inner: &random, seed: 4 }.compress(&requests, 6).unwrap());
    let sorted = |c: &Compressed| {
        let mut ids = c.ids.clone();
        ids.sort_unstable();
        ids
    };
    assert!(own.iter().zip(&shuffled).all(|(a, b)| sorted(a) == sorted(b)));
    assert!(own.iter().zip(&shuffled).any(|(a, b)| a.ids != b.ids));
}

#[test]
fn identity_is_the_prefix() {
    let prefix = tokens(1, 1, 30);
    assert_eq!(ids(&Identity, &prefix, &[], 3), prefix);
}
