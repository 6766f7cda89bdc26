//! `sft`: a run that learns from pairs and nothing else, by the flags of `train`.

use crate::cli::train::{self, TrainArgs};
use anyhow::ensure;
use gist::config::experiment::load;
use gist::config::train::TrainConfig;

/// Runs the experiment up to its co-training, which it leaves out.
pub fn run(mut args: TrainArgs) -> anyhow::Result<()> {
    let config = load::<TrainConfig>(&args.run.experiment, &args.run.device.after(&args.run.set))?;
    ensure!(
        config.warm_start.pairs.is_some(),
        "{}: `warm_start.pairs`: expected pairs to learn from (`train`, `valid`, `updates`), got none",
        args.run.experiment.display()
    );
    args.run.set.push("train.steps=0".into());
    train::start(&args)
}
