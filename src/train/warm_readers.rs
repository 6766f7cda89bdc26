//! The readers' own part of the warm start: generator and twin learn, each from its own input, while the compressor stays as
//! it is. A compressor that imitates is done before readers are, and an update of theirs costs less.

use crate::compressor::Compressor;
use crate::compressor::actions::Trajectory;
use crate::compressor::policy::Trained;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::reading::{Taught, request};
use crate::rng::{self, Stream};
use crate::train::draws::READER_STEP;
use crate::train::mix::{Draw, Mix};
use crate::train::readers::{ReaderShard, update_readers};
use crate::train::session::Session;
use crate::train::shards::Shards;
use crate::train::stage::{Stage, Updated, ValidationRhythm};
use crate::train::trainee::Update;

/// Number of the draw that decides between evidence and gist, behind those of an update's contexts.
const EVIDENCE_DRAW: u64 = 1 << 32;

/// Runs whatever is left of it.
pub fn run(session: &mut Session) -> Result<()> {
    let config = session.inputs.config;
    let (warm, begin) = (&config.warm_start, config.imitation_end());
    let stage = Stage {
        title: "readers",
        updates: begin..begin + warm.reader_updates,
        run_seed: config.seed,
        validation: Some(ValidationRhythm { every: config.train.eval_every, from: begin }),
        before: None,
        tokens: None,
    };
    stage.run(session, |session, number| {
        let inputs = session.inputs;
        let step = READER_STEP + number as u64;
        let windows = inputs.training_windows(step, warm.batch)?;
        let taught = inputs.taught(step, &windows)?;
        let warmup = config.optim.generator.warmup_steps;
        let lr_factor = config.train.schedule.factor(number - begin, warm.reader_updates, warmup);
        let update = Update { number, lr_factor, root: session.run.root(), batch: &windows };
        read(session, step, &taught, &gists(session, step, &windows)?, &update)
    })
}

/// One step of both readers of a warm start: the generator on the gists of each window among other contexts as the experiment
/// mixes them, its twin on nothing. `step` names the draws.
pub fn read(
    session: &mut Session,
    step: u64,
    taught: &Taught,
    gists: &[Vec<Trajectory>],
    update: &Update<Vec<Window>>,
) -> Result<Updated> {
    let (inputs, windows) = (session.inputs, update.batch);
    let mix = Mix {
        shares: &inputs.config.generator,
        budget: inputs.budget(),
        vocabulary: inputs.models.decoder.config().vocab_size,
        tokenizer: &inputs.models.tokenizer,
        draw: Draw { run_seed: inputs.config.seed, step, first_example: 0 },
    };
    let groups: Vec<&[Trajectory]> = gists.iter().map(Vec::as_slice).collect();
    // No compressor is stale yet: nothing stands in its place.
    let stale = vec![Vec::new(); windows.len()];
    let contexts = mix.contexts(windows, &mix.plan(windows.len()), &groups, &stale)?;
    let readers = update_readers(session, &Shards::WHOLE, &[ReaderShard { taught, contexts }], update)?;
    let (kl, empty) = (readers.generator.kl, readers.empty.kl);
    let metrics = Metrics::from([("generator/kl", kl), ("empty_reader/kl", empty)]);
    Ok(Updated { metrics, live: format!("KL {kl:.4}  empty {empty:.4}") })
}

/// The text that is read in place of each window's prefix: its evidence, or the gist that the compressor writes.
fn gists(session: &Session, step: u64, windows: &[Window]) -> Result<Vec<Vec<Trajectory>>> {
    let inputs = session.inputs;
    let (config, budget) = (inputs.config, inputs.budget());
    let by_evidence = |w: usize| {
        let mut draw = rng::rng(config.seed, Stream::Mix, step, w as u64, EVIDENCE_DRAW);
        rng::uniform(&mut draw) < config.warm_start.reader_evidence
    };
    let mut ids: Vec<Option<Vec<u32>>> = Vec::with_capacity(windows.len());
    for (w, window) in windows.iter().enumerate() {
        ids.push(match by_evidence(w) {
            true if window.evidence.is_empty() => {
                let message = "warm_start.reader_evidence: expected windows with evidence, got one without";
                return Err(Error::invalid(message));
            }
            true => Some(window.evidence_within(budget)),
            false => None,
        });
    }
    let written: Vec<usize> = (0..windows.len()).filter(|&w| ids[w].is_none()).collect();
    if !written.is_empty() {
        let (policy, adapter) = (&session.policy, &session.compressor.adapter);
        let compressor = Trained::greedy("gist", policy, adapter, config.seed);
        let requests: Vec<_> = written.iter().map(|&w| request(&windows[w], config.condition, w as u64)).collect();
        let made = compressor.compress(&requests, budget)?;
        written.into_iter().zip(made).for_each(|(w, gist)| ids[w] = Some(gist.ids));
    }
    Ok(ids.into_iter().flatten().map(|ids| vec![Trajectory::imitated(ids, budget)]).collect())
}
