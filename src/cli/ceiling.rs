//! `ceiling`: what there is to gain in an experiment, before any of it is trained.

use crate::cli::args::OverArgs;
use crate::cli::start;
use anyhow::ensure;
use gist::config::eval::ExamSplit;
use gist::config::experiment;
use gist::config::train::TrainConfig;
use gist::cost::memory::peak_rss_mib;
use gist::device;
use gist::eval::ceiling::{CeilingOptions, ceiling, save};
use gist::eval::run::Took;
use gist::report;
use gist::runs::Inputs;
use gist::train::inputs;
use gist::train::windows::Windows;
use std::path::PathBuf;
use std::time::Instant;

/// Flags of `ceiling`.
#[derive(clap::Args)]
pub struct CeilingArgs {
    /// The experiment's TOML file.
    experiment: PathBuf,
    #[command(flatten)]
    over: OverArgs,
    /// Updates of the two readers, of nothing and of the evidence; 0 = the bare base.
    #[arg(long, default_value_t = 0)]
    updates: usize,
    /// Windows on which spans are searched without seeing the future.
    #[arg(long, value_name = "N", default_value_t = 0)]
    search_windows: usize,
    /// Imagined futures by which a search judges, a row each.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_values_t = [1, 4, 16, 64])]
    imagined: Vec<usize>,
    /// Folder that receives NAME/ceiling.json.
    #[arg(long, default_value = "runs/ceiling")]
    output: PathBuf,
}

/// Measures the ceiling of an experiment and prints it as a table.
pub fn run(args: &CeilingArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    ensure!(args.over.random_weights.is_none(), "--random-weights: a ceiling wants the weights of a real base");
    ensure!(args.imagined.iter().all(|&count| count > 0), "--imagined: expected at least 1, got 0");
    let mut config = experiment::load::<TrainConfig>(&args.experiment, &args.over.set())?;
    let split = config.eval.split;
    ensure!(
        split != ExamSplit::Final,
        "eval.split: expected \"test\" or \"valid\", a ceiling is for choices, got \"final\""
    );
    device::settle(&mut config.hardware);
    start::bring(&config, false)?;
    let device = device::prepare(&config)?;
    let models = inputs::models(&config, device)?;
    let windows = Windows::load(&config, &models)?;
    let inputs = Inputs { config: &config, models: &models, windows: &windows };
    let folder = args.output.join(&config.name);
    std::fs::create_dir_all(&folder)?;
    let (updates, imagined, stop) = (args.updates, args.imagined.as_slice(), start::catch_interrupt()?);
    let options = CeilingOptions { updates, search_windows: args.search_windows, imagined, stop };
    let found = ceiling(inputs, &folder, &options)?;
    let took = Took { seconds: begun.elapsed().as_secs_f64(), peak_rss_mib: peak_rss_mib() };
    let summary = save(inputs, &folder, found, took)?;
    println!("{}", report::table(&summary));
    let (unadapted, adapted) = (summary.eval.context_value_unadapted, summary.eval.context_value);
    for name in ["gold", "recent"] {
        if let Some(entry) = summary.eval.compressors.get(name) {
            println!(
                "{name}: K_u {unadapted:.3}, K_e {adapted:.3} after {updates} updates, K {:.3}: K_e/K {:.1}",
                entry.kl,
                adapted / entry.kl
            );
        }
    }
    println!("figures: {}", folder.join("ceiling.json").display());
    Ok(())
}
