//! Whether what a run was made from is still what it was: the files that its figures depend on, and the program.
//!
//! | who asks | files | program |
//! |---|---|---|
//! | `--resume` | all that the run was trained from, now and then | the one that trained it, and this one |
//! | evaluation | those that its figures depend on, now and then | recorded |
//! | comparison | as an evaluation | the ones that trained its runs, and this one |
//! | pooling | those of all runs with one another | those of all runs with one another |
//! | sweep | of a finished run that is kept: as `--resume` | as `--resume` |

use crate::config::compressors::CompressorConfig;
use crate::config::train::TrainConfig;
use crate::error::Result;
use crate::run_dir::{Build, Hashes, Provenance, RunDir, changed, changed_inputs, hashes_now};
use crate::train::inputs::{self, model_files};
use std::path::{Path, PathBuf};

/// The files that the figures of an experiment depend on once its weights are there: base, tokenizer, text, encoders.
pub fn evaluation_files(config: &TrainConfig) -> Result<Vec<PathBuf>> {
    let mut all = model_files(&config.model.folder()?);
    all.extend([&config.data.train, &config.data.valid, &config.data.test].into_iter().flatten().cloned());
    match &config.compressor {
        CompressorConfig::Extractive { encoder: Some(encoder), .. } => all.extend(model_files(&encoder.folder()?)),
        CompressorConfig::Extractive { encoder: None, .. } | CompressorConfig::Gist { .. } => {}
    }
    for frozen in &config.eval.encoders {
        all.extend(model_files(&frozen.folder()?));
    }
    Ok(all)
}

/// A sentence for each of the [`evaluation_files`], whose hashes are `now`, that is not as it was when the run was trained.
/// What only training needs may be gone.
pub fn changed_since_training(record: &Provenance, now: &Hashes) -> Vec<String> {
    let folders: Vec<&Path> =
        now.keys().filter(|path| path.ends_with("config.json")).filter_map(|path| path.parent()).collect();
    let of_model = |path: &Path| path.parent().is_some_and(|parent| folders.contains(&parent));
    changed_inputs(&record.trained().inputs(), now, of_model)
}

/// A sentence where another program than this one trained or measured the run.
pub fn other_program(record: &Provenance) -> Option<String> {
    let own = Build::own();
    record.builds().into_iter().find_map(|build| build.difference(&own, ["then", "now"]))
}

/// A sentence for everything that is not as it was when a finished run was trained, whose experiment is `config`: files and
/// program. Where the files cannot be found, that is the sentence. `known` holds hashes of files as they are now, and gets more.
pub fn changed_since_finished(run: &RunDir, config: &TrainConfig, known: &mut Hashes) -> Result<Vec<String>> {
    let record = Provenance::read(run)?;
    match inputs::files(config).and_then(|files| hashes_now(&files, known)) {
        Ok(now) => Ok(record.changes(&now)),
        Err(error) => Ok(other_program(&record).into_iter().chain([error.to_string()]).collect()),
    }
}

/// A sentence for every file that two runs were trained from in different versions, and one where different programs made
/// them.
pub fn between(first: &RunDir, second: &RunDir) -> Result<Vec<String>> {
    let words = places([first, second]);
    let (one, other) = (Provenance::read(first)?, Provenance::read(second)?);
    let mut changes = changed(&one.trained().inputs(), &other.trained().inputs(), [&words[0], &words[1]]);
    changes.extend(program_between(first, second)?);
    Ok(changes)
}

/// A sentence where a program had part in training or measuring one of two runs and not the other.
pub fn program_between(first: &RunDir, second: &RunDir) -> Result<Option<String>> {
    let words = places([first, second]);
    let (one, other) = (Provenance::read(first)?, Provenance::read(second)?);
    let (ones, others) = (one.builds(), other.builds());
    let apart =
        |of: &[&Build], from: &[&Build]| of.iter().position(|build| !from.iter().any(|known| known.is_same(build)));
    let pair = match (apart(&ones, &others), apart(&others, &ones)) {
        (Some(at), with) => (ones[at], others[with.unwrap_or(0)]),
        (None, Some(at)) => (ones[0], others[at]),
        (None, None) => return Ok(None),
    };
    Ok(pair.0.difference(pair.1, [&words[0], &words[1]]))
}

fn places(runs: [&RunDir; 2]) -> [String; 2] {
    runs.map(|run| format!("for {}", run.root().display()))
}
