//! The gist policy: log-probabilities under a shared prefix, and sampling, against plain forward passes.

use crate::common::*;
use gist::chat::Frame;
use gist::compressor::Request;
use gist::compressor::actions::{Draws, Trajectory, uniforms};
use gist::compressor::attended::{attended, attention};
use gist::compressor::gist::GistPolicy;
use gist::config::compressors::Likeliest;
use gist::config::parts::Sampling;
use gist::eval::gates::roles::plain_states;
use gist::model::copy_head::{LENGTHS, TAKEN};
use gist::model::decoder::Decoder;
use gist::model::lora::{ActiveAdapter, Adapter};
use gist::model::vocab::{self, Head};
use gist::tensor::to_vec;
use tch::{Kind, Tensor};

const BUDGET: usize = 6;
/// Longest match of the copy head.
const LONGEST: usize = 2;
const FORBIDDEN: [u32; 2] = [0, 7];

struct Setting {
    decoder: Decoder,
    adapter: Adapter,
    prefixes: Vec<Vec<u32>>,
    local: Vec<u32>,
}

impl Setting {
    fn new() -> Self {
        Self::with_copy_head(0)
    }

    /// Without a copy head and with one: whatever holds of a policy holds of both.
    fn both() -> [Self; 2] {
        [Self::new(), Self::with_copy_head(LONGEST)]
    }

    fn with_copy_head(longest: usize) -> Self {
        let decoder = decoder(3);
        let mut adapter = copying_adapter(&decoder, longest, 4);
        // Ends are drawn often enough that some gists stop early.
        let mut named: std::collections::BTreeMap<_, _> = adapter.params().named().into_iter().collect();
        let end = named.get_mut("gist.end_head.weight").unwrap();
        *end = &*end * 2.0;
        adapter.params_mut().load(&named).unwrap();
        // The last prefix repeats itself, so that there are matches of several lengths.
        let prefixes = vec![ids(12, 48, 1), ids(5, 48, 2), vec![8, 8, 5, 20, 8, 8, 20, 5, 8]];
        Self { decoder, adapter, prefixes, local: ids(4, 48, 4) }
    }

