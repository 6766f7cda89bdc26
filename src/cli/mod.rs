//! Subcommands; the only place with `anyhow`.

mod adversarial;
mod args;
mod asked;
mod bench;
mod benchmark;
mod ceiling;
mod check;
mod collect;
mod compare;
mod compress;
mod distill;
mod downstream;
mod equivalence;
mod evaluate;
pub mod exit;
mod export;
mod judge;
mod label;
mod leaks;
pub mod memory;
mod merge;
mod named;
mod pairs;
mod plan;
mod pool;
mod ranks;
mod scale;
mod sft;
mod slurm;
mod span_reader;
mod start;
mod status;
mod submit;
mod sweep;
mod task_model;
mod task_rows;
mod train;
mod validate;

use args::RunArgs;
use clap::{Parser, Subcommand};
use gist::config::labelled::LabelledConfig;
use gist::config::pretrain::PretrainConfig;
use gist::run_dir::Provenance;
use gist::train::labels::texts::Examples;
use gist::train::overlap;
use gist::train::pretrain::{self, PretrainingText};
use std::path::PathBuf;

/// Learned context compression: co-train a compressor with its reader, and compare with deletion on equal terms.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check experiment files without running anything.
    Validate(validate::ValidateArgs),
    /// Warm-start, co-train and evaluate a compressor and its reader.
    Train(train::TrainArgs),
    /// Evaluate the last checkpoint of a run on the test windows, and write its report again.
    Eval(evaluate::EvalArgs),
    /// Check that this device computes rightly: models, sampling and gradients against recorded and plain ways.
    Check(check::CheckArgs),
    /// Measure the speed of an experiment's step on this machine.
    Bench(bench::BenchArgs),
    /// List benchmarks of questions, prepare their rows, show them.
    #[command(subcommand)]
    Benchmark(benchmark::BenchmarkCommand),
    /// Say what an experiment will need, memory and seconds of a step, before anything of it is loaded.
    Plan(plan::PlanArgs),
    /// Measure what there is to gain in an experiment, before any of it is trained.
    Ceiling(ceiling::CeilingArgs),
    /// Pool several seeds of an experiment, from the files of their run directories.
    Pool(pool::PoolArgs),
    /// Label the training windows of an extractive experiment: what each unit of a prefix is worth to the teacher.
    Label(label::LabelArgs),
    /// Distil an extractive encoder from texts of which somebody said what to keep, and compare it with retrieval.
    Distill(distill::DistillArgs),
    /// Draw rate–distortion curves of finished runs and baselines on the same windows, read by the same readers.
    Compare(compare::CompareArgs),
    /// Make texts shorter: text or rows in, text or rows out, by a run or any baseline, within a budget.
    Compress(compress::CompressArgs),
    /// Ask questions of a benchmark with the whole context, with nothing, and with what compressors keep.
    Downstream(downstream::DownstreamArgs),
    /// Make, clean, sanitise, format and split pairs of texts and their shorter forms, for supervised compressors.
    #[command(subcommand)]
    Pairs(pairs::PairsCommand),
    /// Say whether texts and their shorter forms carry the same: embedding, facts, and a judge if one is named.
    Equivalence(equivalence::EquivalenceArgs),
    /// Grade from 1 to 10 how well a model could act on what compressors kept, by any model as judge.
    Judge(judge::JudgeArgs),
    /// Write a run's report.html and figures from its files, or a comparison's or a downstream evaluation's page and figures.
    Report {
        /// The directory of a run, a comparison or a downstream evaluation.
        run: PathBuf,
    },
    /// Run the arms, grid and seeds of an experiment file, and say what came of each arm.
    Sweep(sweep::SweepArgs),
    /// Merge what the shards of a job left into what the whole job would have left.
    Merge(merge::MergeArgs),
    /// Fine-tune a compressor on pairs of texts and their shorter forms, and evaluate it.
    Sft(Box<train::TrainArgs>),
    /// Measure, and predict, what more processes make of a step of co-training.
    #[command(subcommand)]
    Scale(scale::ScaleCommand),
    /// Say how far runs have come, and which process works on each.
    Status(status::StatusArgs),
    /// Collect settings and figures of runs into a SQLite database, which their files can make again at any time.
    Collect(collect::CollectArgs),
    /// Write what a run trained into a folder that other tools read (an adapter for PEFT, the base with it merged in, or an
    /// encoder), or a base.
    Export(export::ExportArgs),
    /// Bring a model of the Hugging Face Hub into the cache, and print the folder that it lies in.
    #[command(after_help = "Environment variables, as Python's huggingface_hub reads them: HF_HUB_CACHE, HF_HOME or \
        XDG_CACHE_HOME place the cache; HF_ENDPOINT is the address of a mirror; HF_TOKEN, or the file HF_TOKEN_PATH, holds the \
        token; HF_HUB_OFFLINE=1 forbids the network; HF_HUB_DOWNLOAD_TIMEOUT is how many seconds a server may be silent. \
        http_proxy, https_proxy and no_proxy choose proxies, SSL_CERT_FILE and SSL_CERT_DIR the trusted certificates.")]
    Fetch {
        /// The repository: owner/name.
        model: PathBuf,
        /// Branch, tag or commit.
        #[arg(long)]
        revision: Option<String>,
        /// Look in the cache only.
        #[arg(long)]
        offline: bool,
    },
    /// Train a base model and its tokenizer from text.
    Pretrain(RunArgs),
}

