//! Held-out figures of pretraining: loss, bits per byte, loss by context position, induction, and how much
//! the base changes its mind when the prefix is taken away.

use crate::config::pretrain::PretrainConfig;
use crate::data::{self, WindowShape};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::decoder::Decoder;
use crate::model::read::{self, future_hidden};
use crate::model::vocab::{self, Head, Other};
use crate::rng::{self, Stream};
use crate::tensor::{ids_2d, mean, to_vec};
use crate::tokenizer::Tokenizer;
use serde::Serialize;
use std::fmt;

const BINS: usize = 8;
const LOCALS: [usize; 4] = [32, 48, 64, 96];
const FUTURE: usize = 32;
const ROWS_AT_ONCE: usize = 16;

/// Held-out figures of a base.
#[derive(Clone, Debug, Serialize)]
pub struct BaseFigures {
    /// Mean loss, nats a token.
    pub loss: f64,
    /// Mean loss in bits a byte of text.
    pub bits_per_byte: f64,
    /// Mean loss in eighths of the row, from no context to a whole row of it.
    pub loss_by_position: Vec<f64>,
    /// Mean loss on a random sequence and on its immediate repetition; equal for a model without induction.
    pub induction: (f64, f64),
    /// Mean loss on spans of real text put together from the first half of the row: copying where tokens recur.
    pub collage: f64,
    /// Mean KL(full ‖ local only) over 32 future tokens, for each length of local window: unadapted.
    pub context_value_unadapted: Vec<(usize, f64)>,
}

impl BaseFigures {
    /// The figures as metrics.
    pub fn metrics(&self) -> Metrics {
        const POSITIONS: [&str; BINS] = [
            "eval/loss_position_1of8",
            "eval/loss_position_2of8",
            "eval/loss_position_3of8",
            "eval/loss_position_4of8",
            "eval/loss_position_5of8",
            "eval/loss_position_6of8",
            "eval/loss_position_7of8",
            "eval/loss_position_8of8",
        ];
        const VALUES: [&str; 4] = [
            "eval/context_value_local_32",
            "eval/context_value_local_48",
            "eval/context_value_local_64",
            "eval/context_value_local_96",
        ];
        let mut metrics = Metrics::from([("eval/loss", self.loss), ("eval/bits_per_byte", self.bits_per_byte)]);
        metrics.extend(POSITIONS.into_iter().zip(self.loss_by_position.iter().copied()));
        metrics.push("eval/induction_first", self.induction.0);
        metrics.push("eval/induction_second", self.induction.1);
        metrics.push("eval/collage", self.collage);
        metrics.extend(VALUES.into_iter().zip(self.context_value_unadapted.iter().map(|(_, v)| *v)));
        metrics
    }
}

impl fmt::Display for BaseFigures {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let list = |xs: &[f64]| xs.iter().map(|x| format!("{x:.2}")).collect::<Vec<_>>().join(" ");
        write!(f, "held-out {:.3} nats/token, {:.3} bits/byte", self.loss, self.bits_per_byte)?;
        write!(f, " · by position {}", list(&self.loss_by_position))?;
        write!(f, " · induction {:.2} → {:.2}", self.induction.0, self.induction.1)?;
        write!(f, " · collage {:.2}", self.collage)?;
        let values: Vec<String> = self.context_value_unadapted.iter().map(|(l, v)| format!("{v:.3} (L {l})")).collect();
        write!(f, " · KL(full ‖ local) {}", values.join(", "))
    }
}

/// Fixed held-out rows and windows.
pub struct Evaluator {
    rows: Vec<Vec<u32>>,
    bytes: usize,
    windows: Vec<(usize, Vec<data::Window>)>,
    random: Vec<Vec<u32>>,
    collages: Vec<Vec<u32>>,
}

impl Evaluator {
    /// Chooses the rows once: the same for every evaluation of a run.
    pub fn new(config: &PretrainConfig, tokenizer: &Tokenizer, documents: &[Vec<u32>]) -> Result<Self> {
        let t = config.rows.tokens;
        let count = config.train.eval_rows;
        let shape = WindowShape { prefix: t - 1, local: 1, future: 1 };
        let rows: Vec<Vec<u32>> =
            data::held_out_windows(documents, shape, count, 4, config.seed)?.into_iter().map(|w| w.whole()).collect();
        let mut bytes = 0;
        for row in &rows {
            bytes += tokenizer.read(row)?.bytes(&(1..row.len())).len();
        }
        let mut windows = Vec::new();
        // Windows as long as a row, so those that leave it some prefix; of short rows the shortest, with one token.
        for local in LOCALS.into_iter().filter(|&local| local == LOCALS[0] || local + FUTURE < t) {
            let shape = WindowShape { prefix: t.saturating_sub(local + FUTURE).max(1), local, future: FUTURE };
            windows.push((local, data::held_out_windows(documents, shape, count, 4, config.seed)?));
        }
        let first = tokenizer.special_ids().len();
        let random = (0..16)
            .map(|r| {
                let mut draw = rng::rng(config.seed, Stream::Synthetic, 0, r, 0);
                let half: Vec<u32> = (0..t / 2)
                    .map(|_| (first + rng::below(&mut draw, tokenizer.vocab_size() - first)) as u32)
                    .collect();
                [half.clone(), half].concat()
            })
            .collect();
        let mark = tokenizer.require_end_of_text()?;
        let mut collages = rows.clone();
        for (r, row) in collages.iter_mut().enumerate() {
            data::with_collage(row, mark, &mut rng::rng(config.seed, Stream::Synthetic, 1, r as u64, 0));
        }
        Ok(Self { rows, bytes, windows, random, collages })
    }

