//! The extractive compressor that learns: the base with its causal mask off (and an adapter) reads prefix, local window and
//! query, heads say what each unit of the prefix is worth, and units are drawn without replacement, each with probability
//! ∝ exp(worth) among those left and the end (Plackett–Luce), until the end is drawn or they cover the budget. Greedy is the
//! controller's ranking with the end as threshold.
//!
//! ```text
//! <prefix> <separator> local <separator> query <start>      every token sees every other
//! worth(unit) = mean (or first, or max) over its tokens of log p · (0.5 + 0.5 · s)  +  Σ feature · (row · mean hidden state)
//! worth(end)  = end row · hidden state of <start>
//! ```
//! The features are those of the gist policy's copy head: how far the unit is from the end of the prefix, and how much each
//! group of heads of the bare base attends to it, so that both kinds of compressor have the same knowledge; scorers that need
//! no training may be among them (`hints`). Local window and query stand behind the prefix, as in the base's training, not
//! before it as in BERT's pairs; no loss is taken there. An encoder with a tokenizer of its own may read instead
//! ([`crate::compressor::foreign`]). A prefix too long for the base's positions is read in overlapping windows; its units are
//! ranked all together.

use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::compressor::attended::{attention, values};
use crate::compressor::budget::{Controller, extractive, fill};
use crate::compressor::contract::{Compressed, Request};
use crate::compressor::evidence::{self, EvidenceEncoder};
use crate::compressor::foreign::{Encoded, Foreign};
use crate::compressor::ranges::{range_columns, range_means, windows};
use crate::compressor::scored::{Scored, Scorer};
use crate::config::compressors::{Aggregate, Unit};
use crate::config::parts::Sampling;
use crate::error::{Error, Result};
use crate::model::copy_head::{self, DISTANCES};
use crate::model::decoder::Decoder;
use crate::model::heads::Heads;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::model::read::{self, control};
use crate::model::sampling;
use crate::model::vocab::{TokenGrads, TokenStats};
use crate::tensor::{to_vec, widened};
use crate::tokenizer::Tokenizer;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

const ROWS_AT_ONCE: usize = 16;
const REQUESTS_AT_ONCE: usize = 64;

/// The policy's network and the units it may keep.
pub struct ExtractivePolicy<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// Tokenizer of the base, for units that are made of text.
    pub tokenizer: &'a Tokenizer,
    /// Unit that is kept or dropped as a whole.
    pub unit: Unit,
    /// Rule that makes a unit's score from the scores of its tokens.
    pub aggregate: Aggregate,
    /// Tokenizer of an encoder of its own, for an adapter that is one; absent = the base reads.
    pub foreign: Option<Box<Foreign>>,
    /// Number of the base's first blocks that read; absent = all.
    pub blocks: Option<usize>,
    /// Scorers whose scores are features of a unit.
    pub hints: Vec<Box<dyn Scorer>>,
    /// For an adapter that finds evidence: its terms and rows; then neither the base nor `foreign` reads.
    pub evidence: Option<Box<EvidenceEncoder>>,
    /// Decides what is kept when it is greedy. A unit's score is its logit less that of the end; without a threshold of its
    /// own the controller keeps units of at least 0.
    pub controller: Controller,
}

/// Scores of the units of one prefix.
pub struct Worths<'a> {
    /// The prefix and its units.
    pub prefix: Scored<'a>,
    /// `[U + 1]` f32: each unit, then the end.
    pub logits: Tensor,
}

