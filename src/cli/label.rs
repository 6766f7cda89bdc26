//! `label`: the labels of an extractive experiment, made once for several runs.

use crate::cli::start;
use gist::compressor::policy::Policy;
use gist::config::experiment;
use gist::config::train::TrainConfig;
use gist::error::Error;
use gist::train::inputs::{self, Inputs};
use gist::train::labels::windows as labels;
use gist::train::windows::Windows;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Labels the training windows of `experiment` into `output` (`<runs>/<name>/labels` when none is given).
pub fn run(experiment: &Path, set: &[String], output: Option<PathBuf>) -> anyhow::Result<()> {
    let mut config = experiment::load::<TrainConfig>(experiment, set)?;
    start::settle(&mut config.hardware);
    let asks = config.distill.windows > 0;
    let none = "distill.windows: expected a count above 0 (and compressor.type = \"extractive\"), got 0";
    anyhow::ensure!(asks, "{}: {none}", experiment.display());
    let output = output.unwrap_or_else(|| PathBuf::from("runs").join(&config.name).join("labels"));
    start::bring(&config, false)?;
    let device = start::prepare(&config)?;
    let models = inputs::models(&config, device)?;
    let windows = Windows::load(&config, &models)?;
    let reader = match &config.warm_start.from {
        Some(from) => Some(models.decoder.load_adapter(&from.join("generator"))?),
        None => None,
    };
    let stop = start::catch_interrupt()?;
    let policy = models.policy(&config.compressor)?;
    let Policy::Extractive(extractive) = &policy else { anyhow::bail!("{}: {none}", experiment.display()) };
    let check_stop = || match stop.load(Ordering::SeqCst) {
        true => Err(Error::Invalid("interrupted; the same command goes on".into())),
        false => Ok(()),
    };
    let inputs = Inputs { config: &config, models: &models, windows: &windows };
    let made = labels::make(inputs, extractive, reader.as_ref(), &output, check_stop)?;
    let worth: Vec<f64> = made.iter().flat_map(|label| label.worth.clone()).collect();
    let helpful = worth.iter().filter(|worth| **worth > 0.0).count();
    let best: Vec<f64> = made.iter().filter_map(|l| l.worth.iter().copied().reduce(f64::max)).collect();
    println!(
        "{} windows, {} units: {} worth more than 0 nats a token; the best of a window {:.3} on the mean",
        made.len(),
        worth.len(),
        helpful,
        gist::tensor::mean(&best)
    );
    println!("labels: {}", output.display());
    Ok(())
}
