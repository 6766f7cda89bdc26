//! `merge`: what the shards of a job left becomes what the whole job would have left.

use crate::cli::args::AcceptArg;
use crate::cli::{compare, downstream, evaluate};
use clap::Args;
use gist::error::Error;
use gist::shard::SHARDS;
use gist::shard::merge::verify;
use std::path::PathBuf;

/// Flags of `merge`.
#[derive(Args)]
pub struct MergeArgs {
    /// The folder that the shards are in, as `shards/0001-of-0004`, …
    folder: PathBuf,
    #[command(flatten)]
    accept: AcceptArg,
}

/// Checks and merges.
pub fn run(args: &MergeArgs) -> anyhow::Result<()> {
    let verified = verify(&args.folder, args.accept.accept_changes)?;
    match verified.job.as_str() {
        "label" => verified.copy()?,
        "eval" => evaluate::join(&verified, &args.folder, args.accept)?,
        "compare" => compare::join(&verified, &args.folder, args.accept)?,
        "downstream" => downstream::join(&verified, &args.folder)?,
        other => {
            let message =
                format!("expected shards of `label`, `eval`, `compare` or `downstream`, got some of `{other}`");
            return Err(Error::file(args.folder.join(SHARDS), message).into());
        }
    }
    verified.accepted.iter().for_each(|change| println!("accepted: {change}"));
    println!("{}: {} shards, {} files of rows", verified.job, verified.shards, verified.rows);
    println!("merged: {}", args.folder.display());
    Ok(())
}
