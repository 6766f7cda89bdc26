//! The compressor that learns: it writes a gist, or keeps units of the prefix. Training and evaluation need not tell the two
//! apart: both sample groups, both give log-probabilities with gradients, both stand behind [`Compressor`].

use crate::compressor::actions::{Draws, Trajectory};
use crate::compressor::budget::recent;
use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::gist::GistPolicy;
use crate::config::parts::Sampling;
use crate::error::Result;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::model::vocab::{TokenGrads, TokenStats};
use crate::tokenizer::Tokenizer;
use tch::Tensor;

/// Network and actions of a compressor that learns.
pub enum Policy<'a> {
    /// Writes tokens.
    Gist(GistPolicy<'a>),
    /// Keeps units.
    Extractive(ExtractivePolicy<'a>),
}

impl Policy<'_> {
    /// A group of trajectories for each request, `[request][sample]`, with behaviour log-probabilities.
    pub fn sample(&self, adapter: &ActiveAdapter, requests: &[Request], draws: Draws) -> Result<Vec<Vec<Trajectory>>> {
        match self {
            Policy::Gist(policy) => policy.sample(adapter, requests, draws),
            Policy::Extractive(policy) => policy.sample(adapter, requests, draws),
        }
    }

    /// The most recent tokens of a prefix as actions of this policy; `tokenizer` is the base's.
    pub fn recent(&self, tokenizer: &Tokenizer, request: &Request, budget: usize) -> Result<Trajectory> {
        match self {
            Policy::Gist(_) => Ok(Trajectory::imitated(recent(tokenizer, request.prefix, budget)?.to_vec(), budget)),
            Policy::Extractive(policy) => policy.recent(request, budget),
        }
    }

    /// A scalar whose gradient is that of a loss. `grads` gets the log-probability, the entropy and, with a reference,
    /// KL(policy ‖ reference) of every action of `groups`, in order of window, gist, action, and returns the gradients of the
    /// loss with respect to them. All groups have one size.
    pub fn surrogate(
        &self,
        adapter: &ActiveAdapter,
        reference: Option<&ActiveAdapter>,
        requests: &[Request],
        groups: &[&[Trajectory]],
        grads: impl FnOnce(TokenStats) -> Result<TokenGrads>,
    ) -> Result<Tensor> {
        match self {
            Policy::Gist(policy) => policy.surrogate(adapter, reference, requests, groups, grads),
            Policy::Extractive(policy) => policy.surrogate(adapter, reference, requests, groups, grads),
        }
    }
}

/// A trained compressor, greedy or sampled.
pub struct Trained<'a> {
    /// Name in tables.
    pub name: String,
    /// Network and actions.
    pub policy: &'a Policy<'a>,
    /// The compressor's weights.
    pub adapter: &'a Adapter,
    /// Sampling of actions.
    pub sampling: Sampling,
    /// Seed of the draws.
    pub seed: u64,
}

impl<'a> Trained<'a> {
    /// The compressor that takes its likeliest action.
    pub fn greedy(name: &str, policy: &'a Policy<'a>, adapter: &'a Adapter, seed: u64) -> Self {
        Self { name: name.into(), policy, adapter, sampling: Sampling::greedy(), seed }
    }
}

impl Compressor for Trained<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let (adapter, how, seed) = (self.adapter, &self.sampling, self.seed);
        match self.policy {
            Policy::Gist(policy) => policy.compress(adapter, requests, budget, how, seed),
            Policy::Extractive(policy) => policy.compress(adapter, requests, budget, how, seed),
        }
    }
}
