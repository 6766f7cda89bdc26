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

mod member;

use crate::cli::args::{AcceptArg, DeviceArg};
use crate::cli::start;
use anyhow::Context;
use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::chat::has_template;
use gist::config::eval::Cluster;
use gist::config::experiment;
use gist::config::merge::{self, Tree};
use gist::config::sweep::{self, Sweep};
use gist::config::train::TrainConfig;
use gist::device;
use gist::eval::run::evaluated;
use gist::eval::schema::summary::Summary;
use gist::eval::schema::windows::read_windows;
use gist::eval::verdict::{self, ArmRuns, Judged};
use gist::progress::Progress;
use gist::report::format::{percent_ci, points_ci};
use gist::run_dir::{ACCEPT, FolderLock, RunDir, read_json, write_atomic, write_json_atomic};
use gist::runs::terms;
use member::{Checked, Member};
use serde_json::Value;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Flags of `sweep`.
#[derive(Args)]
pub struct SweepArgs {
    /// TOML file with arms, grid or seeds.
    experiment: PathBuf,
    /// Override a key of every run: --set train.steps=100; --set unset=KEY takes one away (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    /// Folder that holds run directories; the sweep's own is in it.
    #[arg(long, default_value = "runs")]
    runs: PathBuf,
    /// Runs at a time; each uses the threads of its own configuration.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// Replace runs whose configuration has changed.
    #[arg(long)]
    overwrite: bool,
    /// Print the runs and what differs between them, and stop.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    accept: AcceptArg,
}

/// The runs that a sweep file asks for.
pub struct SweepPlan {
    name: String,
    compressor: String,
    spec: Sweep,
    /// Runs of the sweep.
    pub members: Vec<Member>,
}

const POLL: Duration = Duration::from_millis(200);

