//! `bench`: measures an experiment's step on this machine, prints a table, writes `bench.json`.

use crate::cli::args::OverArgs;
use crate::cli::start;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::config::experiment;
use gist::config::train::TrainConfig;
use gist::cost::bench;
use gist::device;
use gist::model::config::ModelConfig;
use gist::model::decoder::Decoder;
use gist::models::{BaseName, Models};
use gist::rng::{self, Stream};
use gist::run_dir::write_json_atomic;
use gist::train::inputs::{self, Inputs};
use gist::train::windows::Windows;
use std::path::PathBuf;

/// Flags of `bench`.
#[derive(clap::Args)]
pub struct BenchArgs {
    /// The experiment's TOML file.
    #[arg(default_value = "experiments/code.toml")]
    experiment: PathBuf,
    #[command(flatten)]
    over: OverArgs,
    /// Folder that receives bench.json.
    #[arg(long, default_value = "runs")]
    runs: PathBuf,
    /// Measurements per figure.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

/// Runs the benchmark of an experiment; the figures go to `<runs>/bench.json`.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let BenchArgs { experiment, over, runs, repeats } = args;
    let mut config = experiment::load::<TrainConfig>(experiment, &over.set())?;
    device::settle(&mut config.hardware);
    start::bring(&config, false)?;
    let device = device::prepare(&config)?;
    let models = match &over.random_weights {
        Some(path) => {
            rng::seed_torch(config.seed, Stream::Init, 0, 0);
            let decoder = Decoder::random(&ModelConfig::load(path)?, device, config.hardware.kind())?;
            let model = &config.model;
            Models::over(decoder, BaseName { name: &model.path, folder: &model.folder()?, bos: model.bos })?
                .checkpointed(config.train.checkpoint_activations)
        }
        None => inputs::models(&config, device)?,
    };
    let windows = Windows::load(&config, &models)?;
    std::fs::create_dir_all(runs)?;
    let figures = bench::run(Inputs { config: &config, models: &models, windows: &windows }, runs, *repeats)?;
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["part", "seconds", "tokens", "tokens/s", "share of GEMM rate", "peak MiB"]);
    for part in &figures.parts {
        table.add_row([
            part.name.clone(),
            format!("{:.3}", part.seconds),
            format!("{:.0}", part.tokens),
            format!("{:.0}", part.tokens / part.seconds),
            format!("{:.0} %", 100.0 * part.gemm_share),
            format!("{:.0}", part.peak_rss_mib),
        ]);
    }
    println!("{table}");
    let [windows, group, p, l, f, k] = figures.sizes;
    println!("{windows} windows, G = {group}, P = {p}, L = {l}, F = {f}, K = {k}; median of {repeats}");
    println!("step {:.2} s · GEMM {:.0} GFLOP/s · {}", figures.step_seconds, figures.gemm_gflops, figures.dtype);
    println!("rollouts {:.0} gist tokens/s", figures.rollout_tokens_per_second);
    for decoding in &figures.decoding {
        println!(
            "{} gists of {} windows at once: {:.0} tokens/s, {:.0} without reading the prompts",
            decoding.batch, decoding.windows, decoding.tokens_per_second, decoding.decode_tokens_per_second
        );
    }
    println!("updates reach {:.0} % of the GEMM rate", 100.0 * figures.training_gemm_share);
    for (group, seconds) in &figures.rollout_seconds_by_group {
        println!("rollouts with G = {group}: {seconds:.3} s");
    }
    println!("peak memory {:.0} MiB, {:.0} of it when loaded", figures.peak_rss_mib, figures.loaded_rss_mib);
    if let Some(used) = figures.device_memory_mib {
        println!("memory of the device {used:.0} MiB");
    }
    let path = runs.join("bench.json");
    write_json_atomic(&path, &figures)?;
    println!("figures: {}", path.display());
    Ok(())
}
