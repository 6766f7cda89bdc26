//! The generative compressor: a policy over ordinary tokens that reads the prefix and writes a gist until it ends it or
//! the cap stops it. Sampling for a group shares one prefill of the prefix; so do the training log-probabilities.
//!
//! ```text
//! none:   prefix <start> g1 g2 … <end>
//! local:  prefix <separator> local <start> g1 g2 … <end>
//! query:  prefix <separator> query <start> g1 g2 … <end>
//! ```
//! Each row begins with the tokens that every row of the base begins with. An instruction ([`crate::chat`]) stands around the
//! rest: its first part after these tokens, its second before `<start>`.
//! An empty gist (`<end>` at once) is a legal action; at the cap there is no end action. An adapter with a copy head also
//! pays tokens of the prefix that continue what the gist has copied so far ([`copying`]).

use crate::chat::Frame;
use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::compressor::attended::{Attended, attended};
use crate::compressor::contract::{Compressed, Request};
use crate::compressor::copying::{self, Copier};
use crate::config::compressors::Likeliest;
use crate::config::parts::Sampling;
use crate::error::{Error, Result};
use crate::model::copy_head::{self, CopyHead, MatchEntries, Matches};
use crate::model::decoder::Decoder;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::model::read::{control, rows};
use crate::model::sampling;
use crate::model::site::{BranchCache, KvCache};
use crate::model::vocab::{self, Head, Other, TokenGrads, TokenStats};
use crate::tensor::to_vecs;
use tch::Tensor;

/// The policy's network and the actions it may take.
pub struct GistPolicy<'a> {
    decoder: &'a Decoder,
    bias: Tensor,
    frame: Frame,
    likeliest: Option<Likeliest>,
}

/// Hidden states of the M actions of some groups, in order of window, gist, action.
pub struct ActionStates {
    /// `[M, H]`.
    pub hidden: Tensor,
    /// `[M]`: token ids, or `V` for the end.
    pub targets: Tensor,
    /// Matches of each action, for adapters with a copy head.
    pub matches: Option<Matches>,
}

impl<'a> GistPolicy<'a> {
    /// A policy over every id but `forbidden` (special tokens, and rows beyond the tokenizer).
    pub fn new(decoder: &'a Decoder, forbidden: &[u32]) -> Self {
        let bias = vocab::barred(decoder.config().vocab_size + 1, forbidden, decoder.device());
        Self { decoder, bias, frame: Frame::default(), likeliest: None }
    }

    /// Puts an instruction around the prompt.
    pub fn framed(self, frame: Frame) -> Self {
        Self { frame, ..self }
    }

    /// Searches for likelier gists where the greedy one is unsure.
    pub fn searching(self, likeliest: Option<Likeliest>) -> Self {
        Self { likeliest, ..self }
    }