    fn policy(&self) -> GistPolicy<'_> {
        GistPolicy::new(&self.decoder, &[&FORBIDDEN[..], &[VOCAB as u32 - 1]].concat())
    }

    fn active(&self) -> ActiveAdapter {
        self.decoder.activate(&self.adapter, false).unwrap()
    }

    fn requests(&self) -> Vec<Request<'_>> {
        requests(&self.prefixes, &self.local)
    }

    fn sample(&self, requests: &[Request], group: usize, how: &Sampling) -> Vec<Vec<Trajectory>> {
        let uniforms = |r: usize, s: usize| uniforms(5, 0, requests[r].prefix.len() as u64, s as u64, BUDGET);
        let draws = Draws { group, budget: BUDGET, how, uniforms: &uniforms };
        self.policy().sample(&self.active(), requests, draws).unwrap()
    }

    /// Logits `[actions, V + 1]` of one gist's actions: one plain forward pass over prompt and gist, nothing shared.
    fn plain_logits(&self, active: &ActiveAdapter, request: &Request, gist: &Trajectory) -> Tensor {
        let prompt = self.policy().prompt(request);
        let hidden = plain_states(&self.decoder, active, &prompt, gist).unwrap();
        let mut allowed = vec![0f32; VOCAB as usize + 1];
        for id in FORBIDDEN.into_iter().chain([VOCAB as u32 - 1]) {
            allowed[id as usize] = f32::NEG_INFINITY;
        }
        let logits = Tensor::cat(&[hidden.matmul(&self.decoder.head().tr()), hidden.matmul(&active.end.tr())], -1);
        let logits = logits + Tensor::from_slice(&allowed);
        let Some(rows) = &active.copy else { return logits };
        // What each token of the prefix is paid, by trying every place and every length.
        let mut chosen = vec![0f32; (gist.actions() as i64 * (VOCAB + 1) * rows.size()[0]) as usize];
        let mut taken = vec![false; request.prefix.len()];
        let requests = self.requests();
        let place = requests.iter().position(|other| other.prefix == request.prefix).unwrap();
        let attended = attended(&self.decoder, &requests).unwrap().remove(place);
        for action in 0..gist.actions() {
            let written = &gist.ids[..action];
            let best = |token: u32, taken: &[bool]| {
                let matched =
                    |place: usize, m: usize| m <= place && written.ends_with(&request.prefix[place - m..place]);
                let places = (0..request.prefix.len()).filter(|&place| request.prefix[place] == token);
                places
                    .map(|place| {
                        (!taken[place], (0..=LONGEST).rev().find(|&m| matched(place, m)), attended.ranks[place], place)
                    })
                    .max()
            };
            for token in 0..VOCAB as u32 {
                let Some((untaken, Some(length), _, place)) = best(token, &taken) else { continue };
                let distance = (request.prefix.len() - place).ilog2() as usize;
                let class = if length == 0 { distance } else { LENGTHS + length - 1 };
                let at = (action as i64 * (VOCAB + 1) + i64::from(token)) * rows.size()[0];
                chosen[at as usize + class] = 1.0;
                chosen[at as usize + TAKEN] = if untaken { 0.0 } else { 1.0 };
                let values = &attended.values[place];
                let last = (at + rows.size()[0]) as usize;
                chosen[last - values.len()..last].copy_from_slice(values);
            }
            if let Some((.., place)) = gist.ids.get(action).and_then(|&token| best(token, &taken)) {
                taken[place] = true;
            }
        }
        let chosen = Tensor::from_slice(&chosen).view([gist.actions() as i64, VOCAB + 1, rows.size()[0]]);
        logits + chosen.matmul(&hidden.matmul(&rows.tr()).unsqueeze(-1)).squeeze_dim(-1)
    }

    fn actions(&self, gist: &Trajectory) -> Tensor {
        let end = gist.ended.then_some(VOCAB);
        Tensor::from_slice(&gist.ids.iter().map(|&id| id as i64).chain(end).collect::<Vec<_>>())
    }
}

fn gist(ids: &[u32], ended: bool) -> Trajectory {
    Trajectory { ids: ids.to_vec(), ended, ..Trajectory::default() }
}

/// The likeliest of the greedy gist and of samples is taken, and only where the greedy one is unsure.
#[test]
fn an_unsure_gist_gives_way_to_a_likelier_one() {
    let setting = Setting::with_copy_head(LONGEST);
    let requests = setting.requests();
    let (samples, seed) = (64, 3);
    let written = |below: Option<f64>| -> Vec<Vec<u32>> {
        let policy = setting.policy().searching(below.map(|below| Likeliest { samples, below }));
        let all = policy.compress(&setting.adapter, &requests, BUDGET, &Sampling::greedy(), seed).unwrap();
        all.into_iter().map(|gist| gist.ids).collect()
    };
    let greedy = written(None);
    assert_eq!(written(Some(1e-9)), greedy, "sure of everything");
    let searched = written(Some(1.0));
    assert_ne!(searched, greedy, "random weights are sure of nothing");
    let logprob = |request: &Request, ids: &[u32]| -> f64 {
        let gist = gist(ids, ids.len() < BUDGET);
        let logits = setting.plain_logits(&setting.active(), request, &gist);
        let all = logits.log_softmax(-1, Kind::Float).gather(-1, &setting.actions(&gist).unsqueeze(-1), false);
        all.sum(Kind::Double).double_value(&[])
    };
    for (request, (greedy, searched)) in requests.iter().zip(greedy.iter().zip(&searched)) {
        assert!(logprob(request, searched) >= logprob(request, greedy) - 1e-3, "{greedy:?} {searched:?}");
    }
}

#[test]
fn an_instruction_stands_before_the_prefix_and_before_the_start_of_the_gist() {
    let setting = Setting::new();
    let request = setting.requests().remove(0);
    let plain = setting.policy().prompt(&request);
    let frame = Frame { before: vec![1, 2], after: vec![3] };
    let framed = setting.policy().framed(frame).prompt(&request);
    let (start, rest) = plain.split_last().unwrap();
    assert_eq!(framed, [&[1, 2], rest, &[3, *start]].concat());
}

