//! `export`: what a run trained, in a folder that other tools read.

use gist::runs::TrainedRun;
use gist::runs::export::export;
use gist::train::roles::ROLES;
use std::path::PathBuf;

/// Flags of `export`.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The run's directory.
    run: PathBuf,
    /// Role whose weights are exported.
    #[arg(long, default_value = ROLES[1], value_parser = ROLES)]
    role: String,
    /// Merge the adapter into the base: a checkpoint that needs nothing else.
    #[arg(long)]
    merge: bool,
    /// Folder that receives it; must not exist.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Exports a role of a run's last checkpoint.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    export(&TrainedRun::open(&args.run)?, &args.role, args.merge, &args.output)?;
    println!("{}", args.output.display());
    Ok(())
}
