//! Advantages from reward parts. With rewards R_i = q_i − λ·l_i of a group of G:
//!
//! - `rloo`, `ppo`: A_i = R_i − mean of the others (Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740);
//! - `grpo`: A_i = (q_i − q̄) / (σ_q + ε) − λ·(l_i − l̄) / (σ_l + ε): each part has its own deviation (after GDPO), where
//!   Shao et al. 2024 (arXiv 2402.03300) divide the sum, which cancels λ whenever length dominates the spread;
//! - `reinforce`: A_i = R_i − b, b one moving average over all windows (Williams 1992).
//!
//! A group whose rewards are all equal teaches nothing: it gets zeros and is counted.

use crate::config::choices::AlgoConfig;
use crate::reward::RewardParts;
use crate::tensor::{mean, std_dev};
use serde::{Deserialize, Serialize};

/// Advantages of every gist of every group.
#[derive(Clone, Debug)]
pub struct Advantages {
    /// Advantages by group and gist.
    pub values: Vec<Vec<f64>>,
    /// Groups without spread, skipped.
    pub zero_variance_groups: usize,
    /// Mean within-group deviation of the reward.
    pub group_std: f64,
    /// Unit of each group's advantages.
    pub units: Vec<AdvantageUnit>,
}

/// Unit of the advantages of a group: whatever joins them is divided alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AdvantageUnit {
    /// The reward is not divided: advantages are in its unit.
    Reward,
    /// Each part of the reward is divided by its own deviation.
    Deviations {
        /// σ of the qualities + ε.
        quality: f64,
        /// σ of the lengths + ε.
        length: f64,
    },
    /// A group without spread has no unit: nothing is learned from it.
    NoSpread,
}

impl AdvantageUnit {
    /// A difference of qualities as an advantage.
    pub fn of_quality(&self, difference: f64) -> f64 {
        match *self {
            AdvantageUnit::Reward => difference,
            AdvantageUnit::Deviations { quality, .. } => difference / quality,
            AdvantageUnit::NoSpread => 0.0,
        }
    }
}

/// Advantage of a gist that the policy did not sample: `coef` times what its reward is above the mean of those that it
/// did, in the unit of their advantages, never below 0 (self-imitation, Oh et al. 2018, arXiv 1806.05635). Pushing down what
/// the policy never writes would move its mass anywhere. Differs from the paper in that there is no value function: the
/// group's mean stands for it.
pub fn self_imitation(
    proposal: &RewardParts,
    group: &[RewardParts],
    unit: &AdvantageUnit,
    lambda: f64,
    coef: f64,
) -> f64 {
    let mean_of = |part: &dyn Fn(&RewardParts) -> f64| mean(&group.iter().map(part).collect::<Vec<f64>>());
    let gain = match *unit {
        AdvantageUnit::Reward => proposal.total(lambda) - mean_of(&|parts| parts.total(lambda)),
        AdvantageUnit::Deviations { quality, length } => {
            let better = (proposal.quality - mean_of(&|parts| parts.quality)) / quality;
            better - lambda * (proposal.length - mean_of(&|parts| parts.length)) / length
        }
        AdvantageUnit::NoSpread => 0.0,
    };
    coef * gain.max(0.0)
}

/// The moving average of `reinforce`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MovingBaseline {
    /// Mean reward so far; none before the first step.
    pub value: Option<f64>,
}

const NO_SPREAD: f64 = 1e-9;