impl ExtractivePolicy<'_> {
    /// The units of a prefix.
    pub fn units(&self, prefix: &[u32]) -> Result<Vec<Range<usize>>> {
        Ok(self.unit.cut(&self.tokenizer.read(prefix)?))
    }

    /// Scores of the units of every prefix, with gradient if the adapter has one.
    pub fn worths<'r>(&self, adapter: &ActiveAdapter, requests: &'r [Request<'r>]) -> Result<Vec<Worths<'r>>> {
        if let Some(evidence) = &self.evidence {
            return self.evident(evidence, adapter, requests);
        }
        let none = || Error::invalid("expected an adapter with the heads of an extractive compressor, got one without");
        let heads = adapter.heads.as_ref().ok_or_else(none)?;
        let groups = copy_head::values(self.decoder.config());
        let attended = attention(self.decoder, requests)?;
        let prefixes = requests.iter().map(|request| Scored::new(request, self.unit, self.tokenizer));
        let prefixes = prefixes.collect::<Result<Vec<_>>>()?;
        let encoded = match &self.foreign {
            None => self.encode(adapter, heads, requests)?,
            Some(foreign) => foreign.encode(adapter, &prefixes)?,
        };
        let features = groups as i64 + (DISTANCES + self.hints.len()) as i64;
        if heads.features() != features {
            return Err(Error::shape("features of a unit (compressor.hints)", features, heads.features()));
        }
        let hints = self.hinted(&prefixes)?;
        let mut all = Vec::with_capacity(requests.len());
        for (((prefix, attended), encoded), hints) in prefixes.into_iter().zip(&attended).zip(encoded).zip(&hints) {
            let units = &prefix.units;
            if units.is_empty() {
                all.push(Worths { prefix, logits: encoded.end.view([1]) });
                continue;
            }
            let rows: Vec<&[f32]> = attended.iter().map(Vec::as_slice).collect();
            let attended = values(&rows, groups, units);
            let features = self.features(prefix.decoded.len(), units, &attended, hints);
            let means = range_means(&encoded.tokens, units); // [U, H + 1]
            let width = means.size()[1] - 1;
            let worth = match self.aggregate {
                Aggregate::Mean => means.select(1, width),
                Aggregate::First => range_columns(&encoded.tokens.select(1, width), units, 1).squeeze_dim(1),
                Aggregate::Max => {
                    let longest = units.iter().map(Range::len).max().unwrap_or(1);
                    range_columns(&encoded.tokens.select(1, width), units, longest).amax([1i64].as_slice(), false)
                }
            };
            let worth = worth + heads.places(&means.narrow(1, 0, width), &features);
            all.push(Worths { prefix, logits: Tensor::cat(&[worth, encoded.end.view([1])], 0) });
        }
        Ok(all)
    }

    /// [`ExtractivePolicy::worths`] of an adapter that finds evidence.
    fn evident<'r>(
        &self,
        evidence: &EvidenceEncoder,
        adapter: &ActiveAdapter,
        requests: &'r [Request<'r>],
    ) -> Result<Vec<Worths<'r>>> {
        let none = || Error::invalid("compressor.evidence: expected an adapter with an evidence head, got another");
        let (encoder, head) = adapter.encoder.as_ref().zip(adapter.evidence.as_ref()).ok_or_else(none)?;
        let prefixes = requests.iter().map(|request| Scored::new(request, self.unit, self.tokenizer));
        let prefixes = prefixes.collect::<Result<Vec<_>>>()?;
        let scores = evidence.scores(encoder, head, &prefixes)?;
        let with_end = |(prefix, scores): (Scored<'r>, Tensor)| {
            let end = Tensor::full([1], evidence::END, (Kind::Float, scores.device()));
            Worths { prefix, logits: Tensor::cat(&[scores, end], 0) }
        };
        Ok(prefixes.into_iter().zip(scores).map(with_end).collect())
    }

    fn encode(&self, adapter: &ActiveAdapter, heads: &Heads, requests: &[Request]) -> Result<Vec<Encoded>> {
        let (v, limit) = (self.decoder.config().vocab_size, self.decoder.room());
        let begin = self.decoder.begin().len();
        let mut rows = Vec::new(); // request, window, what of it counts, ids
        for (r, request) in requests.iter().enumerate() {
            let mut rest = Vec::new();
            for extra in [request.local, request.query].into_iter().filter(|extra| !extra.is_empty()) {
                rest.push(control::separator(v));
                rest.extend(&extra[extra.len().saturating_sub(limit / 4)..]);
            }
            rest.push(control::start(v));
            for (window, counts) in windows(request.prefix.len(), limit - rest.len()) {
                rows.push((r, window.clone(), counts, [&request.prefix[window], &rest].concat()));
            }
        }
        let mut tokens: Vec<Vec<Tensor>> = requests.iter().map(|_| Vec::new()).collect();
        let mut ends: Vec<Vec<Tensor>> = requests.iter().map(|_| Vec::new()).collect();
        for batch in rows.chunks(ROWS_AT_ONCE) {
            let contexts: Vec<Vec<u32>> = batch.iter().map(|(.., ids)| ids.clone()).collect();
            let (ids, pad) = read::rows(self.decoder, &contexts)?;
            let t = ids.size()[1];
            let hidden = widened(&self.decoder.encode(&ids, &pad, Some(adapter), self.blocks)?);
            let steps = Tensor::arange(t, (Kind::Int64, hidden.device()));
            let real = steps.ge_tensor(&Tensor::from_slice(&pad).to_device(hidden.device()).unsqueeze(1));
            let worth = heads.logits(&hidden, &real).worth().unsqueeze(-1);
            let both = Tensor::cat(&[&hidden, &worth], -1); // [B, T, H + 1]
            let end = hidden.select(1, t - 1).linear(&widened(&adapter.end), None::<Tensor>);
            for (b, (r, window, counts, _)) in batch.iter().enumerate() {
                let first = pad[b] + (begin + counts.start - window.start) as i64;
                tokens[*r].push(both.get(b as i64).narrow(0, first, counts.len() as i64));
                ends[*r].push(end.get(b as i64).view([]));
            }
        }
        let whole = |(tokens, ends): (Vec<Tensor>, Vec<Tensor>)| Encoded {
            tokens: Tensor::cat(&tokens, 0),
            end: Tensor::stack(&ends, 0).mean(Kind::Float),
        };
        Ok(tokens.into_iter().zip(ends).map(whole).collect())
    }

    /// See [`crate::compressor::policy::Policy::sample`].
    pub fn sample(&self, adapter: &ActiveAdapter, requests: &[Request], draws: Draws) -> Result<Vec<Vec<Trajectory>>> {
        let _guard = tch::no_grad_guard();
        let (group, budget) = (draws.group, draws.budget);
        if requests.is_empty() || group == 0 {
            return Ok(Vec::new());
        }
        let worths = self.worths(adapter, requests)?;
        let width = worths.iter().map(|w| w.prefix.units.len()).max().unwrap_or(0) + 1;
        let mut logits = vec![f32::NEG_INFINITY; requests.len() * group * width];
        for (r, own) in worths.iter().enumerate() {
            let values: Vec<f32> = to_vec(&own.logits)?.into_iter().map(|x| x as f32).collect();
            let units = own.prefix.units.len();
            for row in logits[r * group * width..(r + 1) * group * width].chunks_mut(width) {
                row[..units].copy_from_slice(&values[..units]);
                row[width - 1] = values[units];
            }
        }
        let uniforms = sampling::by_step(&draws.numbers(requests.len())?, budget, Device::Cpu);
        let mut gists = vec![Trajectory::default(); requests.len() * group];
        let mut covered = vec![BTreeSet::new(); gists.len()];
        for t in 0..budget {
            let rows = Tensor::from_slice(&logits).view([-1, width as i64]);
            let picked = sampling::sample(&rows, draws.how, &uniforms.get(t as i64))?;
            let (logp, entropy) = (to_vec(&picked.logprob)?, to_vec(&picked.entropy)?);
            let picked = Vec::<i64>::try_from(&picked.action)?;
            let open = |covered: &[BTreeSet<usize>], row: usize| covered[row].len() < budget;
            for row in (0..gists.len()).filter(|&row| !gists[row].ended && open(&covered, row)).collect::<Vec<_>>() {
                let (gist, pick) = (&mut gists[row], picked[row] as usize);
                gist.behavior_logprobs.push(logp[row]);
                gist.entropy.push(entropy[row]);
                if pick == width - 1 {
                    gist.ended = true;
                    continue;
                }
                gist.picks.push(pick);
                covered[row].extend(worths[row / group].prefix.units[pick].clone());
                logits[row * width + pick] = f32::NEG_INFINITY;
            }
            if (0..gists.len()).all(|row| gists[row].ended || !open(&covered, row)) {
                break;
            }
        }
        for (row, gist) in gists.iter_mut().enumerate() {
            gist.ids = keep(&worths[row / group].prefix, &gist.picks, budget).ids;
        }
        let mut gists = gists.into_iter();
        Ok(requests.iter().map(|_| gists.by_ref().take(group).collect()).collect())
    }

    /// The last units of a prefix, as many as cover the budget, the last first.
    pub fn recent(&self, request: &Request, budget: usize) -> Result<Trajectory> {
        let prefix = Scored::new(request, self.unit, self.tokenizer)?;
        let units = &prefix.units;
        let mut order: Vec<usize> = (0..units.len()).collect();
        order.sort_by_key(|&unit| std::cmp::Reverse((units[unit].end, units[unit].start)));
        let (mut picks, mut covered) = (Vec::new(), BTreeSet::new());
        for unit in order {
            if covered.len() >= budget || picks.len() == budget {
                break;
            }
            covered.extend(units[unit].clone());
            picks.push(unit);
        }
        let ids = keep(&prefix, &picks, budget).ids;
        let ended = covered.len() < budget && picks.len() < budget;
        Ok(Trajectory { ids, picks, ended, ..Trajectory::default() })
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
        let now = self.worths(adapter, requests)?;
        let frozen = reference.map(|reference| tch::no_grad(|| self.worths(reference, requests))).transpose()?;
        let (mut logprobs, mut entropies, mut kls) = (Vec::new(), Vec::new(), Vec::new());
        for (r, (worths, group)) in now.iter().zip(groups).enumerate() {
            let (taken, targets) = actions(group, worths.prefix.units.len(), self.decoder.device());
            let logp = (worths.logits.unsqueeze(0) + &taken).log_softmax(-1, Kind::Float); // [A, U + 1]
            let safe = logp.clamp_min(-1e4);
            let sum = |xs: Tensor| xs.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
            logprobs.push(logp.gather(-1, &targets, false).squeeze_dim(-1));
            entropies.push(-sum(logp.exp() * &safe));
            if let Some(frozen) = &frozen {
                let other = (frozen[r].logits.unsqueeze(0) + &taken).log_softmax(-1, Kind::Float).clamp_min(-1e4);
                kls.push(sum(logp.exp() * (&safe - other)));
            }
        }
        let all = |parts: &[Tensor]| Tensor::cat(parts, 0);
        let (logprob, entropy) = (all(&logprobs), all(&entropies));
        let kl = (!kls.is_empty()).then(|| all(&kls));
        let stats = TokenStats {
            logprob: logprob.detach(),
            entropy: entropy.detach(),
            kl_reference: kl.as_ref().map(Tensor::detach),
        };
        let grads = grads(stats)?;
        let mut surrogate = (logprob * grads.logprob).sum(Kind::Float);
        if let Some(grad) = grads.entropy {
            surrogate = surrogate + (entropy * grad).sum(Kind::Float);
        }
        if let Some((kl, grad)) = kl.zip(grads.kl_reference) {
            surrogate = surrogate + (kl * grad).sum(Kind::Float);
        }
        Ok(surrogate)
    }

    /// One result for each request: sampled, or, greedy, the units that the controller keeps of those that score at least
    /// as much as the end. `seed` and the request's key give the draws.
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
        let mut all = Vec::with_capacity(requests.len());
        for batch in requests.chunks(REQUESTS_AT_ONCE) {
            if how.temperature > 0.0 {
                let uniforms = |r: usize, _| uniforms(seed, u64::MAX, batch[r].key, 0, budget);
                let draws = Draws { group: 1, budget, how, uniforms: &uniforms };
                for (request, group) in batch.iter().zip(self.sample(&active, batch, draws)?) {
                    let picks = group.first().map_or(&[][..], |gist| gist.picks.as_slice());
                    all.push(keep(&Scored::new(request, self.unit, self.tokenizer)?, picks, budget));
                }
                continue;
            }
            let controller =
                Controller { threshold: self.controller.threshold.or(Some(0.0)), ..self.controller.clone() };
            let keep = |(prefix, scores): &(Scored, Vec<f64>)| controller.keep(prefix, scores, budget);
            all.par_extend(self.scored(&active, batch)?.par_iter().map(keep));
        }
        Ok(all)
    }

    /// The units of every prefix, and the score of each: its logit less that of the end.
    pub fn scored<'r>(
        &self,
        active: &ActiveAdapter,
        requests: &'r [Request<'r>],
    ) -> Result<Vec<(Scored<'r>, Vec<f64>)>> {
        let mut all = Vec::with_capacity(requests.len());
        for worths in self.worths(active, requests)? {
            let mut scores = to_vec(&worths.logits)?;
            let end = scores.pop().unwrap_or(0.0);
            scores.iter_mut().for_each(|score| *score -= end);
            all.push((worths.prefix, scores));
        }
        Ok(all)
    }

    /// See [`crate::compressor::Compressor::calibrate`].
    pub fn calibrate(&mut self, adapter: &Adapter, requests: &[Request], budgets: &[usize]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let active = self.decoder.activate(adapter, false)?;
        let mut scored = Vec::with_capacity(requests.len());
        for batch in requests.chunks(REQUESTS_AT_ONCE) {
            scored.extend(self.scored(&active, batch)?);
        }
        self.controller.calibrate(&scored, budgets);
        Ok(())
    }
}

/// The result for a prefix when these of its units are drawn, in this order.
fn keep(prefix: &Scored, picks: &[usize], budget: usize) -> Compressed {
    let drawn: Vec<Range<usize>> = picks.iter().map(|&pick| prefix.units[pick].clone()).collect();
    extractive(prefix.request.prefix, fill(&prefix.decoded, &drawn, budget))
}

/// For the A actions of a window's gists: an additive mask `[A, U + 1]`, −∞ at the units drawn before, and the index of the
/// unit (or the end) drawn, `[A, 1]`.
fn actions(group: &[Trajectory], units: usize, device: tch::Device) -> (Tensor, Tensor) {
    let (mut taken, mut targets) = (Vec::new(), Vec::new());
    for gist in group {
        for action in 0..gist.actions() {
            let mut row = vec![0f32; units + 1];
            gist.picks[..action].iter().for_each(|&pick| row[pick] = f32::NEG_INFINITY);
            taken.extend(row);
            targets.push(gist.picks.get(action).copied().unwrap_or(units) as i64);
        }
    }
    let taken = Tensor::from_slice(&taken).view([-1, units as i64 + 1]).to_device(device);
    (taken, Tensor::from_slice(&targets).unsqueeze(-1).to_device(device))
}
