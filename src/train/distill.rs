//! Distillation of an extractive compressor from labels ([`label`]): by ranking, or by keeping and dropping units as
//! LLMLingua-2 does with tokens. Readers stay as they are.

use crate::compressor::Request;
use crate::compressor::budget::ranking;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::policy::Policy;
use crate::config::distill::DistillLoss;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::reading::request;
use crate::rng::{self, Stream};
use crate::tensor::{floats, to_vec};
use crate::train::label;
use crate::train::progress::Progress;
use crate::train::session::Session;
use crate::train::trainee::{Place, Trainee};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::Range;
use tch::{Kind, Reduction, Tensor};

/// Draws of the order of windows.
const DISTILL_STEP: u64 = 1 << 44;

/// Runs whatever is left of the distillation that the experiment asks for.
pub fn run(session: &mut Session) -> Result<()> {
    let inputs = session.inputs;
    let (config, distill) = (inputs.config, &inputs.config.distill);
    let updates = distill.updates();
    let Policy::Extractive(policy) = &session.policy else { return Ok(()) };
    if session.state.update >= updates {
        return Ok(());
    }
    let labels = match &distill.labels_from {
        Some(folder) => label::read(inputs, folder)?,
        None => {
            let reader = config.warm_start.from.is_some().then_some(&session.generator.adapter);
            label::make(inputs, policy, reader, &session.run.root().join("labels"), || session.check_stop())?
        }
    };
    let asked = labels.len();
    let (mut labelled, dropped) = label::aligned(inputs, policy, labels)?;
    if dropped > 0 {
        eprintln!("labels: {dropped} of {asked} windows do not fit this text and these units, and are left out");
    }
    labelled.truncate(distill.windows);
    if labelled.is_empty() {
        return Err(Error::invalid(format!(
            "labels: expected some that fit this text and these units, got {asked} others"
        )));
    }
    let per_epoch = labelled.len().div_ceil(distill.batch);
    let progress = Progress::new("distill", updates, session.state.update);
    while session.state.update < updates {
        let number = session.state.update;
        let clock = std::time::Instant::now();
        let (epoch, batch) = (number / per_epoch, number % per_epoch);
        let mut draw = rng::rng(config.seed, Stream::Data, DISTILL_STEP, epoch as u64, 0);
        let order = rng::choose(&mut draw, labelled.len(), labelled.len());
        let picked: Vec<usize> = order.into_iter().skip(batch * distill.batch).take(distill.batch).collect();
        let windows: Vec<Window> = picked.iter().map(|&i| labelled[i].0.clone()).collect();
        let lessons: Vec<Lesson> = (windows.iter().zip(&picked).enumerate())
            .map(|(w, (window, &i))| {
                let request = request(window, config.condition, w as u64);
                Lesson { request, worth: &labelled[i].1, budget: inputs.budget() }
            })
            .collect();
        let factor = config.train.schedule.factor(number, updates, config.optim.imitation.warmup_steps);
        let place = Place { step: number, root: session.run.root(), batch: &windows };
        rng::seed_torch(config.seed, Stream::Dropout, number as u64, 0);
        let Policy::Extractive(policy) = &session.policy else { return Ok(()) };
        let how = (distill.loss, config.train.micro_windows);
        let done = update(policy, &mut session.compressor, &lessons, how, (factor, &place))?;
        let mut row = vec![("distill/loss", done.loss), ("distill/captured", done.captured)];
        if number == 0 {
            row.extend([("distill/labels", labelled.len() as f64), ("distill/labels_dropped", dropped as f64)]);
        }
        let last = number + 1 == updates;
        if (number + 1).is_multiple_of(config.train.eval_every) || last {
            let validation = session.validate()?;
            progress.note(&format!("update {}: {validation}", number + 1));
            row.extend(validation.row());
        }
        session.log()?.metrics(number, &row)?;
        session.log()?.timings(number, &[("time/step_s", clock.elapsed().as_secs_f64())])?;
        progress.step(&format!("loss {:.3}  captured {:.2}", done.loss, done.captured));
        session.advance(last)?;
    }
    progress.finish();
    Ok(())
}

/// What an update did.
pub(super) struct Step {
    /// Mean loss of a prefix.
    pub loss: f64,
    /// Labels of the units that would be kept, as a share of the best that the budget holds.
    pub captured: f64,
}

/// A prefix with what each of its units is worth, and what may be kept of it.
pub(super) struct Lesson<'a> {
    pub request: Request<'a>,
    pub worth: &'a [f64],
    pub budget: usize,
}

/// One update of an extractive compressor, `micro` prefixes at a time.
pub(super) fn update(
    policy: &ExtractivePolicy,
    compressor: &mut Trainee,
    lessons: &[Lesson],
    (loss, micro): (DistillLoss, usize),
    (lr_factor, place): (f64, &Place<impl Serialize>),
) -> Result<Step> {
    let (mut sum, mut kept, mut best) = (0.0, 0.0, 0.0);
    for lessons_now in lessons.chunks(micro) {
        let active = compressor.active(policy.decoder)?;
        let requests: Vec<Request> = lessons_now.iter().map(|lesson| lesson.request).collect();
        let mut losses = Vec::new();
        for (own, Lesson { worth, budget, .. }) in policy.worths(&active, &requests)?.iter().zip(lessons_now) {
            let units = &own.prefix.units;
            losses.push(window_loss(&own.logits, units, worth, loss, *budget)?);
            let scores = to_vec(&own.logits.detach())?;
            kept += gathered(&scores[..worth.len()], worth, units, *budget);
            best += gathered(worth, worth, units, *budget);
        }
        let total = Tensor::stack(&losses, 0).sum(Kind::Float) / lessons.len() as f64;
        policy.decoder.backward(&total, &active)?;
        sum += total.double_value(&[]);
    }
    if !sum.is_finite() {
        return Err(place.non_finite(format!("distillation loss ({sum})")));
    }
    compressor.step(lr_factor, place)?;
    Ok(Step { loss: sum, captured: kept / best })
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
