//! The stage of `gist train` that teaches an extractive compressor from labels of training windows ([`super::windows`]).
//! Readers stay as they are.

use crate::compressor::policy::Policy;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::reading::request;
use crate::rng::{self, Stream};
use crate::shard::Shard;
use crate::train::draws::DISTILL_STEP;
use crate::train::labels::step::{LabelBatch, LabelledPrefix, label_step};
use crate::train::labels::windows::{self, Aligned};
use crate::train::session::Session;
use crate::train::stage::{Stage, Updated, ValidationRhythm};
use crate::train::trainee::Update;

/// Runs whatever is left of the distillation that the experiment asks for.
pub fn run(session: &mut Session) -> Result<()> {
    let config = session.inputs.config;
    let distill = &config.distill;
    let updates = distill.updates();
    if session.update() >= updates {
        return Ok(());
    }
    let (labelled, dropped) = labelled_windows(session)?;
    let per_epoch = labelled.len().div_ceil(distill.batch);
    let stage = Stage {
        title: "distill",
        updates: 0..updates,
        run_seed: config.seed,
        validation: Some(ValidationRhythm { every: config.train.eval_every, from: 0 }),
        before: None,
        tokens: None,
    };
    stage.run(session, |session, number| {
        let (epoch, batch) = (number / per_epoch, number % per_epoch);
        let mut draw = rng::rng(config.seed, Stream::Data, DISTILL_STEP, epoch as u64, 0);
        let order = rng::choose(&mut draw, labelled.len(), labelled.len());
        let picked: Vec<usize> = order.into_iter().skip(batch * distill.batch).take(distill.batch).collect();
        let windows: Vec<Window> = picked.iter().map(|&i| labelled[i].0.clone()).collect();
        let budget = session.inputs.budget();
        let prefixes: Vec<LabelledPrefix> = (windows.iter().zip(&picked).enumerate())
            .map(|(w, (window, &i))| {
                let request = request(window, config.condition, w as u64);
                LabelledPrefix { request, worth: &labelled[i].1, budget }
            })
            .collect();
        let lr_factor = config.train.schedule.factor(number, updates, config.optim.imitation.warmup_steps);
        let update = Update { number, lr_factor, root: session.run.root(), batch: &windows };
        let batch = LabelBatch { prefixes: &prefixes, loss: distill.loss, micro: config.train.micro_windows };
        let Policy::Extractive(policy) = &session.policy else { return Err(expected_extractive()) };
        let done = label_step(policy, &mut session.compressor, &batch, &update)?;
        let mut metrics = Metrics::from([("distill/loss", done.loss), ("distill/captured", done.captured)]);
        if number == 0 {
            let counts = [("distill/labels", labelled.len() as f64), ("distill/labels_dropped", dropped as f64)];
            metrics.extend(counts);
        }
        Ok(Updated { metrics, live: format!("loss {:.3}  captured {:.2}", done.loss, done.captured) })
    })
}

fn expected_extractive() -> Error {
    Error::invalid("distill.windows: expected 0 unless compressor.type is \"extractive\"")
}

/// The labelled windows that fit this text and these units, made now or read, and how many do not fit.
fn labelled_windows(session: &Session) -> Result<(Vec<Aligned>, usize)> {
    let (inputs, config) = (session.inputs, session.inputs.config);
    let Policy::Extractive(policy) = &session.policy else { return Err(expected_extractive()) };
    let labels = match &config.distill.labels_from {
        Some(folder) => windows::read(inputs, folder)?,
        None => {
            let reader = config.warm_start.from.is_some().then_some(&session.generator.adapter);
            windows::make(inputs, policy, reader, Shard::WHOLE, &session.run.root().join("labels"), || {
                session.check_stop()
            })?
        }
    };
    let asked = labels.len();
    let (mut labelled, dropped) = windows::aligned(inputs, policy, labels)?;
    if dropped > 0 {
        eprintln!("labels: {dropped} of {asked} windows were made from other text or units; they are left out");
    }
    labelled.truncate(config.distill.windows);
    match labelled.is_empty() {
        true => Err(Error::invalid(format!(
            "labels: expected labels of this text and these units, got {asked} of other text or units"
        ))),
        false => Ok((labelled, dropped)),
    }
}