    /// All figures for a decoder.
    pub fn measure(&self, decoder: &Decoder) -> Result<BaseFigures> {
        let _guard = tch::no_grad_guard();
        let losses = row_losses(decoder, &self.rows)?;
        let all: Vec<f64> = losses.concat();
        let width = losses.first().map_or(1, Vec::len);
        let loss_by_position = (0..BINS)
            .map(|b| {
                let (start, end) = (b * width / BINS, ((b + 1) * width / BINS).max(b * width / BINS + 1));
                mean(&losses.iter().flat_map(|row| row[start..end.min(width)].to_vec()).collect::<Vec<_>>())
            })
            .collect();
        let copies = row_losses(decoder, &self.random)?;
        let half = self.random.first().map_or(1, |r| r.len() / 2);
        let split = |range: std::ops::Range<usize>| {
            mean(&copies.iter().flat_map(|row| row[range.clone()].to_vec()).collect::<Vec<_>>())
        };
        let induction = (split(0..half - 1), split(half..2 * half - 1));
        let collages = row_losses(decoder, &self.collages)?;
        let half = self.collages.first().map_or(0, |row| row.len() / 2);
        let collage = mean(&collages.iter().flat_map(|row| row[half + 1..].to_vec()).collect::<Vec<_>>()); // past the mark
        let mut context_value_unadapted = Vec::new();
        for (local, windows) in &self.windows {
            context_value_unadapted.push((*local, mean(&local_only_kl(decoder, windows)?)));
        }
        Ok(BaseFigures {
            loss: mean(&all),
            bits_per_byte: all.iter().sum::<f64>() / self.bytes as f64 / std::f64::consts::LN_2,
            loss_by_position,
            induction,
            collage,
            context_value_unadapted,
        })
    }
}

/// −log p of every token but the first, a row at a time.
fn row_losses(decoder: &Decoder, rows: &[Vec<u32>]) -> Result<Vec<Vec<f64>>> {
    let mut all = Vec::with_capacity(rows.len());
    for batch in rows.chunks(ROWS_AT_ONCE) {
        let (ids, pad) = read::rows(decoder, batch)?;
        let (begin, t) = (decoder.begin().len() as i64, batch[0].len() as i64 - 1);
        let hidden = decoder.forward(&ids.narrow(1, 0, begin + t), &pad, None)?.narrow(1, begin, t);
        let flat = hidden.reshape([-1, decoder.config().hidden_size]);
        let targets = ids.narrow(1, begin + 1, t).reshape([-1]).to_device(decoder.device());
        let stats = vocab::token_stats(&flat, &targets, Head::base(decoder.head()), None)?;
        all.extend(to_vec(&stats.logprob)?.chunks(t as usize).map(|row| row.iter().map(|x| -x).collect()));
    }
    Ok(all)
}

/// KL(full context ‖ local window only) of each window, without any adapter.
fn local_only_kl(decoder: &Decoder, windows: &[data::Window]) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for batch in windows.chunks(ROWS_AT_ONCE) {
        let tails: Vec<Vec<u32>> =
            batch.iter().map(|w| [w.probe().local.as_slice(), &w.probe().future].concat()).collect();
        let tails: Vec<&[u32]> = tails.iter().map(Vec::as_slice).collect();
        let full: Vec<&[u32]> = batch.iter().map(|w| w.prefix.as_slice()).collect();
        let none: Vec<&[u32]> = vec![&[]; batch.len()];
        let futures: Vec<&[u32]> = batch.iter().map(|w| w.probe().future.as_slice()).collect();
        let flat = |contexts: &[&[u32]]| -> Result<tch::Tensor> {
            Ok(future_hidden(decoder, None, contexts, &tails, FUTURE)?.reshape([-1, decoder.config().hidden_size]))
        };
        let (teacher, local) = (flat(&full)?, flat(&none)?);
        let head = Head::base(decoder.head());
        let targets = ids_2d(&futures, decoder.device())?.reshape([-1]);
        let measured = vocab::distortion(Other { hidden: &teacher, head }, Other { hidden: &local, head }, &targets)?;
        all.extend(to_vec(&measured.kl)?.chunks(FUTURE).map(mean));
    }
    Ok(all)
}
