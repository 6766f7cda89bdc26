//! What each scorer prefers, and what the controller makes of it.

use crate::compressors::{frequencies, ids, scored, tiny_decoder, tokenizer, tokens};
use gist::compressor::budget::{Controller, calibrate};
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::scorer::Extractive;
use gist::compressor::scorers::Parts;
use gist::compressor::{Compressor, Request};
use gist::config::compressors::{ScorerKind, Unit};
use regex::Regex;
use tch::Tensor;

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
