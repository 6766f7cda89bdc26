//! `train --submit`: a run as a job of Slurm, by one process or by several ranks.

use crate::cli::args::RunArgs;
use crate::cli::slurm::{self, SlurmJob};
use anyhow::{Context, ensure};
use gist::config::experiment::{self, Experiment};
use gist::config::merge::load_tree;
use gist::config::submit::{SlurmConfig, SubmitConfig};
use gist::config::train::TrainConfig;
use gist::parallel::place::Place;
use std::path::Path;

/// Submits a run, or prints the script. The job goes on from whatever checkpoint there is.
pub fn run(args: &RunArgs, ranks: Option<usize>) -> anyhow::Result<()> {
    let mut tree = load_tree(&args.experiment, &args.device.after(&args.set))?;
    let submit = SubmitConfig::take(&mut tree)?.unwrap_or(SubmitConfig::Slurm(SlurmConfig::default()));
    let (SubmitConfig::Slurm(asked), config) = (submit, experiment::resolve::<TrainConfig>(&tree)?);
    let ranks = ranks.unwrap_or(1);
    Place::check(ranks, config.parallel.grad_shards, "--ranks")?;
    let nodes = asked.nodes;
    ensure!(nodes <= ranks, "submit.nodes: expected at most {ranks} (--ranks), got {nodes}");
    let root = args.at.clone().unwrap_or_else(|| args.runs.join(config.name()));
    let folder = root.parent().unwrap_or(Path::new("")).to_path_buf();
    let stem = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let shared = if ranks > 1 { "srun --kill-on-bad-exit=1 " } else { "" };
    let job = SlurmJob {
        what: format!("The run {}", root.display()),
        name: &config.name,
        tasks: None,
        max_parallel: None,
        ranks,
        threads: config.hardware.threads.max(1) as usize,
        log: folder.join("logs").join(format!("{stem}-%j.log")),
        command: format!("{shared}{}", slurm::line(&command()?)),
    };
    let text = slurm::script(&asked, &job)?;
    if args.dry_run {
        print!("{text}");
        return Ok(());
    }
    let path = folder.join("submit").join(format!("{stem}.sh"));
    let number = slurm::send(&path, &text, &folder.join("logs"))?;
    println!("{}: job {number}", root.display());
    println!("script: {}", path.display());
    println!("`gist status {}` says how far it is", root.display());
    Ok(())
}

/// This command without what is said to the scheduler, going on from a checkpoint.
fn command() -> anyhow::Result<Vec<String>> {
    let mut words = vec![std::env::current_exe().context("this program")?.display().to_string()];
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "--submit" | "--ranks" => drop(given.next()),
            "--dry-run" | "--resume" => {}
            _ if word.starts_with("--submit=") || word.starts_with("--ranks=") => {}
            _ => words.push(word),
        }
    }
    words.push("--resume".into());
    Ok(words)
}
