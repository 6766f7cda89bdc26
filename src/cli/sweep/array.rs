//! The runs of a sweep one by one, as the tasks of an array: listed, run by number, submitted to Slurm.

use crate::cli::exit::Failed;
use crate::cli::sweep::member::{Checked, Member};
use crate::cli::sweep::plan::{SweepArgs, SweepPlan, config, describe};
use anyhow::Context;
use gist::config::submit::{SlurmConfig, SubmitConfig};
use gist::error::Error;
use gist::run_dir::{ACCEPT, write_atomic};
use minijinja::{Environment, UndefinedBehavior, context};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The script of an array.
const TEMPLATE: &str = include_str!("array.sh.jinja");

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
    write_atomic(&path, text.as_bytes())?;
    describe(root, plan)?;
    std::fs::create_dir_all(root.join("logs")).map_err(|e| Error::io(root.join("logs"), e))?;
    let kept = |said: &str| Failed(format!("not submitted: {said}; the script is kept: {}", path.display()));
    let answer = Command::new("sbatch").arg("--parsable").arg(&path).output().map_err(|e| match e.kind() {
        ErrorKind::NotFound => kept("expected `sbatch` on the PATH, got none"),
        _ => kept(&format!("sbatch: {e}")),
    })?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        return Err(kept(&format!("sbatch said: {}", said.trim())).into());
    }
    let job = String::from_utf8_lossy(&answer.stdout).trim().to_string();
    println!("{}: job {job}, {} of {} runs", plan.name, todo.len(), plan.members.len());
    println!("script: {}", path.display());
    println!("`gist status {}` says how far they are; when they have ended, `gist sweep` judges them", root.display());
    Ok(())
}

/// The script of an array of the runs `todo`.
fn script(root: &Path, plan: &SweepPlan, args: &SweepArgs, todo: &[usize]) -> anyhow::Result<String> {
    let SubmitConfig::Slurm(slurm) = plan.submit.clone().unwrap_or(SubmitConfig::Slurm(SlurmConfig::default()));
    let template = match &slurm.template {
        Some(path) => std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?,
        None => TEMPLATE.to_string(),
    };
    let named = slurm.template.clone().unwrap_or_else(|| PathBuf::from("the built-in template"));
    let mut jinja = Environment::new();
    jinja.set_undefined_behavior(UndefinedBehavior::Strict);
    let folder = std::env::current_dir()?;
    let output = folder.join(root).join("logs").display().to_string().replace('%', "%%");
    let threads = plan.members.first().map_or(1, |member| member.config.hardware.threads.max(1) as usize);
    let values = context! {
        sweep => &plan.name,
        name => format!("gist-{}", plan.name),
        tasks => ranges(todo),
        max_parallel => args.max_parallel.map(|most| most as usize).or(slurm.max_parallel),
        folder => in_double_quotes(&folder.display().to_string()),
        output => in_double_quotes(&format!("{output}/%A_%a.log")),
        cpus_per_task => slurm.cpus_per_task.unwrap_or(threads),
        gpus_per_task => slurm.gpus_per_task,
        partition => slurm.partition,
        time_limit => slurm.time_limit,
        options => slurm.options,
        signal_seconds_before_end => slurm.signal_seconds_before_end,
        max_restarts => slurm.max_restarts,
        setup => slurm.setup.trim_end(),
        command => command(plan, args)?,
    };
    let text = jinja.render_str(&template, values).map_err(|error| {
        let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
        Error::file(named, format!("{line}{error}"))
    })?;
    Ok(text.trim_end().to_string() + "\n")
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
    Ok(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// A word as bash reads it back.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._=+-:,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A value as a `#SBATCH` line takes it.
fn in_double_quotes(value: &str) -> String {
    if value.contains([' ', '#']) { format!("\"{value}\"") } else { value.to_string() }
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
    fn numbers_and_words_are_written_as_slurm_and_bash_read_them() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3,7,9-10");
        assert_eq!(ranges(&[4]), "4");
        assert_eq!(quoted("train.steps=3"), "train.steps=3");
        let hard = "a 'b' $c \"d\"";
        let said = Command::new("bash").args(["-c", &format!("printf %s {}", quoted(hard))]).output();
        assert_eq!(said.map(|output| output.stdout).unwrap_or_default(), hard.as_bytes());
    }
}
