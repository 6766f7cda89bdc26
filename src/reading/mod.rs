//! Readings of a context in the prefix's place, against the teacher that saw the prefix: windows with the
//! teacher's hidden states of their futures, and KL, likelihood and agreement of any reader with any context.
//!
//! A future ends with its first end-of-text, which is still predicted; what the teacher went on to write after it counts
//! nowhere. Means are taken over the tokens of a future, then over the futures of a window: its imagined ones, or those of its
//! probes.
//!
//! ```text
//! one probe       context  local  future                   one row, the true future
//! imagined        context  local ┬ future 1                one row, a branch for each future
//!                                └ future 2
//! several probes  context ┬ local 1  future 1              one row, a branch for each probe
//!                         └ local 2  future 2
//! ```
//! `context` is the prefix or what stands for it, behind the frame of the window.

mod answers;
mod probes;
pub mod span;

pub use answers::{AnswerShape, answer, answer_texts};

use crate::compressor::{Compressed, Request};
use crate::config::choices::Condition;
use crate::config::parts::Sampling;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::model::read::{Stem, control, future_hidden};
use crate::model::vocab::{self, Head, Other};
use crate::model::write::{Continuation, continuations};
use crate::reading::probes::Probes;
use crate::rng::{self, Stream};
use crate::tensor::{ids_2d, mean, to_vecs};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

/// Rows of one pass of a reader.
pub const ROWS_AT_ONCE: usize = 48;

/// `[N, 1, F]`.
fn true_futures(windows: &[Window], device: Device) -> Result<Tensor> {
    let futures: Vec<&[u32]> = windows.iter().map(|w| w.probe().future.as_slice()).collect();
    Ok(ids_2d(&futures, device)?.unsqueeze(1))
}

/// The request to a compressor that may see what `condition` says of `window`.
pub fn request<'a>(window: &'a Window, condition: Condition, key: u64) -> Request<'a> {
    let probe = window.probe();
    let (local, query): (&[u32], &[u32]) = match condition {
        Condition::None => (&[], &[]),
        Condition::Local => (&probe.local, &[]),
        Condition::Query => (&[], &probe.query),
    };
    Request { prefix: &window.prefix, local, query, key }
}

/// The ids that a reader gets before the local window: the gist and a separator. No separator after nothing, after what runs
/// on into the local window, or for the bare base, which has none.
pub fn reader_context(gist: &[u32], separated: bool, v: i64) -> Vec<u32> {
    let mut context = gist.to_vec();
    if separated && !gist.is_empty() {
        context.push(control::separator(v));
    }
    context
}

/// Like [`reader_context`], for the output of a compressor.
pub fn compressed_context(compressed: &Compressed, adapted: bool, v: i64) -> Vec<u32> {
    reader_context(&compressed.ids, adapted && !compressed.joined, v)
}

/// Contexts of windows as rows to be read.
pub fn as_rows(contexts: &[(usize, Vec<u32>)]) -> Vec<(usize, &[u32])> {
    contexts.iter().map(|(window, ids)| (*window, ids.as_slice())).collect()
}

/// One row for each window, with an empty context in the prefix's place.
pub fn empty_rows(windows: usize) -> Vec<(usize, &'static [u32])> {
    (0..windows).map(|window| (window, [].as_slice())).collect()
}

/// A reader's figures on one window, each the mean over the tokens of its futures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// KL(teacher ‖ reader), nats a token.
    pub kl: f64,
    /// −log p of the future, nats a token.
    pub nll: f64,
    /// Share of future tokens where both put the same token first.
    pub top1_agreement: f64,
}

/// Windows with the teacher's hidden states of their futures: the true one, or several that the teacher imagines.
pub struct Taught<'a> {
    /// The windows.
    pub windows: &'a [Window],
    /// Teacher's hidden states `[N, S * F, H]`.
    pub teacher: Tensor,
    /// Ids of the futures, `[N, S, F]`.
    futures: Tensor,
    /// Tokens of each future up to its end, window by window, `S` of each; 0 where a window has fewer.
    lengths: Vec<usize>,
    layout: Layout,
}

