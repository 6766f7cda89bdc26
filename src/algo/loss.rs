//! Losses over the actions of a batch of gists, pure: numbers in, value, gradients per action and metrics out.
//!
//! - `rloo`, `grpo`, `reinforce`: L = −Σ A·log π / C (one update a rollout: the importance ratio is 1);
//! - `ppo`: L = −Σ min(r·A, clip(r, 1−ε₋, 1+ε₊)·A) / C with r = π/π_behaviour (Schulman et al. 2017, arXiv 1707.06347),
//!   per token;
//! - both: − c_H·H + c_ref·KL(π ‖ warm start), over the same C.
//!
//! C is a constant (windows × G × budget), never a gist's own length: dividing by it would favour short wrong gists.

use crate::config::choices::AlgoConfig;
use crate::config::train::AlgoSection;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::vocab::TokenGrads;
use tch::{Kind, Tensor};

/// Name of KL(behaviour ‖ policy) among the metrics, as k3 of Schulman's note estimates it.
pub const MISMATCH_KL: &str = "algo/mismatch_kl";

/// Per-action figures, each `[M]` f32 without gradient.
pub struct TokenBatch {
    /// log π now.
    pub logprob: Tensor,
    /// log π when sampled.
    pub behavior: Tensor,
    /// Advantage of the action.
    pub advantage: Tensor,
    /// Entropy of π, nats.
    pub entropy: Tensor,
    /// KL(π ‖ warm start), nats.
    pub kl_reference: Option<Tensor>,
}

/// A loss with its gradients.
pub struct LossOutput {
    /// Value of the loss.
    pub loss: f64,
    /// ∂L/∂ each figure.
    pub grads: TokenGrads,
    /// Sums over the actions, to be divided by their number: [`MISMATCH_KL`]; `algo/clip_frac`, actions whose ratio was
    /// clipped; `algo/kl_reference`, KL(policy ‖ warm start).
    pub sums: Metrics,
    /// Number of actions.
    pub actions: usize,
}

/// The loss of a batch; `divisor` is C.
pub fn loss(batch: &TokenBatch, section: &AlgoSection, divisor: f64) -> Result<LossOutput> {
    let m = batch.logprob.size();
    for (what, xs) in [("behavior", &batch.behavior), ("advantage", &batch.advantage), ("entropy", &batch.entropy)] {
        if xs.size() != m {
            return Err(Error::shape(what, format!("{m:?}"), format!("{:?}", xs.size())));
        }
    }
    let leaf = batch.logprob.detach().set_requires_grad(true);
    let log_ratio = &leaf - &batch.behavior;
    let (objective, clip_frac) = match section.estimator {
        AlgoConfig::Ppo { clip_low, clip_high, .. } => {
            let importance_ratio = log_ratio.exp();
            let free = &importance_ratio * &batch.advantage;
            let clipped = importance_ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * &batch.advantage;
            let clipped_actions = clipped.lt_tensor(&free).to_kind(Kind::Float).sum(None).double_value(&[]);
            (free.minimum(&clipped), clipped_actions)
        }
        AlgoConfig::Rloo {} | AlgoConfig::Grpo { .. } | AlgoConfig::Reinforce { .. } => (&leaf * &batch.advantage, 0.0),
    };
    let policy = -objective.sum(Kind::Float) / divisor;
    policy.f_backward()?;
    let sum = |xs: &Tensor| xs.sum(Kind::Double).double_value(&[]);
    // k3 of Schulman's note: unbiased for KL(behaviour ‖ π), never negative.
    let mismatch = tch::no_grad(|| sum(&(log_ratio.exp() - 1.0 - &log_ratio)));
    let (entropy, kl) = (sum(&batch.entropy), batch.kl_reference.as_ref().map_or(0.0, &sum));
    let value =
        policy.double_value(&[]) - section.entropy_coef * entropy / divisor + section.reference_kl_coef * kl / divisor;
    let constant = |coef: f64| Tensor::full(m.as_slice(), coef / divisor, (Kind::Float, leaf.device()));
    Ok(LossOutput {
        loss: value,
        grads: TokenGrads {
            logprob: leaf.grad(),
            entropy: (section.entropy_coef != 0.0).then(|| constant(-section.entropy_coef)),
            kl_reference: batch.kl_reference.is_some().then(|| constant(section.reference_kl_coef)),
        },
        sums: Metrics::from([(MISMATCH_KL, mismatch), ("algo/clip_frac", clip_frac), ("algo/kl_reference", kl)]),
        actions: m.first().map_or(0, |&n| n as usize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(logprob: &[f32], behavior: &[f32], advantage: &[f32]) -> TokenBatch {
        TokenBatch {
            logprob: Tensor::from_slice(logprob),
            behavior: Tensor::from_slice(behavior),
            advantage: Tensor::from_slice(advantage),
            entropy: Tensor::from_slice(&vec![1.0f32; logprob.len()]),
            kl_reference: None,
        }
    }

    fn values(xs: &Tensor) -> Vec<f64> {
        crate::tensor::to_vec(xs).unwrap()
    }

    #[test]
    fn the_gradient_of_plain_policy_gradient_is_minus_the_advantage() {
        let section = AlgoSection::default();
        let out = loss(&batch(&[-1.0, -2.0], &[-1.0, -2.0], &[0.5, -0.25]), &section, 4.0).unwrap();
        assert_eq!(values(&out.grads.logprob), vec![-0.125, 0.0625]);
        assert!((out.loss - 0.0).abs() < 1e-9);
        assert!(out.sums.get(MISMATCH_KL).unwrap().abs() < 1e-12);
    }

    #[test]
    fn ppo_stops_pushing_where_the_ratio_is_clipped() {
        let estimator = AlgoConfig::Ppo { clip_low: 0.2, clip_high: 0.2, epochs: 2 };
        let section = AlgoSection { estimator, ..AlgoSection::default() };
        let (up, down) = (1.5f32.ln(), 0.5f32.ln());
        let out = loss(&batch(&[up, up, down, down], &[0.0; 4], &[1.0, -1.0, 1.0, -1.0]), &section, 1.0).unwrap();
        let grads = values(&out.grads.logprob);
        assert_eq!(grads[0], 0.0);
        assert!((grads[1] - 1.5).abs() < 1e-6);
        assert!((grads[2] + 0.5).abs() < 1e-6);
        assert_eq!(grads[3], 0.0);
        assert_eq!(out.sums.get("algo/clip_frac"), Some(2.0));
    }

    #[test]
    fn entropy_bonus_and_reference_kl_have_constant_gradients() {
        let section = AlgoSection { entropy_coef: 0.1, reference_kl_coef: 0.2, ..AlgoSection::default() };
        let mut input = batch(&[-1.0], &[-1.0], &[0.0]);
        input.kl_reference = Some(Tensor::from_slice(&[0.5f32]));
        let out = loss(&input, &section, 2.0).unwrap();
        assert!((values(&out.grads.entropy.unwrap())[0] + 0.05).abs() < 1e-7);
        assert!((values(&out.grads.kl_reference.unwrap())[0] - 0.1).abs() < 1e-7);
        assert!((out.loss - (-0.05 + 0.05)).abs() < 1e-7);
    }
}
