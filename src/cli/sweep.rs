//! `sweep`: the runs that one experiment file stands for, each a process of its own, then a verdict on every arm.
//!
//! ```text
//! runs/<sweep>/configs/<run>.toml   every resolved configuration, written before the first run
//! runs/<sweep>/runs.json            what each run's name stands for: the keys in which it differs, whole
//! runs/<sweep>/<run>/               a run directory like any other
//! runs/<sweep>/logs/<run>.log       what the run printed
//! runs/<sweep>/results.csv          a row a run
//! runs/<sweep>/verdict.{json,md}    a row an arm
//! ```
//! A finished run with the same configuration is kept, one that was cut is resumed, one that fails is named at the end
//! while the others go on. Where another experiment under the same folder has finished a run of the same configuration,
//! that one stands in: sweeps that share their baseline run it once. Either must have been made from the files that are there
//! now, by this program: another does not stand in, and is kept only if the user accepts it, which is recorded.

mod array;
mod member;
mod outcome;
mod plan;

use crate::cli::exit::Failed;
use crate::cli::start;
use anyhow::Context;
use gist::config::merge;
use gist::error::Error;
use gist::progress::Progress;
use gist::run_dir::{FolderLock, write_atomic};
use member::{Checked, Member};
pub use plan::{SweepArgs, SweepPlan, plan};
use plan::{config, describe};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(200);

/// Runs whatever is left of a sweep, and judges its arms.
pub fn run(args: &SweepArgs) -> anyhow::Result<()> {
    let mut plan = plan(&args.experiment, &args.overrides())?;
    if args.dry_run && args.submit.is_none() {
        return show(&plan);
    }
    let root = args.runs.join(&plan.name);
    plan.members.iter_mut().for_each(|member| member.folder = root.join(&member.name));
    if args.list {
        array::list(&plan);
        return Ok(());
    }
    if let Some(index) = args.index {
        return array::run_one(&root, &mut plan, args, index);
    }
    let mut checked = Checked::new(args.accept.accept_changes);
    for member in &mut plan.members {
        member.settle(&args.runs, &mut checked)?;
    }
    if args.submit.is_some() {
        return array::submit(&root, &plan, args, checked);
    }
    let mut todo = Vec::new();
    for member in &plan.members {
        if let Some(start) = member.start(args.overwrite, &mut checked)? {
            todo.push((member, start));
        }
    }
    let _lock = FolderLock::take(&root)?;
    for member in &plan.members {
        write_atomic(&config(&root, member), member.toml.as_bytes())?;
    }
    describe(&root, &plan)?;
    std::fs::create_dir_all(root.join("logs"))?;
    println!("{}: {} runs, {} of them finished before", plan.name, plan.members.len(), plan.members.len() - todo.len());
    let stopped = work(&root, &plan, todo, args)?;
    let failed = outcome::results(&root, &plan)?;
    let judged = outcome::judge(&root, &plan, &checked)?;
    println!("{judged}\nresults: {}", root.join("results.csv").display());
    match (stopped, failed.is_empty()) {
        (true, _) => Err(Error::Stopped("run the same command again to go on".into()).into()),
        (_, false) => {
            let (count, all) = (failed.len(), plan.members.len());
            Err(Failed(format!("{count} of {all} runs are not finished:\n{}", failed.join("\n"))).into())
        }
        _ => Ok(()),
    }
}

/// The runs, and the keys in which each differs from the first.
fn show(plan: &SweepPlan) -> anyhow::Result<()> {
    for member in &plan.members {
        println!("{}", member.name);
        for (key, _, value) in merge::differences(&plan.members[0].toml, &member.toml)? {
            println!("    {key} = {}", value.unwrap_or("absent".into()));
        }
    }
    println!("{} runs", plan.members.len());
    Ok(())
}

/// Runs them, so many at a time; true when the user stopped it.
fn work(root: &Path, plan: &SweepPlan, todo: Vec<(&Member, &str)>, args: &SweepArgs) -> anyhow::Result<bool> {
    let stop: &AtomicBool = start::catch_interrupt()?;
    let progress = Progress::new(&plan.name, plan.members.len(), plan.members.len() - todo.len());
    let mut waiting = todo.into_iter();
    let mut running: Vec<(&Member, Child)> = Vec::new();
    let mut told = false;
    loop {
        while running.len() < args.jobs as usize && !stop.load(Ordering::SeqCst) {
            let Some((member, start)) = waiting.next() else { break };
            progress.note(&format!("{} …", member.name));
            running.push((member, spawn(root, member, start, args)?));
        }
        if running.is_empty() {
            break;
        }
        if stop.load(Ordering::SeqCst) && !told {
            told = true;
            running.iter().for_each(|(_, child)| interrupt(child));
        }
        let mut left = Vec::new();
        for (member, mut child) in running {
            match child.try_wait()? {
                None => left.push((member, child)),
                Some(status) => {
                    let end = if status.success() { "done".to_string() } else { format!("not finished ({status})") };
                    progress.note(&format!("{}: {end}", member.name));
                    progress.step(&member.name);
                }
            }
        }
        running = left;
        std::thread::sleep(POLL);
    }
    progress.finish();
    Ok(stop.load(Ordering::SeqCst))
}

/// A run as a process in a group of its own, so that Ctrl-C reaches it once, through us.
fn spawn(root: &Path, member: &Member, start: &str, args: &SweepArgs) -> anyhow::Result<Child> {
    let log = root.join("logs").join(format!("{}.log", member.name));
    let output = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
    let child = array::train(root, member, start, args)?
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()?;
    Ok(child)
}

#[allow(unsafe_code)]
fn interrupt(child: &Child) {
    // SAFETY: `kill` only sends a signal, to a child that has not been waited for.
    unsafe {
        libc::kill(child.id() as libc::pid_t, libc::SIGINT);
    }
}
