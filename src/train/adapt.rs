//! Readers trained on the output of compressors at mixed budgets, all on the same windows for as many updates: the fair
//! contest, in which no reader is more used to another's dialect. A reader learns from one compressor, or from several in
//! equal shares; from one that keeps nothing it learns what can be had without a gist.

use crate::compressor::controls::check_count;
use crate::compressor::{Compressed, Compressor, Request};
use crate::data::Window;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::lora::Adapter;
use crate::reading::{as_rows, compressed_context, request};
use crate::rng::{self, Stream};
use crate::train::draws::ADAPT_STEP;
use crate::train::inputs::Inputs;
use crate::train::shards::Shards;
use crate::train::stage::{CheckpointRhythm, Counters, Learner, Ledger, Stage, Updated};
use crate::train::trainee::{Trainee, Update};
use crate::train::updates::{ReaderBatch, reader_step};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The compressors, budgets and updates that a reader is adapted with.
#[derive(Clone, Copy)]
pub struct Lesson<'a> {
    /// Shown while it learns.
    pub title: &'a str,
    /// Whose output it reads, in equal shares.
    pub compressors: &'a [&'a dyn Compressor],
    /// Whether it reads the evidence of the windows in place of what a compressor makes.
    pub evidence: bool,
    /// Budgets in tokens, each as likely.
    pub budgets: &'a [usize],
    /// Gists of a window in an update.
    pub gists: usize,
    /// Updates.
    pub updates: usize,
    /// Set when the user asks to stop: the lesson then ends with an error.
    pub stop: &'a AtomicBool,
}

/// The reader that learns; it keeps neither rows nor checkpoints.
struct Pupil<'a> {
    reader: Trainee,
    ledger: Ledger<'a>,
}

impl<'a> Learner<'a> for Pupil<'a> {
    fn ledger(&mut self) -> &mut Ledger<'a> {
        &mut self.ledger
    }
}

/// Trains a fresh reader; the same windows and budgets whatever the compressors. `root` receives the batch of an update that
/// is not finite.
pub fn teach(inputs: Inputs, root: &Path, lesson: &Lesson) -> Result<Adapter> {
    let Inputs { config, models, .. } = inputs;
    let decoder = &models.decoder;
    rng::seed_torch(config.seed, Stream::Init, 0, 1);
    let fresh = Adapter::fresh(decoder.config(), &config.model.lora.generator, decoder.embedding())?;
    let reader = Trainee::new("adapted_reader", fresh, &config.optim.generator);
    let ledger = Ledger::new(None, Counters::default(), CheckpointRhythm::default(), lesson.stop);
    ledger.check_stop()?;
    let mut pupil = Pupil { reader, ledger };
    let v = decoder.config().vocab_size;
    let stage = Stage {
        title: lesson.title,
        updates: 0..lesson.updates,
        run_seed: config.seed,
        validation: None,
        before: None,
        tokens: None,
    };
    stage.run(&mut pupil, |pupil, number| {
        let step = ADAPT_STEP + number as u64;
        let windows = inputs.training_windows(step, config.train.windows_per_step)?;
        let taught = inputs.taught(step, &windows)?;
        let mut contexts = Vec::new();
        for pass in 0..lesson.gists {
            let made = outputs(inputs, lesson, &windows, number, pass)?;
            contexts.extend(made.iter().enumerate().map(|(w, c)| (w, compressed_context(c, true, v))));
        }
        let lr_factor = config.train.schedule.factor(number, lesson.updates, config.optim.generator.warmup_steps);
        let update = Update { number, lr_factor, root, batch: &windows };
        let (rows, at_once) = (as_rows(&contexts), config.reader_rows());
        let batch = ReaderBatch { taught: &taught, rows: &rows, at_once, of: rows.len() };
        let kl = reader_step(decoder, &mut pupil.reader, (Shards::WHOLE.pass(0), &[batch]), &update)?.kl;
        Ok(Updated { metrics: Metrics::default(), live: format!("KL {kl:.4}") })
    })?;
    Ok(pupil.reader.adapter)
}

/// One gist of every window, at one budget; the compressors take turns over the windows, from a place that is drawn.
fn outputs(inputs: Inputs, lesson: &Lesson, windows: &[Window], update: usize, pass: usize) -> Result<Vec<Compressed>> {
    let (seed, step) = (inputs.config.seed, ADAPT_STEP + update as u64);
    let mut draw = rng::rng(seed, Stream::Mix, step, pass as u64, 0);
    let budget = lesson.budgets[rng::below(&mut draw, lesson.budgets.len())];
    if lesson.evidence {
        let cut = windows.iter().map(|window| window.evidence_within(budget));
        return Ok(cut.map(|ids| Compressed { ids, ..Compressed::default() }).collect());
    }
    let turns = lesson.compressors.len();
    let first = rng::below(&mut rng::rng(seed, Stream::Mix, step, pass as u64, 1), turns);
    let key = |w: usize| (update * windows.len() + w) as u64;
    let mut made = vec![Compressed::default(); windows.len()];
    for (turn, compressor) in lesson.compressors.iter().enumerate() {
        let own: Vec<usize> = (0..windows.len()).filter(|w| (first + w) % turns == turn).collect();
        let requests: Vec<Request> =
            own.iter().map(|&w| request(&windows[w], inputs.config.condition, key(w))).collect();
        if requests.is_empty() {
            continue;
        }
        let outputs = compressor.compress(&requests, budget)?;
        check_count(compressor.name(), requests.len(), outputs.len())?;
        own.into_iter().zip(outputs).for_each(|(w, output)| made[w] = output);
    }
    Ok(made)
}
