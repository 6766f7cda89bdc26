//! The runs of a sweep one by one, as the tasks of an array: listed, run by number, submitted to Slurm.

use crate::cli::slurm::{self, SlurmJob};
use crate::cli::sweep::member::{Checked, Member};
use crate::cli::sweep::plan::{SweepArgs, SweepPlan, config, describe};
use anyhow::Context;
use gist::config::submit::{SlurmConfig, SubmitConfig};
use gist::error::Error;
use gist::run_dir::{ACCEPT, write_atomic};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Prints number, name and state of every run, separated by tabs.
pub fn list(plan: &SweepPlan) {
    for (i, member) in plan.members.iter().enumerate() {
        let state = member.finished().map_or_else(|said| said, |_| "done".into());
        let word = state.split(' ').next().unwrap_or_default();
        println!("{}\t{}\t{}", i + 1, member.name, if word == "never" { "new" } else { word });
    }
}

/// Turns this process into the run of this number, counted from 1, unless that is finished.
pub fn run_one(root: &Path, plan: &mut SweepPlan, args: &SweepArgs, index: usize) -> anyhow::Result<()> {
    let count = plan.members.len();
    if let Some(then) = args.submitted.as_ref().filter(|then| **then != plan.digest) {
        let message = format!(
            "expected the sweep that was submitted, {then}, got {}: the file, a base of it or an override has changed since; \
             submit it again",
            plan.digest
        );
        return Err(Error::file(&args.experiment, message).into());
    }
    let Some(member) = index.checked_sub(1).and_then(|at| plan.members.get_mut(at)) else {
        let experiment = args.experiment.display();
        anyhow::bail!("--index: expected 1 to {count}, the runs of {experiment}, got {index}; --list names them");
    };
    let mut checked = Checked::new(args.accept.accept_changes);
    member.settle(&args.runs, &mut checked)?;
    let Some(start) = member.start(args.overwrite, &mut checked)? else {
        println!("{}: finished before", member.name);
        return Ok(());
    };
    write_atomic(&config(root, member), member.toml.as_bytes())?;
    let mut run = train(root, member, start, args)?;
    describe(root, plan)?;
    Err(run.exec()).context("the run cannot be started")
}

/// The command that trains a run.
pub fn train(root: &Path, member: &Member, start: &str, args: &SweepArgs) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("train").arg(config(root, member)).arg("--at").arg(&member.folder).arg(start);
    command.args(args.accept.accept_changes.then_some(ACCEPT));
    Ok(command)
}

/// Submits the runs that are not finished as an array, or prints the script.
pub fn submit(root: &Path, plan: &SweepPlan, args: &SweepArgs, mut checked: Checked) -> anyhow::Result<()> {
    let mut todo = Vec::new();
    for (i, member) in plan.members.iter().enumerate() {
        if member.start(args.overwrite, &mut checked)?.is_some() {
            todo.push(i + 1);
        }
    }
    if todo.is_empty() {
        println!("{}: all {} runs are finished; nothing is submitted", plan.name, plan.members.len());
        return Ok(());
    }
    let text = script(root, plan, args, &todo)?;
    if args.dry_run {
        print!("{text}");
        return Ok(());
    }
    let path = root.join("submit/array.sh");
    describe(root, plan)?;
    let job = slurm::send(&path, &text, &root.join("logs"))?;
    println!("{}: job {job}, {} of {} runs", plan.name, todo.len(), plan.members.len());
    println!("script: {}", path.display());
    println!("`gist status {}` says how far they are; when they have ended, `gist sweep` judges them", root.display());
    Ok(())
}

/// The script of an array of the runs `todo`.
fn script(root: &Path, plan: &SweepPlan, args: &SweepArgs, todo: &[usize]) -> anyhow::Result<String> {
    let SubmitConfig::Slurm(config) = plan.submit.clone().unwrap_or(SubmitConfig::Slurm(SlurmConfig::default()));
    let job = SlurmJob {
        what: format!("Runs of the sweep {}, one a task", plan.name),
        name: &plan.name,
        tasks: Some(ranges(todo)),
        max_parallel: args.max_parallel.map(|most| most as usize).or(config.max_parallel),
        ranks: 1,
        threads: plan.members.first().map_or(1, |member| member.config.hardware.threads.max(1) as usize),
        log: root.join("logs/%A_%a.log"),
        command: format!("{} --index \"$SLURM_ARRAY_TASK_ID\"", command(plan, args)?),
    };
    slurm::script(&config, &job)
}

/// This sweep's command as a shell reads it, without the number of the run.
fn command(plan: &SweepPlan, args: &SweepArgs) -> anyhow::Result<String> {
    let text = |path: &Path| path.display().to_string();
    let mut words = vec![text(&std::env::current_exe()?), "sweep".into(), text(&args.experiment)];
    for set in args.overrides() {
        words.extend(["--set".into(), set]);
    }
    words.extend(["--runs".into(), text(&args.runs), "--submitted".into(), plan.digest.clone()]);
    words.extend(args.overwrite.then(|| "--overwrite".into()));
    words.extend(args.accept.accept_changes.then(|| ACCEPT.into()));
    Ok(slurm::line(&words))
}

/// Ascending numbers as `1-3,7`.
fn ranges(numbers: &[usize]) -> String {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match found.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => found.push((number, number)),
        }
    }
    let one = |&(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    found.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_slurm_reads_them() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3,7,9-10");
        assert_eq!(ranges(&[4]), "4");
    }
}
