//! The extractive policy: what units are worth, and the log-probabilities of drawing them, against sums written out.

use crate::common::*;
use gist::compressor::Request;
use gist::compressor::actions::{Draws, Trajectory, uniforms};
use gist::compressor::attended::attention;
use gist::compressor::budget::Controller;
use gist::compressor::extractive::ExtractivePolicy;
use gist::compressor::scored::{Scored, Scorer};
use gist::config::compressors::{Aggregate, Unit};
use gist::config::parts::{LoraConfig, Sampling};
use gist::model::copy_head::{DISTANCES, values};
use gist::model::decoder::Decoder;
use gist::model::lora::{ActiveAdapter, Adapter, Extra};
use gist::model::peft::Base;
use gist::model::vocab::{TokenGrads, TokenStats};
use gist::rng::{self, Stream};
use gist::tokenizer::Tokenizer;
use std::ops::Range;
use tch::{Kind, Tensor};

const BUDGET: usize = 5;
const UNIT: Unit = Unit::Span { tokens: 3, stride: 2 };

struct Setting {
    decoder: Decoder,
    adapter: Adapter,
    tokenizer: Tokenizer,
    prefixes: Vec<Vec<u32>>,
    local: Vec<u32>,
}

impl Setting {
    fn new() -> Self {
        let decoder = decoder(3);
        let adapter = adapter_with(&decoder, Extra::Heads { hints: 0 }, 4);
        let tokenizer = Tokenizer::train(["of no use here"].into_iter(), 260).unwrap();
        let prefixes = vec![ids(12, 48, 1), ids(5, 48, 2), ids(9, 48, 3)];
        Self { decoder, adapter, tokenizer, prefixes, local: ids(4, 48, 4) }
    }

    fn policy(&self) -> ExtractivePolicy<'_> {
        let (decoder, tokenizer, controller) = (&self.decoder, &self.tokenizer, Controller::default());
        ExtractivePolicy {
            decoder,
            tokenizer,
            unit: UNIT,
            aggregate: Aggregate::Mean,
            foreign: None,
            blocks: None,
            hints: Vec::new(),
            evidence: None,
            controller,
        }
    }

    fn active(&self) -> ActiveAdapter {
        self.decoder.activate(&self.adapter, false).unwrap()
    }

    fn requests(&self) -> Vec<Request<'_>> {
        requests(&self.prefixes, &self.local)
    }

    /// Units of a request with their worth and that of the end, one plain pass over it alone.
    fn plain(&self, active: &ActiveAdapter, request: &Request) -> (Vec<Range<usize>>, Tensor) {
        let p = request.prefix.len();
        let v = VOCAB as u32;
        let rest = if request.local.is_empty() { vec![] } else { [&[v + 2], request.local].concat() };
        let all = [request.prefix, &rest, &[v + 1]].concat();
        let hidden = self.decoder.encode(&row(&all), &[0], Some(active), None).unwrap();
        let heads = active.heads.as_ref().unwrap();
        let logits = heads.logits(&hidden, &Tensor::ones([1, all.len() as i64], (Kind::Float, hidden.device())));
        let worth = (logits.keep.sigmoid() * (logits.span.sigmoid() * 0.5 + 0.5)).log().squeeze_dim(0);
        let units: Vec<Range<usize>> = gist::compressor::units::spans(p, 3, 2);
        let attended = attention(&self.decoder, &[*request]).unwrap().remove(0);
        let groups = values(self.decoder.config());
        // For each group of heads, the attention that a token of the unit gets, standardised over the units.
        let mut features = vec![vec![0f32; DISTANCES]; units.len()];
        for (unit, features) in units.iter().zip(&mut features) {
            features[((p - unit.start) as f64).log2() as usize] = 1.0;
        }
        for group in attended.chunks(attended.len() / groups) {
            let masses: Vec<f32> = (units.iter())
                .map(|unit| group.iter().map(|head| head[unit.clone()].iter().sum::<f32>()).sum::<f32>() / 3.0)
                .collect();
            let mean = masses.iter().sum::<f32>() / masses.len() as f32;
            let spread = (masses.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / masses.len() as f32).sqrt();
            for (features, mass) in features.iter_mut().zip(&masses) {
                features.push(((mass - mean) / (spread + 1e-9)).clamp(-4.0, 4.0));
            }
        }
        let worths: Vec<Tensor> = (units.iter().zip(&features))
            .map(|(unit, features)| {
                let (start, len) = (unit.start as i64, unit.len() as i64);
                let own = hidden.squeeze_dim(0).narrow(0, start, len).mean_dim([0i64].as_slice(), true, Kind::Float);
                let placed = heads.places(&own, &Tensor::from_slice(features).unsqueeze(0)).squeeze();
                worth.narrow(0, start, len).mean(Kind::Float) + placed
            })
            .collect();
        let end = hidden.select(1, -1).matmul(&active.end.tr()).squeeze();
        let all: Vec<&Tensor> = worths.iter().chain([&end]).collect();
        (units, Tensor::stack(&all, 0))
    }

    /// log-probabilities of one gist's actions: a softmax over what is left, draw by draw.
    fn plain_log_probs(&self, active: &ActiveAdapter, request: &Request, gist: &Trajectory) -> Vec<Tensor> {
        let (units, worths) = self.plain(active, request);
        let mut left: Vec<usize> = (0..=units.len()).collect();
        (gist.picks.iter().copied().chain(gist.ended.then_some(units.len())))
            .map(|drawn| {
                let index: Vec<i64> = left.iter().map(|&unit| unit as i64).collect();
                let among = worths.index_select(0, &Tensor::from_slice(&index)).log_softmax(0, Kind::Float);
                let at = left.iter().position(|&unit| unit == drawn).unwrap();
                left.remove(at);
                among.get(at as i64)
            })
            .collect()
    }
}