    /// Head over ordinary tokens and the end, for actions with these `matches`.
    pub fn head<'b>(&'b self, adapter: &'b ActiveAdapter, matches: Option<&'b Matches>) -> Head<'b> {
        let copy = adapter.copy.as_ref().zip(matches).map(|(rows, matches)| CopyHead { rows, matches, first: 0 });
        Head { weight: self.decoder.head(), end: Some(&adapter.end), bias: Some(&self.bias), copy }
    }

    /// Attention of the base to each prefix, for adapters with a copy head.
    fn attended(&self, adapter: &ActiveAdapter, requests: &[Request]) -> Result<Option<Vec<Attended>>> {
        adapter.copy.as_ref().map(|_| attended(self.decoder, requests)).transpose()
    }

    /// One copier a request, for adapters with a copy head.
    fn copiers<'r>(
        &self,
        adapter: &ActiveAdapter,
        requests: &[Request<'r>],
        attended: Option<&'r [Attended]>,
    ) -> Option<Vec<Copier<'r>>> {
        let longest = copy_head::longest(adapter.copy.as_ref()?.size()[0] as usize, self.decoder.config());
        let pairs = requests.iter().zip(attended?);
        Some(pairs.map(|(request, attended)| Copier::new(request.prefix, attended, longest)).collect())
    }

    /// Token ids that the compressor reads before it writes.
    pub fn prompt(&self, request: &Request) -> Vec<u32> {
        let v = self.decoder.config().vocab_size;
        let mut prompt = [&self.frame.before, request.prefix].concat();
        for extra in [request.local, request.query] {
            if !extra.is_empty() {
                prompt.push(control::separator(v));
                prompt.extend(extra);
            }
        }
        prompt.extend(&self.frame.after);
        prompt.push(control::start(v));
        prompt
    }

    fn prefill(&self, requests: &[Request], adapter: &ActiveAdapter) -> Result<(Tensor, KvCache)> {
        let prompts: Vec<Vec<u32>> = requests.iter().map(|r| self.prompt(r)).collect();
        let (ids, pad) = rows(self.decoder, &prompts)?;
        let (hidden, cache) = self.decoder.prefill(&ids, &pad, Some(adapter))?;
        Ok((hidden.narrow(1, ids.size()[1] - 1, 1), cache)) // [N, 1, H]
    }

    /// A group of trajectories for each request, `[request][sample]`, from one prefill of its prompt.
    pub fn sample(&self, adapter: &ActiveAdapter, requests: &[Request], draws: Draws) -> Result<Vec<Vec<Trajectory>>> {
        let _guard = tch::no_grad_guard();
        let (n, g, budget) = (requests.len(), draws.group, draws.budget);
        if n == 0 || g == 0 {
            return Ok(Vec::new());
        }
        let v = self.decoder.config().vocab_size;
        let (last, cache) = self.prefill(requests, adapter)?;
        let width = last.size()[2];
        let mut hidden = last.expand([n as i64, g as i64, width], false).reshape([-1, width]);
        let uniforms = sampling::by_step(&draws.numbers(n)?, budget, self.decoder.device());
        let mut gists = vec![Trajectory::default(); n * g];
        let attended = self.attended(adapter, requests)?;
        let copiers = self.copiers(adapter, requests, attended.as_deref());
        let mut copiers: Option<Vec<Copier>> =
            copiers.map(|each| each.into_iter().flat_map(|copier| std::iter::repeat_n(copier, g)).collect());
        let mut grown = BranchCache::new(budget);
        for t in 0..budget {
            let matches = copiers.as_ref().map(|each| copying::collect(each.iter(), self.decoder.device()));
            let head = self.head(adapter, matches.as_ref());
            let picked = sampling::draw(&hidden, head, draws.how, &uniforms.get(t as i64))?;
            let [actions, logp, entropy] = to_vecs([&picked.action, &picked.logprob, &picked.entropy])?;
            for (row, gist) in gists.iter_mut().enumerate().filter(|(_, gist)| !gist.ended) {
                gist.behavior_logprobs.push(logp[row]);
                gist.entropy.push(entropy[row]);
                if actions[row] as i64 == v {
                    gist.ended = true;
                    continue;
                }
                gist.ids.push(actions[row] as u32);
                if let Some(copiers) = &mut copiers {
                    copiers[row].push(actions[row] as u32);
                }
            }
            if t + 1 == budget || gists.iter().all(|gist| gist.ended) {
                break;
            }
            let next = picked.action.view([n as i64, g as i64, 1]);
            hidden = self.decoder.branches(&next, &cache, Some(&mut grown), Some(adapter))?.reshape([-1, width]);
        }
        let mut gists = gists.into_iter();
        Ok((0..n).map(|_| gists.by_ref().take(g).collect()).collect())
    }

    /// Hidden states of every action of `groups`, with gradient: one prefill a request, shared by its gists. All groups
    /// have the same size.
    pub fn action_states(
        &self,
        adapter: &ActiveAdapter,
        requests: &[Request],
        groups: &[&[Trajectory]],
    ) -> Result<ActionStates> {
        let (n, g) = (requests.len(), groups.first().map_or(0, |gr| gr.len()));
        if groups.len() != n || g == 0 || groups.iter().any(|group| group.len() != g) {
            return Err(Error::shape("groups", format!("{n} groups of one size"), groups.len()));
        }
        let (last, cache) = self.prefill(requests, adapter)?;
        let width = last.size()[2];
        let v = self.decoder.config().vocab_size;
        let longest = groups.iter().flat_map(|gr| gr.iter()).map(|gist| gist.ids.len()).max().unwrap_or(0).max(1);
        let mut ids = vec![0i64; n * g * longest];
        let (mut places, mut targets) = (Vec::new(), Vec::new());
        let attended = self.attended(adapter, requests)?;
        let copiers = self.copiers(adapter, requests, attended.as_deref());
        let mut matches = MatchEntries::default();
        for (row, gist) in groups.iter().flat_map(|gr| gr.iter()).enumerate() {
            for (t, &id) in gist.ids.iter().enumerate() {
                ids[row * longest + t] = id as i64;
            }
            let mut copier = copiers.as_ref().map(|each| each[row / g].clone());
            for action in 0..gist.actions() {
                places.push((row * (longest + 1) + action) as i64);
                let id = gist.ids.get(action);
                targets.push(id.map_or(v, |&id| id as i64));
                if let Some(copier) = &mut copier {
                    copier.add_to(&mut matches);
                    id.iter().for_each(|&&id| copier.push(id));
                }
            }
        }
        if places.is_empty() {
            return Err(Error::invalid("policy loss: expected at least one sampled token, got none"));
        }
        let device = self.decoder.device();
        let ids = Tensor::from_slice(&ids).view([n as i64, g as i64, longest as i64]);
        let written = self.decoder.branches(&ids, &cache, None, Some(adapter))?; // [N, G, K, H]
        let first = last.unsqueeze(1).expand([n as i64, g as i64, 1, width], false);
        let all = Tensor::cat(&[first, written], 2).reshape([-1, width]);
        Ok(ActionStates {
            hidden: all.index_select(0, &Tensor::from_slice(&places).to_device(device)),
            targets: Tensor::from_slice(&targets).to_device(device),
            matches: copiers.is_some().then(|| matches.to_device(device)),
        })
    }

    /// log π of every action of `groups`, in order of window, gist, action, without gradient.
    pub fn logprobs(&self, adapter: &ActiveAdapter, requests: &[Request], groups: &[&[Trajectory]]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let states = self.action_states(adapter, requests, groups)?;
        let head = self.head(adapter, states.matches.as_ref());
        Ok(vocab::token_stats(&states.hidden, &states.targets, head, None)?.logprob)
    }

    /// See [`crate::compressor::policy::Policy::surrogate`].
    pub fn surrogate(
        &self,
        adapter: &ActiveAdapter,
        reference: Option<&ActiveAdapter>,
        requests: &[Request],
        groups: &[&[Trajectory]],
        grads: impl FnOnce(TokenStats) -> Result<TokenGrads>,
    ) -> Result<Tensor> {
        let states = self.action_states(adapter, requests, groups)?;
        let frozen = reference.map(|r| tch::no_grad(|| self.action_states(r, requests, groups))).transpose()?;
        let other = reference.zip(frozen.as_ref());
        let other = other.map(|(a, s)| Other { hidden: &s.hidden, head: self.head(a, s.matches.as_ref()) });
        let head = self.head(adapter, states.matches.as_ref());
        let stats = vocab::token_stats(&states.hidden, &states.targets, head, other)?;
        vocab::token_surrogate(&states.hidden, &states.targets, head, &grads(stats)?, other)
    }
}

