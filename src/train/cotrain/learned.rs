//! The trajectories and advantages that the compressor learns from in a step, and its update.

use crate::algo::{self, Advantages};
use crate::compressor::actions::Trajectory;
use crate::config::choices::{AlgoConfig, TokenCredit};
use crate::config::train::AlgoSection;
use crate::data::Window;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::lora::Adapter;
use crate::reading::request;
use crate::reward::{RewardParts, RewardScale};
use crate::rollout::{self, Group};
use crate::train::cotrain::taught_shard::TaughtShard;
use crate::train::inputs::Inputs;
use crate::train::readers::AFTER_READERS;
use crate::train::roles::WarmStarted;
use crate::train::session::Session;
use crate::train::trainee::Update;
use crate::train::updates::{PolicyBatch, policy_step};
use std::ops::Range;

/// The rewards of a step's sampled gists.
pub struct Rewards {
    /// Unit of the rewards.
    pub scale: RewardScale,
    /// Price of length.
    pub lambda: f64,
    /// Parts of the rewards, by window and gist.
    pub parts: Vec<Vec<RewardParts>>,
}

/// Trajectories with the advantage of each of their actions.
pub struct Learned {
    /// Trajectories by window: the sampled ones, then that of the most recent tokens if they are imitated.
    pub groups: Vec<Vec<Trajectory>>,
    /// Advantages by window, trajectory and action.
    pub actions: Vec<Vec<Vec<f64>>>,
    /// Advantages by window and trajectory.
    pub advantages: Advantages,
    /// Rewards of the most recent tokens, where they are imitated.
    pub recent_rewards: Vec<f64>,
}

impl Learned {
    /// Spreads the advantages of sampled trajectories, times `policy_coef`, over their actions, by `credits` if there are any, and puts the most
    /// recent tokens beside them.
    pub fn new(
        section: &AlgoSection,
        groups: &[Group],
        rewards: &Rewards,
        mut advantages: Advantages,
        credits: Option<Vec<Vec<Vec<f64>>>>,
    ) -> Self {
        let own: Vec<&[Trajectory]> = groups.iter().map(|group| group.gists.as_slice()).collect();
        let credits = credits.map(|credits| algo::in_units(credits, &advantages.units));
        let mut actions = algo::per_action(&advantages.values, &own, credits.as_deref());
        let sampled = advantages.values.iter_mut().flatten().chain(actions.iter_mut().flatten().flatten());
        sampled.for_each(|advantage| *advantage *= section.policy_coef);
        let trajectories = own.iter().map(|gists| gists.to_vec()).collect();
        let mut learned = Self { groups: trajectories, actions, advantages, recent_rewards: Vec::new() };
        for (w, group) in groups.iter().enumerate() {
            let Some((gist, reading)) = &group.recent else { continue };
            let recent = rewards.scale.parts(gist, reading, group);
            let advantage = algo::self_imitation(
                &recent,
                &rewards.parts[w],
                &learned.advantages.units[w],
                rewards.lambda,
                section.recent_coef,
            );
            learned.advantages.values[w].push(advantage);
            learned.actions[w].push(vec![advantage; gist.actions()]);
            learned.groups[w].push(gist.clone());
            learned.recent_rewards.push(recent.total(rewards.lambda));
        }
        learned
    }
}

/// Gain of quality by each block of each gist, in units of the reward and read by `reader`, whose reading the reward pays for;
/// none unless the experiment credits tokens.
pub fn token_credits(
    session: &Session,
    reader: &Adapter,
    parts: &[TaughtShard],
    rolled: &[Vec<Group>],
    scale: &RewardScale,
) -> Result<Option<Vec<Vec<Vec<f64>>>>> {
    let Inputs { config, models, .. } = session.inputs;
    match config.algo.token_credit {
        TokenCredit::Uniform => Ok(None),
        TokenCredit::LeaveOneOut => {
            let reader = models.decoder.activate(reader, false)?;
            let of = |(part, groups): (&TaughtShard, &Vec<Group>)| {
                let without = rollout::without_blocks(&models.decoder, &reader, &part.taught, groups, algo::BLOCK)?;
                Ok(scale.credits(groups, &without))
            };
            Ok(Some(session.shards.gather("credits", parts.iter().zip(rolled).map(of).collect::<Result<_>>()?)?))
        }
    }
}

/// Policy-gradient updates on one rollout: one, or several under `ppo`; returns the metrics of the last. Of several, two say
/// how far the policy is from the one that sampled: `algo/mismatch_kl` before the first, which is what the two ways to
/// compute a log-probability differ by, and `algo/approx_kl` before the last, which is drift.
pub fn update_compressor(
    session: &mut Session,
    frozen: &WarmStarted,
    windows: &[Window],
    learned: &Learned,
    number: usize,
) -> Result<Metrics> {
    let Inputs { config, models, .. } = session.inputs;
    let requests: Vec<_> = windows.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
    let groups: Vec<&[Trajectory]> = learned.groups.iter().map(Vec::as_slice).collect();
    let divisor = (groups.iter().map(|group| group.len()).sum::<usize>() * session.inputs.budget()) as f64;
    let batch = |own: Range<usize>| PolicyBatch {
        policy: &session.policy,
        reference: Some(&frozen.compressor),
        requests: &requests[own.clone()],
        groups: &groups[own.clone()],
        advantages: &learned.actions[own],
        micro: config.train.micro_windows,
        divisor,
    };
    let batches: Vec<PolicyBatch> = session.shards.own(windows.len()).into_iter().map(batch).collect();
    let lr_factor = config.train.schedule.factor(number, config.train.steps, config.optim.compressor.warmup_steps);
    let update = Update { number: session.update(), lr_factor, root: session.run.root(), batch: &windows };
    let epochs = match config.algo.estimator {
        AlgoConfig::Ppo { epochs, .. } => epochs,
        AlgoConfig::Rloo {} | AlgoConfig::Grpo { .. } | AlgoConfig::Reinforce { .. } => 1,
    };
    let mut step = |epoch: usize| {
        let pass = session.shards.pass(AFTER_READERS + epoch as u64);
        policy_step(&models.decoder, &mut session.compressor, (pass, &batches), &config.algo, &update)
    };
    let first = step(0)?;
    let mut last = first.clone();
    for epoch in 1..epochs {
        last = step(epoch)?;
    }
    Ok(match epochs {
        1 => first,
        _ => over_epochs(&first, &last),
    })
}

/// The metrics of the last update of a rollout, but the mismatch of the first; that of the last is drift.
fn over_epochs(first: &Metrics, last: &Metrics) -> Metrics {
    let is_mismatch = |name: &str| name == algo::MISMATCH_KL;
    let pairs = first.iter().zip(last.iter());
    let mut all: Metrics = pairs.map(|(first, last)| if is_mismatch(last.0) { *first } else { *last }).collect();
    all.extend(last.iter().filter(|(name, _)| is_mismatch(name)).map(|(_, drift)| ("algo/approx_kl", *drift)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_updates_tell_mismatch_from_drift() {
        let row =
            |mismatch: f64, loss: f64| Metrics::from([("algo/policy_loss", loss), ("algo/mismatch_kl", mismatch)]);
        let told = over_epochs(&row(1e-7, 0.5), &row(0.02, 0.3));
        let expected = [("algo/policy_loss", 0.3), ("algo/mismatch_kl", 1e-7), ("algo/approx_kl", 0.02)];
        assert_eq!(told, Metrics::from(expected));
    }
}
