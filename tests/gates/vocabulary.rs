//! Chunked figures and surrogates over the vocabulary against unchunked autograd.

use crate::common::*;
use gist::model::kernels::Weight;
use gist::model::vocab::{self, CHUNK, Head, Other, TokenGrads};
use gist::tensor::to_vec;
use tch::{Device, Kind, Tensor};

const H: i64 = 6;
const V: i64 = 17;
const N: i64 = CHUNK + 37;

/// A policy over `V` tokens and an end, whose head is also the embedding that its hidden states come from.
struct Policy {
    weight: Weight,
    end: Tensor,
    bias: Tensor,
    ids: Tensor,
    mix: Tensor,
    targets: Tensor,
}

fn leaf(shape: &[i64], seed: u64) -> Tensor {
    noise(shape, 0.7, seed).set_requires_grad(true)
}

fn targets(limit: usize, seed: u64) -> Tensor {
    Tensor::from_slice(&ids(N as usize, limit, seed).iter().map(|&id| id as i64).collect::<Vec<_>>())
}

impl Policy {
    fn new(seed: u64) -> Self {
        let mut bias = vec![0f32; V as usize + 1];
        bias[2] = f32::NEG_INFINITY;
        // The forbidden action is never a target.
        let targets = targets(V as usize + 1, seed + 3);
        let targets = targets.where_self(&targets.ne(2), &Tensor::from(3i64));
        let ids =
            Tensor::from_slice(&ids(N as usize, V as usize, seed + 4).iter().map(|&i| i as i64).collect::<Vec<_>>());
        Self {
            weight: leaf(&[V, H], seed).into(),
            end: leaf(&[1, H], seed + 1),
            mix: noise(&[H, H], 0.7, seed + 2),
            bias: Tensor::from_slice(&bias),
            ids,
            targets,
        }
    }

    /// `[N, H]`, a function of the weight itself, as with tied embeddings.
    fn hidden(&self) -> Tensor {
        self.weight.index_select(0, &self.ids).matmul(&self.mix).tanh()
    }

    fn head(&self) -> Head<'_> {
        Head { weight: &self.weight, end: Some(&self.end), bias: Some(&self.bias), copy: None }
    }

    /// `[N, V + 1]` by plain operations.
    fn plain(&self) -> Tensor {
        let hidden = self.hidden();
        let logits = Tensor::cat(&[hidden.matmul(&self.weight.tr()), hidden.matmul(&self.end.tr())], 1) + &self.bias;
        logits.log_softmax(-1, Kind::Float)
    }

    /// Gradients of `loss` into weight and end row.
    fn grads(&self, loss: impl Fn() -> Tensor) -> (Tensor, Tensor) {
        (grad_of(&loss(), &self.weight), grad_of(&loss(), &self.end))
    }
}

fn allowed(logp: &Tensor) -> Tensor {
    let keep: Vec<i64> = (0..V + 1).filter(|&a| a != 2).collect();
    logp.index_select(1, &Tensor::from_slice(&keep))
}

fn entropy(logp: &Tensor) -> Tensor {
    let logp = allowed(logp);
    -(logp.exp() * logp).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
}

fn kl(p: &Tensor, q: &Tensor) -> Tensor {
    (p.exp() * (p - q)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
}

fn picked(logp: &Tensor, targets: &Tensor) -> Tensor {
    logp.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1)
}

#[test]
fn figures_of_a_policy_are_those_of_its_whole_distribution() {
    let (policy, reference) = (Policy::new(10), Policy::new(20));
    let (hidden, other) = (policy.hidden(), reference.hidden());
    let other = Other { hidden: &other, head: reference.head() };
    let stats = vocab::token_stats(&hidden, &policy.targets, policy.head(), Some(other)).unwrap();
    assert!(!stats.logprob.requires_grad());
    let (p, q) = (policy.plain(), reference.plain());
    assert_close(&stats.logprob, &picked(&p, &policy.targets), 1e-5);
    assert_close(&stats.entropy, &entropy(&p), 1e-5);
    assert_close(&stats.kl_reference.unwrap(), &kl(&allowed(&p), &allowed(&q)), 1e-5);
}

#[test]
fn the_policy_surrogate_has_the_gradient_of_the_unchunked_loss() {
    let (policy, reference) = (Policy::new(10), Policy::new(20));
    let weights = [31, 32, 33].map(|seed| noise(&[N], 1.0, seed));
    let plain = policy.grads(|| {
        let (p, q) = (policy.plain(), reference.plain().detach());
        let parts = picked(&p, &policy.targets) * &weights[0]
            + entropy(&p) * &weights[1]
            + kl(&allowed(&p), &allowed(&q)) * &weights[2];
        parts.sum(Kind::Float)
    });
    let grads = TokenGrads {
        logprob: weights[0].copy(),
        entropy: Some(weights[1].copy()),
        kl_reference: Some(weights[2].copy()),
    };
    let other = reference.hidden();
    let other = Other { hidden: &other, head: reference.head() };
    let chunked = policy.grads(|| {
        vocab::token_surrogate(&policy.hidden(), &policy.targets, policy.head(), &grads, Some(other)).unwrap()
    });
    assert!(plain.0.abs().max().double_value(&[]) > 1.0 && plain.1.abs().max().double_value(&[]) > 1.0);
    assert_close(&chunked.0, &plain.0, 1e-5 * plain.0.norm().double_value(&[]));
    assert_close(&chunked.1, &plain.1, 1e-5 * plain.1.norm().double_value(&[]));
    assert!(!reference.weight.grad().defined(), "no gradient reaches the reference");
}

