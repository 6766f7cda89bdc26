//! `export`: what a run trained, in a folder that other tools read.

use gist::base;
use gist::model::folder::DTYPES;
use gist::runs::TrainedRun;
use gist::runs::export::{export, export_base};
use gist::train::roles::ROLES;
use std::path::PathBuf;

/// Flags of `export`.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The run's directory.
    #[arg(required_unless_present = "base")]
    run: Option<PathBuf>,
    /// In place of what a run trained, a base itself as a Hugging Face folder: a GGUF file, a folder, or a repository of the
    /// Hub that is in the cache.
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["run", "role", "merge"])]
    base: Option<PathBuf>,
    /// Kind of the base's weights; without it as they are stored (float32 for GGUF).
    #[arg(long, requires = "base", value_parser = DTYPES.map(|(name, _)| name))]
    dtype: Option<String>,
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

/// Exports a role of a run's last checkpoint, or a base.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    match (&args.base, &args.run) {
        (Some(path), _) => {
            let kind = DTYPES.iter().find(|(name, _)| Some(*name) == args.dtype.as_deref()).map(|(_, kind)| *kind);
            export_base(&base::folder(path, None)?, kind, &args.output)?;
        }
        (None, Some(run)) => export(&TrainedRun::open(run)?, &args.role, args.merge, &args.output)?,
        (None, None) => anyhow::bail!("expected a run or --base, got neither"),
    }
    println!("{}", args.output.display());
    Ok(())
}