/// Advantages of a step, and the baseline moved on.
pub fn advantages(
    parts: &[Vec<RewardParts>],
    lambda: f64,
    estimator: &AlgoConfig,
    baseline: &mut MovingBaseline,
) -> Advantages {
    let totals: Vec<Vec<f64>> = parts.iter().map(|g| g.iter().map(|p| p.total(lambda)).collect()).collect();
    let all_mean = mean(&totals.concat());
    let reference = baseline.value.unwrap_or(all_mean);
    let mut zero_variance_groups = 0;
    let (mut values, mut units) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
    for (group, rewards) in parts.iter().zip(&totals) {
        let flat = rewards.len() > 1 && std_dev(rewards) < NO_SPREAD;
        zero_variance_groups += usize::from(flat);
        let nothing = || vec![0.0; rewards.len()];
        let (own, unit) = match estimator {
            AlgoConfig::Reinforce { .. } => (rewards.iter().map(|r| r - reference).collect(), AdvantageUnit::Reward),
            AlgoConfig::Rloo {} | AlgoConfig::Ppo { .. } if flat => (nothing(), AdvantageUnit::Reward),
            AlgoConfig::Rloo {} | AlgoConfig::Ppo { .. } => (leave_one_out(rewards), AdvantageUnit::Reward),
            AlgoConfig::Grpo { .. } if flat => (nothing(), AdvantageUnit::NoSpread),
            AlgoConfig::Grpo { eps } => normalised(group, lambda, *eps),
        };
        values.push(own);
        units.push(unit);
    }
    if let AlgoConfig::Reinforce { baseline_decay } = estimator {
        baseline.value = Some(baseline_decay * reference + (1.0 - baseline_decay) * all_mean);
    }
    let spreads: Vec<f64> = totals.iter().map(|r| std_dev(r)).collect();
    Advantages { values, zero_variance_groups, group_std: mean(&spreads), units }
}

fn leave_one_out(rewards: &[f64]) -> Vec<f64> {
    let (n, sum) = (rewards.len() as f64, rewards.iter().sum::<f64>());
    rewards.iter().map(|r| r - (sum - r) / (n - 1.0)).collect()
}