#[test]
fn what_the_base_attends_to_does_not_depend_on_the_batch() {
    let setting = Setting::new();
    let requests = setting.requests();
    let together = attention(&setting.decoder, &requests).unwrap();
    for (request, together) in requests.iter().zip(&together) {
        let alone = attention(&setting.decoder, &[*request]).unwrap().remove(0);
        assert_eq!(together.len(), alone.len());
        for (a, b) in together.iter().flatten().zip(alone.iter().flatten()) {
            assert!((a - b).abs() < 1e-6, "{a} together, {b} alone");
        }
    }
}

#[test]
fn log_probs_under_a_shared_prefix_are_those_computed_alone_and_so_are_their_gradients() {
    for setting in Setting::both() {
        let requests = setting.requests();
        // Empty, ended, and stopped by the cap; the groups of one batch mix them.
        let gists = [
            vec![gist(&[], true), gist(&[3, 9, 11], true)],
            vec![gist(&[20, 21, 22, 23, 24, 25], false), gist(&[5], true)],
            vec![gist(&[8, 8, 20, 8], true), gist(&[], true)],
        ];
        let groups: Vec<&[Trajectory]> = gists.iter().map(Vec::as_slice).collect();
        let actions: usize = gists.iter().flatten().map(Trajectory::actions).sum();
        let weights = noise(&[actions as i64], 1.0, 6);
        let (policy, leaf) = (setting.policy(), setting.adapter.params().leaf());

        let active = setting.active();
        let states = policy.action_states(&active, &requests, &groups).unwrap();
        let shared = log_probs(&policy.head(&active, states.matches.as_ref()).logits(&states.hidden), &states.targets);
        let shared_grad = grad_of(&(&shared * &weights).sum(Kind::Float), leaf);

        let active = setting.active();
        let mut parts = Vec::new();
        let mut targets = Vec::new();
        for (request, group) in requests.iter().zip(&gists) {
            for gist in group {
                targets.push(setting.actions(gist));
                parts.push(log_probs(&setting.plain_logits(&active, request, gist), &setting.actions(gist)));
            }
        }
        let plain = Tensor::cat(&parts, 0);
        assert!(states.targets.equal(&Tensor::cat(&targets, 0)));
        assert_close(&shared, &plain, 1e-5);
        let plain_grad = grad_of(&(&plain * &weights).sum(Kind::Float), leaf);
        assert!(plain_grad.abs().max().double_value(&[]) > 0.1);
        assert_close(&shared_grad, &plain_grad, 1e-5 * plain_grad.norm().double_value(&[]));

        // The chunked surrogate that training uses sends the same gradient.
        let active = setting.active();
        let states = policy.action_states(&active, &requests, &groups).unwrap();
        let grads = vocab::TokenGrads { logprob: weights, entropy: None, kl_reference: None };
        let surrogate = vocab::token_surrogate(
            &states.hidden,
            &states.targets,
            policy.head(&active, states.matches.as_ref()),
            &grads,
            None,
        )
        .unwrap();
        assert_close(&grad_of(&surrogate, leaf), &plain_grad, 1e-5 * plain_grad.norm().double_value(&[]));
    }
}

