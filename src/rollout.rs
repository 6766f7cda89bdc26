//! Rollouts, always without gradient: groups of sampled gists with behaviour log-probabilities, the teacher's hidden
//! states once a window, and what a reader makes of any context against that teacher.

use crate::compressor::gist::{Gist, GistPolicy, uniforms};
use crate::compressor::{Compressed, Request};
use crate::config::choices::Condition;
use crate::config::parts::Sampling;
use crate::data::Window;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::model::read::{control, future_hidden};
use crate::model::vocab::{self, Head, Other};
use crate::tensor::{ids_2d, mean, to_vec};
use tch::Tensor;

const ROWS_AT_ONCE: usize = 48;

/// What a compressor may see of `window` under `condition`.
pub fn request<'a>(window: &'a Window, condition: Condition, key: u64) -> Request<'a> {
    let local: &[u32] = if condition == Condition::Local { &window.local } else { &[] };
    Request { prefix: &window.prefix, local, query: &[], key }
}

/// The ids that a reader gets before the local window: the gist and a separator. No separator after nothing, after the
/// unchanged prefix, or for the bare base, which has none.
pub fn reader_context(gist: &[u32], separated: bool, v: i64) -> Vec<u32> {
    let mut context = gist.to_vec();
    if separated && !gist.is_empty() {
        context.push(control::separator(v));
    }
    context
}

/// Like [`reader_context`], for the output of a compressor.
pub fn compressed_context(compressed: &Compressed, adapted: bool, v: i64) -> Vec<u32> {
    reader_context(&compressed.ids, adapted && !compressed.identity, v)
}

/// A reader's figures on one window, each the mean over its future tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// KL(teacher ‖ reader), nats a token.
    pub kl: f64,
    /// −log p of the true future, nats a token.
    pub nll: f64,
    /// Share of future tokens where both put the same token first.
    pub top1_agreement: f64,
}

/// Windows with the teacher's hidden states of their futures.
pub struct Taught<'a> {
    /// The windows.
    pub windows: &'a [Window],
    /// Teacher's hidden states `[N, F, H]`.
    pub teacher: Tensor,
    tails: Vec<Vec<u32>>,
    targets: Tensor,
}

impl<'a> Taught<'a> {
    /// Runs the teacher (the base with every adapter off) over whole windows.
    pub fn new(decoder: &Decoder, windows: &'a [Window]) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let tails: Vec<Vec<u32>> = windows.iter().map(|w| [w.local.as_slice(), &w.future].concat()).collect();
        let mut parts = Vec::new();
        for (batch, tails) in windows.chunks(ROWS_AT_ONCE).zip(tails.chunks(ROWS_AT_ONCE)) {
            let contexts: Vec<&[u32]> = batch.iter().map(|w| w.prefix.as_slice()).collect();
            let tails: Vec<&[u32]> = tails.iter().map(Vec::as_slice).collect();
            let future = batch.first().map_or(0, |w| w.future.len());
            parts.push(future_hidden(decoder, None, &contexts, &tails, future)?);
        }
        let futures: Vec<&[u32]> = windows.iter().map(|w| w.future.as_slice()).collect();
        Ok(Self { windows, teacher: Tensor::cat(&parts, 0), tails, targets: ids_2d(&futures, decoder.device())? })
    }

    /// Future tokens of a window.
    pub fn future(&self) -> usize {
        self.targets.size()[1] as usize
    }

    /// Hidden states `[R, F, H]` of a reader for rows (window, context), with gradient if the adapter has one, and the
    /// teacher's for the same rows.
    pub fn read(
        &self,
        decoder: &Decoder,
        adapter: Option<&ActiveAdapter>,
        rows: &[(usize, &[u32])],
    ) -> Result<(Tensor, Tensor)> {
        let contexts: Vec<&[u32]> = rows.iter().map(|(_, c)| *c).collect();
        let tails: Vec<&[u32]> = rows.iter().map(|(w, _)| self.tails[*w].as_slice()).collect();
        let reader = future_hidden(decoder, adapter, &contexts, &tails, self.future())?;
        Ok((reader, self.teacher.index_select(0, &self.indices(rows))))
    }

    fn indices(&self, rows: &[(usize, &[u32])]) -> Tensor {
        let indices: Vec<i64> = rows.iter().map(|(w, _)| *w as i64).collect();
        Tensor::from_slice(&indices).to_device(self.teacher.device())
    }