fn normalised(group: &[RewardParts], lambda: f64, eps: f64) -> (Vec<f64>, AdvantageUnit) {
    let column = |f: fn(&RewardParts) -> f64| {
        let xs: Vec<f64> = group.iter().map(f).collect();
        let (centre, divisor) = (mean(&xs), std_dev(&xs) + eps);
        (xs.into_iter().map(|x| (x - centre) / divisor).collect::<Vec<f64>>(), divisor)
    };
    let ((qualities, quality), (lengths, length)) = (column(|p| p.quality), column(|p| p.length));
    let values = qualities.iter().zip(lengths).map(|(q, l)| q - lambda * l).collect();
    (values, AdvantageUnit::Deviations { quality, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(qualities: &[f64], lengths: &[f64]) -> Vec<RewardParts> {
        qualities.iter().zip(lengths).map(|(&quality, &length)| RewardParts { quality, length }).collect()
    }

    #[test]
    fn rloo_sums_to_zero_and_matches_by_hand() {
        let parts = vec![group(&[1.0, 0.0, 0.5], &[0.0; 3])];
        let a = advantages(&parts, 0.0, &AlgoConfig::Rloo {}, &mut MovingBaseline::default());
        assert_eq!(a.values[0], vec![0.75, -0.75, 0.0]);
    }

    #[test]
    fn lambda_acts_in_every_estimator() {
        let parts = vec![group(&[0.5, 0.5, 0.4], &[0.1, 0.05, 0.05])];
        for estimator in [
            AlgoConfig::Rloo {},
            AlgoConfig::Grpo { eps: 1e-4 },
            AlgoConfig::Reinforce { baseline_decay: 0.9 },
            AlgoConfig::Ppo { clip_low: 0.2, clip_high: 0.2, epochs: 1 },
        ] {
            let at = |lambda| advantages(&parts, lambda, &estimator, &mut MovingBaseline::default()).values[0].clone();
            let (free, priced) = (at(0.0), at(1.0));
            assert!((free[0] - free[1]).abs() < 1e-9, "{estimator:?}");
            assert!(priced[1] > priced[0] + 1e-3, "{estimator:?}");
        }
    }

    #[test]
    fn a_proposal_is_imitated_by_what_it_gains_and_never_pushed_down() {
        let own = group(&[0.1, 0.3], &[0.1; 2]);
        let better = RewardParts { quality: 0.5, length: 0.0 };
        let worse = RewardParts { quality: 0.15, length: 0.1 };
        let unit = AdvantageUnit::Reward;
        assert!((self_imitation(&better, &own, &unit, 1.0, 2.0) - 2.0 * (0.5 - 0.1)).abs() < 1e-12);
        assert_eq!(self_imitation(&worse, &own, &unit, 1.0, 2.0), 0.0);
    }

    #[test]
    fn a_proposal_is_in_the_unit_of_the_advantages_that_it_joins() {
        // The deviation of the qualities is 0.1, of the lengths 0.05.
        let own = group(&[0.1, 0.2, 0.3], &[0.05, 0.1, 0.15]);
        let proposal = RewardParts { quality: 0.5, length: 0.0 };
        let joined = |estimator: AlgoConfig, own: &[RewardParts]| {
            let advantages = advantages(&[own.to_vec()], 0.5, &estimator, &mut MovingBaseline::default());
            self_imitation(&proposal, own, &advantages.units[0], 0.5, 2.0)
        };
        let grpo = AlgoConfig::Grpo { eps: 0.0 };
        assert!((joined(grpo, &own) - 2.0 * (0.3 / 0.1 + 0.5 * 0.1 / 0.05)).abs() < 1e-9);
        let unscaled = 2.0 * (0.3 + 0.5 * 0.1);
        for estimator in [
            AlgoConfig::Rloo {},
            AlgoConfig::Reinforce { baseline_decay: 0.9 },
            AlgoConfig::Ppo { clip_low: 0.2, clip_high: 0.2, epochs: 2 },
        ] {
            assert!((joined(estimator, &own) - unscaled).abs() < 1e-12, "{estimator:?}");
        }
        // All rewards twice as large: what is normalised stays what it was, beside the group and in it.
        let doubled: Vec<RewardParts> =
            own.iter().map(|p| RewardParts { quality: 2.0 * p.quality, length: 2.0 * p.length }).collect();
        let twice = RewardParts { quality: 1.0, length: 0.0 };
        let advantages = advantages(std::slice::from_ref(&doubled), 0.5, &grpo, &mut MovingBaseline::default());
        let imitated = self_imitation(&twice, &doubled, &advantages.units[0], 0.5, 2.0);
        assert!((imitated - joined(grpo, &own)).abs() < 1e-9);
        let flat = group(&[0.2; 3], &[0.1; 3]);
        assert_eq!(joined(grpo, &flat), 0.0);
        assert!(joined(AlgoConfig::Rloo {}, &flat) > 0.0);
    }

    #[test]
    fn a_flat_group_is_skipped_and_counted() {
        let parts = vec![group(&[0.5; 4], &[0.1; 4]), group(&[0.5, 0.6, 0.7, 0.8], &[0.1; 4])];
        let a = advantages(&parts, 1.0, &AlgoConfig::Grpo { eps: 1e-4 }, &mut MovingBaseline::default());
        assert_eq!(a.zero_variance_groups, 1);
        assert_eq!(a.values[0], vec![0.0; 4]);
        assert!(a.values[1][3] > 0.0);
    }

    #[test]
    fn the_moving_baseline_moves() {
        let mut baseline = MovingBaseline::default();
        let estimator = AlgoConfig::Reinforce { baseline_decay: 0.5 };
        advantages(&[group(&[1.0, 1.0], &[0.0; 2])], 0.0, &estimator, &mut baseline);
        let a = advantages(&[group(&[3.0, 1.0], &[0.0; 2])], 0.0, &estimator, &mut baseline);
        assert_eq!(a.values[0], vec![2.0, 0.0]);
        assert_eq!(baseline.value, Some(1.5));
    }
}
