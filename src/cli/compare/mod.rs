//! `compare`: rate–distortion curves of the compressors of finished runs and of baselines, on the same windows, each read
//! by one reader that all share and by one of its own.
//!
//! ```text
//! <output>/comparison.json            everything that was measured
//! <output>/comparison.csv             a row a compressor, budget and reader
//! <output>/comparison.html            a page that needs nothing else
//! <output>/figures/*.{svg,png}        the curves
//! <output>/readers/                   adapted readers, kept: the same command goes on from them
//! ```
//! Nothing is written before everything that is read has been found to fit together.

pub mod ask;

use crate::cli::args::{AcceptArg, DeviceArg, naming};
use crate::cli::evaluate::count_reading;
use crate::cli::start;
use anyhow::{Context, ensure};
use clap::Parser;
use gist::compressor::budget::{Controller, RICHEST};
use gist::compressor::frequencies::DocumentFrequencies;
use gist::config::eval::ExamSplit;
use gist::config::train::TrainConfig;
use gist::device;
use gist::error::{Error, Result};
use gist::eval::compare::group::{check_seeds, common, joined};
use gist::eval::compare::shards::Part;
use gist::eval::compare::{ComparisonOptions, Entrants, compare};
use gist::report::comparison;
use gist::run_dir::{FolderLock, component, settle};
use gist::runs::Inputs;
use gist::shard::Shard;
use gist::shard::merge::Verified;
use gist::train::inputs;
use gist::train::windows::Windows;
use std::path::{Path, PathBuf};

/// Flags of `compare`.
#[derive(clap::Args)]
pub struct CompareArgs {
    /// Directories of finished runs; several seeds of an experiment are one entrant. NAME=DIR gives a run another name
    /// than its experiment's, as two arms of a sweep need.
    #[arg(long, value_name = "RUN", required = true, num_args = 1..)]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    /// Baselines beside them, one that scores also with its unit (token, word, sentence), as bm25:token; frozen models, as
    /// encoder:PATH (a token classifier such as LLMLingua-2's), embedding:PATH (a sentence encoder) or evidence:PATH (what `gist
    /// distill` taught to find evidence, or a sentence encoder), the path a folder or OWNER/NAME of the Hub; and chains of two, such as attention+gist: the second compresses what the first kept.
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "recent,attention,bm25,tf_idf,idf,self_information,truncate,random"
    )]
    compressors: Vec<String>,
    /// Budgets, as shares of the prefix's tokens.
    #[arg(long, value_name = "SHARE,..", value_delimiter = ',', default_value = "0.02,0.05,0.095,0.2,0.4")]
    budgets: Vec<String>,
    /// Updates of every reader; absent = as many as the first run's generator had.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    updates: Option<u64>,
    /// Held-out windows, spread evenly over those that the first run was judged on; absent = all.
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// Folder that receives the comparison; absent = runs/compare/<names of the experiments>.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Readers: one that all share, one adapted to each, or both.
    #[arg(long, value_name = "WHICH,..", value_delimiter = ',', default_value = "shared,adapted")]
    readers: Vec<String>,
    /// Keep this before anything else, inside the budget (all that extract; repeatable): numbers, identifiers, text:TEXT, or a
    /// regular expression such as '[A-Z]{2,}'.
    #[arg(long, value_name = "WHAT")]
    must_keep: Vec<String>,
    /// Of equal tokens that come to stand side by side keep one only (the same compressors).
    #[arg(long)]
    drop_consecutive: bool,
    /// Meet each budget on average, not in each window: what extracts keeps the units above one score, found on validation
    /// windows, up to twice the budget in a window. What writes, and what is part of a chain, keeps to the budget.
    #[arg(long)]
    adaptive: bool,
    #[command(flatten)]
    accept: AcceptArg,
    /// Measure this part of the compressors only, number I of N from 1; `gist merge` makes a whole of all N.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// The flags of a comparison, as the record of a shard has them.
#[derive(Parser)]
struct Recorded {
    #[command(flatten)]
    args: CompareArgs,
}