    /// What a reader makes of each (window, context).
    pub fn measure(
        &self,
        decoder: &Decoder,
        adapter: Option<&ActiveAdapter>,
        rows: &[(usize, &[u32])],
    ) -> Result<Vec<Reading>> {
        let _guard = tch::no_grad_guard();
        // Rows of like length together, so that little is padding.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&r| rows[r].1.len());
        let mut all = vec![Reading { kl: 0.0, nll: 0.0, top1_agreement: 0.0 }; rows.len()];
        let (f, h) = (self.future(), decoder.config().hidden_size);
        for batch in order.chunks(ROWS_AT_ONCE) {
            let picked: Vec<(usize, &[u32])> = batch.iter().map(|&r| rows[r]).collect();
            let (reader, teacher) = self.read(decoder, adapter, &picked)?;
            let head = Head::base(decoder.head());
            let (teacher, reader) = (teacher.reshape([-1, h]), reader.reshape([-1, h]));
            let targets = self.targets.index_select(0, &self.indices(&picked)).reshape([-1]);
            let found = vocab::distortion(Other { hidden: &teacher, head }, Other { hidden: &reader, head }, &targets)?;
            let (kl, logprob, agree) = (to_vec(&found.kl)?, to_vec(&found.logprob)?, to_vec(&found.agree)?);
            for (i, &r) in batch.iter().enumerate() {
                let span = i * f..(i + 1) * f;
                all[r] = Reading {
                    kl: mean(&kl[span.clone()]),
                    nll: -mean(&logprob[span.clone()]),
                    top1_agreement: mean(&agree[span]),
                };
            }
        }
        Ok(all)
    }
}

/// The gists of one window, with what the reader made of each and of nothing.
#[derive(Clone, Debug)]
pub struct Group {
    /// G sampled gists.
    pub gists: Vec<Gist>,
    /// The reader with each gist.
    pub readings: Vec<Reading>,
    /// The reader with the empty gist.
    pub empty: Reading,
}

/// Who samples and who reads in a rollout.
pub struct Roles<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// The policy's network and actions.
    pub policy: &'a GistPolicy<'a>,
    /// The compressor's weights.
    pub compressor: &'a ActiveAdapter,
    /// The reader's weights.
    pub reader: &'a ActiveAdapter,
}

/// Where a rollout stands: the coordinates of its draws.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Seed of the run.
    pub run_seed: u64,
    /// Step.
    pub step: u64,
    /// Windows before this batch within the step.
    pub first_example: u64,
}

/// Samples a group for every window and has each gist read.
pub fn collect(
    roles: &Roles,
    taught: &Taught,
    condition: Condition,
    group_size: usize,
    budget: usize,
    site: Site,
) -> Result<Vec<Group>> {
    let _guard = tch::no_grad_guard();
    let requests: Vec<Request> =
        taught.windows.iter().enumerate().map(|(i, w)| request(w, condition, site.first_example + i as u64)).collect();
    let draws =
        |r: usize, s: usize| uniforms(site.run_seed, site.step, site.first_example + r as u64, s as u64, budget);
    let sampled = roles.policy.sample(roles.compressor, &requests, group_size, budget, &Sampling::default(), draws)?;
    let v = roles.decoder.config().vocab_size;
    let mut contexts: Vec<(usize, Vec<u32>)> = Vec::new();
    for (w, gists) in sampled.iter().enumerate() {
        contexts.push((w, Vec::new()));
        contexts.extend(gists.iter().map(|gist| (w, reader_context(&gist.ids, true, v))));
    }
    let rows: Vec<(usize, &[u32])> = contexts.iter().map(|(w, c)| (*w, c.as_slice())).collect();
    let mut readings = taught.measure(roles.decoder, Some(roles.reader), &rows)?.into_iter();
    Ok(sampled
        .into_iter()
        .map(|gists| {
            let empty = readings.next().unwrap_or(Reading { kl: f64::NAN, nll: f64::NAN, top1_agreement: f64::NAN });
            let readings = readings.by_ref().take(gists.len()).collect();
            Group { gists, readings, empty }
        })
        .collect())
}

/// For every gist of every group, how much the reader's KL rises without each block of `block` tokens, nats a token.
pub fn block_values(
    decoder: &Decoder,
    reader: &ActiveAdapter,
    taught: &Taught,
    groups: &[Group],
    block: usize,
) -> Result<Vec<Vec<Vec<f64>>>> {
    let v = decoder.config().vocab_size;
    let mut contexts: Vec<(usize, Vec<u32>)> = Vec::new();
    for (w, gist) in groups.iter().enumerate().flat_map(|(w, group)| group.gists.iter().map(move |gist| (w, gist))) {
        for start in (0..gist.ids.len()).step_by(block) {
            let end = (start + block).min(gist.ids.len());
            contexts.push((w, reader_context(&[&gist.ids[..start], &gist.ids[end..]].concat(), true, v)));
        }
    }
    let rows: Vec<(usize, &[u32])> = contexts.iter().map(|(w, c)| (*w, c.as_slice())).collect();
    let mut without = taught.measure(decoder, Some(reader), &rows)?.into_iter();
    let mut values = |gist: &Gist, reading: &Reading| {
        without.by_ref().take(gist.ids.len().div_ceil(block)).map(|r| r.kl - reading.kl).collect()
    };
    Ok(groups
        .iter()
        .map(|group| group.gists.iter().zip(&group.readings).map(|(gist, reading)| values(gist, reading)).collect())
        .collect())
}
