//! `train` of a span reader: an encoder learns to point at answers, then answers questions that it has never seen.

use crate::cli::args::RunArgs;
use crate::cli::start::{self, OpenRun};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::config::span_reader::SpanReaderConfig;
use gist::data::task::TaskRow;
use gist::eval::stats::{Interval, clusters, mean};
use gist::model::lora::Adapter;
use gist::report::format::percent_ci;
use gist::run_dir::{Provenance, write_json_atomic};
use gist::train::overlap;
use gist::train::spans::learn::{READER, SpanInputs};
use serde::Serialize;
use std::collections::BTreeMap;

/// Figures on the questions of a benchmark, read with their whole context.
#[derive(Serialize)]
struct AnswerFigures {
    questions: usize,
    exact_match: Interval,
    f1: Interval,
}

/// `answers.json` of the run.
#[derive(Serialize)]
struct SpanOutcome<'a> {
    experiment: &'a str,
    seed: u64,
    /// Questions to learn from.
    training_questions: usize,
    /// Rows of an epoch, those without an answer among them.
    training_rows: usize,
    updates: usize,
    benchmarks: BTreeMap<&'a str, AnswerFigures>,
}

/// Trains and judges a span reader.
pub fn start(args: &RunArgs) -> anyhow::Result<()> {
    let Some(plan) = start::plan::<SpanReaderConfig>(args)? else { return Ok(()) };
    let inputs = SpanInputs::load(&plan.config, plan.device)?;
    inputs.fresh()?;
    let shared = overlap::check(&plan.config)?;
    plan.open()?.guard(&SpanInputs::files(&plan.config)?, |s| {
        Provenance::add_shared_documents(&s.run, &shared)?;
        run(&inputs, s)
    })
}

fn run(inputs: &SpanInputs, start: &OpenRun) -> anyhow::Result<usize> {
    let adapter = inputs.run(&start.run, start.stop)?;
    let config = inputs.config;
    let mut benchmarks = BTreeMap::new();
    for (name, questions) in &inputs.test {
        benchmarks.insert(name.as_str(), judged(inputs, &adapter, name, questions)?);
    }
    println!("{}", table(&benchmarks));
    println!("95 % intervals by bootstrap over documents; the reader has the whole context");
    let outcome = SpanOutcome {
        experiment: &config.name,
        seed: config.seed,
        training_questions: inputs.questions,
        training_rows: inputs.rows(),
        updates: inputs.updates(),
        benchmarks,
    };
    let figures = start.run.root().join("answers.json");
    write_json_atomic(&figures, &outcome)?;
    println!("figures: {}", figures.display());
    println!("reader: {}", start.run.root().join(READER).display());
    Ok(inputs.updates())
}

fn judged(inputs: &SpanInputs, adapter: &Adapter, name: &str, questions: &[TaskRow]) -> anyhow::Result<AnswerFigures> {
    let grades = inputs.graded(adapter, questions, Some(name))?;
    let documents = clusters(questions.iter().map(|row| row.document.as_deref().unwrap_or(&row.context)));
    let SpanReaderConfig { resamples, seed, .. } = *inputs.config;
    let [exact, f1] = [0, 1].map(|which| {
        let values: Vec<f64> = grades.iter().map(|own| [own.exact_match, own.f1][which]).collect();
        mean(&values, &documents, resamples, seed)
    });
    Ok(AnswerFigures { questions: questions.len(), exact_match: exact, f1 })
}

fn table(all: &BTreeMap<&str, AnswerFigures>) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["benchmark", "questions", "EM [95 %]", "F1 [95 %]"]);
    for (name, own) in all {
        let [exact, f1] = [own.exact_match, own.f1].map(|interval| percent_ci(interval.mean, interval.ci95()));
        table.add_row([(*name).to_string(), own.questions.to_string(), exact, f1]);
    }
    table
}