/// Rows in which futures are read.
enum Layout {
    /// Context, local window and future in one row.
    Whole,
    /// Context and local window in one row, a branch for each imagined future.
    Imagined,
    /// Context in one row, a branch for local window and future of each probe.
    Probes(Box<Probes>),
}

/// Tokens of each future in `[N, S, F]` up to and including the first of `ends`; all F where there is none.
fn lengths(futures: &Tensor, ends: &[i64]) -> Result<Vec<usize>> {
    let width = *futures.size().last().unwrap_or(&0) as usize;
    if width == 0 {
        return Err(Error::shape("futures", "at least one token", width));
    }
    let ids = Vec::<i64>::try_from(futures.to_device(Device::Cpu).reshape([-1]))?;
    let length = |future: &[i64]| future.iter().position(|id| ends.contains(id)).map_or(width, |end| end + 1);
    Ok(ids.chunks(width).map(length).collect())
}

/// Settings for the futures that the teacher imagines (samples).
#[derive(Clone, Copy, Debug)]
pub struct Imagined {
    /// Imagined futures a window.
    pub samples: usize,
    /// Whether the true future stands beside them.
    pub beside_true: bool,
    /// Seed of the run.
    pub run_seed: u64,
    /// Step; each window and sample has its own draws.
    pub step: u64,
    /// Windows before these within the step.
    pub first_example: usize,
}

