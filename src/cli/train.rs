//! `train`: warm start, co-training, final evaluation, report.

use crate::cli::args::{AdaptArgs, RunArgs};
use crate::cli::evaluate;
use crate::cli::start::OpenRun;
use gist::compressor::scorers::frozen;
use gist::config::train::TrainConfig;
use gist::train::roles::{first_roles, policy};
use gist::train::session::{Session, warm_record};
use gist::train::setup::Setup;
use gist::train::{cotrain, label, warm_start};
use tch::Device;

/// How a run is started, and what it is evaluated with.
#[derive(clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub adapt: AdaptArgs,
}

/// Reads everything that a run needs, so that what is wrong with it is said before anything is written.
pub fn load(config: &TrainConfig, device: Device) -> anyhow::Result<Setup<'_>> {
    let setup = Setup::load(config, device)?;
    first_roles(&setup)?;
    policy(&config.compressor, &setup)?;
    for named in &config.eval.encoders {
        frozen(named, device)?;
    }
    if let Some(from) = &config.warm_start.from {
        warm_record(from)?;
    }
    if let Some(folder) = &config.distill.labels_from {
        label::read(&setup, folder)?;
    }
    Ok(setup)
}

/// Runs an experiment to its end; returns the updates done.
pub fn run(setup: &Setup, start: &OpenRun, adapt: &AdaptArgs) -> anyhow::Result<usize> {
    let mut session = Session::open(setup, &start.run, start.stop)?;
    session.log()?;
    warm_start::run(&mut session)?;
    cotrain::run(&mut session)?;
    evaluate::finish(&session, adapt, None)?;
    Ok(session.state.update)
}