/// Runs the chosen subcommand.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Validate(args) => validate::run(&args),
        Command::Eval(args) => evaluate::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Benchmark(command) => benchmark::run(&command),
        Command::Plan(args) => plan::run(&args),
        Command::Label(args) => label::run(&args),
        Command::Ceiling(args) => ceiling::run(&args),
        Command::Pool(args) => pool::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Compress(args) => compress::run(&args),
        Command::Downstream(args) => downstream::run(args),
        Command::Equivalence(args) => equivalence::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Pairs(command) => pairs::run(&command),
        Command::Report { run } if run.join("comparison.json").is_file() => {
            println!("comparison: {}", gist::report::comparison::redraw(&run)?.display());
            Ok(())
        }
        Command::Report { run } if run.join("rows.jsonl").is_file() => {
            println!("report: {}", gist::report::downstream::redraw(&run)?.display());
            Ok(())
        }
        Command::Report { run } => {
            let page = gist::report::render(&run)?;
            if let Some(summary) = &gist::report::data::RunData::read(&run)?.summary {
                println!("{}", gist::report::table(summary));
            }
            println!("report: {}", page.display());
            Ok(())
        }
        Command::Train(args) => train::start(&args),
        Command::Distill(args) => {
            let Some(plan) = start::plan::<LabelledConfig>(&args.run)? else { return Ok(()) };
            let examples = Examples::load(&plan.config, plan.device)?;
            let shared = overlap::check(&plan.config)?;
            let mut inputs = Examples::inputs(&plan.config)?;
            let load = |folder: &PathBuf| anyhow::Ok((examples.taught(folder)?, folder.clone()));
            let taught = args.evaluate.as_ref().map(load).transpose()?;
            inputs.extend(args.evaluate.iter().flat_map(|folder| gist::model::weights::files_or_adapter(folder)));
            plan.open()?.guard(&inputs, |s| {
                Provenance::add_shared_documents(&s.run, &shared)?;
                distill::run(&examples, s, taught)
            })
        }
        Command::Export(args) => export::run(&args),
        Command::Fetch { model, revision, offline } => {
            let folder = gist::hub::fetch(&model, revision.as_deref(), offline)?;
            anyhow::ensure!(folder.is_dir(), "{}: expected a repository, owner/name, or a folder", model.display());
            println!("{}", folder.display());
            Ok(())
        }
        Command::Sweep(args) => sweep::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Sft(args) => sft::run(*args),
        Command::Scale(command) => scale::run(&command),
        Command::Status(args) => status::run(&args),
        Command::Collect(args) => collect::run(&args),
        Command::Pretrain(args) => {
            let Some(plan) = start::plan::<PretrainConfig>(&args)? else { return Ok(()) };
            let config = &plan.config;
            let text = PretrainingText::load(config)?;
            let shared = overlap::check(config)?;
            plan.open()?.guard(&PretrainingText::files(config)?, |s| {
                Provenance::add_shared_documents(&s.run, &shared)?;
                let figures = pretrain::run(config, text, &s.run, s.device, s.stop)?;
                println!("{figures}");
                println!("model: {}", config.output.display());
                Ok(config.train.steps)
            })
        }
    }
}
