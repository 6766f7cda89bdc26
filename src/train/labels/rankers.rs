//! Compressors that are compared on labelled texts beside the scorers of [`crate::compressor::scorers`]: the encoder that learns from them, and
//! the labels themselves.

use crate::compressor::budget::Controller;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::scored::Scored;
use crate::compressor::{Compressed, Compressor, Request};
use crate::error::Result;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::train::labels::example::LabelledExample;

/// Texts scored at once.
const TEXTS_AT_ONCE: usize = 16;

/// A compressor that keeps the labelled units first, which is all that the budget allows.
pub struct LabelOrder<'a> {
    /// Name in tables.
    pub name: &'static str,
    /// Units and tokenizer.
    pub policy: &'a ExtractivePolicy<'a>,
    /// The examples, by the keys of the requests.
    pub examples: &'a [LabelledExample],
}

impl Compressor for LabelOrder<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let keep = |request: &Request| {
            let prefix = Scored::new(request, self.policy.unit, self.policy.tokenizer)?;
            Ok(Controller::default().keep(&prefix, &self.examples[request.key as usize].worth, budget))
        };
        requests.iter().map(keep).collect()
    }
}

/// An extractive compressor that fills its budget: units by their worth, whatever it thinks of the end.
pub struct Ranker<'a> {
    name: &'static str,
    policy: &'a ExtractivePolicy<'a>,
    active: ActiveAdapter,
}

impl<'a> Ranker<'a> {
    /// The ranker with these weights.
    pub fn new(name: &'static str, policy: &'a ExtractivePolicy<'a>, adapter: &Adapter) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        Ok(Self { name, policy, active: policy.decoder.activate(adapter, false)? })
    }
}

impl Compressor for Ranker<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        Ok(self.compress_each(requests, &[budget])?.remove(0))
    }

    fn compress_each(&self, requests: &[Request], budgets: &[usize]) -> Result<Vec<Vec<Compressed>>> {
        let _guard = tch::no_grad_guard();
        let controller = Controller::default();
        let mut all = vec![Vec::with_capacity(requests.len()); budgets.len()];
        for batch in requests.chunks(TEXTS_AT_ONCE) {
            let scored = self.policy.scored(&self.active, batch)?;
            for (&budget, made) in budgets.iter().zip(&mut all) {
                made.extend(scored.iter().map(|(prefix, scores)| controller.keep(prefix, scores, budget)));
            }
        }
        Ok(all)
    }
}
