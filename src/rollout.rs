//! Rollouts, always without gradient: groups of sampled trajectories with behaviour log-probabilities, each read by whoever
//! the reward trusts.

use crate::compressor::Request;
use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::compressor::policy::Policy;
use crate::config::choices::Condition;
use crate::config::parts::Sampling;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::reading::{Reading, Taught, as_rows, reader_context, request};
use crate::tokenizer::Tokenizer;

/// The gists of one window, with what the reader made of each and of nothing.
#[derive(Clone, Debug)]
pub struct Group {
    /// P: tokens that each gist stands for.
    pub prefix_tokens: usize,
    /// G sampled gists.
    pub gists: Vec<Trajectory>,
    /// The reader with each gist.
    pub readings: Vec<Reading>,
    /// The reader with the empty gist.
    pub empty: Reading,
    /// The most recent tokens as a gist that nobody sampled, and the reader with it; if the step asks for it.
    pub recent: Option<(Trajectory, Reading)>,
}

/// The policy that samples and the reader that reads in a rollout.
pub struct Roles<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// Tokenizer of the base.
    pub tokenizer: &'a Tokenizer,
    /// The policy's network and actions.
    pub policy: &'a Policy<'a>,
    /// The compressor's weights.
    pub compressor: &'a ActiveAdapter,
    /// The reader's weights.
    pub reader: &'a ActiveAdapter,
}

/// The coordinates of a rollout's draws.
#[derive(Clone, Copy, Debug)]
pub struct RolloutKey {
    /// Seed of the run.
    pub run_seed: u64,
    /// Step.
    pub step: u64,
    /// Windows before this batch within the step.
    pub first_example: u64,
}

/// Settings for sampling a group of gists.
#[derive(Clone, Copy, Debug)]
pub struct GroupShape {
    /// Condition under which the compressor sees a window.
    pub condition: Condition,
    /// Gists sampled.
    pub group_size: usize,
    /// Cap of a gist.
    pub budget: usize,
    /// Whether the most recent tokens are read too.
    pub with_recent: bool,
}

/// Samples a group for every window and has each gist read.
pub fn collect(roles: &Roles, taught: &Taught, how: GroupShape, key: RolloutKey) -> Result<Vec<Group>> {
    let GroupShape { condition, group_size, budget, with_recent } = how;
    let _guard = tch::no_grad_guard();
    let requests: Vec<Request> =
        taught.windows.iter().enumerate().map(|(i, w)| request(w, condition, key.first_example + i as u64)).collect();
    let uniforms =
        |r: usize, s: usize| uniforms(key.run_seed, key.step, key.first_example + r as u64, s as u64, budget);
    let draws = Draws { group: group_size, budget, how: &Sampling::default(), uniforms: &uniforms };
    let sampled = roles.policy.sample(roles.compressor, &requests, draws)?;
    let recent = |r: &Request| with_recent.then(|| roles.policy.recent(roles.tokenizer, r, budget)).transpose();
    let recent: Vec<Option<Trajectory>> = requests.iter().map(recent).collect::<Result<_>>()?;
    let v = roles.decoder.config().vocab_size;
    let mut contexts: Vec<(usize, Vec<u32>)> = Vec::new();
    for (w, (gists, recent)) in sampled.iter().zip(&recent).enumerate() {
        contexts.push((w, Vec::new()));
        contexts.extend(gists.iter().chain(recent).map(|gist| (w, reader_context(&gist.ids, true, v))));
    }
    let readings = taught.measure(roles.decoder, Some(roles.reader), &as_rows(&contexts))?;
    let mut rest = readings.as_slice();
    let groups = sampled.into_iter().zip(recent).zip(taught.windows).map(|((gists, recent), window)| {
        let (own, others) = rest.split_at(1 + gists.len() + usize::from(recent.is_some()));
        rest = others;
        let recent = recent.map(|gist| (gist, own[1 + gists.len()]));
        let (empty, readings) = (own[0], own[1..=gists.len()].to_vec());
        Group { prefix_tokens: window.prefix.len(), gists, readings, empty, recent }
    });
    Ok(groups.collect())
}

/// Figures of the reader on every gist of every group without each of its blocks of `block` tokens.
pub fn without_blocks(
    decoder: &Decoder,
    reader: &ActiveAdapter,
    taught: &Taught,
    groups: &[Group],
    block: usize,
) -> Result<Vec<Vec<Vec<Reading>>>> {
    let v = decoder.config().vocab_size;
    let mut contexts: Vec<(usize, Vec<u32>)> = Vec::new();
    for (w, gist) in groups.iter().enumerate().flat_map(|(w, group)| group.gists.iter().map(move |gist| (w, gist))) {
        for start in (0..gist.ids.len()).step_by(block) {
            let end = (start + block).min(gist.ids.len());
            contexts.push((w, reader_context(&[&gist.ids[..start], &gist.ids[end..]].concat(), true, v)));
        }
    }
    let mut readings = taught.measure(decoder, Some(reader), &as_rows(&contexts))?.into_iter();
    let mut of = |gist: &Trajectory| readings.by_ref().take(gist.ids.len().div_ceil(block)).collect();
    Ok(groups.iter().map(|group| group.gists.iter().map(&mut of).collect()).collect())
}
