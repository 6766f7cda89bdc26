//! `label`: the labels of an extractive experiment, made once for several runs.

use crate::cli::args::DeviceArg;
use crate::cli::start;
use gist::compressor::policy::Policy;
use gist::config::experiment;
use gist::config::train::TrainConfig;
use gist::device;
use gist::error::Error;
use gist::run_dir::FolderLock;
use gist::shard::Shard;
use gist::shard::record::ShardRecord;
use gist::train::inputs::{self, Inputs};
use gist::train::labels::windows as labels;
use gist::train::windows::Windows;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Flags of `label`.
#[derive(clap::Args)]
pub struct LabelArgs {
    /// The experiment's TOML file.
    experiment: PathBuf,
    /// Override a key: --set train.steps=100; --set unset=KEY takes one away (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    /// Folder for the labels [default: runs/<name>/labels].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Label this part only, number I of N from 1; `gist merge` makes a whole of all N.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// Labels the training windows of an experiment into a folder.
pub fn run(args: &LabelArgs) -> anyhow::Result<()> {
    let experiment = &args.experiment;
    let mut config = experiment::load::<TrainConfig>(experiment, &args.device.after(&args.set))?;
    device::settle(&mut config.hardware);
    let asks = config.distill.windows > 0;
    let none = "distill.windows: expected a count above 0 (and compressor.type = \"extractive\"), got 0";
    anyhow::ensure!(asks, "{}: {none}", experiment.display());
    let output = args.output.clone().unwrap_or_else(|| PathBuf::from("runs").join(&config.name).join("labels"));
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let files = labels::stretches(config.distill.windows, shard)?;
    let folder = args.shard.map_or(output.clone(), |shard| shard.folder(&output));
    FolderLock::check(&folder)?;
    start::bring(&config, false)?;
    let device = device::prepare(&config)?;
    let models = inputs::models(&config, device)?;
    let windows = Windows::load(&config, &models)?;
    let reader = match &config.warm_start.from {
        Some(from) => Some(models.decoder.load_adapter(&from.join("generator"))?),
        None => None,
    };
    let _lock = FolderLock::take(&folder)?;
    let stop = start::catch_interrupt()?;
    let policy = models.policy(&config.compressor)?;
    let Policy::Extractive(extractive) = &policy else { anyhow::bail!("{}: {none}", experiment.display()) };
    let check_stop = || match stop.load(Ordering::SeqCst) {
        true => Err(Error::Stopped("the same command goes on".into())),
        false => Ok(()),
    };
    let inputs = Inputs { config: &config, models: &models, windows: &windows };
    let made = labels::make(inputs, extractive, reader.as_ref(), shard, &folder, check_stop)?;
    if args.shard.is_some() {
        let rows = labels::stretches(config.distill.windows, Shard::WHOLE)?.len();
        ShardRecord::write(&folder, "label", shard, rows, &files, &[labels::MANIFEST.to_string()])?;
    }
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
    println!("labels: {}", folder.display());
    Ok(())
}
