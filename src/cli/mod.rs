//! Subcommands; the only place with `anyhow`.

mod bench;
mod check;
mod compare;
mod distill;
mod evaluate;
mod export;
mod label;
pub mod memory;
mod plan;
mod pool;
mod start;
mod sweep;
mod train;

use clap::{Args, Parser, Subcommand};
use gist::compressor::Compressor;
use gist::config::hardware::Hardware;
use gist::config::labelled::LabelledConfig;
use gist::config::pretrain::PretrainConfig;
use gist::config::train::TrainConfig;
use gist::train::labelled::Examples;
use gist::train::pretrain;
use gist::train::setup::Setup;
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
    Validate {
        /// TOML files; one without `name` is taken for a `base`, which may leave out keys.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Warm-start, co-train and evaluate a compressor and its reader.
    Train {
        #[command(flatten)]
        args: RunArgs,
        #[command(flatten)]
        adapt: AdaptArgs,
    },
    /// Evaluate the last checkpoint of a run on the test windows, and write its report again.
    Eval {
        /// The run's directory.
        run: PathBuf,
        #[command(flatten)]
        device: DeviceArg,
        #[command(flatten)]
        adapt: AdaptArgs,
        /// Windows on which spans are searched, with the future in sight (oracle_greedy) and without (lookahead).
        #[arg(long, value_name = "N")]
        search_windows: Option<usize>,
    },
    /// Check that this device computes rightly: models, sampling and gradients against recorded and plain ways.
    Check(check::CheckArgs),
    /// Measure the speed of an experiment's step on this machine.
    Bench {
        /// The experiment's TOML file.
        #[arg(default_value = "experiments/gist.toml")]
        experiment: PathBuf,
        #[command(flatten)]
        over: OverArgs,
        /// Folder that receives bench.json.
        #[arg(long, default_value = "runs")]
        runs: PathBuf,
        /// Measurements per figure.
        #[arg(long, default_value_t = 5)]
        repeats: usize,
    },
    /// Say what an experiment will need, memory and seconds of a step, before anything of it is loaded.
    Plan {
        /// The experiment's TOML file.
        experiment: PathBuf,
        #[command(flatten)]
        over: OverArgs,
        /// Write the figures here too.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Pool several seeds of an experiment, from the files of their run directories.
    Pool {
        /// Run directories.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// The same seeds of another experiment: prints the paired difference.
        #[arg(long, num_args = 1..)]
        against: Vec<PathBuf>,
        /// Write the figures here too.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Label the training windows of an extractive experiment: what each unit of a prefix is worth to the teacher.
    Label {
        /// The experiment's TOML file.
        experiment: PathBuf,
        /// Override a key (repeatable).
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        #[command(flatten)]
        device: DeviceArg,
        /// Folder for the labels [default: runs/<name>/labels].
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Distil an extractive encoder from texts of which somebody said what to keep, and compare it with retrieval.
    Distill(RunArgs),
    /// Draw rate–distortion curves of finished runs and baselines on the same windows, read by the same readers.
    Compare(compare::CompareArgs),
    /// Write a run's report.html and figures from its files, or a comparison's page and figures.
    Report {
        /// The directory of a run or a comparison.
        run: PathBuf,
    },
    /// Run the arms, grid and seeds of an experiment file, and say what came of each arm.
    Sweep(sweep::SweepArgs),
    /// Write what a run trained into a folder that other tools read (an adapter for PEFT, the base with it merged in, or an
    /// encoder), or a base.
    Export(export::ExportArgs),
    /// Bring a model of the Hugging Face Hub into the cache, and say where it lies.
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

/// Where to compute.
#[derive(Args)]
pub struct DeviceArg {
    /// cpu, cuda, cuda:N or auto, in place of the configuration's: what --set hardware.device=DEVICE says.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl DeviceArg {
    /// Overrides of keys, with the device behind `set`.
    pub fn after(&self, set: &[String]) -> Vec<String> {
        let own = self.device.iter().map(|device| format!("hardware.device={device}"));
        set.iter().cloned().chain(own).collect()
    }

    /// Puts it in the place of what a finished run recorded, which stays the same run.
    pub fn put(&self, hardware: &mut Hardware) -> anyhow::Result<()> {
        if let Some(device) = &self.device {
            hardware.device.clone_from(device);
            hardware.check().map_err(|(_, message)| anyhow::anyhow!("--device: {message}"))?;
        }
        start::settle(hardware);
        Ok(())
    }
}

/// What an experiment is measured with in place of its own.
#[derive(Args)]
pub struct OverArgs {
    /// Override a key (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    /// A base of this architecture with random weights, in place of the experiment's.
    #[arg(long, value_name = "CONFIG.json")]
    random_weights: Option<PathBuf>,
}

impl OverArgs {
    /// Overrides of keys, the device among them.
    fn set(&self) -> Vec<String> {
        self.device.after(&self.set)
    }
}

/// The fair contest: a reader for each compressor.
#[derive(Args)]
pub struct AdaptArgs {
    /// Also train one reader per compressor on its own output, or for those in the list only; takes several times as long
    /// as the rest. Finished readers are kept beside the evaluation and used again.
    #[arg(long, value_name = "NAME,..", num_args = 0.., value_delimiter = ',', require_equals = true)]
    adapt_readers: Option<Vec<String>>,
}

impl AdaptArgs {
    /// Fails on a name that none of `adaptable` has.
    pub fn check(&self, adaptable: &[&dyn Compressor]) -> anyhow::Result<()> {
        let names: Vec<&str> = adaptable.iter().map(|compressor| compressor.name()).collect();
        match self.adapt_readers.iter().flatten().find(|name| !names.contains(&name.as_str())) {
            Some(bad) => anyhow::bail!("--adapt-readers: expected names among {}, got {bad:?}", names.join(", ")),
            None => Ok(()),
        }
    }

    /// Whether the compressor of this name gets its own reader.
    pub fn wants(&self, name: &str) -> bool {
        self.adapt_readers.as_ref().is_some_and(|names| names.is_empty() || names.iter().any(|n| n == name))
    }
}

/// How a run is started.
#[derive(Args)]
pub struct RunArgs {
    /// The experiment's TOML file.
    pub experiment: PathBuf,
    /// Override a key: --set train.steps=100 (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub device: DeviceArg,
    /// Folder that holds run directories.
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// The run's directory, in place of the one that its name and seed give.
    #[arg(long, value_name = "DIR", conflicts_with = "runs")]
    pub at: Option<PathBuf>,
    /// Go on from the last checkpoint of an existing run.
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace an existing run.
    #[arg(long)]
    pub overwrite: bool,
    /// Print the resolved configuration and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Ask the network for nothing: models of the Hub must be in the cache (HF_HUB_OFFLINE=1 says the same).
    #[arg(long)]
    pub offline: bool,
}

/// Runs the chosen subcommand.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Validate { files } => start::validate(&files),
        Command::Eval { run, device, adapt, search_windows } => evaluate::again(&run, &device, &adapt, search_windows),
        Command::Check(args) => check::run(&args),
        Command::Bench { experiment, over, runs, repeats } => {
            bench::run(&experiment, &over.set(), over.random_weights.as_ref(), (&runs, repeats))
        }
        Command::Plan { experiment, over, json } => {
            plan::run(&experiment, &over.set(), over.random_weights.as_ref(), json.as_deref())
        }
        Command::Label { experiment, set, device, output } => label::run(&experiment, &device.after(&set), output),
        Command::Pool { runs, against, json } => pool::run(&runs, &against, json.as_deref()),
        Command::Compare(args) => compare::run(&args),
        Command::Report { run } if run.join("comparison.json").is_file() => {
            println!("comparison: {}", compare::redraw(&run)?.display());
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
        Command::Train { args, adapt } => {
            let Some(plan) = start::plan::<TrainConfig>(&args)? else { return Ok(()) };
            let setup = train::load(&plan.config, plan.device)?;
            plan.open()?.guard(&Setup::inputs(&plan.config)?, |s| train::run(&setup, s, &adapt))
        }
        Command::Distill(args) => {
            let Some(plan) = start::plan::<LabelledConfig>(&args)? else { return Ok(()) };
            let examples = Examples::load(&plan.config, plan.device)?;
            plan.open()?.guard(&Examples::inputs(&plan.config)?, |s| distill::run(&examples, s))
        }
        Command::Export(args) => export::run(&args),
        Command::Fetch { model, revision, offline } => {
            println!("{}", gist::hub::fetch(&model, revision.as_deref(), offline)?.display());
            Ok(())
        }
        Command::Sweep(args) => sweep::run(&args),
        Command::Pretrain(args) => {
            let Some(plan) = start::plan::<PretrainConfig>(&args)? else { return Ok(()) };
            let config = &plan.config;
            let text = pretrain::Text::load(config)?;
            plan.open()?.guard(&pretrain::Text::files(config)?, |s| {
                let figures = pretrain::run(config, text, &s.run, s.device, s.stop)?;
                println!("{figures}");
                println!("model: {}", config.output.display());
                Ok(config.train.steps)
            })
        }
    }
}
