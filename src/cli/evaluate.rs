//! `eval`: a run on the test windows, again.

use crate::cli::args::{AcceptArg, AdaptArgs, DeviceArg};
use anyhow::{Context, ensure};
use gist::chat::has_template;
use gist::config::eval::ExamSplit;
use gist::config::train::TrainConfig;
use gist::cost::memory::peak_rss_mib;
use gist::device;
use gist::eval::run::{EvaluationOptions, Took, evaluate, summarise};
use gist::eval::schema::summary::Summary;
use gist::eval::shards::{self, Ground};
use gist::report;
use gist::run_dir::{FolderLock, Provenance, Sitting, read_json, settle};
use gist::runs::integrity::{EvaluationFiles, changed_since_training};
use gist::runs::{Inputs, TrainedRun, terms};
use gist::shard::Shard;
use gist::shard::merge::Verified;
use gist::train::inputs;
use gist::train::windows::Windows;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Flags of `eval`.
#[derive(clap::Args)]
pub struct EvalArgs {
    /// The run's directory.
    run: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    adapt: AdaptArgs,
    /// Windows on which spans are searched, with the future in sight (oracle_greedy) and without (lookahead).
    #[arg(long, value_name = "N")]
    search_windows: Option<usize>,
    /// Split to judge the run on, in place of its own `eval.split`; each reading of `final` is counted.
    #[arg(long, value_parser = ["test", "valid", "final"])]
    split: Option<String>,
    #[command(flatten)]
    accept: AcceptArg,
    /// Measure this part of the compressors only, number I of N from 1; `gist merge RUN/eval/step_NNNNNN` makes a whole of
    /// all N.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// Evaluates the last checkpoint of a run again, on its own device or on another.
pub fn run(args: &EvalArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let run = TrainedRun::open(&args.run)?;
    // Shards share the run; each has a folder of its own.
    let run = if args.shard.is_some() { run } else { run.locked()? };
    let mut config = run.config().clone();
    args.device.put(&mut config.hardware)?;
    if let Some(windows) = args.search_windows {
        config.eval.search_windows = windows;
    }
    if let Some(split) = &args.split {
        config.eval.split = [ExamSplit::Test, ExamSplit::Valid, ExamSplit::Final]
            .into_iter()
            .find(|known| known.name() == split)
            .with_context(|| format!("--split: expected test, valid or final, got `{split}`"))?;
        config.check().map_err(|(key, said)| anyhow::anyhow!("{}: `{key}`: {said}", run.dir().config().display()))?;
    }
    let adapt = args.adapt.names(&config)?;
    if let Some(shard) = args.shard {
        let split = config.eval.split;
        ensure!(
            split != ExamSplit::Final,
            "--shard: expected the split test or valid, which may be read often, got final"
        );
        shards::check(&config, has_template(&config.model.folder()?)?, shard)?;
    }
    run.reader_updates()?;
    let accept_changes = args.accept.accept_changes;
    let sitting = Sitting::now(&EvaluationFiles::of(&config)?.all(), &config.hardware.device)?;
    let hashes = sitting.inputs();
    let changes = changed_since_training(run.dir(), &config, &hashes)?;
    let root = run.dir().root();
    let refused = format!("{}: not evaluated, it was made from other things", root.display());
    let mut accepted = settle(changes, accept_changes, &refused)?;
    let folder = args.shard.map(|shard| (shard, shard.folder(&run.dir().eval(run.step()))));
    let lock = match &folder {
        None => None,
        Some((_, folder)) => {
            FolderLock::check(root)?;
            Some(FolderLock::take(folder)?)
        }
    };
    count_reading(&run, &config)?;
    let device = device::prepare(&config)?;
    let models = inputs::models(&config, device)?;
    let windows = Windows::load(&config, &models)?;
    let inputs = Inputs { config: &config, models: &models, windows: &windows };
    let terms = terms::of(&config, &hashes, root)?;
    let options = EvaluationOptions { adapt: &adapt, terms: &terms, accept_changes, stop: &AtomicBool::new(false) };
    if let Some((shard, folder)) = &folder {
        let count = shards::evaluate_shard(&run, inputs, &options, *shard, folder)?;
        println!("shard {shard}: {count} compressors\nrows: {}", folder.display());
        drop(lock);
        return Ok(());
    }
    let outcome = evaluate(&run, inputs, &options)?;
    accepted.extend(outcome.accepted);
    Provenance::add_evaluation(run.dir(), sitting.accepting(accepted))?;
    let took = took(&run, begun)?;
    show(&run, &summarise(&run, inputs, outcome.evaluation, took)?)
}

/// Time and memory of a run: training took as long as it took, however often it is evaluated.
fn took(run: &TrainedRun, begun: Instant) -> anyhow::Result<Took> {
    Ok(match read_json::<Summary>(&run.dir().summary()) {
        Ok(before) => Took { seconds: before.seconds, peak_rss_mib: before.peak_rss_mib },
        Err(_) => Took { seconds: run.seconds()? + begun.elapsed().as_secs_f64(), peak_rss_mib: peak_rss_mib() },
    })
}

/// Makes an evaluation of what shards measured, whose folder is `RUN/eval/step_NNNNNN`.
pub fn join(verified: &Verified, folder: &Path, accept: AcceptArg) -> anyhow::Result<()> {
    let begun = Instant::now();
    let root = folder.canonicalize()?;
    let root = root.ancestors().nth(2).with_context(|| format!("{}: expected a folder of a run", folder.display()))?;
    let run = TrainedRun::open(root)?.locked()?;
    let (_, path) = verified.common.first().context("expected ground.json among the files of the shards, got none")?;
    let ground = Ground::read(path)?;
    ground.check(path, &run)?;
    let config: TrainConfig =
        toml::from_str(ground.config()).with_context(|| format!("{}: `config`", path.display()))?;
    let sitting = Sitting::now(&EvaluationFiles::of(&config)?.all(), &config.hardware.device)?;
    let changes = changed_since_training(run.dir(), &config, &sitting.inputs())?;
    let refused = format!("{}: not evaluated, it was made from other things", root.display());
    let mut accepted = settle(changes, accept.accept_changes, &refused)?;
    let models = inputs::models(&config, device::prepare(&config)?)?;
    let windows = Windows::load(&config, &models)?;
    let inputs = Inputs { config: &config, models: &models, windows: &windows };
    let outcome = ground.join(&run, inputs, &verified.files)?;
    accepted.extend(verified.accepted.iter().cloned().chain(outcome.accepted));
    Provenance::add_evaluation(run.dir(), sitting.accepting(accepted))?;
    let took = took(&run, begun)?;
    show(&run, &summarise(&run, inputs, outcome.evaluation, took)?)
}

/// Counts a reading of the final split and says so, where the run is judged on it.
pub fn count_reading(run: &TrainedRun, config: &TrainConfig) -> anyhow::Result<()> {
    if config.eval.split == ExamSplit::Final {
        let times = Provenance::count_final_read(run.dir())?;
        eprintln!("{}: the final split is read, reading {times} by this run", run.dir().root().display());
    }
    Ok(())
}

/// Writes the report of a run, and prints its table, where the report is, and as the last line K_e/K_g.
pub fn show(run: &TrainedRun, summary: &Summary) -> anyhow::Result<()> {
    println!("{}", report::table(summary));
    println!("report: {}", report::render(run.dir().root())?.display());
    if let Some(ledger) = &summary.eval.ledger {
        println!("{}", report::ledger::ratio(ledger));
    }
    Ok(())
}