const REQUESTS_AT_ONCE: usize = 32;

impl GistPolicy<'_> {
    /// Parts of a prefix, each with its share of the budget: one as a rule; a prefix too long for the base's positions, with
    /// everything else that is read and written, is cut into equal parts.
    fn parts<'r>(&self, request: &Request<'r>, budget: usize) -> Vec<(Request<'r>, usize)> {
        let positions = self.decoder.room();
        let written = budget.min(positions / 2);
        let around = request.local.len() + request.query.len() + self.frame.len();
        let room = positions.saturating_sub(around + 3 + written).max(1);
        let parts = request.prefix.len().div_ceil(room).max(1);
        let cut = |part: usize| part * request.prefix.len() / parts;
        let share = |part: usize| ((part + 1) * budget / parts - part * budget / parts).min(written);
        (0..parts).map(|p| (Request { prefix: &request.prefix[cut(p)..cut(p + 1)], ..*request }, share(p))).collect()
    }

    /// Puts in the place of each unsure greedy gist the likeliest of it and of samples within the budget.
    fn search(
        &self,
        active: &ActiveAdapter,
        (requests, greedy): (&[Request], &mut [Vec<Trajectory>]),
        Likeliest { samples, below }: Likeliest,
        (budget, seed): (usize, u64),
    ) -> Result<()> {
        let is_unsure = |gist: &Trajectory| gist.behavior_logprobs.iter().any(|logprob| *logprob < below.ln());
        let unsure: Vec<usize> = (0..requests.len()).filter(|&r| greedy[r].iter().any(is_unsure)).collect();
        let logprob = |gist: &Trajectory| gist.behavior_logprobs.iter().sum::<f64>();
        for some in unsure.chunks((REQUESTS_AT_ONCE / samples).max(1)) {
            let asked: Vec<Request> = some.iter().map(|&r| requests[r]).collect();
            // Other draws than those of samples that are wanted for themselves.
            let uniforms = |r: usize, s: usize| uniforms(seed, u64::MAX - 1, asked[r].key, s as u64, budget);
            let draws = Draws { group: samples, budget, how: &Sampling::default(), uniforms: &uniforms };
            for (&r, group) in some.iter().zip(self.sample(active, &asked, draws)?) {
                let all = greedy[r].drain(..).chain(group);
                greedy[r] = all.max_by(|a, b| logprob(a).total_cmp(&logprob(b))).into_iter().collect();
            }
        }
        Ok(())
    }

    /// One result for each request; `seed` and the request's key give its draws.
    pub fn compress(
        &self,
        adapter: &Adapter,
        requests: &[Request],
        budget: usize,
        how: &Sampling,
        seed: u64,
    ) -> Result<Vec<Compressed>> {
        let _guard = tch::no_grad_guard();
        let active = self.decoder.activate(adapter, false)?;
        let mut all: Vec<Compressed> = vec![Compressed::default(); requests.len()];
        let parts: Vec<(usize, Request, usize)> = (requests.iter().enumerate())
            .flat_map(|(r, request)| self.parts(request, budget).into_iter().map(move |(part, share)| (r, part, share)))
            .collect();
        for batch in parts.chunks(REQUESTS_AT_ONCE) {
            let prefixes: Vec<Request> = batch.iter().map(|(_, part, _)| *part).collect();
            let longest = batch.iter().map(|(.., share)| *share).max().unwrap_or(0);
            let uniforms = |r: usize, _| uniforms(seed, u64::MAX, prefixes[r].key, 0, longest);
            let draws = Draws { group: 1, budget: longest, how, uniforms: &uniforms };
            let mut groups = self.sample(&active, &prefixes, draws)?;
            if let Some(search) = self.likeliest.filter(|_| how.temperature == 0.0) {
                self.search(&active, (&prefixes, &mut groups), search, (longest, seed))?;
            }
            for ((r, _, share), group) in batch.iter().zip(groups) {
                let ids = group.into_iter().next().map(|gist| gist.ids).unwrap_or_default();
                all[*r].ids.extend(ids.into_iter().take(*share));
            }
        }
        Ok(all)
    }
}
