//! The reward of a gist, pure: reward = quality − λ · |g| / P, with quality = (D(empty) − D(gist)) / D_ref. The two parts
//! stay apart until after the estimator has normalised them: summed first and divided by a group's deviation, λ cancels.

use crate::compressor::actions::Trajectory;
use crate::config::choices::Signal;
use crate::reading::Reading;
use crate::rollout::Group;

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

/// What a reward is measured with.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// What quality is made of.
    pub signal: Signal,
    /// A constant in nats a token: the validation context value before policy-gradient training.
    pub d_ref: f64,
    /// P.
    pub prefix_tokens: usize,
}

impl Unit {
    /// Parts of one gist, by what its reader and the reader of nothing make of the window.
    pub fn parts(&self, gist: &Trajectory, reading: &Reading, empty: &Reading) -> RewardParts {
        let loss = |reading: &Reading| match self.signal {
            Signal::Kl => reading.kl,
            Signal::Logprob => reading.nll,
        };
        RewardParts {
            quality: (loss(empty) - loss(reading)) / self.d_ref,
            length: gist.ids.len() as f64 / self.prefix_tokens as f64,
        }
    }

    /// Parts for every sampled gist of every group.
    pub fn score(&self, groups: &[Group]) -> Vec<Vec<RewardParts>> {
        let own = |group: &Group| {
            group.gists.iter().zip(&group.readings).map(|(g, r)| self.parts(g, r, &group.empty)).collect()
        };
        groups.iter().map(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_gist_is_worth_nothing_and_costs_nothing() {
        let reading = |kl: f64, nll: f64| Reading { kl, nll, top1_agreement: 0.0 };
        let gist = |n: usize| Trajectory { ids: vec![0; n], ended: true, ..Trajectory::default() };
        let group = Group {
            gists: vec![gist(0), gist(10)],
            readings: vec![reading(0.2, 3.0), reading(0.1, 2.8)],
            empty: reading(0.2, 3.0),
            recent: None,
        };
        let unit = |signal| Unit { signal, d_ref: 0.2, prefix_tokens: 100 };
        let kl = unit(Signal::Kl).score(std::slice::from_ref(&group));
        assert_eq!(kl[0][0].total(5.0), 0.0);
        assert!((kl[0][1].quality - 0.5).abs() < 1e-12);
        assert!((kl[0][1].total(2.0) - 0.3).abs() < 1e-12);
        let logprob = unit(Signal::Logprob).score(&[group]);
        assert!((logprob[0][1].quality - 1.0).abs() < 1e-12);
    }
}
