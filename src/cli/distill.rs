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

/// `evidence.json` of the run.
#[derive(Serialize)]
struct Outcome<'a> {
    experiment: &'a str,
    seed: u64,
    texts: usize,
    training_texts: usize,
    rows: &'a BTreeMap<&'static str, RowCounts>,
    compressors: &'a BTreeMap<String, Recovery>,
}

/// Trains and evaluates; returns the updates done.
pub fn run(examples: &Examples, start: &OpenRun) -> anyhow::Result<usize> {
    let config = examples.config;
    let adapter = examples.run(&start.run, start.stop)?;
    let rows = evaluate(examples, &adapter)?;
    let figures = recovery(&rows, DISTILLED, config.resamples)?;
    let (experiment, seed) = (config.name.as_str(), config.seed);
    let (texts, training_texts) = (examples.test.len(), examples.train.len());
    let outcome = Outcome { experiment, seed, texts, training_texts, rows: &examples.rows, compressors: &figures };
    write_json_atomic(&start.run.root().join("evidence.json"), &outcome)?;
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["text", "compressor", "keep_ratio", "recall", "precision", "whole"])?;
    for (name, found) in &rows {
        for (example, f) in examples.test.iter().zip(found) {
            let numbers = [f.keep_ratio, f.recall, f.precision, f64::from(f.whole)].map(|x| format!("{x:.5}"));
            csv.write_record([example.id.clone(), name.clone()].into_iter().chain(numbers))?;
        }
    }
    write_atomic(&start.run.root().join("evidence.csv"), &csv.into_inner()?)?;
    println!("{}", table(&figures));
    println!("{texts} texts, 95 % intervals by bootstrap over texts; {training_texts} to learn from");
    println!("compressor: {}", start.run.root().join("compressor").display());
    let per_epoch = examples.train.len().div_ceil(config.train.batch);
    Ok(config.train.epochs * per_epoch)
}

/// Recall and precision on each test text, of the compressor that learned and of the scorers on the same units.
fn evaluate(examples: &Examples, adapter: &Adapter) -> anyhow::Result<BTreeMap<String, Vec<Recovered>>> {
    let (config, tokenizer) = (examples.config, &examples.models.tokenizer);
    let policy = examples.policy()?;
    let texts: Vec<&[u32]> = examples.train.iter().map(|example| example.prefix.as_slice()).collect();
    let frequencies = DocumentFrequencies::count(&texts);
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
    let mut rows = BTreeMap::new();
    for compressor in all {
        let found = examples.test.iter().enumerate().map(|(i, example)| kept(compressor.as_ref(), example, i as u64));
        rows.insert(compressor.name().to_string(), found.collect::<anyhow::Result<_>>()?);
        progress.step(compressor.name());
    }
    progress.finish();
    Ok(rows)
}

fn kept(compressor: &dyn Compressor, example: &LabelledExample, key: u64) -> anyhow::Result<Recovered> {
    let made: Vec<Compressed> = compressor.compress(&[example.request(key)], example.budget)?;
    let kept = made.first().and_then(|made| made.kept.as_deref());
    Ok(recovered(
        kept.with_context(|| format!("{}: expected kept positions, got none", compressor.name()))?,
        &example.wanted,
    ))
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