fn gist(picks: &[usize], ended: bool) -> Trajectory {
    Trajectory { picks: picks.to_vec(), ended, ..Trajectory::default() }
}

#[test]
fn log_probs_of_draws_without_replacement_and_their_gradients_are_the_plain_ones() {
    let setting = Setting::new();
    let requests = setting.requests();
    let gists = [
        vec![gist(&[], true), gist(&[4, 0], false)],
        vec![gist(&[1, 0], false), gist(&[1], true)],
        vec![gist(&[2], true), gist(&[3, 2, 0], true)],
    ];
    let groups: Vec<&[Trajectory]> = gists.iter().map(Vec::as_slice).collect();
    let actions: usize = gists.iter().flatten().map(Trajectory::actions).sum();
    let weights = noise(&[actions as i64], 1.0, 6);
    let leaf = setting.adapter.params().leaf();

    let active = setting.active();
    let pairs = requests.iter().zip(&gists);
    let plain: Vec<Tensor> = pairs
        .flat_map(|(request, group)| group.iter().flat_map(|gist| setting.plain_log_probs(&active, request, gist)))
        .collect();
    let plain = Tensor::stack(&plain, 0);
    let plain_grad = grad_of(&(&plain * &weights).sum(Kind::Float), leaf);
    assert!(plain_grad.abs().max().double_value(&[]) > 0.01);

    let active = setting.active();
    let reference = adapter_with(&setting.decoder, Extra::Heads { hints: 0 }, 9);
    let reference = setting.decoder.activate(&reference, false).unwrap();
    let told = std::cell::RefCell::new(None);
    let surrogate = setting.policy().surrogate(&active, Some(&reference), &requests, &groups, |stats: TokenStats| {
        *told.borrow_mut() = Some(stats);
        Ok(TokenGrads { logprob: weights.copy(), entropy: None, kl_reference: None })
    });
    let grad = grad_of(&surrogate.unwrap(), leaf);
    let stats = told.into_inner().unwrap();
    assert_close(&stats.logprob, &plain, 1e-4);
    assert_close(&grad, &plain_grad, 1e-4 * plain_grad.norm().double_value(&[]));
    // Entropy and KL of a first draw.
    let (_, own) = setting.plain(&active, &requests[0]);
    let (_, other) = setting.plain(&reference, &requests[0]);
    let (p, q) = (own.log_softmax(0, Kind::Float), other.log_softmax(0, Kind::Float));
    let entropy = -(p.exp() * &p).sum(Kind::Float);
    assert!((stats.entropy.double_value(&[0]) - entropy.double_value(&[])).abs() < 1e-4);
    let kl = (p.exp() * (&p - q)).sum(Kind::Float).double_value(&[]);
    assert!(kl > 0.01 && (stats.kl_reference.unwrap().double_value(&[0]) - kl).abs() < 1e-3);
}

