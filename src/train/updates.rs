//! One gradient step of each role: the compressor by policy gradient or by imitation, a reader by forward KL.

use crate::algo::{self, TokenBatch};
use crate::compressor::Request;
use crate::compressor::actions::Trajectory;
use crate::compressor::policy::Policy;
use crate::config::train::AlgoSection;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::decoder::Decoder;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::model::vocab::{self, TokenGrads};
use crate::reading::Taught;
use crate::tensor::{floats, to_vec};
use crate::train::shards::ShardedPass;
use crate::train::trainee::{Trainee, Update};
use serde::Serialize;
use tch::Kind;

/// The windows of a policy-gradient step.
pub struct PolicyBatch<'a> {
    /// Network and actions.
    pub policy: &'a Policy<'a>,
    /// The policy from which KL is measured where it has a weight in the loss.
    pub reference: Option<&'a Adapter>,
    /// The request to the compressor for each window.
    pub requests: &'a [Request<'a>],
    /// Trajectories of each window, as many for every window.
    pub groups: &'a [&'a [Trajectory]],
    /// Advantages by window, trajectory and action.
    pub advantages: &'a [Vec<Vec<f64>>],
    /// Windows of one pass.
    pub micro: usize,
    /// C of the loss.
    pub divisor: f64,
}

const POLICY_LOSS: &str = "algo/policy_loss";
const ACTIONS: &str = "actions";

/// One policy-gradient step on the batches of a pass, one a shard; returns the loss and what [`algo::loss`] tells of it, as
/// means over the actions.
pub fn policy_step(
    decoder: &Decoder,
    compressor: &mut Trainee,
    (pass, batches): (ShardedPass, &[PolicyBatch]),
    section: &AlgoSection,
    update: &Update<impl Serialize>,
) -> Result<Metrics> {
    let of = |compressor: &Trainee, shard: usize| policy_gradient(decoder, compressor, &batches[shard], section);
    let sums = pass.gradient(compressor, update.number, of)?;
    let [loss, actions] = [POLICY_LOSS, ACTIONS].map(|name| sums.get(name).unwrap_or(f64::NAN));
    if !loss.is_finite() {
        return Err(update.non_finite(format!("policy loss ({loss})")));
    }
    let mut metrics = Metrics::from([(POLICY_LOSS, loss)]);
    let told: Metrics = sums.into_iter().filter(|(name, _)| ![POLICY_LOSS, ACTIONS].contains(name)).collect();
    metrics.extend(told.divided_by(actions.max(1.0)));
    metrics.push("optim/compressor/grad_norm", compressor.step(update)?.grad_norm);
    Ok(metrics)
}

/// Adds the gradient of a batch to the compressor's; returns loss, number of actions and sums over them.
fn policy_gradient(
    decoder: &Decoder,
    compressor: &Trainee,
    batch: &PolicyBatch,
    section: &AlgoSection,
) -> Result<Metrics> {
    let (mut loss, mut sums, mut actions) = (0.0, Metrics::default(), 0usize);
    for start in (0..batch.requests.len()).step_by(batch.micro) {
        let span = start..(start + batch.micro).min(batch.requests.len());
        let (requests, groups) = (&batch.requests[span.clone()], &batch.groups[span.clone()]);
        let active = compressor.active(decoder)?;
        let reference = batch.reference.filter(|_| section.reference_kl_coef != 0.0);
        let frozen = reference.map(|adapter| decoder.activate(adapter, false)).transpose()?;
        let surrogate = batch.policy.surrogate(&active, frozen.as_ref(), requests, groups, |stats| {
            let tokens = TokenBatch {
                behavior: floats(&behavior(groups, &to_vec(&stats.logprob)?), decoder.device()),
                advantage: floats(&batch.advantages[span].concat().concat(), decoder.device()),
                logprob: stats.logprob,
                entropy: stats.entropy,
                kl_reference: stats.kl_reference,
            };
            let out = algo::loss(&tokens, section, batch.divisor)?;
            loss += out.loss;
            actions += out.actions;
            sums.add(&out.sums);
            Ok(out.grads)
        })?;
        decoder.backward(&surrogate, &active)?;
    }
    let mut all = Metrics::from([(POLICY_LOSS, loss), (ACTIONS, actions as f64)]);
    all.extend(sums);
    Ok(all)
}

/// log π of every action when it was sampled; of a trajectory that was not, log π `now`: it is imitated, at a ratio of 1.
fn behavior(groups: &[&[Trajectory]], now: &[f64]) -> Vec<f64> {
    let (mut all, mut first) = (Vec::with_capacity(now.len()), 0);
    for trajectory in groups.iter().flat_map(|group| group.iter()) {
        let own = first..first + trajectory.actions();
        first = own.end;
        match trajectory.behavior_logprobs.is_empty() {
            true => all.extend(&now[own]),
            false => all.extend(&trajectory.behavior_logprobs),
        }
    }
    all
}

