//! Validation of the roles of a session: greedy gists, the most recent tokens and nothing at all, on the same held-out
//! windows.

use crate::compressor::budget::recent;
use crate::compressor::policy::{Policy, Trained};
use crate::compressor::{Compressed, Compressor};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::lora::Adapter;
use crate::reading::{Taught, as_rows, compressed_context, request};
use crate::tensor::mean;
use crate::train::inputs::Inputs;
use std::cell::OnceCell;

/// Means over the validation windows, KL in nats a future token.
#[derive(Clone, Copy, Debug)]
pub struct Validation {
    /// KL of the reader adapted to nothing, reading nothing.
    pub context_value: f64,
    /// KL of the generator reading nothing.
    pub kl_empty: f64,
    /// KL of the generator reading the most recent tokens of the prefix, as many as the budget: hard to beat.
    pub kl_recent: f64,
    /// KL of the generator reading the greedy gist.
    pub kl: f64,
    /// keep_ratio of the greedy gist.
    pub keep_ratio: f64,
}

impl Validation {
    /// The figures, to be told to other ranks.
    pub fn numbers(&self) -> [f64; 5] {
        [self.context_value, self.kl_empty, self.kl_recent, self.kl, self.keep_ratio]
    }

    /// The figures as [`Validation::numbers`] gave them.
    pub fn of_numbers([context_value, kl_empty, kl_recent, kl, keep_ratio]: [f64; 5]) -> Self {
        Self { context_value, kl_empty, kl_recent, kl, keep_ratio }
    }
}

/// The roles that are validated.
pub struct Validated<'a> {
    /// Network and actions of the compressor.
    pub policy: &'a Policy<'a>,
    /// The compressor that is judged.
    pub compressor: &'a Adapter,
    /// The generator.
    pub generator: &'a Adapter,
    /// The reader that was adapted to nothing.
    pub empty_reader: &'a Adapter,
}

/// Measures on the validation windows. The teacher reads them once: `taught` keeps its hidden states.
pub fn validate<'w>(inputs: Inputs<'w>, taught: &OnceCell<Taught<'w>>, roles: &Validated) -> Result<Validation> {
    let Inputs { config, models, windows } = inputs;
    let (decoder, valid, budget) = (&models.decoder, &windows.valid, inputs.budget());
    let v = decoder.config().vocab_size;
    let taught = match taught.get() {
        Some(taught) => taught,
        None => {
            let read = Taught::new(decoder, valid)?;
            taught.get_or_init(|| read)
        }
    };
    let greedy = Trained::greedy("gist", roles.policy, roles.compressor, config.seed);
    let requests: Vec<_> = valid.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
    let gists = greedy.compress(&requests, budget)?;
    let mut last = Vec::with_capacity(valid.len());
    for window in valid {
        let ids = recent(&models.tokenizer, &window.prefix, budget)?.to_vec();
        last.push(Compressed { ids, ..Compressed::default() });
    }
    let contexts = |made: &[Compressed]| made.iter().map(|c| compressed_context(c, true, v)).collect::<Vec<_>>();
    let kl = |reader: &Adapter, contexts: Vec<Vec<u32>>| -> Result<f64> {
        let contexts: Vec<(usize, Vec<u32>)> = contexts.into_iter().enumerate().collect();
        let readings = taught.measure(decoder, Some(&decoder.activate(reader, false)?), &as_rows(&contexts))?;
        Ok(mean(&readings.iter().map(|r| r.kl).collect::<Vec<_>>()))
    };
    let nothing = || vec![Vec::new(); valid.len()];
    let tokens: usize = gists.iter().map(|g| g.ids.len()).sum();
    Ok(Validation {
        context_value: kl(roles.empty_reader, nothing())?,
        kl_empty: kl(roles.generator, nothing())?,
        kl_recent: kl(roles.generator, contexts(&last))?,
        kl: kl(roles.generator, contexts(&gists))?,
        keep_ratio: tokens as f64 / (valid.len() * windows.shape.prefix) as f64,
    })
}

impl Validation {
    /// 1 − kl / context_value.
    pub fn gap_closed(&self) -> f64 {
        1.0 - self.kl / self.context_value
    }

    /// 1 − kl_recent / context_value.
    pub fn gap_closed_recent(&self) -> f64 {
        1.0 - self.kl_recent / self.context_value
    }

    /// The figures as metrics.
    pub fn metrics(&self) -> Metrics {
        Metrics::from([
            ("eval/context_value", self.context_value),
            ("eval/kl_empty", self.kl_empty),
            ("eval/kl", self.kl),
            ("eval/gap_closed", self.gap_closed()),
            ("eval/gap_closed_recent", self.gap_closed_recent()),
            ("eval/keep_ratio", self.keep_ratio),
        ])
    }
}

impl std::fmt::Display for Validation {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(
            f,
            "validation: gap_closed {:.3} (recent tokens {:.3}) · KL {:.4} with gist, {:.4} without, context value {:.4} · \
             keep_ratio {:.3}",
            self.gap_closed(),
            self.gap_closed_recent(),
            self.kl,
            self.kl_empty,
            self.context_value,
            self.keep_ratio
        )
    }
}
