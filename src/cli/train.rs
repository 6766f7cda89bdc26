//! `train`: warm start, co-training, final evaluation, report.

use crate::cli::evaluate;
use crate::cli::start::Session as Start;
use gist::config::train::TrainConfig;
use gist::train::session::Session;
use gist::train::setup::Setup;
use gist::train::{cotrain, warm_start};

/// Runs an experiment to its end; returns the updates done.
pub fn run(config: &TrainConfig, start: &Start, adapt_readers: bool) -> anyhow::Result<usize> {
    let setup = Setup::load(config, start.device)?;
    let mut session = Session::open(&setup, &start.run, start.stop)?;
    warm_start::run(&mut session)?;
    cotrain::run(&mut session)?;
    evaluate::finish(&session, adapt_readers)?;
    Ok(session.state.update)
}
