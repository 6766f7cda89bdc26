//! Controls of the distortion: the whole prefix costs nothing, nothing is the local window alone.

use crate::common::*;
use crate::compressors::tokenizer;
use gist::compressor::recent_joined::RecentJoined;
use gist::compressor::{Compressor, Request};
use gist::config::parts::Sampling;
use gist::data::{Probe, Window};
use gist::eval::gates::roles::{empty, identity};
use gist::model::read::Stem;
use gist::model::write::{Continuation, continuations};
use gist::reading::{Imagined, Reading, Taught, compressed_context, reader_context};
use gist::rng::{self, Stream};

fn windows() -> Vec<Window> {
    (0..5).map(|i| Window::new([0, 0], ids(20, 48, 100 + i), ids(4, 48, 200 + i), ids(6, 48, 300 + i))).collect()
}

#[test]
fn the_whole_prefix_as_gist_loses_nothing() {
    let (decoder, windows) = (decoder(8), windows());
    assert!(identity(&decoder, &windows).unwrap() < 1e-6);
    let whole: Vec<(usize, &[u32])> = windows.iter().enumerate().map(|(i, w)| (i, w.prefix.as_slice())).collect();
    for reading in Taught::new(&decoder, &windows).unwrap().measure(&decoder, None, &whole).unwrap() {
        assert_eq!(reading.top1_agreement, 1.0, "{reading:?}");
    }
}

#[test]
fn the_empty_gist_is_the_local_window_alone() {
    let (decoder, windows) = (decoder(8), windows());
    assert!(reader_context(&[], true, VOCAB).is_empty(), "no separator after nothing");
    assert!(empty(&decoder, &windows).unwrap() < 1e-5);
    let nothing: Vec<(usize, &[u32])> = (0..windows.len()).map(|i| (i, &[] as &[u32])).collect();
    let readings = Taught::new(&decoder, &windows).unwrap().measure(&decoder, None, &nothing).unwrap();
    assert!(readings.iter().all(|reading| reading.kl > 0.01));
}

/// The windows, the last tokens of whose prefix belong to the local text of each probe.
fn longer(windows: &[Window], tokens: usize) -> Vec<Window> {
    let one = |window: &Window| {
        let (prefix, last) = window.prefix.split_at(window.prefix.len() - tokens);
        let probe = |probe: &Probe| Probe { local: [last, &probe.local].concat(), ..probe.clone() };
        Window { prefix: prefix.to_vec(), probes: window.probes.iter().map(probe).collect(), ..window.clone() }
    };
    windows.iter().map(one).collect()
}

#[test]
fn recent_tokens_without_a_separator_are_a_longer_local_window() {
    let (decoder, tokenizer) = (decoder(8), tokenizer());
    let (reader, tokenizer) = (adapter(&decoder, 3), &tokenizer);
    let active = decoder.activate(&reader, false).unwrap();
    let read = |windows: &[Window], contexts: &[Vec<u32>]| -> Vec<Reading> {
        let rows: Vec<(usize, &[u32])> = contexts.iter().map(Vec::as_slice).enumerate().collect();
        Taught::new(&decoder, windows).unwrap().measure(&decoder, Some(&active), &rows).unwrap()
    };
    let mut asked = windows();
    for (i, window) in asked.iter_mut().enumerate() {
        let more = Probe { local: ids(2 + i, 48, 400), ..window.probe().clone() };
        window.probes.push(more);
    }
    for windows in [windows(), asked] {
        let requests: Vec<Request> = windows.iter().map(|window| request(&window.prefix)).collect();
        for budget in [0, 1, 7] {
            let made = RecentJoined { tokenizer }.compress(&requests, budget).unwrap();
            let joined: Vec<Vec<u32>> = made.iter().map(|c| compressed_context(c, true, VOCAB)).collect();
            let separated: Vec<Vec<u32>> = made.iter().map(|c| reader_context(&c.ids, true, VOCAB)).collect();
            let nothing = vec![Vec::new(); windows.len()];
            let expected = read(&longer(&windows, budget), &nothing);
            for (own, expected) in read(&windows, &joined).iter().zip(&expected) {
                let far = (own.kl - expected.kl).abs().max((own.nll - expected.nll).abs());
                assert!(far < 1e-5 && expected.kl > 0.01, "{own:?} {expected:?}");
            }
            let apart = read(&windows, &separated).iter().zip(&expected).all(|(a, b)| (a.kl - b.kl).abs() > 1e-4);
            assert_eq!(apart, budget > 0, "a separator changes what is read");
        }
    }
}

