//! Whether what a run was made from is still what it was: the files that its figures depend on, and the program.
//!
//! | who asks | files | program |
//! |---|---|---|
//! | `--resume` | all that the run was trained from, now and then | the one that trained it, and this one |
//! | evaluation | those that its figures depend on, now and then | recorded |
//! | comparison | as an evaluation | the ones that trained its runs, and this one |
//! | pooling | those of all runs with one another | those of all runs with one another |
//! | sweep | of a finished run that is kept: as `--resume` | as `--resume` |

use crate::base;
use crate::config::compressors::CompressorConfig;
use crate::config::eval::ExamSplit;
use crate::config::train::TrainConfig;
use crate::error::Result;
use crate::gguf::is_gguf;
use crate::run_dir::{Build, Hashes, Provenance, RunDir, changed, changed_inputs, hashes_now};
use crate::train::inputs::{self, model_files};
use std::path::{Path, PathBuf};

/// The files that the figures of an experiment depend on once its weights are there.
pub struct EvaluationFiles {
    /// Base, tokenizer, text, and the compressor's encoder: what it was trained with.
    pub trained_with: Vec<PathBuf>,
    /// Frozen models that it is compared with, and the final split; others may join after training.
    pub compared_with: Vec<PathBuf>,
}

impl EvaluationFiles {
    /// Files of an experiment; an error where a model is neither a folder nor in the cache.
    pub fn of(config: &TrainConfig) -> Result<Self> {
        let mut trained_with = model_files(&config.model.folder()?);
        trained_with.extend([&config.data.train, &config.data.valid, &config.data.test].into_iter().flatten().cloned());
        match &config.compressor {
            CompressorConfig::Extractive { encoder: Some(encoder), .. } => {
                trained_with.extend(model_files(&encoder.folder()?));
            }
            CompressorConfig::Extractive { encoder: None, .. } | CompressorConfig::Gist { .. } => {}
        }
        let mut compared_with = Vec::new();
        for frozen in &config.eval.encoders {
            compared_with.extend(model_files(&frozen.folder()?));
        }
        if config.eval.split == ExamSplit::Final {
            compared_with.extend(config.data.last.clone());
        }
        Ok(Self { trained_with, compared_with })
    }

    /// All files: for training and for comparison.
    pub fn all(&self) -> Vec<PathBuf> {
        [self.trained_with.as_slice(), &self.compared_with].concat()
    }
}

/// A sentence for each of the [`EvaluationFiles`] of a run's experiment that is not as it was when the run was trained. `now`
/// holds the hashes of all of them as they are. What only training needs may be gone.
pub fn changed_since_training(run: &RunDir, config: &TrainConfig, now: &Hashes) -> Result<Vec<String>> {
    let (files, then) = (EvaluationFiles::of(config)?, Provenance::read(run)?.trained().inputs());
    let of = |paths: &[PathBuf]| -> Hashes {
        now.iter().filter(|(path, _)| paths.contains(path)).map(|(path, hash)| (path.clone(), hash.clone())).collect()
    };
    let trained_with = of(&files.trained_with);
    let models = trained_with
        .keys()
        .filter(|path| path.ends_with(base::CONFIG) || is_gguf(path))
        .filter_map(|path| path.parent());
    let models: Vec<&Path> = models.collect();
    let mut changes =
        changed_inputs(&then, &trained_with, |gone| gone.parent().is_some_and(|folder| models.contains(&folder)));
    changes.extend(changed(&then, &of(&files.compared_with), ["then", "now"]));
    Ok(changes)
}

/// A sentence where another program than this one trained or measured the run.
pub fn other_program(run: &RunDir) -> Result<Option<String>> {
    let own = Build::own();
    Ok(Provenance::read(run)?.builds().into_iter().find_map(|build| build.difference(&own, ["then", "now"])))
}

/// A sentence for everything that is not as it was when a finished run was trained, whose experiment is `config`: files and
/// program. Where the files cannot be found, that is the sentence. `known` holds hashes of files as they are now, and gets
/// more.
pub fn changed_since_finished(run: &RunDir, config: &TrainConfig, known: &mut Hashes) -> Result<Vec<String>> {
    let record = Provenance::read(run)?;
    match inputs::files(config).and_then(|files| hashes_now(&files, known)) {
        Ok(now) => Ok(record.changes(&now)),
        Err(error) => Ok(other_program(run)?.into_iter().chain([error.to_string()]).collect()),
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
