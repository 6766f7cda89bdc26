//! Wrappers of compressors and rivals that are no compressors: the memory of one, the leak controls, the searches that are compressors themselves.

use crate::compressors::{cases, frequencies, random_adapter, requests, scored, tiny_decoder, tokenizer, tokens};
use gist::compressor::controls::{Memory, OtherDocument, Shuffled, donors};
use gist::compressor::scorers::{Parts, ScorerKind};
use gist::compressor::{Compressed, Compressor, Request};
use gist::data::Window;
use gist::error::Result;
use gist::eval::oracle::Searching;
use gist::reading::Imagined;
use gist::search::SpanShape;
use std::cell::Cell;

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
    let window =
        |(i, &document): (usize, &usize)| Window::new([document, i], tokens(7, i as u64, 20), vec![1], vec![2]);
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
fn a_search_is_a_compressor_of_the_windows_that_it_has() {
    let decoder = tiny_decoder();
    let (reader, tokenizer) = (random_adapter(&decoder, 2), tokenizer());
    let window = |i: u64| Window::new([i as usize, 0], tokens(11, i, 24), tokens(12, i, 5), tokens(13, i, 4));
    let windows: Vec<Window> = (0..3).map(window).collect();
    let requests: Vec<Request> = (windows.iter().enumerate())
        .map(|(i, w)| Request { prefix: &w.prefix, local: &w.probe().local, query: &[], key: i as u64 })
        .collect();
    let params = SpanShape { span_tokens: 4, stride: 2, shortlist: 3 };
    let imagines = Imagined { samples: 2, beside_true: false, run_seed: 0, step: 0, first_example: 0 };
    for (name, imagined) in [("oracle_greedy", None), ("lookahead", Some(imagines))] {
        let (decoder, tokenizer, reader, windows) = (&decoder, &tokenizer, &reader, &windows);
        let search = Searching { name, decoder, tokenizer, reader, windows, imagined, params };
        for budget in [0, 1, 6, 24, 100] {
            let made = search.compress(&requests, budget).unwrap();
            for (c, window) in made.iter().zip(windows) {
                let kept = c.kept.as_ref().unwrap();
                assert!(c.ids.len() <= budget && kept.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {kept:?}");
                assert_eq!(c.ids, kept.iter().map(|&at| window.prefix[at]).collect::<Vec<_>>());
            }
            assert_eq!(made, search.compress(&requests, budget).unwrap());
            assert_eq!(search.compress(&[], budget).unwrap(), []);
        }
        let other = Request { key: 1, ..requests[0] };
        assert!(search.compress(&[other], 6).unwrap_err().to_string().contains("whose future it has"));
    }
}