#[test]
fn imagined_futures_count_like_true_ones() {
    let (decoder, windows) = (decoder(8), windows());
    let how = Imagined { samples: 2, beside_true: true, run_seed: 3, step: 9, first_example: 0 };
    let prompts: Vec<Vec<u32>> = windows.iter().map(|w| [w.prefix.as_slice(), &w.probe().local].concat()).collect();
    let draws = |window: usize, sample: usize| {
        let mut draw = rng::rng(3, Stream::Imagined, 9, window as u64, sample as u64);
        (0..6).map(|_| rng::uniform(&mut draw)).collect()
    };
    let read = Stem::read(&decoder, None, &prompts).unwrap();
    let wanted = Continuation { samples: 2, tokens: 6, how: &Sampling::default(), forbidden: &[] };
    let written = continuations(&decoder, &read, wanted, draws).unwrap();
    let all_with = |sample: i64| -> Vec<Window> {
        let own = |w: usize| Vec::<i64>::try_from(written.get(w as i64).get(sample)).unwrap();
        let future = |w: usize| own(w).into_iter().map(|id| id as u32).collect();
        windows.iter().enumerate().map(|(w, window)| with_future(window, future(w))).collect()
    };
    let rows: Vec<(usize, &[u32])> = (0..5).flat_map(|w| [(w, &windows[w].prefix[..w]), (w, &[][..])]).collect();
    let measure = |taught: &Taught| taught.measure(&decoder, None, &rows).unwrap();
    let each = [windows.clone(), all_with(0), all_with(1)].map(|w| measure(&Taught::new(&decoder, &w).unwrap()));
    let together = measure(&Taught::imagined(&decoder, &windows, how).unwrap());
    for (row, reading) in together.iter().enumerate() {
        let mean = each.iter().map(|readings| readings[row].kl).sum::<f64>() / 3.0;
        assert!((reading.kl - mean).abs() < 1e-5 && mean > 0.01, "{} {mean}", reading.kl);
    }
    assert!(
        measure(&Taught::new(&decoder, &all_with(0)).unwrap()) != measure(&Taught::new(&decoder, &windows).unwrap())
    );
}

#[test]
fn a_greedy_continuation_is_what_the_base_finds_likeliest() {
    let decoder = decoder(8);
    let prompts = [ids(9, 48, 1), ids(4, 48, 2)];
    let read = Stem::read(&decoder, None, &prompts).unwrap();
    let wanted = Continuation { samples: 1, tokens: 5, how: &Sampling::greedy(), forbidden: &[] };
    let written = continuations(&decoder, &read, wanted, |_, _| vec![0.0; 5]).unwrap();
    for (i, prompt) in prompts.iter().enumerate() {
        let mut whole = prompt.clone();
        for t in 0..5 {
            let hidden = decoder.forward(&row(&whole), &[0], None).unwrap().get(0).get(whole.len() as i64 - 1);
            let best = decoder.head().matmul(&hidden).argmax(-1, false).int64_value(&[]);
            assert_eq!(written.int64_value(&[i as i64, 0, t]), best);
            whole.push(best as u32);
        }
    }
    let all_but = |id: u32| (0..VOCAB as u32).filter(|&other| other != id).collect::<Vec<_>>();
    let wanted = Continuation { tokens: 2, forbidden: &all_but(7), ..wanted };
    let written = continuations(&decoder, &read, wanted, |_, _| vec![0.0; 2]);
    assert_eq!(Vec::<i64>::try_from(written.unwrap().reshape([-1])).unwrap(), [7; 4]);
}
