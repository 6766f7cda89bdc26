//! Subcommands; the only place with `anyhow`.

mod start;
mod train;

use clap::{Args, Parser, Subcommand};
use gist::config::pretrain::PretrainConfig;
use gist::config::train::TrainConfig;
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
        /// TOML files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Warm-start, co-train and evaluate a compressor and its reader.
    Train(RunArgs),
    /// Train a base model and its tokenizer from text.
    Pretrain(RunArgs),
}

/// How a run is started.
#[derive(Args)]
pub struct RunArgs {
    /// The experiment's TOML file.
    pub experiment: PathBuf,
    /// Override a key: --set train.steps=100 (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder that holds run directories.
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// Go on from the last checkpoint of an existing run.
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace an existing run.
    #[arg(long)]
    pub overwrite: bool,
    /// Print the resolved configuration and stop.
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the chosen subcommand.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Validate { files } => start::validate(&files),
        Command::Train(args) => {
            let Some((config, session)) = start::open::<TrainConfig>(&args)? else { return Ok(()) };
            session.guard(&Setup::inputs(&config), |s| train::run(&config, s))
        }
        Command::Pretrain(args) => {
            let Some((config, session)) = start::open::<PretrainConfig>(&args)? else { return Ok(()) };
            let inputs = [config.data.train.clone(), config.data.valid.clone()].concat();
            session.guard(&inputs, |s| {
                let figures = pretrain::run(&config, &s.run, s.device, s.stop)?;
                println!("{figures}");
                println!("model: {}", config.output.display());
                Ok(config.train.steps)
            })
        }
    }
}
