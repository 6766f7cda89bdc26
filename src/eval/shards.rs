//! An evaluation in shards: each measures some compressors on all windows, and leaves what it measured; together they give the
//! files of an evaluation that was never cut. Every row is measured by the same passes, whichever shard does it.
//!
//! ```text
//! eval/step_NNNNNN/shards/0001-of-0004/row_000.json   a compressor: what it made and how it was read
//! eval/step_NNNNNN/shards/0001-of-0004/ground.json    what all rows stand on; the same in all shards
//! ```

use crate::config::merge::to_toml;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::eval::figures::{Earlier, GIST};
use crate::eval::run::{EvaluationOptions, Measurements, Outcome, evaluated, job, measure};
use crate::eval::table::{Evaluated, Levels, Measured};
use crate::run_dir::{read_json, write_json_atomic};
use crate::runs::terms::Terms;
use crate::runs::{Inputs, TrainedRun};
use crate::shard::Shard;
use crate::shard::record::ShardRecord;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file that all shards have alike.
pub const GROUND: &str = "ground.json";

/// Facts on which all rows of an evaluation stand: weights, settings, levels of each window.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ground {
    /// Updates that the weights have had.
    step: usize,
    /// SHA-256 of the weights of the compressor that is judged.
    weights: String,
    /// Configuration that the run is judged by, as TOML.
    config: String,
    /// Compressors that get a reader of their own.
    adapt: Vec<String>,
    /// Hashes of base, tokenizer and text.
    terms: Terms,
    levels: Levels,
}

/// The rows that one compressor brings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowFile {
    /// Each row with its place in the whole table.
    rows: Vec<(usize, Measured)>,
    /// The greedy gist at earlier stages.
    earlier: Option<Earlier>,
    /// Differences of kept readers that were accepted, in words; of all readers of the shard, in its first file.
    accepted: Vec<String>,
}

/// Fails where a shard of an evaluation would have no compressor to measure.
pub fn check(config: &TrainConfig, has_template: bool, shard: Shard) -> Result<()> {
    if config.eval.unasked_windows > 0 {
        let got = config.eval.unasked_windows;
        return Err(Error::invalid(format!("eval.unasked_windows: expected 0 for --shard, got {got}")));
    }
    shard.check(evaluated(&config.eval, has_template).len(), "compressors in the table")
}

/// Measures a shard of the compressors of a run into `folder`, and records it.
pub fn evaluate_shard(
    run: &TrainedRun,
    inputs: Inputs,
    options: &EvaluationOptions,
    shard: Shard,
    folder: &Path,
) -> Result<usize> {
    let names = evaluated(&inputs.config.eval, inputs.models.prompted_baselines().is_ok_and(|all| !all.is_empty()));
    let own = shard.range(names.len());
    measure(run, inputs, options, &names[own.clone()], |found| {
        let Measurements { table, earlier, accepted, order, .. } = found;
        let ground = Ground {
            step: run.step(),
            weights: run.weights()?,
            config: to_toml(inputs.config)?,
            adapt: options.adapt.to_vec(),
            terms: options.terms.clone(),
            levels: table.levels.clone(),
        };
        write_json_atomic(&folder.join(GROUND), &ground)?;
        let mut files = Vec::new();
        for number in own.clone() {
            let name = &names[number];
            let is_own = |row: &&Measured| row.name == *name || (name == GIST && row.name == "gold");
            let place = |row: &Measured| order.iter().position(|name| *name == row.name).unwrap_or(order.len());
            let rows = table.rows.iter().filter(is_own).map(|row| (place(row), row.clone())).collect();
            let accepted = if number == own.start { accepted.clone() } else { Vec::new() };
            let file = format!("row_{number:03}.json");
            let earlier = earlier.clone().filter(|_| name == GIST);
            write_json_atomic(&folder.join(&file), &RowFile { rows, earlier, accepted })?;
            files.push(file);
        }
        ShardRecord::write(folder, "eval", shard, names.len(), &files, &[GROUND.to_string()])?;
        Ok(own.len())
    })
}

impl Ground {
    /// The ground of the rows that shards measured, read from its file.
    pub fn read(path: &Path) -> Result<Ground> {
        read_json(path)
    }

    /// Configuration that the run is judged by, as TOML.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Fails unless the shards measured the weights that the run has now.
    pub fn check(&self, path: &Path, run: &TrainedRun) -> Result<()> {
        if (self.step, &self.weights) == (run.step(), &run.weights()?) {
            return Ok(());
        }
        let message =
            format!("expected the weights of the run, after {} updates, got others, after {}", run.step(), self.step);
        Err(Error::file(path, message))
    }

    /// Writes the files of the evaluation from the rows of all shards, in `files`. No model runs.
    pub fn join(self, run: &TrainedRun, inputs: Inputs, files: &[(String, PathBuf)]) -> Result<Outcome> {
        let [_, generator, empty_reader] = run.judged(inputs.models)?;
        let (mut rows, mut earlier, mut accepted) = (Vec::new(), None, Vec::new());
        for (_, path) in files {
            let file: RowFile = read_json(path)?;
            rows.extend(file.rows);
            earlier = earlier.or(file.earlier);
            accepted.extend(file.accepted);
        }
        rows.sort_by_key(|(place, _)| *place);
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        let table = Evaluated::restored(job(inputs, &generator, &empty_reader), self.levels, rows)?;
        let evaluation = table.evaluation(earlier.as_ref())?;
        table.write(&run.dir().eval(run.step()), &evaluation, earlier.as_ref(), inputs.config.eval.examples)?;
        Ok(Outcome { evaluation, accepted })
    }
}
