//! The gradient of a step cut into shards is that of the step in one pass, to rounding, and the same bits for any stretch of
//! shards that is added apart.

use crate::common::*;
use crate::gates::updates::{gradient, trainee};
use gist::compressor::actions::Trajectory;
use gist::compressor::gist::GistPolicy;
use gist::compressor::policy::Policy;
use gist::config::train::AlgoSection;
use gist::data::Window;
use gist::model::decoder::Decoder;
use gist::model::lora::Extra;
use gist::reading::Taught;
use gist::train::shards::Shards;
use gist::train::trainee::Update;
use gist::train::updates::{PolicyBatch, ReaderBatch, policy_step, reader_step};
use std::ops::Range;
use tch::{Kind, Tensor};

const WINDOWS: usize = 8;

fn shards(count: usize) -> (Shards<'static>, Vec<Range<usize>>) {
    let shards = Shards::new(7, count);
    let own = shards.own(WINDOWS);
    (shards, own)
}

/// Gradients of a policy-gradient step and of a step of a reader, on gists of 0 to 6 tokens, with the figures that they tell.
fn gradients(count: usize, dropout: f64) -> ([Tensor; 2], Vec<f64>) {
    let config = tiny(true);
    let decoder = Decoder::from_named(&config, weights(&config, 3).into_iter().collect()).unwrap();
    let (shards, own) = shards(count);
    let windows: Vec<Window> = (0..WINDOWS as u64)
        .map(|w| Window::new([0, 0], ids(12, VOCAB as usize, w), ids(5, VOCAB as usize, w + 10), ids(4, 48, w + 20)))
        .collect();
    let gist = |length: usize, seed: u64| Trajectory {
        ids: ids(length, 40, seed),
        ended: length < 6,
        behavior_logprobs: vec![-2.0; length + usize::from(length < 6)],
        ..Trajectory::default()
    };
    let groups: Vec<Vec<Trajectory>> =
        (0..WINDOWS).map(|w| vec![gist(w % 7, w as u64), gist((3 * w + 2) % 7, 50 + w as u64)]).collect();
    let advantages: Vec<Vec<Vec<f64>>> = (groups.iter().enumerate())
        .map(|(w, group)| group.iter().map(|g| vec![w as f64 - 2.3; g.actions()]).collect())
        .collect();
    let groups: Vec<&[Trajectory]> = groups.iter().map(Vec::as_slice).collect();
    let prefixes: Vec<Vec<u32>> = windows.iter().map(|window| window.prefix.clone()).collect();
    let local = ids(4, 48, 4);
    let requests = requests(&prefixes, &local);
    let policy = Policy::Gist(GistPolicy::new(&decoder, &[]));
    let section = AlgoSection { entropy_coef: 0.1, ..AlgoSection::default() };
    let update = Update { number: 0, lr_factor: 1.0, root: std::path::Path::new("none"), batch: &windows };
    let batches: Vec<PolicyBatch> = (own.iter().cloned())
        .map(|own| PolicyBatch {
            policy: &policy,
            reference: None,
            requests: &requests[own.clone()],
            groups: &groups[own.clone()],
            advantages: &advantages[own],
            micro: WINDOWS,
            divisor: 96.0,
        })
        .collect();
    let (mut compressor, mut reader) =
        (trainee(&decoder, dropout, Extra::Nothing), trainee(&decoder, dropout, Extra::Nothing));
    let _guard = torch_generator();
    let told = policy_step(&decoder, &mut compressor, (shards.pass(2), &batches), &section, &update).unwrap();
    let taught: Vec<Taught> = own.iter().map(|own| Taught::new(&decoder, &windows[own.clone()]).unwrap()).collect();
    let rows: Vec<Vec<(usize, &[u32])>> = (own.iter().cloned())
        .map(|own| groups[own].iter().enumerate().map(|(w, group)| (w, group[0].ids.as_slice())).collect())
        .collect();
    let batches: Vec<ReaderBatch> = (taught.iter().zip(&rows))
        .map(|(taught, rows)| ReaderBatch { taught, rows, at_once: WINDOWS, of: WINDOWS })
        .collect();
    let read = reader_step(&decoder, &mut reader, (shards.pass(0), &batches), &update).unwrap();
    let figures = told.iter().map(|(_, value)| *value).chain([read.kl, read.grad_norm]).collect();
    ([gradient(&compressor), gradient(&reader)], figures)
}

#[test]
fn shards_add_up_to_the_whole() {
    let (whole, figures) = gradients(1, 0.0);
    for count in [2, 4, 8] {
        let (cut, told) = gradients(count, 0.0);
        for (whole, cut) in whole.iter().zip(&cut) {
            let error = ((cut - whole).norm() / whole.norm()).double_value(&[]);
            assert!(whole.norm().double_value(&[]) > 1e-4 && error <= 1e-5, "{count} shards: {error}");
        }
        for (a, b) in figures.iter().zip(&told) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{count} shards: {figures:?} {told:?}");
        }
    }
}

#[test]
fn each_shard_has_masks_of_its_own() {
    let same = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]) == 0.0;
    let ([first, _], _) = gradients(4, 0.5);
    assert!(same(&first, &gradients(4, 0.5).0[0]), "the same draws give the same bits");
    assert!(!same(&first, &gradients(4, 0.0).0[0]) && !same(&first, &gradients(2, 0.5).0[0]));
    assert_eq!(first.kind(), Kind::Float);
}
