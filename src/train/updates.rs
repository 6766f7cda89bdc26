//! One gradient step of each role: the compressor by policy gradient or by imitation, a reader by forward KL.

use crate::algo::{self, TokenBatch};
use crate::compressor::Request;
use crate::compressor::actions::Trajectory;
use crate::compressor::policy::Policy;
use crate::config::train::AlgoSection;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::model::vocab::{self, TokenGrads};
use crate::reading::Taught;
use crate::train::optim::StepInfo;
use crate::train::trainee::{Place, Trainee};
use serde::Serialize;
use tch::{Kind, Tensor};

/// What a compressor update did.
#[derive(Clone, Copy, Debug, Default)]
pub struct PolicyStep {
    /// Loss.
    pub loss: f64,
    /// Mean over actions of KL(behaviour ‖ policy) as estimated by k3.
    pub mismatch_kl: f64,
    /// Share of actions where the ratio was clipped.
    pub clip_frac: f64,
    /// Mean entropy, nats an action.
    pub entropy: f64,
    /// Mean KL to the warm-started policy, nats an action.
    pub kl_reference: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
}

/// The windows of a compressor update.
pub struct PolicyBatch<'a> {
    /// What the compressor sees of each window.
    pub requests: &'a [Request<'a>],
    /// Its gists.
    pub groups: &'a [&'a [Trajectory]],
    /// Advantages by window, gist and action.
    pub advantages: &'a [Vec<Vec<f64>>],
    /// Windows of one pass.
    pub micro: usize,
    /// C of the loss.
    pub divisor: f64,
}

/// One policy-gradient step.
pub fn policy_step<T: Serialize>(
    policy: &Policy,
    decoder: &Decoder,
    compressor: &mut Trainee,
    reference: Option<&Adapter>,
    batch: &PolicyBatch,
    section: &AlgoSection,
    (lr_factor, place): (f64, &Place<T>),
) -> Result<PolicyStep> {
    let mut done = PolicyStep::default();
    let (mut sums, mut actions) = ([0.0; 4], 0usize);
    for start in (0..batch.requests.len()).step_by(batch.micro) {
        let span = start..(start + batch.micro).min(batch.requests.len());
        let (requests, groups) = (&batch.requests[span.clone()], &batch.groups[span.clone()]);
        let active = compressor.active(decoder)?;
        let frozen = reference.filter(|_| section.reference_kl_coef != 0.0);
        let frozen = frozen.map(|adapter| decoder.activate(adapter, false)).transpose()?;
        let surrogate = policy.surrogate(&active, frozen.as_ref(), requests, groups, |stats| {
            // A gist that was not sampled is imitated, at a ratio of 1.
            let mut now = crate::tensor::to_vec(&stats.logprob)?.into_iter();
            let mut behavior: Vec<f64> = Vec::new();
            for gist in groups.iter().flat_map(|group| group.iter()) {
                let now = now.by_ref().take(gist.actions());
                if gist.behavior_logprobs.is_empty() {
                    behavior.extend(now);
                } else {
                    now.for_each(drop);
                    behavior.extend(&gist.behavior_logprobs);
                }
            }
            let tokens = TokenBatch {
                logprob: stats.logprob,
                behavior: crate::tensor::floats(&behavior, decoder.device()),
                advantage: crate::tensor::floats(&batch.advantages[span].concat().concat(), decoder.device()),
                entropy: stats.entropy,
                kl_reference: stats.kl_reference,
            };
            let out = algo::loss(&tokens, section, batch.divisor)?;
            done.loss += out.loss;
            actions += out.actions;
            for (sum, part) in sums.iter_mut().zip(out.sums) {
                *sum += part;
            }
            Ok(out.grads)
        })?;
        decoder.backward(&surrogate, &active)?;
    }
    if !done.loss.is_finite() {
        return Err(place.non_finite(format!("policy loss ({})", done.loss)));
    }
    let StepInfo { grad_norm, .. } = compressor.step(lr_factor, place)?;
    let n = actions.max(1) as f64;
    Ok(PolicyStep {
        mismatch_kl: sums[0] / n,
        clip_frac: sums[1] / n,
        entropy: sums[2] / n,
        kl_reference: sums[3] / n,
        grad_norm,
        ..done
    })
}

/// A gist to imitate, and how much.
pub type Weighted = (Trajectory, f64);

/// One step of imitation: −Σ weight · log π(gist) / Σ weight · actions, over as many gists for every window. Returns that
/// mean loss of an action.
pub fn imitation_step<T: Serialize>(
    policy: &Policy,
    decoder: &Decoder,
    compressor: &mut Trainee,
    (requests, gists): (&[Request], &[Vec<Weighted>]),
    micro: usize,
    (lr_factor, place): (f64, &Place<T>),
) -> Result<f64> {
    let total: f64 = gists.iter().flatten().map(|(gist, weight)| weight * gist.actions() as f64).sum();
    let mut loss = 0.0;
    for (requests, gists) in requests.chunks(micro).zip(gists.chunks(micro)) {
        let active = compressor.active(decoder)?;
        let weights: Vec<f64> = (gists.iter().flatten())
            .flat_map(|(gist, weight)| std::iter::repeat_n(-weight / total, gist.actions()))
            .collect();
        let weights = crate::tensor::floats(&weights, decoder.device());
        let gists: Vec<Vec<Trajectory>> =
            gists.iter().map(|group| group.iter().map(|(g, _)| g.clone()).collect()).collect();
        let groups: Vec<&[Trajectory]> = gists.iter().map(Vec::as_slice).collect();
        let surrogate = policy.surrogate(&active, None, requests, &groups, |stats| {
            loss += (stats.logprob * &weights).sum(Kind::Double).double_value(&[]);
            Ok(TokenGrads { logprob: weights, entropy: None, kl_reference: None })
        })?;
        decoder.backward(&surrogate, &active)?;
    }
    if !loss.is_finite() {
        return Err(place.non_finite(format!("imitation loss ({loss})")));
    }
    compressor.step(lr_factor, place)?;
    Ok(loss)
}

/// One step of a reader towards the teacher: mean over rows and future tokens of KL(teacher ‖ reader); `at_once` rows in a
/// pass.
pub fn reader_step<T: Serialize>(
    decoder: &Decoder,
    reader: &mut Trainee,
    taught: &Taught,
    (rows, at_once): (&[(usize, &[u32])], usize),
    (lr_factor, place): (f64, &Place<T>),
) -> Result<(f64, StepInfo)> {
    let width = decoder.config().hidden_size;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&r| rows[r].1.len());
    let mut loss = 0.0;
    for batch in order.chunks(at_once) {
        let picked: Vec<(usize, &[u32])> = batch.iter().map(|&r| rows[r]).collect();
        let active: ActiveAdapter = reader.active(decoder)?;
        let (read, teacher) = taught.read(decoder, Some(&active), &picked)?;
        let (read, teacher) = (read.reshape([-1, width]), teacher.reshape([-1, width]));
        let weight = 1.0 / (rows.len() * taught.future()) as f64;
        let weights = Tensor::full([read.size()[0]], weight, (Kind::Float, decoder.device()));
        let (value, surrogate) = vocab::kl_surrogate(decoder.head(), &teacher, &read, &weights)?;
        decoder.backward(&surrogate, &active)?;
        loss += value;
    }
    if !loss.is_finite() {
        return Err(place.non_finite(format!("reader loss ({loss})")));
    }
    Ok((loss, reader.step(lr_factor, place)?))
}
