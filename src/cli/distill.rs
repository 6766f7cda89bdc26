//! `distill`: an extractive encoder from labelled texts, then what it and retrieval keep of those never seen.

use crate::cli::args::RunArgs;
use crate::cli::start::OpenRun;
use anyhow::Context;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::compressor::budget::Controller;
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::scored::Scorer;
use gist::compressor::scorer::Extractive;
use gist::compressor::scorers::embedding::Embedding;
use gist::compressor::scorers::{Parts, ScorerKind, build};
use gist::compressor::{Compressed, Compressor};
use gist::config::choices::BudgetConfig;
use gist::config::compressors::CompressorConfig;
use gist::eval::recovery::{JudgedSet, MeanRecall, Recovery, mean_recall, recovery};
use gist::eval::stats::clusters;
use gist::model::lora::Adapter;
use gist::report::format::{percent, percent_ci, points_ci};
use gist::retention::{Recovered, recovered};
use gist::run_dir::{write_atomic, write_json_atomic};
use gist::train::labels::example::LabelledExample;
use gist::train::labels::rankers::{LabelOrder, Ranker};
use gist::train::labels::texts::{DISTILLED, Examples, LABELLED, RowCounts, UNDISTILLED};
use gist::train::progress::Progress;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `evidence.json` of the run: figures by data set, budget and compressor.
#[derive(Serialize)]
struct Outcome<'a> {
    experiment: &'a str,
    seed: u64,
    /// Texts of each data set.
    texts: BTreeMap<&'a str, usize>,
    training_texts: usize,
    rows: &'a BTreeMap<String, RowCounts>,
    data_sets: BTreeMap<&'a str, BTreeMap<String, BTreeMap<String, Recovery>>>,
    /// Means over the data sets, where there are several.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    mean: BTreeMap<String, BTreeMap<String, MeanRecall>>,
}

/// Arguments of `distill`.
#[derive(clap::Args)]
pub struct DistillArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Train nothing: figures of the evidence encoder in this folder (`compressor` of a run), by the experiment's encoder,
    /// data sets and budgets.
    #[arg(long, value_name = "FOLDER")]
    pub evaluate: Option<PathBuf>,
}

/// An evidence encoder that was taught before, and its folder.
pub type TaughtEncoder = (Adapter, PathBuf);

/// Trains, unless there is an encoder that was `taught` before, and evaluates; returns the updates done.
pub fn run(examples: &Examples, start: &OpenRun, taught: Option<TaughtEncoder>) -> anyhow::Result<usize> {
    let config = examples.config;
    let (adapter, folder, updates) = match taught {
        Some((adapter, folder)) => (adapter, folder, 0),
        None => {
            let updates = config.train.epochs * examples.train.len().div_ceil(config.train.batch);
            (examples.run(&start.run, start.stop)?, start.run.root().join("compressor"), updates)
        }
    };
    let further = config.keep_ratios.iter().map(|&share| BudgetConfig { tokens: None, keep_ratio: Some(share) });
    let budgets: Vec<BudgetConfig> = std::iter::once(config.budget.clone()).chain(further).collect();
    let found = evaluate(examples, &adapter, &budgets)?;
    let mut data_sets: BTreeMap<&str, BTreeMap<String, BTreeMap<String, Recovery>>> = BTreeMap::new();
    let mut mean = BTreeMap::new();
    for (b, budget) in budgets.iter().enumerate() {
        let sets: Vec<JudgedSet> = (examples.test.iter())
            .map(|(name, texts)| JudgedSet {
                clusters: clusters(texts.iter().map(|text| text.document.as_str())),
                rows: &found[name][b],
            })
            .collect();
        for (name, set) in examples.test.keys().zip(&sets) {
            let figures = recovery(set.rows, &set.clusters, DISTILLED, config.resamples)?;
            println!("{name}, {}\n{}", said(budget), table(&figures));
            data_sets.entry(name).or_default().insert(said(budget), figures);
        }
        if sets.len() > 1 {
            mean.insert(said(budget), mean_recall(&sets, DISTILLED, config.resamples)?);
        }
    }
    let (experiment, seed) = (config.name.as_str(), config.seed);
    let texts: BTreeMap<&str, usize> = examples.test.iter().map(|(name, own)| (name.as_str(), own.len())).collect();
    let training_texts = examples.train.len();
    let counted = texts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ");
    let outcome = Outcome { experiment, seed, texts, training_texts, rows: &examples.rows, data_sets, mean };
    write_json_atomic(&start.run.root().join("evidence.json"), &outcome)?;
    write_rows(examples, &found, &budgets, &start.run.root().join("evidence.csv"))?;
    for (budget, figures) in &outcome.mean {
        println!("mean of the data sets, {budget}\n{}", mean_table(figures));
    }
    println!("texts: {counted}; 95 % intervals by bootstrap over documents; {training_texts} texts to learn from");
    println!("compressor: {}", folder.display());
    Ok(updates)
}

/// Name of a budget.
fn said(budget: &BudgetConfig) -> String {
    match (budget.keep_ratio, budget.tokens) {
        (Some(share), _) => format!("keep_ratio {share}"),
        (None, tokens) => format!("{} tokens", tokens.unwrap_or_default()),
    }
}

/// Recall and precision on each text of a data set, by compressor.
type Rows = BTreeMap<String, Vec<Recovered>>;

