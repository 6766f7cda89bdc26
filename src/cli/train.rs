//! `train`: warm start, co-training, final evaluation, report; or the training of a span reader ([`crate::cli::span_reader`]).

use crate::cli::args::{AdaptArgs, RunArgs};
use crate::cli::evaluate::{count_reading, show};
use crate::cli::ranks;
use crate::cli::span_reader;
use crate::cli::start::{self, OpenRun, PreparedRun};
use crate::cli::submit;
use anyhow::ensure;
use gist::compressor::scorers::frozen;
use gist::config::experiment::{Experiment, load};
use gist::config::merge::load_tree;
use gist::config::span_reader::SpanReaderConfig;
use gist::config::train::TrainConfig;
use gist::cost::memory::peak_rss_mib;
use gist::eval::run::{EvaluationOptions, Took, evaluate, summarise};
use gist::parallel::place::Place;
use gist::parallel::ranks::Ranks;
use gist::report::format::percent;
use gist::run_dir::{Provenance, RunDir};
use gist::runs::{Inputs, TrainedRun, terms};
use gist::train::labels::windows as labels;
use gist::train::pair_start::{self, Kept};
use gist::train::roles::first_roles;
use gist::train::session::Session;
use gist::train::windows::Windows;
use gist::train::{cotrain, inputs, overlap, warm_start};

/// Flags of `train`.
#[derive(clap::Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub adapt: AdaptArgs,
    /// Share the steps among N processes of this machine (a power of two up to parallel.grad_shards); the results are those of
    /// one. Under torchrun or srun the launcher says how many there are.
    #[arg(long, value_name = "N")]
    pub ranks: Option<usize>,
    /// Several ranks of a machine may use one GPU.
    #[arg(long)]
    pub share_gpu: bool,
    /// Submit the run to a scheduler, as the section [submit] of the experiment asks; with --dry-run, print the script.
    #[arg(long, value_name = "SCHEDULER", value_parser = ["slurm"], conflicts_with = "overwrite")]
    pub submit: Option<String>,
}

/// Runs an experiment, as one process, as the one that starts several, or as one of these.
pub fn start(args: &TrainArgs) -> anyhow::Result<()> {
    if load_tree(&args.run.experiment, &args.run.set)?.get_str("kind") == Some(SpanReaderConfig::KIND) {
        for (flag, given) in [("--ranks", args.ranks.is_some()), ("--adapt-readers", args.adapt.is_given())] {
            ensure!(!given, "{flag}: expected an experiment with a compressor, got a span reader");
        }
        ensure!(args.submit.is_none(), "--submit: expected an experiment with a compressor, got a span reader");
        return span_reader::start(&args.run);
    }
    if args.submit.is_some() {
        return submit::run(&args.run, args.ranks);
    }
    let is_run = !args.run.dry_run;
    let place = ranks::place(args.ranks)?.filter(|_| is_run);
    if let Some(count) = args.ranks.filter(|_| place.is_none() && is_run) {
        let config = load::<TrainConfig>(&args.run.experiment, &args.run.device.after(&args.run.set))?;
        Place::check(count, config.parallel.grad_shards, "--ranks")?;
        if count > 1 {
            return ranks::launch(count, config.hardware.threads.max(1) as usize);
        }
    }
    let writes = place.as_ref().is_none_or(|place| place.rank == 0);
    let Some(mut plan) = start::plan_as::<TrainConfig>(&args.run, writes)? else { return Ok(()) };
    if let Some(place) = &place {
        plan.device = ranks::device(place, &plan, args.share_gpu)?;
    }
    let group = place.map(|place| ranks::join(place, &plan)).transpose()?;
    let done = share(args, &plan, group.as_ref());
    if let (Err(error), Some(group)) = (&done, &group) {
        group.fail(&format!("{error:#}"));
    }
    done
}

