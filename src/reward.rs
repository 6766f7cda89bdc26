//! The reward of a gist, pure: reward = quality − λ · |g| / P, with quality = (D(empty) − D(gist)) / D_ref. The two parts
//! stay apart until after the estimator has normalised them: summed first and divided by a group's deviation, λ cancels.

use crate::config::choices::Signal;
use crate::rollout::{Group, Reading};

/// The parts of one gist's reward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RewardParts {
    /// Improvement over the empty gist, in units of D_ref: 1 = everything the context was worth.
    pub quality: f64,
    /// keep_ratio: the gist's tokens as a share of the prefix's.
    pub length: f64,
}

impl RewardParts {
    /// quality − λ · length.
    pub fn total(&self, lambda: f64) -> f64 {
        self.quality - lambda * self.length
    }
}

/// Parts for every gist of every group. `d_ref` is a constant in nats a token: the validation context value before
/// policy-gradient training.
pub fn score(groups: &[Group], signal: Signal, d_ref: f64, prefix_tokens: usize) -> Vec<Vec<RewardParts>> {
    let loss = |reading: &Reading| match signal {
        Signal::Kl => reading.kl,
        Signal::Logprob => reading.nll,
    };
    groups
        .iter()
        .map(|group| {
            let parts = |(gist, reading): (&crate::compressor::gist::Gist, &Reading)| RewardParts {
                quality: (loss(&group.empty) - loss(reading)) / d_ref,
                length: gist.ids.len() as f64 / prefix_tokens as f64,
            };
            group.gists.iter().zip(&group.readings).map(parts).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compressor::gist::Gist;

    #[test]
    fn an_empty_gist_is_worth_nothing_and_costs_nothing() {
        let reading = |kl: f64, nll: f64| Reading { kl, nll, top1_agreement: 0.0 };
        let gist = |n: usize| Gist { ids: vec![0; n], ended: true, behavior_logprobs: vec![], entropy: vec![] };
        let group = Group {
            gists: vec![gist(0), gist(10)],
            readings: vec![reading(0.2, 3.0), reading(0.1, 2.8)],
            empty: reading(0.2, 3.0),
        };
        let kl = score(std::slice::from_ref(&group), Signal::Kl, 0.2, 100);
        assert_eq!(kl[0][0].total(5.0), 0.0);
        assert!((kl[0][1].quality - 0.5).abs() < 1e-12);
        assert!((kl[0][1].total(2.0) - 0.3).abs() < 1e-12);
        let logprob = score(&[group], Signal::Logprob, 0.2, 100);
        assert!((logprob[0][1].quality - 1.0).abs() < 1e-12);
    }
}
