//! Inverse-CDF sampling: frequencies, and which actions truncation leaves.

use crate::common::*;
use gist::config::parts::Sampling;
use gist::model::kernels::Weight;
use gist::model::sampling::{self, rows_at_once, sample};
use gist::model::vocab::{Head, chunk_tokens};
use gist::rng::{self, Stream};
use gist::tensor::to_vec;
use tch::{Kind, Tensor};

const LOGITS: [f64; 8] = [0.3, -1.2, 2.0, 0.3, -0.4, 1.1, f64::NEG_INFINITY, -2.5];

/// Draws from one distribution: the counts of each action, and the log-probability reported for it.
fn draw(how: &Sampling, uniforms: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let logits = floats(&LOGITS).unsqueeze(0).expand([uniforms.len() as i64, LOGITS.len() as i64], false);
    let picked = sample(&logits, how, &Tensor::from_slice(uniforms)).unwrap();
    let (mut counts, mut reported) = (vec![0.0; LOGITS.len()], vec![f64::NAN; LOGITS.len()]);
    for (action, logp) in to_vec(&picked.action).unwrap().into_iter().zip(to_vec(&picked.logprob).unwrap()) {
        counts[action as usize] += 1.0;
        reported[action as usize] = logp;
    }
    (counts, reported)
}

/// Probabilities at a temperature with only `kept` actions, in plain arithmetic.
fn probabilities(temperature: f64, kept: &[usize]) -> Vec<f64> {
    let weight = |a: usize| if kept.contains(&a) { (LOGITS[a] / temperature).exp() } else { 0.0 };
    let total: f64 = (0..LOGITS.len()).map(weight).sum();
    (0..LOGITS.len()).map(|a| weight(a) / total).collect()
}

fn grid(n: usize) -> Vec<f64> {
    (0..n).map(|i| (i as f64 + 0.5) / n as f64).collect()
}

#[test]
fn frequencies_are_the_probabilities() {
    let mut generator = rng::rng(1, Stream::Rollout, 0, 0, 0);
    let n = 40_000;
    let uniforms: Vec<f64> = (0..n).map(|_| rng::uniform(&mut generator)).collect();
    for temperature in [1.0, 0.5, 2.0] {
        let expected = probabilities(temperature, &[0, 1, 2, 3, 4, 5, 7]);
        let (counts, _) = draw(&Sampling { temperature, ..Sampling::default() }, &uniforms);
        assert_eq!(counts[6], 0.0);
        let chi2: f64 = (0..8)
            .filter(|&a| a != 6)
            .map(|a| (counts[a] - n as f64 * expected[a]).powi(2) / (n as f64 * expected[a]))
            .sum();
        assert!(chi2 < 22.46, "chi-square {chi2} with 6 degrees of freedom has p < 0.001");
    }
}

#[test]
fn truncation_leaves_the_allowed_actions_and_renormalises() {
    // In descending order: 2, 5, then 0 and 3 (equal), 4, 1, 7.
    let plain = Sampling::default();
    let cases = [
        (plain.clone(), vec![0, 1, 2, 3, 4, 5, 7]),
        (Sampling { top_k: Some(1), ..plain.clone() }, vec![2]),
        (Sampling { top_k: Some(2), ..plain.clone() }, vec![2, 5]),
        (Sampling { top_k: Some(4), ..plain.clone() }, vec![0, 2, 3, 5]),
        (Sampling { top_k: Some(99), ..plain.clone() }, vec![0, 1, 2, 3, 4, 5, 7]),
        // p(2) = 0.52, p(5) = 0.21: 0.5 is reached by the first alone, 0.6 by both.
        (Sampling { top_p: 0.5, ..plain.clone() }, vec![2]),
        (Sampling { top_p: 0.6, ..plain.clone() }, vec![2, 5]),
        (Sampling { top_p: 1e-6, ..plain.clone() }, vec![2]),
        // exp(0.3 − 2) = 0.18 of the likeliest, exp(−0.4 − 2) = 0.09.
        (Sampling { min_p: 0.15, ..plain.clone() }, vec![0, 2, 3, 5]),
        (Sampling { min_p: 0.08, ..plain.clone() }, vec![0, 2, 3, 4, 5]),
        (Sampling { min_p: 0.08, top_k: Some(2), ..plain.clone() }, vec![2, 5]),
        (Sampling { temperature: 2.0, top_k: Some(2), ..plain }, vec![2, 5]),
    ];
    let n = 4000;
    for (how, kept) in cases {
        let expected = probabilities(how.temperature, &kept);
        let (counts, reported) = draw(&how, &grid(n));
        for action in 0..LOGITS.len() {
            let share = counts[action] / n as f64;
            assert!((share - expected[action]).abs() < 2.0 / n as f64, "{how:?} action {action}: {share}");
            if kept.contains(&action) {
                assert!((reported[action] - expected[action].ln()).abs() < 1e-5, "{how:?} action {action}");
            }
        }
    }
}

#[test]
fn greedy_ignores_the_draws_and_reports_the_models_own_log_prob() {
    let (counts, reported) = draw(&Sampling::greedy(), &grid(10));
    assert_eq!(counts[2], 10.0);
    assert!((reported[2] - probabilities(1.0, &[0, 1, 2, 3, 4, 5, 7])[2].ln()).abs() < 1e-6);
}

#[test]
fn extreme_draws_stay_inside() {
    let (counts, _) = draw(&Sampling::default(), &[0.0, 1.0 - f64::EPSILON / 2.0]);
    assert_eq!((counts[0], counts[7]), (1.0, 1.0));
    let logits = noise(&[2, 5], 1.0, 1);
    assert!(
        sample(&logits, &Sampling::default(), &Tensor::from_slice(&[0.5]))
            .unwrap_err()
            .to_string()
            .contains("uniforms")
    );
}

#[test]
fn the_entropy_is_that_of_the_distribution_sampled_from() {
    let logits = noise(&[3, 9], 1.0, 2);
    let how = Sampling { temperature: 0.7, ..Sampling::default() };
    let entropy = sample(&logits, &how, &Tensor::from_slice(&[0.1, 0.5, 0.9])).unwrap().entropy;
    let p: Tensor = (logits / 0.7).softmax(-1, Kind::Float);
    let expected = -(&p * p.log()).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    assert_close(&entropy, &expected, 1e-5);
}

#[test]
fn draws_in_chunks_are_those_in_one_go() {
    let (v, n) = (17i64, rows_at_once(17) + 45);
    let (hidden, weight) = (noise(&[n, 5], 1.0, 3), Weight::from(noise(&[v, 5], 1.0, 4)));
    let (head, uniforms) = (Head::base(&weight), Tensor::from_slice(&grid(n as usize)));
    let parts = sampling::draw(&hidden, head, &Sampling::default(), &uniforms).unwrap();
    let whole = sample(&head.logits(&hidden), &Sampling::default(), &uniforms).unwrap();
    assert!(parts.action.equal(&whole.action));
    assert_close(&parts.logprob, &whole.logprob, 1e-6);
    assert_close(&parts.entropy, &whole.entropy, 1e-6);
    assert!(sampling::draw(&hidden, head, &Sampling::default(), &uniforms.narrow(0, 1, n - 1)).is_err());
}

#[test]
fn a_chunk_is_bounded_in_bytes_whatever_the_vocabulary() {
    for v in [17, 4096, 32_000, 151_936, 262_144] {
        let tokens = chunk_tokens(v);
        assert!(tokens * v * 4 <= 64 << 20 && (tokens == 1024 || tokens * v * 4 > 60 << 20), "{v}: {tokens}");
    }
}
