//! What a reader makes of a context in the prefix's place, against the teacher that saw the prefix: windows with the
//! teacher's hidden states of their futures, and KL, likelihood and agreement of any reader with any context.

use crate::compressor::{Compressed, Request};
use crate::config::choices::Condition;
use crate::config::parts::Sampling;
use crate::data::Window;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::model::read::{Stem, control, future_hidden};
use crate::model::vocab::{self, Head, Other};
use crate::model::write::{Continuation, continuations};
use crate::rng::{self, Stream};
use crate::tensor::{ids_2d, mean, to_vecs};
use tch::{Device, Tensor};

/// Rows of one pass of a reader.
pub const ROWS_AT_ONCE: usize = 48;

/// `[N, 1, F]`.
fn true_futures(windows: &[Window], device: Device) -> Result<Tensor> {
    let futures: Vec<&[u32]> = windows.iter().map(|w| w.future.as_slice()).collect();
    Ok(ids_2d(&futures, device)?.unsqueeze(1))
}

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

/// Contexts of windows as rows to be read.
pub fn as_rows(contexts: &[(usize, Vec<u32>)]) -> Vec<(usize, &[u32])> {
    contexts.iter().map(|(window, ids)| (*window, ids.as_slice())).collect()
}

/// Every window with nothing in the prefix's place.
pub fn empty_rows(windows: usize) -> Vec<(usize, &'static [u32])> {
    (0..windows).map(|window| (window, [].as_slice())).collect()
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

/// Windows with the teacher's hidden states of their futures: the true one, or several that the teacher imagines.
pub struct Taught<'a> {
    /// The windows.
    pub windows: &'a [Window],
    /// Teacher's hidden states `[N, S * F, H]`.
    pub teacher: Tensor,
    /// `[N, S, F]`.
    futures: Tensor,
    imagined: bool,
}

/// How the teacher imagines futures.
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
}

impl<'a> Taught<'a> {
    /// Runs the teacher (the base with every adapter off) over whole windows.
    pub fn new(decoder: &Decoder, windows: &'a [Window]) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let futures = true_futures(windows, decoder.device())?;
        let mut taught = Self { windows, teacher: Tensor::new(), futures, imagined: false };
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
        let tokens = windows.first().map_or(0, |w| w.future.len());
        let (mut futures, mut teacher) = (Vec::new(), Vec::new());
        for (first, batch) in windows.chunks(ROWS_AT_ONCE).enumerate().map(|(i, batch)| (i * ROWS_AT_ONCE, batch)) {
            let prompts: Vec<Vec<u32>> = batch.iter().map(|w| [w.prefix.as_slice(), &w.local].concat()).collect();
            let stem = Stem::read(decoder, None, &prompts)?;
            let uniforms = |w: usize, sample: usize| {
                let mut draw = rng::rng(how.run_seed, Stream::Imagined, how.step, (first + w) as u64, sample as u64);
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
        Ok(Self { windows, teacher: Tensor::cat(&teacher, 0), futures: Tensor::cat(&futures, 0), imagined: true })
    }

    /// Predicted tokens of a window, over all its futures.
    pub fn future(&self) -> usize {
        (self.futures.size()[1] * self.futures.size()[2]) as usize
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
        if !self.imagined {
            let tail = |w: &'a Window| [w.local.as_slice(), &w.future].concat();
            let tails: Vec<Vec<u32>> = rows.iter().map(|(w, _)| tail(&self.windows[*w])).collect();
            let tails: Vec<&[u32]> = tails.iter().map(Vec::as_slice).collect();
            let contexts: Vec<&[u32]> = rows.iter().map(|(_, c)| *c).collect();
            return future_hidden(decoder, adapter, &contexts, &tails, self.future());
        }
        let heads: Vec<Vec<u32>> = rows.iter().map(|(w, c)| [*c, &self.windows[*w].local].concat()).collect();
        let futures = self.futures.index_select(0, &self.indices(rows));
        Stem::read(decoder, adapter, &heads)?.futures(decoder, adapter, &futures)
    }

    fn indices(&self, rows: &[(usize, &[u32])]) -> Tensor {
        let indices: Vec<i64> = rows.iter().map(|(w, _)| *w as i64).collect();
        Tensor::from_slice(&indices).to_device(self.futures.device())
    }

    /// What a reader makes of each (window, context).
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
        let (f, h) = (self.future(), decoder.config().hidden_size);
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
                    let span = i * f..(i + 1) * f;
                    all[r] = Reading {
                        kl: mean(&kl[span.clone()]),
                        nll: -mean(&logprob[span.clone()]),
                        top1_agreement: mean(&agree[span]),
                    };
                }
                start += run;
            }
        }
        Ok(all)
    }
}