/// A trajectory to imitate, and how much.
pub type Weighted = (Trajectory, f64);

/// The windows of a step of imitation.
pub struct ImitationBatch<'a> {
    /// Network and actions.
    pub policy: &'a Policy<'a>,
    /// The request to the compressor for each window.
    pub requests: &'a [Request<'a>],
    /// Trajectories to imitate with their weights, as many for every window.
    pub groups: &'a [Vec<Weighted>],
    /// Windows of one pass.
    pub micro: usize,
}

/// One step of imitation: −Σ weight · log π(trajectory) / Σ weight · actions. Returns that mean loss of an action.
pub fn imitation_step(
    decoder: &Decoder,
    compressor: &mut Trainee,
    batch: &ImitationBatch,
    update: &Update<impl Serialize>,
) -> Result<f64> {
    let all = batch.groups.iter().flatten();
    let total: f64 = all.map(|(trajectory, weight)| weight * trajectory.actions() as f64).sum();
    let mut loss = 0.0;
    for (requests, groups) in batch.requests.chunks(batch.micro).zip(batch.groups.chunks(batch.micro)) {
        let active = compressor.active(decoder)?;
        let weights: Vec<f64> = (groups.iter().flatten())
            .flat_map(|(trajectory, weight)| std::iter::repeat_n(-weight / total, trajectory.actions()))
            .collect();
        let weights = floats(&weights, decoder.device());
        let groups: Vec<Vec<Trajectory>> =
            groups.iter().map(|group| group.iter().map(|(trajectory, _)| trajectory.clone()).collect()).collect();
        let groups: Vec<&[Trajectory]> = groups.iter().map(Vec::as_slice).collect();
        let surrogate = batch.policy.surrogate(&active, None, requests, &groups, |stats| {
            loss += (stats.logprob * &weights).sum(Kind::Double).double_value(&[]);
            Ok(TokenGrads { logprob: weights, entropy: None, kl_reference: None })
        })?;
        decoder.backward(&surrogate, &active)?;
    }
    if !loss.is_finite() {
        return Err(update.non_finite(format!("imitation loss ({loss})")));
    }
    compressor.step(update)?;
    Ok(loss)
}

/// The rows of a step of a reader.
pub struct ReaderBatch<'a> {
    /// Windows and the teacher.
    pub taught: &'a Taught<'a>,
    /// Windows and what stands in the place of their prefixes.
    pub rows: &'a [(usize, &'a [u32])],
    /// Rows of one pass.
    pub at_once: usize,
    /// Rows of the whole step, over which the loss is a mean.
    pub of: usize,
}

/// Outcome of a step of a reader.
#[derive(Clone, Copy, Debug)]
pub struct ReaderUpdate {
    /// KL(teacher ‖ reader), nats a token.
    pub kl: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
}

/// One step of a reader towards the teacher on the batches of a pass, one a shard: mean over rows, futures and their tokens of
/// KL(teacher ‖ reader).
pub fn reader_step(
    decoder: &Decoder,
    reader: &mut Trainee,
    (pass, batches): (ShardedPass, &[ReaderBatch]),
    update: &Update<impl Serialize>,
) -> Result<ReaderUpdate> {
    let sums = pass.gradient(reader, update.number, |reader, shard| {
        Ok(Metrics::from([(KL, reader_gradient(decoder, reader, &batches[shard])?)]))
    })?;
    let kl = sums.get(KL).unwrap_or(f64::NAN);
    if !kl.is_finite() {
        return Err(update.non_finite(format!("reader loss ({kl})")));
    }
    Ok(ReaderUpdate { kl, grad_norm: reader.step(update)?.grad_norm })
}

const KL: &str = "kl";

/// Adds the gradient of a batch to the reader's; returns its part of the loss.
fn reader_gradient(decoder: &Decoder, reader: &Trainee, batch: &ReaderBatch) -> Result<f64> {
    let ReaderBatch { taught, rows, at_once, of } = *batch;
    let width = decoder.config().hidden_size;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&r| rows[r].1.len());
    let mut kl = 0.0;
    for part in order.chunks(at_once) {
        let picked: Vec<(usize, &[u32])> = part.iter().map(|&r| rows[r]).collect();
        let active: ActiveAdapter = reader.active(decoder)?;
        let (read, teacher) = taught.read(decoder, Some(&active), &picked)?;
        let (read, teacher) = (read.reshape([-1, width]), teacher.reshape([-1, width]));
        let weights = floats(&taught.token_weights(&picked, of), decoder.device());
        let (value, surrogate) = vocab::kl_surrogate(decoder.head(), &teacher, &read, &weights)?;
        decoder.backward(&surrogate, &active)?;
        kl += value;
    }
    Ok(kl)
}
