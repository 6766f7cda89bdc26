//! Trajectories: what a policy did to make a gist, with the log-probabilities under which it did it; and how groups of
//! them are drawn.

use crate::config::parts::Sampling;
use crate::error::{Error, Result};
use crate::rng::{self, Stream};

/// One gist as a sequence of actions: tokens that were written, or units of the prefix that were kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trajectory {
    /// Tokens of the gist, without the end.
    pub ids: Vec<u32>,
    /// Units of the prefix that an extractive policy drew, in that order; empty for a policy that writes.
    pub picks: Vec<usize>,
    /// Whether the policy ended it; false = the cap did.
    pub ended: bool,
    /// log π of every action (tokens or units, then the end if there is one) when it was sampled; empty for a trajectory that
    /// was not sampled.
    pub behavior_logprobs: Vec<f64>,
    /// Entropy of the policy at every action, nats.
    pub entropy: Vec<f64>,
}

impl Trajectory {
    /// A gist chosen by other means, for imitation: ended unless it fills the budget.
    pub fn imitated(ids: Vec<u32>, budget: usize) -> Self {
        let ended = ids.len() < budget;
        Self { ids, ended, ..Self::default() }
    }

    /// Tokens (or units) and end: the actions that carry a log-probability.
    pub fn actions(&self) -> usize {
        let chosen = if self.picks.is_empty() { self.ids.len() } else { self.picks.len() };
        chosen + usize::from(self.ended)
    }
}

/// Settings for drawing gists.
#[derive(Clone, Copy)]
pub struct Draws<'a> {
    /// Gists a request.
    pub group: usize,
    /// Cap of each, in tokens.
    pub budget: usize,
    /// Sampling of each action.
    pub how: &'a Sampling,
    /// `uniforms(request, sample)`: as many numbers in [0, 1) as the budget.
    pub uniforms: &'a dyn Fn(usize, usize) -> Vec<f64>,
}

impl Draws<'_> {
    /// The numbers of every gist, request by request.
    pub fn numbers(&self, requests: usize) -> Result<Vec<Vec<f64>>> {
        let all: Vec<Vec<f64>> =
            (0..requests * self.group).map(|row| (self.uniforms)(row / self.group, row % self.group)).collect();
        match all.iter().find(|numbers| numbers.len() < self.budget) {
            Some(bad) => Err(Error::shape("uniforms of a gist", self.budget, bad.len())),
            None => Ok(all),
        }
    }
}

/// The numbers in [0, 1) that decide one gist, as many as the budget: a function of the arguments alone.
pub fn uniforms(run_seed: u64, step: u64, example: u64, sample: u64, budget: usize) -> Vec<f64> {
    let mut draw = rng::rng(run_seed, Stream::Rollout, step, example, sample);
    (0..budget).map(|_| rng::uniform(&mut draw)).collect()
}
