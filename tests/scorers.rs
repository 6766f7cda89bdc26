//! Preferences of each scorer, and what the controller makes of them.

use crate::compressors::{frequencies, ids, scored, tiny_decoder, tokenizer, tokens};
use gist::compressor::budget::Controller;
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::scored::{Scored, Scorer};
use gist::compressor::scorer::Extractive;
use gist::compressor::scorers::{Parts, ScorerKind};
use gist::compressor::{Compressor, Request};
use gist::config::compressors::Unit;
use gist::error::Result;
use gist::tokenizer::Decoded;
use regex::Regex;
use tch::Tensor;

#[test]
fn lexical_rules() {
    // Token 1 is in every document, 2 in half, 3 in one, 4 in none.
    let tokenizer = tokenizer();
    let documents = [vec![1, 2, 3], vec![1, 1, 2], vec![1], vec![1]];
    let frequencies = DocumentFrequencies::count(&tokenizer, &documents).unwrap();
    assert!((frequencies.idf(&[2]) - ((5.0f64 / 3.0).ln() + 1.0)).abs() < 1e-12);
    let decoder = tiny_decoder();
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
fn prompt_lookup_keeps_what_followed_when_the_text_last_ended_so() {
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let lookup = scored(ScorerKind::PromptLookup, parts, &tokenizer);
    let kept = |prefix: &[u32], local: &[u32], budget: usize| ids(&lookup, prefix, local, budget);
    let prefix = [1, 2, 3, 4, 9, 2, 3, 5, 7, 3, 6, 8];
    assert_eq!(kept(&prefix, &[30, 2, 3], 2), [5, 7], "behind the later of two places");
    assert_eq!(kept(&prefix, &[30, 2, 3], 7), [4, 9, 5, 7, 3, 6, 8], "then behind the earlier");
    assert_eq!(kept(&prefix, &[30, 2, 3], 10), [3, 4, 9, 2, 3, 5, 7, 3, 6, 8], "then the tokens before");
    assert_eq!(kept(&[5, 2, 3, 4, 6, 2, 3, 7], &[5, 2, 3], 1), [4], "a longer n-gram before a later one");
    assert_eq!(kept(&[2, 9, 8, 7, 6, 5], &[30, 2], 2), [9, 8], "a single token");
    assert_eq!(kept(&[1, 2, 3, 4, 1, 2], &[], 2), [3, 4], "without a question the prefix's own end");
    assert_eq!(kept(&[1, 2, 3, 4, 5, 6], &[30], 2), [5, 6], "where nothing is found, the most recent");
    let request = Request { prefix: &prefix, local: &[30, 2, 3], query: &[9], key: 0 };
    assert_eq!(lookup.compress(&[request], 2).unwrap()[0].ids, [2, 3], "a query before a local window");
    // The longest n-gram has a limit: behind it the later place wins.
    let (run, far) = (vec![7; 40], [[7; 40].as_slice(), &[1], &[7; 33], &[2]].concat());
    assert_eq!(kept(&far, &run, 1), [2]);
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
    let single = Extractive { unit: Unit::Token {}, ..scored(ScorerKind::SelfInformation, parts, &tokenizer) };
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
    let numbers = Controller { must_keep: vec![Regex::new("[0-9]+").unwrap()], ..Controller::default() };
    let keep = |controller: &Controller, budget: usize| {
        let truncate = Extractive { controller: controller.clone(), ..scored(ScorerKind::Truncate, parts, &tokenizer) };
        tokenizer.decode(&ids(&truncate, &prefix, &[], budget)).unwrap()
    };
    let room = tokenizer.encode("1914").unwrap().len() + tokenizer.encode("2").unwrap().len();
    assert_eq!(keep(&numbers, room).replace(' ', ""), "19142");
    assert_eq!(keep(&numbers, 1).len(), 1, "of too many the first");
    assert!(keep(&numbers, room + 1).starts_with('a'));
}

/// Places at which the score is 1, of single tokens.
struct Wanted(Vec<usize>);

impl Scorer for Wanted {
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let one = |p: &Scored| p.units.iter().map(|unit| f64::from(self.0.contains(&unit.start))).collect();
        Ok(prefixes.iter().map(one).collect())
    }
}

