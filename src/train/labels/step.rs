//! One update of an extractive compressor towards labels: by ranking, or by keeping and dropping units as LLMLingua-2 does
//! with tokens (Pan et al. 2024, arXiv 2403.12968).
//!
//! Differs from LLMLingua-2 in that units may be words, sentences or spans, and that what is to be kept is the best units
//! that the budget holds, each weighted so that kept and dropped count alike (`positive_weight`), where it labels every token
//! by itself and weights none.

use crate::compressor::Request;
use crate::compressor::budget::ranking;
use crate::compressor::extractive::ExtractivePolicy;
use crate::config::distill::DistillLoss;
use crate::error::Result;
use crate::tensor::{floats, to_vec};
use crate::train::trainee::{Trainee, Update};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::Range;
use tch::{Kind, Reduction, Tensor};

/// Outcome of an update.
pub struct LabelUpdate {
    /// Mean loss of a prefix.
    pub loss: f64,
    /// Labels of the units that would be kept, as a share of the best that the budget holds.
    pub captured: f64,
}

/// A prefix with what each of its units is worth, and what may be kept of it.
pub struct LabelledPrefix<'a> {
    /// The request to the compressor.
    pub request: Request<'a>,
    /// Labels of the units, in nats a token or as shares.
    pub worth: &'a [f64],
    /// Tokens that may be kept.
    pub budget: usize,
}

/// The prefixes of one update, and how they are learned from.
pub struct LabelBatch<'a> {
    /// The prefixes.
    pub prefixes: &'a [LabelledPrefix<'a>],
    /// The loss.
    pub loss: DistillLoss,
    /// Prefixes of one pass.
    pub micro: usize,
}

/// One update of an extractive compressor.
pub fn label_step(
    policy: &ExtractivePolicy,
    compressor: &mut Trainee,
    batch: &LabelBatch,
    update: &Update<impl Serialize>,
) -> Result<LabelUpdate> {
    let (mut sum, mut kept, mut best) = (0.0, 0.0, 0.0);
    for part in batch.prefixes.chunks(batch.micro) {
        let active = compressor.active(policy.decoder)?;
        let requests: Vec<Request> = part.iter().map(|prefix| prefix.request).collect();
        let mut losses = Vec::new();
        for (own, LabelledPrefix { worth, budget, .. }) in policy.worths(&active, &requests)?.iter().zip(part) {
            let units = &own.prefix.units;
            losses.push(window_loss(&own.logits, units, worth, batch.loss, *budget)?);
            let scores = to_vec(&own.logits.detach())?;
            kept += gathered(&scores[..worth.len()], worth, units, *budget);
            best += gathered(worth, worth, units, *budget);
        }
        let total = Tensor::stack(&losses, 0).sum(Kind::Float) / batch.prefixes.len() as f64;
        policy.decoder.backward(&total, &active)?;
        sum += total.double_value(&[]);
    }
    if !sum.is_finite() {
        return Err(update.non_finite(format!("distillation loss ({sum})")));
    }
    compressor.step(update)?;
    Ok(LabelUpdate { loss: sum, captured: kept / best })
}

/// The loss of one window, a scalar.
fn window_loss(
    logits: &Tensor,
    units: &[Range<usize>],
    labels: &[f64],
    loss: DistillLoss,
    budget: usize,
) -> Result<Tensor> {
    let (device, count) = (logits.device(), labels.len());
    match loss {
        DistillLoss::Ranking { temperature } => {
            let raw: Vec<f64> = labels.iter().chain([&0.0]).map(|label| label / temperature).collect();
            let target = floats(&raw, device).softmax(-1, Kind::Float);
            Ok(-(target * logits.log_softmax(-1, Kind::Float)).sum(Kind::Float))
        }
        DistillLoss::Keep { positive_weight } => {
            let kept = best(labels, units, budget);
            let target: Vec<f64> =
                (0..count).map(|unit| if kept.contains(&unit) && labels[unit] > 0.0 { 1.0 } else { 0.0 }).collect();
            let positive = target.iter().sum::<f64>();
            let balanced = (count as f64 - positive) / positive.max(1.0);
            let weight = floats(&[positive_weight.unwrap_or(balanced)], device);
            let logits = logits.narrow(0, 0, count as i64) - logits.narrow(0, count as i64, 1);
            let target = floats(&target, device);
            Ok(logits.binary_cross_entropy_with_logits(&target, None::<Tensor>, Some(weight), Reduction::Mean))
        }
        DistillLoss::Listwise { keep_weight } => {
            let wanted: Vec<f64> = labels.iter().map(|label| f64::from(*label > 0.0)).collect();
            let positive = wanted.iter().sum::<f64>().max(1.0);
            let (wanted, units) = (floats(&wanted, device), logits.narrow(0, 0, count as i64));
            let list = -(&wanted * units.log_softmax(-1, Kind::Float)).sum(Kind::Float) / positive;
            let own = units - logits.narrow(0, count as i64, 1);
            let keep = own.binary_cross_entropy_with_logits(&wanted, None::<Tensor>, None::<Tensor>, Reduction::Mean);
            Ok(list + keep * keep_weight)
        }
    }
}