/// Loads what an experiment reads, and runs it, alone or as one of a group.
fn share(args: &TrainArgs, plan: &PreparedRun<TrainConfig>, group: Option<&Ranks>) -> anyhow::Result<()> {
    let config = &plan.config;
    warm_start::check(config)?;
    let models = inputs::models(config, plan.device)?;
    let windows = Windows::load(config, &models)?;
    let inputs = Inputs { config, models: &models, windows: &windows };
    let adapt = args.adapt.names(config)?;
    check(inputs)?;
    let files = inputs::files(config)?;
    if let Some(group) = group {
        ranks::same_files(group, &files)?;
        if !group.is_first() {
            return follow(inputs, plan, group);
        }
    }
    let shared = overlap::check(config)?;
    plan.open()?.guard(&files, |s| {
        Provenance::add_shared_documents(&s.run, &shared)?;
        run(inputs, s, &adapt, group)
    })
}

/// Takes part in the co-training of a run that the first rank writes. It alone makes the warm start, whose end the others wait
/// for.
fn follow(inputs: Inputs, plan: &PreparedRun<TrainConfig>, group: &Ranks) -> anyhow::Result<()> {
    let stop = start::catch_interrupt()?;
    group.from_first("warm start", || Ok(Vec::new()))?;
    let run = RunDir::at(&plan.root)?;
    let mut session = Session::open(inputs, &run, stop)?;
    session.join(group);
    cotrain::run(&mut session)?;
    group.finish();
    Ok(())
}

/// Reads whatever else a run needs, so that what is wrong with it is said before anything is written.
fn check(inputs: Inputs) -> anyhow::Result<()> {
    let Inputs { config, models, .. } = inputs;
    first_roles(config, models)?;
    models.policy(&config.compressor)?;
    if config.eval.baselines.is_all() {
        models.prompted_baselines()?;
    }
    for named in &config.eval.encoders {
        frozen(named, models.decoder.device())?;
    }
    if let Some(folder) = &config.distill.labels_from {
        labels::read(inputs, folder)?;
    }
    Ok(())
}

/// Says how a compressor that has learned from pairs fares on held-out ones.
fn say_kept(kept: &Kept) {
    let [wanted, own, equal] = [kept.wanted, kept.kept, kept.equal].map(percent);
    println!(
        "{} held-out pairs: {own} of the tokens are kept, where the pairs keep {wanted}; {equal} of the texts come out the same",
        kept.pairs
    );
}

/// Runs an experiment to its end; returns the updates done.
fn run(inputs: Inputs, start: &OpenRun, adapt: &[String], group: Option<&Ranks>) -> anyhow::Result<usize> {
    let mut session = Session::open(inputs, &start.run, start.stop)?;
    session.open_log()?;
    let told = ranks::Told::begin(group, &start.run);
    warm_start::run(&mut session)?;
    if inputs.config.train.steps == 0
        && let Some(kept) = pair_start::kept(&session)?
    {
        say_kept(&kept);
    }
    if let Some(group) = group {
        group.from_first("warm start", || Ok(Vec::new()))?;
        session.join(group);
    }
    cotrain::run(&mut session)?;
    drop(told);
    if let Some(group) = group {
        group.finish();
    }
    let run = TrainedRun::open(start.run.root())?;
    let hashes = Provenance::read(run.dir())?.trained().inputs();
    let options = EvaluationOptions {
        adapt,
        terms: &terms::of(inputs.config, &hashes, &run.dir().provenance())?,
        accept_changes: start.accept_changes,
        stop: start.stop,
    };
    count_reading(&run, inputs.config)?;
    let outcome = evaluate(&run, inputs, &options)?;
    Provenance::add_accepted(run.dir(), outcome.accepted)?;
    let took = Took { seconds: session.seconds(), peak_rss_mib: peak_rss_mib() };
    show(&run, &summarise(&run, inputs, outcome.evaluation, took)?)?;
    Ok(session.update())
}