#[test]
fn equal_tokens_that_come_to_stand_side_by_side_are_kept_once() {
    let tokenizer = tokenizer();
    let keep = |prefix: &[u32], wanted: Vec<usize>, must_keep: Option<&str>, budget: usize| {
        let must_keep = must_keep.into_iter().map(|pattern| Regex::new(pattern).unwrap()).collect();
        let controller = Controller { must_keep, drop_consecutive: true, ..Controller::default() };
        let (name, scorer, unit) = ("wanted".to_string(), Box::new(Wanted(wanted)), Unit::Token {});
        let compressor = Extractive { name, scorer, unit, controller, tokenizer: &tokenizer };
        let request = Request { prefix, local: &[], query: &[], key: 0 };
        compressor.compress(&[request], budget).unwrap().remove(0).kept.unwrap()
    };
    assert_eq!(keep(&[1, 5, 1, 6, 1], vec![0, 2, 4], None, 3), [0, 1, 3], "others take the room");
    assert_eq!(keep(&[1, 5, 1, 6, 7], vec![0, 2, 4], None, 2), [0, 4]);
    assert_eq!(keep(&[1, 1, 5, 6], vec![0, 1, 3], None, 3), [0, 1, 3], "what stands side by side may stay so");
    // A number is not broken, neither by its own digits nor by what stands before it.
    let prefix = tokenizer.encode("2x2277").unwrap();
    assert_eq!(prefix.len(), 6, "a token a character");
    assert_eq!(keep(&prefix, vec![0], Some("[0-9]{2,}"), 5), [1, 2, 3, 4, 5]);
    let alike = vec![7; 1_000_000];
    let begun = std::time::Instant::now();
    assert_eq!(keep(&alike, (0..1_000_000).step_by(2).take(1000).collect(), None, 2).len(), 2);
    assert!(begun.elapsed().as_secs() < 60, "a million equal tokens");
}

#[test]
fn a_calibrated_threshold_meets_the_rate_over_documents_not_in_each() {
    let prefix: Vec<u32> = (1..11).collect();
    let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
    let prefix = |from: i32| {
        let units = (0..10).map(|at| at..at + 1).collect();
        let decoded = Decoded::of(&["x"; 10]);
        let scored = Scored { request: &request, units, decoded, question: Decoded::default() };
        (scored, (from..from + 10).map(f64::from).collect::<Vec<f64>>())
    };
    let (rich, poor) = (prefix(10), prefix(0));
    let kept = |controller: &Controller, (prefix, scores): &(Scored, Vec<f64>), budget: usize| {
        controller.keep(prefix, scores, budget).kept.unwrap().len()
    };
    let mut controller = Controller::default();
    controller.calibrate(&[rich, poor], &[3, 4, 6]);
    let (rich, poor) = (prefix(10), prefix(0));
    let lengths = |budget: usize| [kept(&controller, &rich, budget), kept(&controller, &poor, budget)];
    assert_eq!((lengths(3), lengths(4)), ([6, 0], [8, 0]), "all from the rich one, twice the budget");
    assert_eq!(lengths(6), [10, 2]);
    assert_eq!(lengths(5), [5, 5], "a budget that was not calibrated is a cap");
    // Equal scores come in together or not at all, and what is no number never does.
    let (units, mut scores) = (rich.0, vec![1.0; 10]);
    scores[0] = f64::NAN;
    controller.calibrate(&[(units, scores.clone())], &[5]);
    assert_eq!(controller.thresholds[&5], f64::INFINITY);
    assert_eq!(kept(&controller, &(poor.0, scores), 5), 0);
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let controller = Controller { threshold: Some(7.0), ..Controller::default() };
    let recent = Extractive { controller, ..scored(ScorerKind::Recent, parts, &tokenizer) };
    assert_eq!(ids(&recent, &[9; 10], &[], 8).len(), 3, "places 7, 8, 9");
    assert_eq!(ids(&recent, &[9; 10], &[], 2).len(), 2, "the budget stays a cap");
}

#[test]
fn a_calibrated_compressor_meets_its_budget_on_average_with_what_must_be_kept() {
    let (tokenizer, decoder, frequencies) = (tokenizer(), tiny_decoder(), frequencies());
    let parts = Parts { decoder: &decoder, frequencies: &frequencies, seed: 5 };
    let prefixes: Vec<Vec<u32>> = (0..40).map(|i| tokens(3, i, 40)).collect();
    let requests: Vec<Request> = (prefixes.iter().enumerate())
        .map(|(i, prefix)| Request { prefix, local: &[], query: &[], key: i as u64 })
        .collect();
    let digits = Controller { must_keep: vec![Regex::new("[0-9]").unwrap()], ..Controller::default() };
    for kind in [ScorerKind::Idf, ScorerKind::SelfInformation, ScorerKind::Random] {
        let mut compressor = Extractive { controller: digits.clone(), ..scored(kind, parts, &tokenizer) };
        assert!(compressor.calibrate(&requests[..30], &[8]).unwrap());
        assert_eq!((compressor.most(8), compressor.most(7)), (16, 7));
        let lengths = |requests: &[Request]| -> Vec<usize> {
            compressor.compress(requests, 8).unwrap().iter().map(|made| made.ids.len()).collect()
        };
        let seen = lengths(&requests[..30]);
        assert!(seen.iter().all(|&len| len <= 16) && seen.iter().sum::<usize>() <= 8 * 30, "{kind:?}: {seen:?}");
        assert!(seen.iter().sum::<usize>() > 6 * 30 && seen.iter().any(|&len| len != seen[0]), "{kind:?}: {seen:?}");
        assert!(lengths(&requests[30..]).iter().all(|&len| len <= 16));
    }
}