impl<'a> Taught<'a> {
    /// Runs the teacher (the base with every adapter off) over whole windows.
    pub fn new(decoder: &Decoder, windows: &'a [Window]) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let mut taught = match Probes::alike(windows) {
            true => {
                let futures = true_futures(windows, decoder.device())?;
                let lengths = lengths(&futures, decoder.config().end_ids())?;
                Self { windows, teacher: Tensor::new(), futures, lengths, layout: Layout::Whole }
            }
            false => {
                let probes = Probes::new(windows, decoder)?;
                let (futures, lengths) = (probes.futures(windows)?, probes.lengths.clone());
                Self { windows, teacher: Tensor::new(), futures, lengths, layout: Layout::Probes(Box::new(probes)) }
            }
        };
        let mut parts = Vec::new();
        for start in (0..windows.len()).step_by(ROWS_AT_ONCE) {
            let rows: Vec<(usize, &[u32])> =
                (start..windows.len().min(start + ROWS_AT_ONCE)).map(|w| (w, windows[w].prefix.as_slice())).collect();
            parts.push(taught.hidden(decoder, None, &rows)?);
        }
        taught.teacher = Tensor::cat(&parts, 0);
        Ok(taught)
    }

    /// Runs the teacher over windows and futures that it samples after prefix and local window, beside the true one or in
    /// its place, and as long: what a context is worth on average, rather than in the one case that came about.
    pub fn imagined(decoder: &Decoder, windows: &'a [Window], how: Imagined) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let tokens = windows.first().map_or(0, |w| w.probe().future.len());
        let (mut futures, mut teacher) = (Vec::new(), Vec::new());
        for (first, batch) in windows.chunks(ROWS_AT_ONCE).enumerate().map(|(i, batch)| (i * ROWS_AT_ONCE, batch)) {
            let prompt = |w: &Window| [&w.frame[..], &w.prefix, &w.probe().local].concat();
            let prompts: Vec<Vec<u32>> = batch.iter().map(prompt).collect();
            let stem = Stem::read(decoder, None, &prompts)?;
            let uniforms = |w: usize, sample: usize| {
                let example = (how.first_example + first + w) as u64;
                let mut draw = rng::rng(how.run_seed, Stream::Imagined, how.step, example, sample as u64);
                (0..tokens).map(|_| rng::uniform(&mut draw)).collect()
            };
            let sampling = Sampling::default();
            let wanted = Continuation { samples: how.samples, tokens, how: &sampling, forbidden: &[] };
            let mut own = continuations(decoder, &stem, wanted, uniforms)?;
            if how.beside_true {
                own = Tensor::cat(&[true_futures(batch, decoder.device())?, own], 1);
            }
            teacher.push(stem.futures(decoder, None, &own)?);
            futures.push(own);
        }
        let (teacher, futures) = (Tensor::cat(&teacher, 0), Tensor::cat(&futures, 0));
        let lengths = lengths(&futures, decoder.config().end_ids())?;
        Ok(Self { windows, teacher, futures, lengths, layout: Layout::Imagined })
    }

    /// NLL of a window's futures under the teacher itself, nats a token.
    pub fn teacher_nll(&self, decoder: &Decoder) -> Result<Vec<f64>> {
        let _guard = tch::no_grad_guard();
        let ((samples, tokens), h) = (self.shape(), decoder.config().hidden_size);
        let (head, predicted) = (Head::base(decoder.head()), samples * tokens);
        let mut all = Vec::with_capacity(self.windows.len());
        for start in (0..self.windows.len()).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(self.windows.len() - start);
            let of = |all: &Tensor| all.narrow(0, start as i64, count as i64);
            let (hidden, targets) = (of(&self.teacher).reshape([-1, h]), of(&self.futures).reshape([-1]));
            let teacher = || Other { hidden: &hidden, head };
            let [logprob] = to_vecs([&vocab::distortion(teacher(), teacher(), &targets)?.logprob])?;
            let own = |i: usize| -self.mean(start + i, &logprob[i * predicted..(i + 1) * predicted]);
            all.extend((0..count).map(own));
        }
        Ok(all)
    }

    /// S and F: futures of a window, and tokens of each where none ends early.
    fn shape(&self) -> (usize, usize) {
        (self.futures.size()[1] as usize, self.futures.size()[2] as usize)
    }

    /// Tokens of each future of a window up to its end.
    fn lengths(&self, window: usize) -> &[usize] {
        let (samples, _) = self.shape();
        &self.lengths[window * samples..(window + 1) * samples]
    }

    /// The futures of a window as ids, each up to its end.
    pub fn futures(&self, window: usize) -> Result<Vec<Vec<u32>>> {
        let (_, tokens) = self.shape();
        let ids = Vec::<i64>::try_from(self.futures.get(window as i64).to_device(Device::Cpu).reshape([-1]))?;
        let ends = ids.chunks(tokens).zip(self.lengths(window)).filter(|(_, length)| **length > 0);
        Ok(ends.map(|(future, &length)| future[..length].iter().map(|&id| id as u32).collect()).collect())
    }

    /// The weight of every token of `rows` `[R * S * F]` in a mean over `of` rows: equal for the tokens of a future, for the
    /// futures of a row and for the rows; 0 after the end of a future.
    pub fn token_weights(&self, rows: &[(usize, &[u32])], of: usize) -> Vec<f64> {
        let (_, tokens) = self.shape();
        let mut weights = Vec::new();
        for lengths in rows.iter().map(|(window, _)| self.lengths(*window)) {
            let futures = lengths.iter().filter(|&&length| length > 0).count();
            for &length in lengths {
                let weight = 1.0 / (of * futures * length) as f64;
                weights.extend((0..tokens).map(|token| if token < length { weight } else { 0.0 }));
            }
        }
        weights
    }

    /// Mean of the figures of a window's tokens `[S * F]`.
    fn mean(&self, window: usize, figures: &[f64]) -> f64 {
        let ((_, tokens), lengths) = (self.shape(), self.lengths(window));
        if lengths.iter().all(|&length| length == tokens) {
            return mean(figures); // futures of one length: one mean
        }
        let futures = figures.chunks(tokens).zip(lengths).filter(|(_, length)| **length > 0);
        mean(&futures.map(|(own, &length)| mean(&own[..length])).collect::<Vec<_>>())
    }

    /// Hidden states `[R, S * F, H]` of a reader for rows (window, context), with gradient if the adapter has one, and the
    /// teacher's for the same rows.
    pub fn read(
        &self,
        decoder: &Decoder,
        adapter: Option<&ActiveAdapter>,
        rows: &[(usize, &[u32])],
    ) -> Result<(Tensor, Tensor)> {
        Ok((self.hidden(decoder, adapter, rows)?, self.teacher.index_select(0, &self.indices(rows))))
    }

    fn hidden(&self, decoder: &Decoder, adapter: Option<&ActiveAdapter>, rows: &[(usize, &[u32])]) -> Result<Tensor> {
        let framed = |&(w, context): &(usize, &[u32])| [&self.windows[w].frame[..], context].concat();
        match &self.layout {
            Layout::Whole => {
                let tail = |w: &'a Window| [w.probe().local.as_slice(), &w.probe().future].concat();
                let tails: Vec<Vec<u32>> = rows.iter().map(|(w, _)| tail(&self.windows[*w])).collect();
                let tails: Vec<&[u32]> = tails.iter().map(Vec::as_slice).collect();
                let contexts: Vec<Vec<u32>> = rows.iter().map(framed).collect();
                let contexts: Vec<&[u32]> = contexts.iter().map(Vec::as_slice).collect();
                future_hidden(decoder, adapter, &contexts, &tails, self.shape().1)
            }
            Layout::Imagined => {
                let head = |row: &(usize, &[u32])| [framed(row), self.windows[row.0].probe().local.clone()].concat();
                let heads: Vec<Vec<u32>> = rows.iter().map(head).collect();
                let futures = self.futures.index_select(0, &self.indices(rows));
                Stem::read(decoder, adapter, &heads)?.futures(decoder, adapter, &futures)
            }
            Layout::Probes(probes) => {
                let contexts: Vec<(usize, Vec<u32>)> = rows.iter().map(|row| (row.0, framed(row))).collect();
                probes.hidden(decoder, adapter, &contexts)
            }
        }
    }

    fn indices(&self, rows: &[(usize, &[u32])]) -> Tensor {
        let indices: Vec<i64> = rows.iter().map(|(w, _)| *w as i64).collect();
        Tensor::from_slice(&indices).to_device(self.futures.device())
    }

    /// Figures of a reader on each (window, context).
    pub fn measure(
        &self,
        decoder: &Decoder,
        adapter: Option<&ActiveAdapter>,
        rows: &[(usize, &[u32])],
    ) -> Result<Vec<Reading>> {
        let _guard = tch::no_grad_guard();
        // Rows of a window together, which share the teacher; of those, rows of like length, so that little is padding.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&r| (rows[r].0, rows[r].1.len()));
        let mut all = vec![Reading { kl: 0.0, nll: 0.0, top1_agreement: 0.0 }; rows.len()];
        let ((samples, tokens), h) = (self.shape(), decoder.config().hidden_size);
        let head = Head::base(decoder.head());
        for batch in order.chunks(ROWS_AT_ONCE) {
            let picked: Vec<(usize, &[u32])> = batch.iter().map(|&r| rows[r]).collect();
            let reader = self.hidden(decoder, adapter, &picked)?;
            let mut runs: Vec<usize> = batch.chunk_by(|&a, &b| rows[a].0 == rows[b].0).map(<[usize]>::len).collect();
            if runs.len() == batch.len() {
                runs = vec![batch.len()]; // no two of one window: all in one go, each with its own teacher
            }
            let mut start = 0;
            for run in runs {
                let shared = rows[batch[start]].0 == rows[batch[start + run - 1]].0;
                let own = &picked[start..start + if shared { 1 } else { run }];
                let teacher = self.teacher.index_select(0, &self.indices(own)).reshape([-1, h]);
                let targets = self.futures.index_select(0, &self.indices(own)).reshape([-1]);
                let reader = reader.narrow(0, start as i64, run as i64).reshape([-1, h]);
                let (teacher, reader) = (Other { hidden: &teacher, head }, Other { hidden: &reader, head });
                let found = vocab::distortion(teacher, reader, &targets)?;
                let [kl, logprob, agree] = to_vecs([&found.kl, &found.logprob, &found.agree])?;
                for (i, &r) in batch[start..start + run].iter().enumerate() {
                    let own = |figures: &[f64]| {
                        let predicted = samples * tokens;
                        self.mean(rows[r].0, &figures[i * predicted..(i + 1) * predicted])
                    };
                    all[r] = Reading { kl: own(&kl), nll: -own(&logprob), top1_agreement: own(&agree) };
                }
                start += run;
            }
        }
        Ok(all)
    }
}