/// Runs whatever is left of a sweep, and judges its arms.
pub fn run(args: &SweepArgs) -> anyhow::Result<()> {
    let mut plan = plan(&args.experiment, &args.device.after(&args.set))?;
    if args.dry_run {
        return show(&plan);
    }
    let root = args.runs.join(&plan.name);
    let mut checked = Checked::new(args.accept.accept_changes);
    for member in &mut plan.members {
        let own = root.join(&member.name);
        let twin = if RunDir::at(&own).is_err() { member.twin(&args.runs, &mut checked)? } else { None };
        if let Some(twin) = &twin {
            println!("{}: the same as {}", member.name, twin.display());
        }
        member.folder = twin.unwrap_or(own);
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
    let all: Vec<Value> = plan.members.iter().map(Member::described).collect();
    write_json_atomic(&root.join("runs.json"), &all)?;
    std::fs::create_dir_all(root.join("logs"))?;
    println!("{}: {} runs, {} of them finished before", plan.name, plan.members.len(), plan.members.len() - todo.len());
    let stopped = work(&root, &plan, todo, args)?;
    let failed = results(&root, &plan)?;
    let judged = judge(&root, &plan, &checked)?;
    println!("{judged}\nresults: {}", root.join("results.csv").display());
    match (stopped, failed.is_empty()) {
        (true, _) => anyhow::bail!("stopped; run the same command again to go on"),
        (_, false) => {
            anyhow::bail!("{} of {} runs are not finished:\n{}", failed.len(), plan.members.len(), failed.join("\n"))
        }
        _ => Ok(()),
    }
}

/// Expands and checks a sweep file.
pub fn plan(path: &Path, set: &[String]) -> anyhow::Result<SweepPlan> {
    let mut tree = sweep::load(path, set)?;
    let (spec, keys) = Sweep::take(&mut tree)?;
    let Some(name) = tree.get_str("name").map(String::from) else {
        return Err(tree.invalid("name", "missing; it has no default".into()).into());
    };
    let metric = spec.primary_metric.as_deref().unwrap_or("eval.compressors.gist.gap_closed");
    let Some(compressor) = metric.strip_prefix("eval.compressors.").and_then(|m| m.strip_suffix(".gap_closed")) else {
        let message = format!("expected eval.compressors.<name>.gap_closed, got `{metric}`");
        return Err(keys.invalid("primary_metric", message).into());
    };
    let mut members = Vec::new();
    for sweep::SweepRun { name, label, rival, varied, tree } in sweep::expand(path, set)? {
        let mut config: TrainConfig = experiment::resolve(&tree).with_context(|| format!("run {name}"))?;
        device::settle(&mut config.hardware);
        let label = if label.is_empty() { "all".to_string() } else { label };
        let (folder, toml) = (PathBuf::from(&name), merge::to_toml(&config)?);
        members.push(Member { name, label, rival, varied, config, toml, folder });
    }
    let plan = SweepPlan { name, compressor: compressor.to_string(), spec, members };
    plan.check(path, &keys)?;
    Ok(plan)
}

impl SweepPlan {
    /// The unit that intervals resample; the arms that are compared agree on it.
    fn cluster(&self) -> Cluster {
        self.members.first().map_or(Cluster::Document, |member| member.config.eval.cluster)
    }

    /// Refuses what would come to light after the runs only: a compressor that a run does not evaluate, runs that differ in
    /// their names alone, and arms that are not judged by the same things as the baseline.
    fn check(&self, path: &Path, keys: &Tree) -> anyhow::Result<()> {
        for (i, member) in self.members.iter().enumerate() {
            // A base that is not here yet may have a template.
            let folder = member.config.model.folder();
            let has_template = folder.and_then(|folder| has_template(&folder)).unwrap_or(true);
            let (run, known) = (&member.name, evaluated(&member.config.eval, has_template));
            if !known.contains(&self.compressor) {
                let (known, got) = (known.join(", "), &self.compressor);
                let message = format!("expected a compressor that run `{run}` evaluates ({known}), got `{got}`");
                return Err(keys.invalid("primary_metric", message).into());
            }
            let is_same = |other: &&Member| {
                TrainConfig { name: member.config.name.clone(), ..other.config.clone() } == member.config
            };
            if let Some(other) = self.members[..i].iter().find(is_same) {
                let why = ": once defaults are filled in, what sets them apart changes nothing";
                return Err(sweep::twins(path, &other.name, run, why).into());
            }
            let is_rival = |other: &&Member| {
                Some(&other.label) == member.rival.as_ref() && other.config.seed == member.config.seed
            };
            let Some(rival) = self.members.iter().find(is_rival) else { continue };
            let differing = terms::differing(&terms::planned(&rival.config), &terms::planned(&member.config));
            if !differing.is_empty() {
                let message = format!(
                    "arm `{}` cannot be compared with `{}`: {}; without `baseline` the sweep runs, with no verdict",
                    member.label,
                    rival.label,
                    differing.join("; ")
                );
                return Err(keys.invalid("baseline", message).into());
            }
        }
        Ok(())
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

fn config(root: &Path, member: &Member) -> PathBuf {
    root.join("configs").join(format!("{}.toml", member.name))
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
            running.push((member, spawn(root, member, start, args.accept)?));
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
fn spawn(root: &Path, member: &Member, start: &str, accept: AcceptArg) -> anyhow::Result<Child> {
    let log = root.join("logs").join(format!("{}.log", member.name));
    let output = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
    let child = Command::new(std::env::current_exe()?)
        .arg("train")
        .arg(config(root, member))
        .arg("--at")
        .arg(&member.folder)
        .arg(start)
        .args(accept.accept_changes.then_some(ACCEPT))
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

const COLUMNS: [&str; 13] = [
    "run",
    "arm",
    "seed",
    "state",
    "steps",
    "seconds",
    "keep_ratio",
    "kl",
    "nll",
    "gap_closed",
    "gap_closed_low",
    "gap_closed_high",
    "context_value",
];

/// Writes `results.csv`; returns a line for every run that is not finished.
fn results(root: &Path, plan: &SweepPlan) -> anyhow::Result<Vec<String>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(COLUMNS)?;
    let mut unfinished = Vec::new();
    for member in &plan.members {
        let mut row = vec![member.name.clone(), member.label.clone(), member.config.seed.to_string()];
        match member.finished() {
            Err(said) => {
                unfinished.push(format!("  {}: {} (logs/{}.log)", member.name, said.trim(), member.name));
                row.push(said.split(' ').next().unwrap_or_default().to_string());
                row.resize(COLUMNS.len(), String::new());
            }
            Ok(run) => {
                let summary: Summary = read_json(&run.summary())?;
                let eval = &summary.eval;
                let entry = eval.compressors.get(&plan.compressor).with_context(|| {
                    format!("{}: expected a compressor `{}`, got none", run.root().display(), plan.compressor)
                })?;
                let [low, high] = entry.gap_closed_ci95;
                row.extend(["done".into(), summary.steps.to_string(), format!("{:.0}", summary.seconds)]);
                let figures = [entry.keep_ratio, entry.kl, entry.nll, entry.gap_closed, low, high];
                row.extend(figures.iter().chain([&eval.context_value]).map(|x| format!("{x:.5}")));
            }
        }
        csv.write_record(&row)?;
    }
    write_atomic(&root.join("results.csv"), &csv.into_inner()?)?;
    Ok(unfinished)
}

/// Writes `verdict.json` and `verdict.md`; returns the table for the terminal.
fn judge(root: &Path, plan: &SweepPlan, checked: &Checked) -> anyhow::Result<String> {
    let mut arms: Vec<ArmRuns> = Vec::new();
    for member in &plan.members {
        let at = arms.iter().position(|arm| arm.label == member.label).unwrap_or_else(|| {
            arms.push(ArmRuns { label: member.label.clone(), baseline: member.rival.clone(), runs: Vec::new() });
            arms.len() - 1
        });
        if let Ok(run) = member.finished() {
            let summary: Summary = read_json(&run.summary())?;
            arms[at].runs.push((member.config.seed, read_windows(&run.eval(summary.steps).join("windows.jsonl"))?));
        }
    }
    let mut judged = verdict::judge(&arms, &plan.compressor, plan.cluster(), plan.spec.min_effect)?;
    judged.iter_mut().for_each(|arm| arm.accepted = checked.accepted(&arm.label));
    write_json_atomic(&root.join("verdict.json"), &judged)?;
    let rows: Vec<[String; 9]> = judged.iter().map(cells).collect();
    let mut page = format!("# {}\n\n", plan.name);
    if let Some(question) = &plan.spec.question {
        page += &format!("{question}\n\n");
    }
    page += &format!("| {} |\n|---|---|---|---|---|---|---|---|---|\n", HEADER.join(" | "));
    rows.iter().for_each(|row| page += &format!("| {} |\n", row.join(" | ")));
    let accepted: Vec<&String> = judged.iter().flat_map(|arm| &arm.accepted).collect();
    if !accepted.is_empty() {
        page += "\nAccepted, although runs were made from other things:\n\n";
        accepted.iter().for_each(|change| page += &format!("- {change}\n"));
    }
    write_atomic(&root.join("verdict.md"), page.as_bytes())?;
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(HEADER).add_rows(rows);
    Ok(table.to_string())
}

const HEADER: [&str; 9] = [
    "arm",
    "n",
    "gap closed [95 %]",
    "less the baseline [95 %]",
    "by seed",
    "over seeds and clusters [95 %]",
    "p, Holm",
    "detectable",
    "verdict",
];

fn cells(judged: &Judged) -> [String; 9] {
    let points = |share: f64| points_ci(share, [f64::NAN; 2]);
    let seeds: Vec<String> = judged.by_seed.iter().filter_map(|seed| seed.difference).map(points).collect();
    let crossed = judged.crossed_difference;
    let p = |p: f64| format!("{p:.4}");
    [
        judged.label.clone(),
        judged.n(),
        percent_ci(judged.gap_closed.mean, judged.gap_closed.ci95()),
        judged.difference.map_or(String::new(), |found| points_ci(found.mean, found.ci95())),
        seeds.join(", "),
        crossed.map_or(String::new(), |found| points_ci(found.interval.mean, found.interval.ci95())),
        crossed.zip(judged.holm_p).map_or(String::new(), |(found, holm)| format!("{}, {}", p(found.p), p(holm))),
        judged.detectable.map_or(String::new(), |effect| format!("±{:.1}", 100.0 * effect)),
        judged.verdict.map_or(String::new(), |verdict| format!("{verdict:?}").to_lowercase()),
    ]
}