#[test]
fn cross_entropy_and_its_gradient() {
    let policy = Policy::new(10);
    let targets = targets(V as usize, 40);
    let weights = noise(&[N], 1.0, 41);
    let logits = || policy.hidden().matmul(&policy.weight.tr());
    let plain = || -(log_probs(&logits(), &targets) * &weights).sum(Kind::Float);
    let head = Head::base(&policy.weight);
    let chunked = || vocab::cross_entropy_surrogate(&policy.hidden(), &targets, head, &weights).unwrap();
    assert!((chunked().0 - plain().double_value(&[])).abs() < 1e-3);
    let expected = grad_of(&plain(), &policy.weight);
    let got = grad_of(&chunked().1, &policy.weight);
    assert_close(&got, &expected, 1e-5 * expected.norm().double_value(&[]));
}

#[test]
fn forward_kl_and_its_gradient() {
    let (teacher, reader) = (Policy::new(50), leaf(&[N, H], 60));
    let weight = Weight::from(noise(&[V, H], 0.7, 61)); // frozen, as the base is while a reader trains
    let weights = noise(&[N], 1.0, 62).abs();
    let teacher_hidden = teacher.hidden();
    let plain = || {
        let p = teacher_hidden.matmul(&weight.tr()).log_softmax(-1, Kind::Float).detach();
        let q = reader.matmul(&weight.tr()).log_softmax(-1, Kind::Float);
        (kl(&p, &q) * &weights).sum(Kind::Float)
    };
    let chunked = || vocab::kl_surrogate(&weight, &teacher_hidden, &reader, &weights).unwrap();
    assert!((chunked().0 - plain().double_value(&[])).abs() < 1e-4 * chunked().0);
    let expected = grad_of(&plain(), &reader);
    assert_close(&grad_of(&chunked().1, &reader), &expected, 1e-5 * expected.norm().double_value(&[]));
    assert!(!weight.grad().defined());
}

#[test]
fn distortion_is_kl_likelihood_and_agreement() {
    let (weight, targets) = (Weight::from(noise(&[V, H], 0.7, 61)), targets(V as usize, 40));
    let (a, b) = (noise(&[N, H], 1.0, 63), noise(&[N, H], 1.0, 64));
    let other = |hidden| Other { hidden, head: Head::base(&weight) };
    let found = vocab::distortion(other(&a), other(&b), &targets).unwrap();
    let logp = |hidden: &Tensor| hidden.matmul(&weight.tr()).log_softmax(-1, Kind::Float);
    assert_close(&found.kl, &kl(&logp(&a), &logp(&b)), 1e-5);
    assert_close(&found.logprob, &picked(&logp(&b), &targets), 1e-5);
    let agree = to_vec(&found.agree).unwrap();
    for (row, &agrees) in agree.iter().enumerate().step_by(97) {
        let best = |hidden: &Tensor| logp(&hidden.get(row as i64)).argmax(-1, false).int64_value(&[]);
        assert_eq!(agrees == 1.0, best(&a) == best(&b));
    }
    let same = vocab::distortion(other(&a), other(&a), &targets).unwrap();
    assert!(same.kl.abs().max().double_value(&[]) < 1e-5);
    assert_eq!(same.agree.min().double_value(&[]), 1.0);
}

#[test]
fn readings_of_one_window_share_the_teacher() {
    let (weight, targets) = (Weight::from(noise(&[V, H], 0.7, 61)), targets(V as usize, 40));
    let teacher = noise(&[N, H], 1.0, 63);
    let readings: Vec<Tensor> = (0..3).map(|seed| noise(&[N, H], 1.0, 70 + seed)).collect();
    let other = |hidden| Other { hidden, head: Head::base(&weight) };
    let all = Tensor::cat(&readings, 0);
    let together = vocab::distortion(other(&teacher), other(&all), &targets).unwrap();
    for (g, reading) in readings.iter().enumerate() {
        let alone = vocab::distortion(other(&teacher), other(reading), &targets).unwrap();
        let own = |all: &Tensor| all.narrow(0, g as i64 * N, N);
        assert_close(&own(&together.kl), &alone.kl, 1e-5);
        assert_close(&own(&together.logprob), &alone.logprob, 1e-6);
        assert_close(&own(&together.agree), &alone.agree, 0.0);
    }
    let cut = teacher.narrow(0, 0, N - 1);
    assert!(vocab::distortion(other(&teacher), other(&cut), &targets).is_err());
}

#[test]
fn rows_that_do_not_match_are_refused() {
    let (weight, hidden) = (Weight::from(noise(&[V, H], 0.7, 61)), noise(&[3, H], 1.0, 63));
    let targets = Tensor::zeros([2], (Kind::Int64, Device::Cpu));
    let error = vocab::token_stats(&hidden, &targets, Head::base(&weight), None).err().unwrap().to_string();
    assert_eq!(error, "targets: expected 3 rows, got [2]");
}
