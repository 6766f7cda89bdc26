//! `validate`: checks experiment files without running anything.

use crate::cli::sweep;
use gist::config::bases;
use gist::config::experiment::{resolve, wrong_kind};
use gist::config::labelled::LabelledConfig;
use gist::config::merge;
use gist::config::pretrain::PretrainConfig;
use gist::config::span_reader::SpanReaderConfig;
use gist::config::submit::SubmitConfig;
use gist::config::sweep::KEYS;
use gist::config::train::TrainConfig;
use std::path::{Path, PathBuf};

/// Flags of `validate`.
#[derive(clap::Args)]
pub struct ValidateArgs {
    /// TOML files; one without `name` is taken for a `base`, which may leave out keys.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Checks files of any kind, printing a line each.
pub fn run(args: &ValidateArgs) -> anyhow::Result<()> {
    let mut failed = 0;
    for path in &args.files {
        match check(path) {
            Ok(kind) => println!("ok  {}  ({kind})", path.display()),
            Err(error) => {
                failed += 1;
                println!("bad {error:#}");
            }
        }
    }
    if failed > 0 {
        anyhow::bail!("{failed} of {} files are not valid", args.files.len());
    }
    Ok(())
}

/// A file without `name` is taken for the base of others, which may leave out keys.
fn check(path: &Path) -> anyhow::Result<String> {
    let mut tree = merge::load_tree(path, &[])?;
    SubmitConfig::take(&mut tree)?;
    if KEYS.iter().any(|key| tree.get(key).is_some()) {
        return Ok(format!("sweep of {} runs", sweep::plan(path, &[])?.members.len()));
    }
    let is_base = tree.get("name").is_none();
    let kind = match (tree.get_str("kind"), is_base) {
        (Some("pretrain"), false) => resolve::<PretrainConfig>(&tree).map(|_| "pretrain")?,
        (Some("distill"), false) => resolve::<LabelledConfig>(&tree).map(|_| "distill")?,
        (Some("span_reader"), false) => resolve::<SpanReaderConfig>(&tree).map(|_| "span_reader")?,
        (Some("train"), false) => resolve::<TrainConfig>(&tree).map(|_| "train")?,
        (Some("pretrain"), true) => bases::check_pretrain(tree).map(|()| "base of pretrain")?,
        (Some("train"), true) => bases::check_train(tree).map(|()| "base of train")?,
        _ => Err(wrong_kind(&tree, "\"pretrain\", \"distill\", \"span_reader\" or \"train\""))?,
    };
    Ok(kind.to_string())
}
