//! `train`: warm start, co-training, final evaluation, report.

use crate::cli::start::Session as Start;
use crate::cli::{AdaptArgs, evaluate};
use gist::compressor::scorers::frozen;
use gist::train::inputs::Inputs;
use gist::train::labels::windows as labels;
use gist::train::roles::first_roles;
use gist::train::session::{Session, warm_record};
use gist::train::{cotrain, warm_start};

/// Reads whatever else a run needs, so that what is wrong with it is said before anything is written.
pub fn check(inputs: Inputs) -> anyhow::Result<()> {
    let Inputs { config, models, .. } = inputs;
    first_roles(config, models)?;
    models.policy(&config.compressor)?;
    for named in &config.eval.encoders {
        frozen(named, models.decoder.device())?;
    }
    if let Some(from) = &config.warm_start.from {
        warm_record(from)?;
    }
    if let Some(folder) = &config.distill.labels_from {
        labels::read(inputs, folder)?;
    }
    Ok(())
}

/// Runs an experiment to its end; returns the updates done.
pub fn run(inputs: Inputs, start: &Start, adapt: &AdaptArgs) -> anyhow::Result<usize> {
    let mut session = Session::open(inputs, &start.run, start.stop)?;
    session.open_log()?;
    warm_start::run(&mut session)?;
    cotrain::run(&mut session)?;
    evaluate::finish(&session, adapt, None)?;
    Ok(session.update())
}
