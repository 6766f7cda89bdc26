//! `distill`: an extractive encoder from labelled texts, then what it and retrieval keep of those never seen.

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
use gist::eval::recovery::{Recovery, recovery};
use gist::model::lora::Adapter;
use gist::report::format::{percent, percent_ci, points_ci};
use gist::retention::{Recovered, recovered};
use gist::run_dir::{write_atomic, write_json_atomic};
use gist::train::labels::texts::{DISTILLED, Examples, LabelledExample, Ranker, RowCounts, UNDISTILLED};
use gist::train::progress::Progress;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// `evidence.json` of the run.
#[derive(Serialize)]
struct Outcome<'a> {
    experiment: &'a str,
    seed: u64,
    texts: usize,
    training_texts: usize,
    rows: &'a BTreeMap<&'static str, RowCounts>,
    compressors: &'a BTreeMap<String, Recovery>,
    /// Figures like `compressors` at each of `keep_ratios`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    keep_ratios: BTreeMap<String, BTreeMap<String, Recovery>>,
}

/// Trains and evaluates; returns the updates done.
pub fn run(examples: &Examples, start: &OpenRun) -> anyhow::Result<usize> {
    let config = examples.config;
    let adapter = examples.run(&start.run, start.stop)?;
    let further = config.keep_ratios.iter().map(|&share| BudgetConfig { tokens: None, keep_ratio: Some(share) });
    let budgets: Vec<BudgetConfig> = std::iter::once(config.budget.clone()).chain(further).collect();
    let mut rows = evaluate(examples, &adapter, &budgets)?.into_iter();
    let rows_of_budget = rows.next().unwrap_or_default();
    let figures = recovery(&rows_of_budget, DISTILLED, config.resamples)?;
    let mut keep_ratios = BTreeMap::new();
    for (share, rows) in config.keep_ratios.iter().zip(rows) {
        keep_ratios.insert(share.to_string(), recovery(&rows, DISTILLED, config.resamples)?);
        write_rows(examples, &rows, &start.run.root().join(format!("evidence-{share}.csv")))?;
    }
    let (experiment, seed) = (config.name.as_str(), config.seed);
    let (texts, training_texts) = (examples.test.len(), examples.train.len());
    let rows = &examples.rows;
    let outcome = Outcome { experiment, seed, texts, training_texts, rows, compressors: &figures, keep_ratios };
    write_json_atomic(&start.run.root().join("evidence.json"), &outcome)?;
    write_rows(examples, &rows_of_budget, &start.run.root().join("evidence.csv"))?;
    println!("{}", table(&figures));
    for (share, figures) in &outcome.keep_ratios {
        println!("keep_ratio {share}\n{}", table(figures));
    }
    println!("{texts} texts, 95 % intervals by bootstrap over texts; {training_texts} to learn from");
    println!("compressor: {}", start.run.root().join("compressor").display());
    let per_epoch = examples.train.len().div_ceil(config.train.batch);
    Ok(config.train.epochs * per_epoch)
}

/// Recall and precision on each test text, by compressor.
type Rows = BTreeMap<String, Vec<Recovered>>;

fn write_rows(examples: &Examples, rows: &Rows, path: &Path) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["text", "compressor", "keep_ratio", "recall", "precision", "whole"])?;
    for (name, found) in rows {
        for (example, f) in examples.test.iter().zip(found) {
            let numbers = [f.keep_ratio, f.recall, f.precision, f64::from(f.whole)].map(|x| format!("{x:.5}"));
            csv.write_record([example.id.clone(), name.clone()].into_iter().chain(numbers))?;
        }
    }
    Ok(write_atomic(path, &csv.into_inner()?)?)
}

/// The rows at each budget, of the compressor that learned and of the scorers on the same units.
fn evaluate(examples: &Examples, adapter: &Adapter, budgets: &[BudgetConfig]) -> anyhow::Result<Vec<Rows>> {
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
        Box::new(Ranker { name: DISTILLED, policy: &policy, adapter }),
        Box::new(Ranker { name: UNDISTILLED, policy: &policy, adapter: &before }),
    ];
    all.extend(ScorerKind::ALL.iter().map(|&kind| scored(kind.name().into(), build(kind, parts))));
    if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor {
        all.push(scored(
            "embedding".into(),
            Box::new(Embedding::load(&encoder.folder()?, examples.models.decoder.device())?),
        ));
    }
    let progress = Progress::new("evaluate", all.len(), 0);
    let mut rows = vec![Rows::new(); budgets.len()];
    for compressor in all {
        for (i, example) in examples.test.iter().enumerate() {
            let length = example.prefix.len();
            let tokens: Vec<usize> = budgets.iter().map(|budget| budget.tokens(length).min(length)).collect();
            let found = kept(compressor.as_ref(), example, &tokens, i as u64)?;
            for (found, rows) in found.into_iter().zip(&mut rows) {
                rows.entry(compressor.name().to_string()).or_default().push(found);
            }
        }
        progress.step(compressor.name());
    }
    progress.finish();
    Ok(rows)
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
