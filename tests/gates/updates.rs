//! Gradients of whole updates: under activation checkpointing, and from micro batches, they are those of one plain pass.

use crate::common::*;
use gist::compressor::Request;
use gist::compressor::actions::Trajectory;
use gist::compressor::gist::GistPolicy;
use gist::compressor::policy::Policy;
use gist::config::parts::{LoraConfig, OptimConfig};
use gist::config::train::AlgoSection;
use gist::data::{Probe, Window};
use gist::model::config::Ids;
use gist::model::copy_head;
use gist::model::decoder::Decoder;
use gist::model::lora::Extra;
use gist::reading::{Imagined, Reading, Taught};
use gist::rng::{self, Stream};
use gist::train::shards::Shards;
use gist::train::trainee::{Trainee, Update};
use gist::train::updates::{ImitationBatch, PolicyBatch, ReaderBatch, imitation_step, policy_step, reader_step};
use tch::{Kind, Tensor};

const WINDOWS: usize = 3;

/// Inputs of one update.
#[derive(Clone, Copy)]
struct How {
    checkpointing: bool,
    micro: usize,
    dropout: f64,
    /// Tokens that a token sees.
    near: Option<i64>,
}

const PLAIN: How = How { checkpointing: false, micro: WINDOWS, dropout: 0.0, near: None };

fn base(how: How) -> Decoder {
    let mut config = tiny(true);
    if how.near.is_some() {
        config.model_type = "mistral".into();
        config.sliding_window = how.near;
    }
    Decoder::from_named(&config, weights(&config, 3).into_iter().collect()).unwrap().checkpointed(how.checkpointing)
}

/// A trainee whose optimiser keeps the gradient of its last step.
pub fn trainee(decoder: &Decoder, dropout: f64, extra: Extra) -> Trainee {
    let lora = LoraConfig { rank: 3, alpha: 5.0, dropout, ..LoraConfig::default() };
    let optim = OptimConfig {
        lr: 1e-3,
        beta1: 0.0,
        beta2: 0.9,
        eps: 1e-8,
        weight_decay: 0.0,
        max_grad_norm: 1e9,
        warmup_steps: 0,
    };
    Trainee::new("compressor", drawn_adapter(decoder, &lora, extra, 4), &optim)
}

/// The gradient of the step that a trainee has taken: without momentum, the optimiser's first moment.
pub fn gradient(trainee: &Trainee) -> Tensor {
    let mut groups = Vec::new();
    trainee.groups(&mut groups);
    let (_, state) = groups.remove(0);
    state.into_iter().find(|(name, _)| name == "first").unwrap().1
}

fn windows() -> Vec<Window> {
    let ids = |count, seed| ids(count, VOCAB as usize, seed);
    (0..WINDOWS as u64).map(|w| Window::new([0, 0], ids(12, w), ids(5, w + 10), ids(4, w + 20))).collect()
}

fn update(windows: &Vec<Window>) -> Update<'_, Vec<Window>> {
    Update { number: 0, lr_factor: 1.0, root: std::path::Path::new("none"), batch: windows }
}

/// Of a policy-gradient update with entropy bonus and reference, and of imitation of the same gists: prompts and gists of
/// different lengths, with a copy head.
fn compressor_gradients(how: How) -> [Tensor; 2] {
    let decoder = base(how);
    let extra = Extra::CopyHead(copy_head::rows(2, decoder.config()));
    let prefixes = [ids(12, 48, 1), ids(5, 48, 2), vec![8, 8, 5, 20, 8, 8, 20, 5, 8]];
    let local = ids(4, 48, 4);
    let requests: Vec<Request> = requests(&prefixes, &local);
    let gist = |ids: &[u32], ended: bool| Trajectory {
        ids: ids.to_vec(),
        ended,
        behavior_logprobs: vec![-2.0; ids.len() + usize::from(ended)],
        ..Trajectory::default()
    };
    let groups = [
        vec![gist(&[], true), gist(&[3, 9, 11], true)],
        vec![gist(&[20, 21, 22, 23, 24, 25], false), gist(&[5], true)],
        vec![gist(&[8, 8, 20, 8], true), gist(&[], true)],
    ];
    let advantages: Vec<Vec<Vec<f64>>> = (groups.iter().enumerate())
        .map(|(w, group)| group.iter().map(|g| vec![w as f64 - 0.7; g.actions()]).collect())
        .collect();
    let own: Vec<&[Trajectory]> = groups.iter().map(Vec::as_slice).collect();
    let policy = Policy::Gist(GistPolicy::new(&decoder, &[0, 7]));
    let section = AlgoSection { entropy_coef: 0.1, reference_kl_coef: 0.2, ..AlgoSection::default() };
    let reference = copying_adapter(&decoder, 2, 9);
    let batch = PolicyBatch {
        policy: &policy,
        reference: Some(&reference),
        requests: &requests,
        groups: &own,
        advantages: &advantages,
        micro: how.micro,
        divisor: 7.0,
    };
    let (windows, mut first, mut second) =
        (windows(), trainee(&decoder, how.dropout, extra), trainee(&decoder, how.dropout, extra));
    let update = update(&windows);
    let _guard = torch_generator();
    rng::seed_torch(1, Stream::Dropout, 0, 0);
    policy_step(&decoder, &mut first, (Shards::WHOLE.pass(0), &[batch]), &section, &update).unwrap();
    let weighted: Vec<Vec<(Trajectory, f64)>> =
        groups.iter().map(|group| group.iter().map(|g| (g.clone(), 0.5 + g.ids.len() as f64)).collect()).collect();
    let batch = ImitationBatch { policy: &policy, requests: &requests, groups: &weighted, micro: how.micro };
    imitation_step(&decoder, &mut second, &batch, &update).unwrap();
    [gradient(&first), gradient(&second)]
}