/// Makes a comparison of what shards measured, in the folder that they are in.
pub fn join(verified: &Verified, folder: &Path, accept: AcceptArg) -> anyhow::Result<()> {
    let Recorded { mut args } = Recorded::try_parse_from(&verified.argv)
        .with_context(|| format!("{}: the command of shard 1 cannot be read", folder.display()))?;
    args.accept.accept_changes |= accept.accept_changes;
    (args.shard, args.output) = (None, Some(folder.to_path_buf()));
    compare_part(&args, Some(verified))
}

/// Compares, and writes what came of it.
pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    compare_part(args, None)
}

/// Compares, or has shards stand in for what is measured.
fn compare_part(args: &CompareArgs, verified: Option<&Verified>) -> anyhow::Result<()> {
    let [shared, adapted] = ask::readers(&args.readers)?;
    let shares = ask::shares(&args.budgets)?;
    let runs = args.runs.iter().map(|argument| ask::run(argument)).collect::<Result<Vec<_>>>()?;
    check_seeds(&runs).map_err(naming("--runs"))?;
    let mut common = common(&runs)?;
    let refused = "not compared, the runs were made from other things";
    let accepted = settle(std::mem::take(&mut common.changes), args.accept.accept_changes, refused)?;
    let mut config: TrainConfig = runs[0].config().clone();
    args.device.put(&mut config.hardware)?;
    let budgets = ask::budgets(&shares, config.data.prefix_tokens)?;
    let output = args.output.clone().unwrap_or_else(|| Path::new("runs/compare").join(component(&joined(&runs))));
    if verified.is_none() {
        ask::output(&output)?;
    }
    if args.shard.is_some() || verified.is_some() {
        let reads_final = runs.iter().any(|run| run.config().eval.split == ExamSplit::Final);
        ensure!(!reads_final, "--shard: expected runs judged on test or valid, which may be read often, got final");
    }
    for run in &runs {
        count_reading(run, run.config())?;
    }
    let models = inputs::models(&config, device::prepare(&config)?)?;
    let windows = Windows::load(&config, &models)?;
    let inputs = Inputs { config: &config, models: &models, windows: &windows };
    ask::room(inputs, &budgets, if args.adaptive { RICHEST } else { 1 })?;
    let must_keep = ask::must_keep(&args.must_keep)?;
    let count = ask::windows(args.windows, windows.test.len())?;
    let updates = match args.updates {
        Some(updates) => updates as usize,
        None => ask::updates(&runs[0])?,
    };
    let frequencies = DocumentFrequencies::count(&models.tokenizer, &windows.train)?;
    let controller = Controller { must_keep, drop_consecutive: args.drop_consecutive, ..Controller::default() };
    let entrants = Entrants { models: &models, frequencies: &frequencies, controller: &controller };
    let entrants = entrants.enter(&runs, &args.compressors).map_err(naming("--compressors"))?;
    let mut tell = |key: &str, value: String| _ = common.terms.insert(key.into(), value);
    if !controller.must_keep.is_empty() {
        tell("must_keep", args.must_keep.join(", "));
    }
    if args.drop_consecutive {
        tell("drop_consecutive", "true".into());
    }
    if args.adaptive {
        tell("adaptive", "true".into());
    }
    let folder = args.shard.map(|shard| shard.folder(&output));
    let _lock = match verified {
        Some(_) => None, // its folder is locked
        None => Some(FolderLock::take(folder.as_ref().unwrap_or(&output))?),
    };
    let stop = start::catch_interrupt()?;
    let options = ComparisonOptions {
        budgets: &budgets,
        windows: count,
        updates,
        shared,
        adapted,
        adaptive: args.adaptive,
        terms: &common.terms,
        accepted,
        accept_changes: args.accept.accept_changes,
        output: &output,
        stop,
        part: match (args.shard, &folder, verified) {
            (Some(shard), Some(folder), _) => Part::Shard(shard, folder),
            (_, _, Some(verified)) => Part::Joined(verified),
            _ => Part::Whole,
        },
    };
    let result = match compare(&runs, inputs, entrants, &options) {
        Err(Error::Interrupted { .. }) => {
            return Err(Error::Stopped("run the same command again to go on from the finished readers".into()).into());
        }
        other => other?,
    };
    let Some(result) = result else {
        println!("rows: {}", folder.unwrap_or(output).display());
        return Ok(());
    };
    let page = comparison::write(&output, &result)?;
    println!("{}", comparison::text(&result));
    println!("comparison: {}", page.display());
    Ok(())
}
