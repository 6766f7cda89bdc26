//! The row of metrics of a co-training step.

use crate::metrics::Metrics;
use crate::reading::Reading;
use crate::reward::RewardParts;
use crate::rollout::Group;
use crate::tensor::mean;
use crate::train::cotrain::learned::{Learned, Rewards};
use crate::train::readers::ReaderUpdates;

/// What a step left behind.
pub struct StepFigures<'a> {
    /// Gists and readings by window.
    pub groups: &'a [Group],
    /// Rewards of the gists.
    pub rewards: &'a Rewards,
    /// What the compressor learned from.
    pub learned: &'a Learned,
    /// What its update did; none when it does not learn.
    pub policy: Option<Metrics>,
    /// What the readers' updates did; none when they do not learn.
    pub readers: Option<ReaderUpdates>,
}

impl StepFigures<'_> {
    /// Mean keep_ratio of the sampled gists.
    pub fn keep_ratio(&self) -> f64 {
        self.mean_reward(|parts| parts.length)
    }

    fn mean_reward(&self, part: impl Fn(&RewardParts) -> f64) -> f64 {
        mean(&self.rewards.parts.iter().flatten().map(part).collect::<Vec<_>>())
    }

    fn mean_reading(&self, figure: impl Fn(&Reading) -> f64) -> f64 {
        mean(&self.groups.iter().flat_map(|group| &group.readings).map(figure).collect::<Vec<_>>())
    }
}

/// Means over the step, in the order of the log.
pub fn row(figures: StepFigures) -> Metrics {
    let StepFigures { groups, learned, .. } = figures;
    let lambda = figures.rewards.lambda;
    let gists = || groups.iter().flat_map(|group| &group.gists);
    let keep_ratio = figures.keep_ratio();
    let advantages = &learned.advantages;
    let mut row = Metrics::from([
        ("reward/total", figures.mean_reward(|parts| parts.total(lambda))),
        ("reward/quality", figures.mean_reward(|parts| parts.quality)),
        ("reward/length", -lambda * keep_ratio),
        ("rollout/kl", figures.mean_reading(|reading| reading.kl)),
        ("rollout/nll", figures.mean_reading(|reading| reading.nll)),
        ("rollout/kl_empty", mean(&groups.iter().map(|group| group.empty.kl).collect::<Vec<_>>())),
        ("rollout/keep_ratio", keep_ratio),
        ("rollout/ended_frac", mean(&gists().map(|gist| f64::from(gist.ended)).collect::<Vec<_>>())),
        ("rollout/entropy", mean(&gists().flat_map(|gist| gist.entropy.clone()).collect::<Vec<_>>())),
        ("rollout/group_std", advantages.group_std),
        ("algo/zero_variance_groups", advantages.zero_variance_groups as f64),
        ("algo/advantage_abs", mean(&advantages.values.concat().iter().map(|a| a.abs()).collect::<Vec<_>>())),
        ("algo/lambda", lambda),
    ]);
    if !learned.recent_rewards.is_empty() {
        row.push("reward/recent", mean(&learned.recent_rewards));
    }
    row.extend(figures.policy.unwrap_or_default());
    if let Some(ReaderUpdates { generator, empty }) = figures.readers {
        row.extend([
            ("generator/kl", generator.kl),
            ("empty_reader/kl", empty.kl),
            ("optim/generator/grad_norm", generator.grad_norm),
        ]);
    }
    row
}