fn write_rows(
    examples: &Examples,
    found: &BTreeMap<String, Vec<Rows>>,
    budgets: &[BudgetConfig],
    path: &Path,
) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let numbers = ["keep_ratio", "recall", "precision", "whole"];
    csv.write_record(["data_set", "budget", "document", "text", "compressor"].iter().chain(&numbers))?;
    for (set, of_budgets) in found {
        for (budget, rows) in budgets.iter().zip(of_budgets) {
            for (name, found) in rows {
                for (example, f) in examples.test[set].iter().zip(found) {
                    let numbers = [f.keep_ratio, f.recall, f.precision, f64::from(f.whole)];
                    let named = [set.clone(), said(budget), example.document.clone(), example.id.clone(), name.clone()];
                    csv.write_record(named.into_iter().chain(numbers.map(|x| format!("{x:.5}"))))?;
                }
            }
        }
    }
    Ok(write_atomic(path, &csv.into_inner()?)?)
}

/// The rows of each data set at each budget: of the compressor that learned, of the scorers on the same units, and of the
/// labels themselves.
fn evaluate(
    examples: &Examples,
    adapter: &Adapter,
    budgets: &[BudgetConfig],
) -> anyhow::Result<BTreeMap<String, Vec<Rows>>> {
    let (config, tokenizer) = (examples.config, &examples.models.tokenizer);
    let policy = examples.policy()?;
    let texts: Vec<&[u32]> = examples.train.iter().map(|example| example.prefix.as_slice()).collect();
    let frequencies = DocumentFrequencies::count(tokenizer, &texts)?;
    let parts = Parts { decoder: &examples.models.decoder, frequencies: &frequencies, seed: 0 };
    let scored = |name: String, scorer: Box<dyn Scorer>| -> Box<dyn Compressor> {
        Box::new(Extractive { name, scorer, unit: policy.unit, controller: Controller::default(), tokenizer })
    };
    let before = examples.fresh()?.adapter;
    let mut all: Vec<Box<dyn Compressor>> = vec![
        Box::new(Ranker::new(DISTILLED, &policy, adapter)?),
        Box::new(Ranker::new(UNDISTILLED, &policy, &before)?),
    ];
    all.extend(ScorerKind::ALL.iter().map(|&kind| scored(kind.name().into(), build(kind, parts))));
    if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor {
        all.push(scored(
            "embedding".into(),
            Box::new(Embedding::load(&encoder.folder()?, examples.models.decoder.device())?),
        ));
    }
    let progress = Progress::new("evaluate", examples.test.len() * (all.len() + 1), 0);
    let mut found = BTreeMap::new();
    for (set, texts) in &examples.test {
        let mut rows = vec![Rows::new(); budgets.len()];
        let labelled = LabelOrder { name: LABELLED, policy: &policy, examples: texts };
        for compressor in all.iter().map(Box::as_ref).chain([&labelled as &dyn Compressor]) {
            for (i, example) in texts.iter().enumerate() {
                let length = example.prefix.len();
                let tokens: Vec<usize> = budgets.iter().map(|budget| budget.tokens(length).min(length)).collect();
                let kept = kept(compressor, example, &tokens, i as u64)?;
                for (found, rows) in kept.into_iter().zip(&mut rows) {
                    rows.entry(compressor.name().to_string()).or_default().push(found);
                }
            }
            progress.step(&format!("{set}, {}", compressor.name()));
        }
        found.insert(set.clone(), rows);
    }
    progress.finish();
    Ok(found)
}

/// The evidence that a compressor recovers of a text, at each budget.
fn kept(
    compressor: &dyn Compressor,
    example: &LabelledExample,
    budgets: &[usize],
    key: u64,
) -> anyhow::Result<Vec<Recovered>> {
    let none = || format!("{}: expected kept positions, got none", compressor.name());
    let recover = |made: Vec<Compressed>| -> anyhow::Result<Recovered> {
        let kept = made.first().and_then(|made| made.kept.as_deref());
        Ok(recovered(kept.with_context(none)?, &example.wanted))
    };
    compressor.compress_each(&[example.request(key)], budgets)?.into_iter().map(recover).collect()
}

fn mean_table(figures: &BTreeMap<String, MeanRecall>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["compressor", "recall [95 %]", "less than distilled [95 %]"]);
    let mut order: Vec<(&String, &MeanRecall)> = figures.iter().collect();
    order.sort_by(|a, b| b.1.recall.mean.total_cmp(&a.1.recall.mean));
    for (name, f) in order {
        let behind = f.behind.map_or(String::new(), |d| points_ci(d.mean, d.ci95()));
        table.add_row([name.clone(), percent_ci(f.recall.mean, f.recall.ci95()), behind]);
    }
    table
}

fn table(figures: &BTreeMap<String, Recovery>) -> Table {
    let mut table = Table::new();
    let header = ["compressor", "kept", "recall [95 %]", "all of it [95 %]", "precision", "less than distilled [95 %]"];
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    let mut order: Vec<(&String, &Recovery)> = figures.iter().collect();
    order.sort_by(|a, b| b.1.recall.mean.total_cmp(&a.1.recall.mean));
    for (name, f) in order {
        table.add_row([
            name.clone(),
            percent(f.keep_ratio),
            percent_ci(f.recall.mean, f.recall.ci95()),
            percent_ci(f.whole.mean, f.whole.ci95()),
            percent(f.precision.mean),
            f.behind.map_or(String::new(), |d| points_ci(d.mean, d.ci95())),
        ]);
    }
    table
}