#[test]
fn behaviour_log_probs_are_the_training_log_probs() {
    for setting in Setting::both() {
        let requests = setting.requests();
        let sampled = setting.sample(&requests, 8, &Sampling::default());
        let gists: Vec<&Trajectory> = sampled.iter().flatten().collect();
        assert!(gists.iter().any(|g| g.ended && !g.ids.is_empty()) && gists.iter().any(|g| !g.ended), "{gists:?}");
        assert!(gists.iter().all(|g| g.ids.len() <= BUDGET && g.ended == (g.ids.len() < BUDGET)));
        assert!(gists.iter().all(|g| g.behavior_logprobs.len() == g.actions() && g.entropy.len() == g.actions()));
        let (policy, active) = (setting.policy(), setting.active());
        let groups: Vec<&[Trajectory]> = sampled.iter().map(Vec::as_slice).collect();
        let states = policy.action_states(&active, &requests, &groups).unwrap();
        let stats =
            vocab::token_stats(&states.hidden, &states.targets, policy.head(&active, states.matches.as_ref()), None)
                .unwrap();
        let behaviour: Vec<f64> = gists.iter().flat_map(|g| g.behavior_logprobs.clone()).collect();
        let entropy: Vec<f64> = gists.iter().flat_map(|g| g.entropy.clone()).collect();
        assert_close(&floats(&behaviour), &stats.logprob, 2e-5);
        assert_close(&floats(&entropy), &stats.entropy, 2e-5);
        // k3 estimate of KL(behaviour ‖ training); the design allows 1e-3.
        let mismatch: Vec<f64> =
            behaviour.iter().zip(to_vec(&stats.logprob).unwrap()).map(|(b, t)| (t - b).exp() - 1.0 - (t - b)).collect();
        assert!(gist::tensor::mean(&mismatch) < 1e-8);
    }
}

#[test]
fn what_is_forbidden_is_never_sampled() {
    let setting = Setting::new();
    let sampled = setting.sample(&setting.requests(), 64, &Sampling { temperature: 3.0, ..Sampling::default() });
    let written: Vec<u32> = sampled.iter().flatten().flat_map(|g| g.ids.clone()).collect();
    assert!(written.len() > 200);
    assert!(written.iter().all(|id| !FORBIDDEN.contains(id) && *id < VOCAB as u32 - 1));
}

#[test]
fn greedy_sampling_takes_the_argmax_of_the_full_forward_pass() {
    for setting in Setting::both() {
        let requests = setting.requests();
        let active = setting.active();
        for (request, group) in requests.iter().zip(setting.sample(&requests, 1, &Sampling::greedy())) {
            let mut written = gist(&[], true); // `ended` makes room for one more action
            loop {
                let logits = setting.plain_logits(&active, request, &written);
                let best = logits.get(-1).argmax(-1, false).int64_value(&[]);
                if best == VOCAB {
                    break;
                }
                written.ids.push(best as u32);
                if written.ids.len() == BUDGET {
                    written.ended = false;
                    break;
                }
            }
            assert_eq!((&group[0].ids, group[0].ended), (&written.ids, written.ended));
        }
    }
}

#[test]
fn a_gist_does_not_depend_on_its_batch() {
    let setting = Setting::new();
    let requests = setting.requests();
    let together = setting.sample(&requests, 3, &Sampling::default());
    for (request, group) in requests.iter().zip(&together) {
        let alone = &setting.sample(&[*request], 2, &Sampling::default())[0];
        for (a, b) in alone.iter().zip(group) {
            assert_eq!((&a.ids, a.ended), (&b.ids, b.ended));
        }
    }
    assert_ne!(together[0][0].ids, together[0][1].ids);
}

#[test]
fn empty_batches_and_budgets_are_defined() {
    let setting = Setting::new();
    let (policy, active, requests) = (setting.policy(), setting.active(), setting.requests());
    let none = |_: usize, _: usize| Vec::<f64>::new();
    let how = Sampling::default();
    let draws = |group: usize, budget: usize| Draws { group, budget, how: &how, uniforms: &none };
    assert!(policy.sample(&active, &[], draws(2, 3)).unwrap().is_empty());
    let nothing = policy.sample(&active, &requests, draws(2, 0)).unwrap();
    assert!(nothing.iter().flatten().all(|g| g.actions() == 0));
    assert!(policy.sample(&active, &requests, draws(1, 2)).is_err(), "too few draws");
    let groups: Vec<&[Trajectory]> = nothing.iter().map(Vec::as_slice).collect();
    assert!(policy.action_states(&active, &requests, &groups).is_err());
    assert!(policy.action_states(&active, &requests[..2], &groups).is_err());
    let head = Head::base(setting.decoder.head());
    let (hidden, targets) = (noise(&[0, 32], 1.0, 1), Tensor::zeros([0], (Kind::Int64, tch::Device::Cpu)));
    assert_eq!(vocab::token_stats(&hidden, &targets, head, None).unwrap().logprob.size(), [0]);
}