/// The units with the highest scores, as many as cover the budget.
fn best(scores: &[f64], units: &[Range<usize>], budget: usize) -> Vec<usize> {
    let mut covered = BTreeSet::new();
    let enough = |unit: &usize| {
        let open = covered.len() < budget;
        covered.extend(units[*unit].clone());
        open
    };
    ranking(scores).into_iter().take_while(enough).collect()
}

/// The labels, as far as they are above 0, of the units with the highest scores.
fn gathered(scores: &[f64], labels: &[f64], units: &[Range<usize>], budget: usize) -> f64 {
    best(scores, units, budget).into_iter().map(|unit| labels[unit].max(0.0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compressor::units::spans;

    fn value(logits: &[f64], labels: &[f64], loss: DistillLoss) -> f64 {
        let units = spans(2 * (logits.len() - 1), 2, 2);
        window_loss(&floats(logits, tch::Device::Cpu), &units, labels, loss, 2)
            .map_or(f64::NAN, |loss| loss.double_value(&[]))
    }

    #[test]
    fn ranking_is_lowest_at_labels_over_temperature_and_keep_at_the_best_units() {
        let ranking = DistillLoss::Ranking { temperature: 0.1 };
        let labels = [0.1, 0.3, -0.2];
        let right = value(&[1.0, 3.0, -2.0, 0.0], &labels, ranking);
        let p = [1.0f64, 3.0, -2.0, 0.0].map(f64::exp);
        let entropy: f64 = -p.iter().map(|x| x / p.iter().sum::<f64>()).map(|q| q * q.ln()).sum::<f64>();
        assert!((right - entropy).abs() < 1e-5);
        assert!(value(&[3.0, 1.0, -2.0, 0.0], &labels, ranking) > right);
        // Softmax over three units and not the end: 3/6, 2/6, 1/6, of which the first and the last are wanted.
        let logits = [3.0f64.ln(), 2.0f64.ln(), 0.0, 1.0f64.ln()];
        let list = (2.0f64.ln() + 6.0f64.ln()) / 2.0;
        let listwise = |keep_weight: f64| value(&logits, &[0.2, 0.0, 1.0], DistillLoss::Listwise { keep_weight });
        assert!((listwise(0.0) - list).abs() < 1e-5);
        // The odds of keeping are 3, 2 and 1.
        let keep = ((4.0f64 / 3.0).ln() + 3.0f64.ln() + 2.0f64.ln()) / 3.0;
        assert!((listwise(0.5) - list - 0.5 * keep).abs() < 1e-5);
        let keep = DistillLoss::Keep { positive_weight: None };
        // One of three kept: it weighs as much as the two others.
        let loss = |x: f64| (1.0 + (-x).exp()).ln();
        let expected = (2.0 * loss(4.0) + loss(-1.0) + loss(1.0)) / 3.0;
        assert!((value(&[2.0, 5.0, 0.0, 1.0], &labels, keep) - expected).abs() < 1e-5);
    }

    #[test]
    fn what_a_choice_gathers_of_the_labels() {
        let units = spans(8, 2, 2);
        let labels = [0.1, 0.4, -0.3, 0.2];
        assert!((gathered(&labels, &labels, &units, 4) - 0.6).abs() < 1e-12);
        assert!((gathered(&[3.0, 0.0, 2.0, 1.0], &labels, &units, 4) - 0.1).abs() < 1e-12);
        assert_eq!(best(&labels, &units, 3), [1, 3]);
    }
}
