//! `plan`: what an experiment will need, before anything of it is loaded.

use crate::cli::args::OverArgs;
use crate::cli::memory;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::base;
use gist::config::bos::Bos;
use gist::config::experiment;
use gist::config::train::TrainConfig;
use gist::cost::memory::{MIB, free_and_total_mib};
use gist::cost::plan::{CostPlan, MemoryUse};
use gist::device;
use gist::model::config::ModelConfig;
use gist::model::weights;
use gist::run_dir::write_json_atomic;
use gist::tokenizer;
use std::path::PathBuf;

/// Flags of `plan`.
#[derive(clap::Args)]
pub struct PlanArgs {
    /// The experiment's TOML file.
    experiment: PathBuf,
    #[command(flatten)]
    over: OverArgs,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Number of tokens that the base's rows begin with; where there is no tokenizer to say so, as the experiment asks.
fn begin(config: &TrainConfig) -> anyhow::Result<usize> {
    let path = config.model.folder().map(|folder| base::file(&folder, base::TOKENIZER)).ok();
    match path.filter(|path| path.exists()) {
        Some(path) => Ok(tokenizer::begin(&path, config.model.bos)?.len()),
        None => Ok(usize::from(config.model.bos == Bos::Yes)),
    }
}

/// Prints an estimate of memory and of the seconds of a step, and what to lower where the machine has less.
pub fn run(args: &PlanArgs) -> anyhow::Result<()> {
    let PlanArgs { experiment, over, json } = args;
    let mut config = experiment::load::<TrainConfig>(experiment, &over.set())?;
    device::settle(&mut config.hardware);
    let model = match &over.random_weights {
        Some(path) => ModelConfig::load(path)?,
        None => weights::architecture(&config.model.folder()?)?,
    };
    let device = device::prepare(&config)?;
    let plan = CostPlan::new(&config, &model, begin(&config)?, device)?;
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["memory", "MiB"]);
    let mib = |bytes: f64| format!("{:.0}", bytes / MIB);
    let row = |part: &MemoryUse| [part.name.clone(), mib(part.bytes)];
    plan.held.iter().for_each(|part| _ = table.add_row(row(part)));
    if let Some(moment) = plan.largest() {
        let own = moment.needs.iter().filter(|part| part.bytes > 0.0);
        own.for_each(|part| _ = table.add_row([format!("{}: {}", moment.name, part.name), mib(part.bytes)]));
    }
    if let Some(moment) = plan.largest().filter(|_| plan.kept > 1.0) {
        let more = (plan.kept - 1.0) * moment.bytes();
        table.add_row(["freed and kept (not under train.checkpoint_activations)".to_string(), mib(more)]);
    }
    table.add_row(["peak".to_string(), mib(plan.peak())]);
    println!("{table}");
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["part", "seconds", "MiB while it lasts"]);
    for moment in &plan.moments {
        table.add_row([moment.name.to_string(), format!("{:.3}", moment.seconds), mib(moment.bytes())]);
    }
    println!("{table}");
    println!(
        "peak memory about {} MiB · step about {:.2} s · {}",
        mib(plan.peak()),
        plan.seconds(),
        config.hardware.dtype
    );
    if let Some((free, total)) = free_and_total_mib(device).filter(|(free, _)| plan.peak() > free * MIB) {
        println!("{} has {free:.0} of {total:.0} MiB free: {}", config.hardware.device, memory::LOWER);
    }
    if let Some(path) = json {
        write_json_atomic(path, &plan.figures())?;
    }
    Ok(())
}
