//! `train`: warm start, co-training, final evaluation, report.

use crate::cli::args::{AdaptArgs, RunArgs};
use crate::cli::evaluate::{count_reading, show};
use crate::cli::start::OpenRun;
use gist::compressor::scorers::frozen;
use gist::cost::memory::peak_rss_mib;
use gist::eval::run::{EvaluationOptions, Took, evaluate, summarise};
use gist::run_dir::Provenance;
use gist::runs::{Inputs, TrainedRun, terms};
use gist::train::labels::windows as labels;
use gist::train::roles::first_roles;
use gist::train::session::Session;
use gist::train::{cotrain, warm_start};

/// Flags of `train`.
#[derive(clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub adapt: AdaptArgs,
}

/// Reads whatever else a run needs, so that what is wrong with it is said before anything is written.
pub fn check(inputs: Inputs) -> anyhow::Result<()> {
    let Inputs { config, models, .. } = inputs;
    first_roles(config, models)?;
    models.policy(&config.compressor)?;
    if config.eval.baselines.is_all() {
        models.prompted_baselines()?;
    }
    for named in &config.eval.encoders {
        frozen(named, models.decoder.device())?;
    }
    if let Some(folder) = &config.distill.labels_from {
        labels::read(inputs, folder)?;
    }
    Ok(())
}

/// Runs an experiment to its end; returns the updates done.
pub fn run(inputs: Inputs, start: &OpenRun, adapt: &[String]) -> anyhow::Result<usize> {
    let mut session = Session::open(inputs, &start.run, start.stop)?;
    session.open_log()?;
    warm_start::run(&mut session)?;
    cotrain::run(&mut session)?;
    let run = TrainedRun::open(start.run.root())?;
    let hashes = Provenance::read(run.dir())?.trained().inputs();
    let options = EvaluationOptions {
        adapt,
        terms: &terms::of(inputs.config, &hashes, &run.dir().provenance())?,
        accept_changes: start.accept_changes,
        stop: start.stop,
    };
    count_reading(&run, inputs.config)?;
    let outcome = evaluate(&run, inputs, &options)?;
    Provenance::add_accepted(run.dir(), outcome.accepted)?;
    let took = Took { seconds: session.seconds(), peak_rss_mib: peak_rss_mib() };
    show(&run, &summarise(&run, inputs, outcome.evaluation, took)?)?;
    Ok(session.update())
}
