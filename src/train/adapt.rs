//! One reader per compressor, trained on that compressor's own output at mixed budgets, for as many updates as the
//! co-trained generator had: the fair contest, in which no reader is more used to another's dialect.

use crate::compressor::Compressor;
use crate::error::Result;
use crate::model::lora::Adapter;
use crate::rng::{self, Stream};
use crate::rollout::{compressed_context, request};
use crate::run_dir::{RunDir, read_json, write_json_atomic};
use crate::train::progress::Progress;
use crate::train::setup::Setup;
use crate::train::trainee::{Place, Trainee};
use crate::train::updates::reader_step;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Marks the training windows of adapted readers.
const ADAPT_STEP: u64 = 1 << 41;
/// Budgets are quarters of the cap.
const QUARTERS: usize = 4;

/// What lies beside a finished reader.
#[derive(Serialize, Deserialize)]
struct Record {
    updates: usize,
}

/// The reader of `compressor` after that many updates: the one in `folder/<name>`, or trained now and kept there.
pub fn adapted_reader(
    setup: &Setup,
    run: &RunDir,
    compressor: &dyn Compressor,
    updates: usize,
    folder: &Path,
) -> Result<Adapter> {
    let folder = folder.join(compressor.name());
    let record = folder.join("record.json");
    if record.exists() && read_json::<Record>(&record)?.updates == updates {
        return Adapter::load(&folder, setup.decoder.config(), setup.decoder.device());
    }
    let reader = adapt_reader(setup, run, compressor, updates)?;
    reader.save(&folder, &setup.base_name())?;
    write_json_atomic(&record, &Record { updates })?;
    Ok(reader)
}

/// Trains a fresh reader on `compressor`'s output; the same windows and budgets for every compressor.
fn adapt_reader(setup: &Setup, run: &RunDir, compressor: &dyn Compressor, updates: usize) -> Result<Adapter> {
    let config = setup.config;
    let decoder = &setup.decoder;
    rng::seed_torch(config.seed, Stream::Init, 0, 1);
    let fresh = Adapter::fresh(decoder.config(), &config.model.lora, decoder.embedding())?;
    let mut reader = Trainee::new("adapted_reader", fresh, &config.optim.generator);
    let progress = Progress::new(&format!("reader of {}", compressor.name()), updates, 0);
    let v = decoder.config().vocab_size;
    for update in 0..updates {
        let windows = setup.training_windows(ADAPT_STEP + update as u64, config.train.windows_per_step);
        let taught = setup.taught(ADAPT_STEP + update as u64, &windows)?;
        let mut contexts = Vec::new();
        for pass in 0..config.generator.gists_per_window {
            let mut draw = rng::rng(config.seed, Stream::Mix, ADAPT_STEP + update as u64, pass as u64, 0);
            let budget = (setup.budget * (1 + rng::below(&mut draw, QUARTERS))).div_ceil(QUARTERS);
            let key = |w: usize| (update * windows.len() + w) as u64;
            let requests: Vec<_> =
                windows.iter().enumerate().map(|(w, window)| request(window, config.condition, key(w))).collect();
            let made = compressor.compress(&requests, budget)?;
            contexts.extend(made.iter().enumerate().map(|(w, c)| (w, compressed_context(c, true, v))));
        }
        let rows: Vec<(usize, &[u32])> = contexts.iter().map(|(w, c)| (*w, c.as_slice())).collect();
        let factor = config.train.schedule.factor(update, updates, config.optim.generator.warmup_steps);
        let place = Place { step: update, root: run.root(), batch: &windows };
        let (kl, _) = reader_step(decoder, &mut reader, &taught, &rows, (factor, &place))?;
        progress.step(&format!("KL {kl:.4}"));
    }
    progress.finish();
    Ok(reader.adapter)
}
