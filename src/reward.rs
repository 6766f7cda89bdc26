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

/// What a reward is measured in.
#[derive(Clone, Copy, Debug)]
pub struct RewardScale {
    /// What quality is made of.
    pub signal: Signal,
    /// A constant in nats a token: the validation context value before policy-gradient training.
    pub d_ref: f64,
}

impl RewardScale {
    /// Quality that `reading` has more than `other`: the fall of what the signal measures, in units of D_ref.
    fn gain(&self, other: &Reading, reading: &Reading) -> f64 {
        let loss = |reading: &Reading| match self.signal {
            Signal::Kl => reading.kl,
            Signal::Logprob => reading.nll,
        };
        (loss(other) - loss(reading)) / self.d_ref
    }

    /// Parts of one gist of a group, by what its reader makes of the window with it and with nothing.
    pub fn parts(&self, gist: &Trajectory, reading: &Reading, group: &Group) -> RewardParts {
        RewardParts {
            quality: self.gain(&group.empty, reading),
            length: gist.ids.len() as f64 / group.prefix_tokens as f64,
        }
    }

    /// Parts for every sampled gist of every group.
    pub fn score(&self, groups: &[Group]) -> Vec<Vec<RewardParts>> {
        let own =
            |group: &Group| group.gists.iter().zip(&group.readings).map(|(g, r)| self.parts(g, r, group)).collect();
        groups.iter().map(own).collect()
    }
}

impl RewardScale {
    /// Quality that each block of each gist bought, by what the same reader makes of the gist without it.
    pub fn credits(&self, groups: &[Group], without: &[Vec<Vec<Reading>>]) -> Vec<Vec<Vec<f64>>> {
        let of_gist = |(reading, blocks): (&Reading, &Vec<Reading>)| -> Vec<f64> {
            blocks.iter().map(|block| self.gain(block, reading)).collect()
        };
        let of_group = |(group, gists): (&Group, &Vec<Vec<Reading>>)| -> Vec<Vec<f64>> {
            group.readings.iter().zip(gists).map(of_gist).collect()
        };
        groups.iter().zip(without).map(of_group).collect()
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
            prefix_tokens: 100,
            gists: vec![gist(0), gist(10)],
            readings: vec![reading(0.2, 3.0), reading(0.1, 2.8)],
            empty: reading(0.2, 3.0),
            recent: None,
        };
        let scale = |signal| RewardScale { signal, d_ref: 0.2 };
        // Without its first block the second gist is worth nothing; without its second it loses likelihood alone.
        let without = [vec![vec![], vec![reading(0.2, 3.0), reading(0.1, 2.9)]]];
        let credits = |signal| scale(signal).credits(std::slice::from_ref(&group), &without)[0][1].clone();
        let close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(close(&credits(Signal::Kl), &[0.5, 0.0]));
        assert!(close(&credits(Signal::Logprob), &[1.0, 0.5]));
        let kl = scale(Signal::Kl).score(std::slice::from_ref(&group));
        assert_eq!(kl[0][0].total(5.0), 0.0);
        assert!((kl[0][1].quality - 0.5).abs() < 1e-12);
        assert!((kl[0][1].total(2.0) - 0.3).abs() < 1e-12);
        let logprob = scale(Signal::Logprob).score(&[group]);
        assert!((logprob[0][1].quality - 1.0).abs() < 1e-12);
    }
}