/// Of a reader's update on contexts of different lengths: with the true future, and with imagined ones beside it.
fn reader_gradients(how: How) -> [Tensor; 2] {
    let decoder = base(how);
    let windows = windows();
    let imagined = Imagined { samples: 2, beside_true: true, run_seed: 5, step: 0, first_example: 0 };
    [Taught::new(&decoder, &windows), Taught::imagined(&decoder, &windows, imagined)].map(|taught| {
        let mut reader = trainee(&decoder, how.dropout, Extra::Nothing);
        let contexts = [vec![], ids(6, 48, 7), ids(3, 48, 8)];
        let rows: Vec<(usize, &[u32])> = contexts.iter().enumerate().map(|(w, c)| (w, c.as_slice())).collect();
        let _guard = torch_generator();
        rng::seed_torch(1, Stream::Dropout, 0, 0);
        let batch = ReaderBatch { taught: &taught.unwrap(), rows: &rows, at_once: how.micro, of: rows.len() };
        reader_step(&decoder, &mut reader, (Shards::WHOLE.pass(0), &[batch]), &update(&windows)).unwrap();
        gradient(&reader)
    })
}

/// The gradient of a reader on what is taught, every window with its own context.
fn gradient_on(decoder: &Decoder, taught: &Taught, contexts: &[Vec<u32>]) -> Tensor {
    let mut reader = trainee(decoder, PLAIN.dropout, Extra::Nothing);
    let rows: Vec<(usize, &[u32])> = contexts.iter().enumerate().map(|(w, c)| (w, c.as_slice())).collect();
    let batch = ReaderBatch { taught, rows: &rows, at_once: rows.len(), of: rows.len() };
    reader_step(decoder, &mut reader, (Shards::WHOLE.pass(0), &[batch]), &update(&windows())).unwrap();
    gradient(&reader)
}

#[test]
fn a_future_ends_at_end_of_text_and_what_follows_counts_nowhere() {
    // Of 48 ids a quarter end a text: most imagined futures do so early, some at once.
    let mut config = tiny(true);
    config.eos_token_id = Some(Ids::Many((0..48).step_by(4).collect()));
    let decoder = Decoder::from_named(&config, weights(&config, 3).into_iter().collect()).unwrap();
    let is_end = |id: &u32| id.is_multiple_of(4);
    let mut windows = windows();
    windows.iter_mut().for_each(|w| w.probes[0].future = vec![1, 2, 3, 5, 6, 7, 9, 10]); // true futures that do not end
    let how = Imagined { samples: 3, beside_true: true, run_seed: 5, step: 0, first_example: 0 };
    let taught = Taught::imagined(&decoder, &windows, how).unwrap();
    let contexts = [vec![], ids(6, 48, 7), ids(3, 48, 8)];
    let adapter = drawn_adapter(&decoder, &LoraConfig { rank: 3, ..LoraConfig::default() }, Extra::Nothing, 4);
    let reader = decoder.activate(&adapter, false).unwrap();
    let (mut ended, mut gradients) = (0, Vec::new());
    for (w, window) in windows.iter().enumerate() {
        let mut readings = Vec::new();
        for future in taught.futures(w).unwrap() {
            ended += usize::from(future.len() < 8);
            assert!(future.len() == 8 || is_end(future.last().unwrap()));
            assert!(!future[..future.len() - 1].iter().any(is_end));
            // The same future alone, cut where it ends: nothing after it exists.
            let cut = [with_future(window, future)];
            let alone = Taught::new(&decoder, &cut).unwrap();
            readings.push(alone.measure(&decoder, Some(&reader), &[(0, &contexts[w])]).unwrap()[0]);
            gradients.push(gradient_on(&decoder, &alone, &contexts[w..=w]));
        }
        let own = taught.measure(&decoder, Some(&reader), &[(w, &contexts[w])]).unwrap()[0];
        let mean = |of: fn(&Reading) -> f64| readings.iter().map(of).sum::<f64>() / readings.len() as f64;
        for (own, expected) in
            [(own.kl, mean(|r| r.kl)), (own.nll, mean(|r| r.nll)), (own.top1_agreement, mean(|r| r.top1_agreement))]
        {
            assert!((own - expected).abs() < 1e-5, "window {w}: {own} {expected}");
        }
    }
    assert!((4..=9).contains(&ended), "{ended} of 9 imagined futures end early");
    // Windows, and the futures of each, weigh alike.
    let expected = Tensor::stack(&gradients, 0).mean_dim([0i64].as_slice(), false, Kind::Float);
    assert_same(&[gradient_on(&decoder, &taught, &contexts)], &[expected], 1e-4);
}

