//! Flags of a sweep, and the runs that its file asks for, checked.

use crate::cli::args::{AcceptArg, DeviceArg};
use crate::cli::sweep::member::Member;
use anyhow::Context;
use clap::Args;
use gist::chat::has_template;
use gist::config::eval::Cluster;
use gist::config::experiment;
use gist::config::merge::{self, Tree};
use gist::config::submit::SubmitConfig;
use gist::config::sweep::{self, Sweep};
use gist::config::train::TrainConfig;
use gist::device;
use gist::eval::run::evaluated;
use gist::hash::Digest;
use gist::run_dir::write_json_atomic;
use gist::runs::terms;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Flags of `sweep`.
#[derive(Args)]
pub struct SweepArgs {
    /// TOML file with arms, grid or seeds.
    pub experiment: PathBuf,
    /// Override a key of every run: --set train.steps=100; --set unset=KEY takes one away (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub device: DeviceArg,
    /// Folder that holds run directories; the sweep's own is in it.
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// Runs at a time; each uses the threads of its own configuration.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub jobs: u64,
    /// Replace runs whose configuration has changed.
    #[arg(long)]
    pub overwrite: bool,
    /// Print the runs and what differs between them, and stop; with --submit, print the script.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub accept: AcceptArg,
    /// Print number, name and state of every run, separated by tabs, and stop.
    #[arg(long, conflicts_with_all = ["jobs", "dry_run", "overwrite"])]
    pub list: bool,
    /// Run this one only, a number of --list; nothing to do where it is finished.
    #[arg(long, value_name = "N", conflicts_with_all = ["jobs", "dry_run", "list"])]
    pub index: Option<usize>,
    /// The sweep that --index must be of, as --submit writes it into the script.
    #[arg(long, value_name = "DIGEST", hide = true, requires = "index")]
    pub submitted: Option<String>,
    /// Submit the runs that are not finished to a scheduler, a task each.
    #[arg(long, value_name = "SCHEDULER", value_parser = ["slurm"], conflicts_with_all = ["jobs", "list", "index"])]
    pub submit: Option<String>,
    /// Most tasks at a time, in place of submit.max_parallel.
    #[arg(long, value_name = "N", requires = "submit", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_parallel: Option<u64>,
}

impl SweepArgs {
    /// Overrides of keys, the device among them.
    pub fn overrides(&self) -> Vec<String> {
        self.device.after(&self.set)
    }
}

/// The runs that a sweep file asks for.
pub struct SweepPlan {
    /// Name of the experiment.
    pub name: String,
    /// Compressor whose gap_closed is compared.
    pub compressor: String,
    /// Keys of the sweep.
    pub spec: Sweep,
    /// Requirements that a scheduler is told; none where the file has no such section.
    pub submit: Option<SubmitConfig>,
    /// SHA-256 over names and configurations of all runs, before any machine settles them.
    pub digest: String,
    /// Runs of the sweep.
    pub members: Vec<Member>,
}

/// Writes what each run's name stands for.
pub fn describe(root: &Path, plan: &SweepPlan) -> anyhow::Result<()> {
    let all: Vec<Value> = plan.members.iter().map(Member::described).collect();
    Ok(write_json_atomic(&root.join("runs.json"), &all)?)
}

/// Expands and checks a sweep file.
pub fn plan(path: &Path, set: &[String]) -> anyhow::Result<SweepPlan> {
    let mut tree = sweep::load(path, set)?;
    let submit = SubmitConfig::take(&mut tree)?;
    let (spec, keys) = Sweep::take(&mut tree)?;
    let Some(name) = tree.get_str("name").map(String::from) else {
        return Err(tree.invalid("name", "missing; it has no default".into()).into());
    };
    let metric = spec.primary_metric.as_deref().unwrap_or("eval.compressors.gist.gap_closed");
    let Some(compressor) = metric.strip_prefix("eval.compressors.").and_then(|m| m.strip_suffix(".gap_closed")) else {
        let message = format!("expected eval.compressors.<name>.gap_closed, got `{metric}`");
        return Err(keys.invalid("primary_metric", message).into());
    };
    let (mut members, mut digest) = (Vec::new(), Digest::default());
    for sweep::SweepRun { name, label, rival, varied, tree } in sweep::expand(path, set)? {
        let mut config: TrainConfig = experiment::resolve(&tree).with_context(|| format!("run {name}"))?;
        digest.add(&name);
        digest.add(&merge::to_toml(&config)?);
        device::settle(&mut config.hardware);
        let label = if label.is_empty() { "all".to_string() } else { label };
        let (folder, toml) = (PathBuf::from(&name), merge::to_toml(&config)?);
        members.push(Member { name, label, rival, varied, config, toml, folder });
    }
    let plan = SweepPlan { name, compressor: compressor.to_string(), spec, submit, digest: digest.hex(), members };
    plan.check(path, &keys)?;
    Ok(plan)
}

impl SweepPlan {
    /// The unit that intervals resample; the arms that are compared agree on it.
    pub fn cluster(&self) -> Cluster {
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

/// The file with the resolved configuration of a run.
pub fn config(root: &Path, member: &Member) -> PathBuf {
    root.join("configs").join(format!("{}.toml", member.name))
}