#[test]
fn what_is_sampled_is_drawn_with_the_training_log_probs_and_greedy_takes_the_best() {
    let setting = Setting::new();
    let (requests, active, policy) = (setting.requests(), setting.active(), setting.policy());
    let uniforms = |r: usize, s: usize| uniforms(5, 0, r as u64, s as u64, BUDGET);
    let draws = Draws { group: 40, budget: BUDGET, how: &Sampling::default(), uniforms: &uniforms };
    let sampled = policy.sample(&active, &requests, draws).unwrap();
    let (mut capped, mut ended) = (0, 0);
    for (request, group) in requests.iter().zip(&sampled) {
        let (units, worths) = setting.plain(&active, request);
        let share = group.iter().filter(|gist| gist.picks.first() == Some(&0)).count() as f64 / 40.0;
        let expected = worths.softmax(0, Kind::Float).double_value(&[0]);
        assert!((share - expected).abs() < 4.0 * (expected * (1.0 - expected) / 40.0).sqrt() + 1e-9);
        for gist in group {
            let plain = setting.plain_log_probs(&active, request, gist);
            assert_eq!(plain.len(), gist.behavior_logprobs.len());
            for (a, b) in gist.behavior_logprobs.iter().zip(&plain) {
                assert!((a - b.double_value(&[])).abs() < 1e-4);
            }
            let covered: std::collections::BTreeSet<usize> =
                gist.picks.iter().flat_map(|&pick| units[pick].clone()).collect();
            assert!(gist.ids.len() == covered.len().min(BUDGET));
            assert!(gist.ended || covered.len() >= BUDGET || gist.picks.len() == BUDGET);
            (capped, ended) = (capped + usize::from(!gist.ended), ended + usize::from(gist.ended));
        }
    }
    assert!(capped > 10 && ended > 10, "{capped} capped, {ended} ended");

    let greedy = policy.compress(&setting.adapter, &requests, BUDGET, &Sampling::greedy(), 0).unwrap();
    for (request, made) in requests.iter().zip(&greedy) {
        let (units, worths) = setting.plain(&active, request);
        let worths: Vec<f64> = (0..=units.len()).map(|i| worths.double_value(&[i as i64])).collect();
        let best = (0..units.len()).max_by(|&a, &b| worths[a].total_cmp(&worths[b])).unwrap();
        match worths[best] >= worths[units.len()] {
            true => assert!(units[best].clone().all(|at| made.kept.as_ref().unwrap().contains(&at))),
            false => assert!(made.ids.is_empty()),
        }
    }
}

#[test]
fn the_last_units_as_actions_are_the_most_recent_tokens() {
    let setting = Setting::new();
    for (prefix, expected) in [(ids(13, 48, 1), vec![5, 4]), (ids(4, 48, 2), vec![1, 0]), (ids(2, 48, 2), vec![0])] {
        let gist = setting.policy().recent(&request(&prefix), BUDGET).unwrap();
        assert_eq!(gist.picks, expected);
        assert_eq!(gist.ids, prefix[prefix.len().saturating_sub(BUDGET)..]);
        assert_eq!(gist.ended, prefix.len() < BUDGET);
    }
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
    assert!(nothing.iter().flatten().all(|g| g.actions() == 0 && g.ids.is_empty()));
    assert!(policy.sample(&active, &requests, draws(1, 2)).is_err(), "too few draws");
    let gist = adapter(&setting.decoder, 4);
    let other = policy.worths(&setting.decoder.activate(&gist, false).unwrap(), &requests).err().unwrap().to_string();
    assert!(other.contains("expected an adapter with the heads of an extractive compressor"), "{other}");
}

/// Says of every unit where it begins.
struct Begins;

impl Scorer for Begins {
    fn score(&self, prefixes: &[Scored]) -> gist::error::Result<Vec<Vec<f64>>> {
        Ok(prefixes.iter().map(|prefix| prefix.units.iter().map(|unit| unit.start as f64).collect()).collect())
    }
}

#[test]
fn hints_are_added_as_they_are_until_something_is_learned() {
    let setting = Setting::new();
    let lora = LoraConfig { rank: 2, ..LoraConfig::default() };
    let fresh = |hints: i64| {
        let _torch = torch_generator();
        rng::seed_torch(5, Stream::Init, 0, 0);
        Adapter::with_extra(setting.decoder.config(), &lora, setting.decoder.embedding(), Extra::Heads { hints })
            .unwrap()
    };
    let (plain, hinted) = (fresh(0), fresh(1));
    let without = setting.policy();
    let with = ExtractivePolicy { hints: vec![Box::new(Begins)], ..setting.policy() };
    let requests = setting.requests();
    let active = setting.decoder.activate(&hinted, false).unwrap();
    let before = without.worths(&setting.decoder.activate(&plain, false).unwrap(), &requests).unwrap();
    for (after, before) in with.worths(&active, &requests).unwrap().iter().zip(before) {
        let begins: Vec<f64> = before.prefix.units.iter().map(|unit| unit.start as f64).collect();
        let mean = begins.iter().sum::<f64>() / begins.len() as f64;
        let spread = (begins.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / begins.len() as f64).sqrt();
        let expected: Vec<f64> = begins.iter().map(|x| (x - mean) / spread).chain([0.0]).collect();
        let expected = gist::tensor::floats(&expected, tch::Device::Cpu);
        assert_close(&(&after.logits - &before.logits), &expected, 1e-4);
    }
    let error = without.worths(&active, &requests).err().unwrap().to_string();
    assert!(error.contains("features of a unit (compressor.hints)"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    hinted.save(folder.path(), &Base { name: "base".into(), ..Base::default() }).unwrap();
    let again = Adapter::load(folder.path(), setting.decoder.config(), tch::Device::Cpu).unwrap();
    assert_close(again.params().leaf(), hinted.params().leaf(), 0.0);
}