#[track_caller]
fn assert_same(got: &[Tensor], expected: &[Tensor], relative: f64) {
    for (got, expected) in got.iter().zip(expected) {
        assert!(expected.abs().max().double_value(&[]) > 1e-3);
        assert_close(got, expected, relative * expected.norm().double_value(&[]));
    }
}

#[test]
fn checkpointed_gradients_are_the_plain_ones() {
    for (micro, dropout, near) in [(WINDOWS, 0.0, None), (1, 0.3, None), (2, 0.0, Some(6))] {
        let plain = How { micro, dropout, near, ..PLAIN };
        let checkpointed = How { checkpointing: true, ..plain };
        assert_same(&compressor_gradients(checkpointed), &compressor_gradients(plain), 1e-6);
        assert_same(&reader_gradients(checkpointed), &reader_gradients(plain), 1e-6);
    }
    // What the comparison would miss if nothing were dropped.
    let (dropping, whole) = (compressor_gradients(How { dropout: 0.3, ..PLAIN }), compressor_gradients(PLAIN));
    assert!(gap(&dropping[0], &whole[0]) > 1e-3);
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let whole = compressor_gradients(PLAIN);
    let read = reader_gradients(PLAIN);
    for micro in [1, 2] {
        assert_same(&compressor_gradients(How { micro, ..PLAIN }), &whole, 1e-5);
        assert_same(&reader_gradients(How { micro, ..PLAIN }), &read, 1e-5);
    }
    assert_eq!(whole[0].kind(), Kind::Float);
}

#[test]
fn several_probes_count_as_each_alone_on_average() {
    let decoder = base(PLAIN);
    // Windows of three, one and two probes; locals and futures of any length.
    let probe = |seed: u64, local: usize, future: usize| Probe {
        local: ids(local, 48, seed),
        query: Vec::new(),
        future: ids(future, 48, seed + 1),
    };
    let probes = [
        vec![probe(50, 2, 5), probe(52, 7, 1), probe(54, 1, 3)],
        vec![probe(56, 3, 4)],
        vec![probe(58, 4, 2), probe(60, 2, 6)],
    ];
    let mut windows = windows();
    windows.iter_mut().zip(&probes).for_each(|(window, probes)| window.probes = probes.clone());
    for frame in [vec![], ids(3, 48, 70)] {
        windows.iter_mut().for_each(|window| window.frame = frame.clone());
        let taught = Taught::new(&decoder, &windows).unwrap();
        let contexts = [ids(6, 48, 7), vec![], ids(3, 48, 8)];
        let adapter = drawn_adapter(&decoder, &LoraConfig { rank: 3, ..LoraConfig::default() }, Extra::Nothing, 4);
        let reader = decoder.activate(&adapter, false).unwrap();
        let rows: Vec<(usize, &[u32])> = contexts.iter().enumerate().map(|(w, c)| (w, c.as_slice())).collect();
        let together = taught.measure(&decoder, Some(&reader), &rows).unwrap();
        let mut gradients = Vec::new();
        for (w, window) in windows.iter().enumerate() {
            let (mut kl, mut own) = (0.0, Vec::new());
            for probe in &window.probes {
                let alone = [Window { probes: vec![probe.clone()], ..window.clone() }];
                let taught = Taught::new(&decoder, &alone).unwrap();
                kl += taught.measure(&decoder, Some(&reader), &[(0, &contexts[w])]).unwrap()[0].kl;
                own.push(gradient_on(&decoder, &taught, &contexts[w..=w]));
            }
            let probes = window.probes.len() as f64;
            assert!((together[w].kl - kl / probes).abs() < 1e-5, "window {w}: {} {}", together[w].kl, kl / probes);
            assert_eq!(taught.futures(w).unwrap().len(), window.probes.len());
            gradients.push(Tensor::stack(&own, 0).mean_dim([0i64].as_slice(), false, Kind::Float));
        }
        let expected = Tensor::stack(&gradients, 0).mean_dim([0i64].as_slice(), false, Kind::Float);
        assert_same(&[gradient_on(&decoder, &taught, &contexts)], &[expected], 1e-4);
    }
}
