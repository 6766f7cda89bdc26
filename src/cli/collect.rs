//! `collect`: an index of runs as a SQLite database.

use crate::cli::exit::Failed;
use clap::Args;
use gist::report::index;
use std::path::PathBuf;

/// Flags of `collect`.
#[derive(Args)]
pub struct CollectArgs {
    /// Folders that hold run directories.
    #[arg(default_value = "runs")]
    places: Vec<PathBuf>,
    /// SQLite file that receives the index.
    #[arg(long, value_name = "FILE", default_value = "results.sqlite")]
    out: PathBuf,
}

/// Brings the index up to date, and says what it holds.
pub fn run(args: &CollectArgs) -> anyhow::Result<()> {
    let done = index::collect(&args.places, &args.out)?;
    println!("{} runs: {} read, {} as before, {} gone", done.runs, done.read, done.runs - done.read, done.gone);
    println!("index: {}", args.out.display());
    match done.problems.as_slice() {
        [] => Ok(()),
        problems => {
            let said = format!("{} runs cannot be read as a whole:\n{}", problems.len(), problems.join("\n"));
            Err(Failed(said).into())
        }
    }
}
