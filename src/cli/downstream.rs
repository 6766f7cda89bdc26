//! `downstream`: do questions still get their answers from what a compressor keeps?

use crate::cli::compare::ask;
use crate::cli::named::NamedArgs;
use crate::cli::start;
use anyhow::{Context, ensure};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::config::choices::Condition;
use gist::data::task::{benchmark, read_task};
use gist::error::Error;
use gist::eval::task::downstream::{Downstream, IDENTITY, Participant};
use gist::eval::task::figures::{DownstreamFigures, Mean, figures};
use gist::eval::task::reader::LocalReader;
use gist::eval::task::rows::{METRIC_VERSION, RowFile, RowOrigin};
use gist::hash::FileHash;
use gist::report::format::{percent, percent_ci, points_ci};
use gist::rng::{self, Stream};
use gist::run_dir::{Build, FolderLock, write_atomic, write_json_atomic};
use serde_json::json;
use std::path::PathBuf;

/// Flags of `downstream`.
#[derive(clap::Args)]
pub struct DownstreamArgs {
    /// Benchmark that the questions are of: hotpotqa, longbench, qasper, squad, squad_v2, or plain for rows in the common form
    /// (`gist benchmark prepare` writes them).
    #[arg(long, value_name = "NAME")]
    benchmark: String,
    /// File of its rows.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Compressors: run directories, NAME= and a run directory, or names as in `gist compare --compressors`.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', required = true)]
    compressors: Vec<String>,
    /// Budgets, as shares of a context's tokens.
    #[arg(long, value_name = "SHARE,..", value_delimiter = ',', default_value = "0.095,0.2,0.33")]
    budgets: Vec<String>,
    /// Folder that receives rows and figures.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Examples at most, drawn evenly by the seed; absent = all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Most tokens of an answer, where the benchmark says nothing.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    answer_tokens: u16,
    /// Go on from the rows that are there.
    #[arg(long)]
    resume: bool,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Resamples of the intervals.
    #[arg(long, default_value_t = 2000)]
    resamples: usize,
    /// Say how many answers would be asked, and of how many tokens; ask none.
    #[arg(long)]
    estimate_only: bool,
    #[command(flatten)]
    named: NamedArgs,
}

/// Evaluates, and writes rows and figures.
pub fn run(args: &DownstreamArgs) -> anyhow::Result<()> {
    let budgets = ask::shares(&args.budgets)?;
    let known = benchmark(&args.benchmark).map_err(|error| anyhow::anyhow!("--benchmark: {error}"))?;
    let found = read_task(known, &args.from)?;
    let mut examples = found.rows;
    if let Some(limit) = args.limit {
        let mut draws = rng::rng(args.seed, Stream::Split, 0, 0, 0);
        let mut chosen = rng::choose(&mut draws, examples.len(), (limit as usize).min(examples.len()));
        chosen.sort_unstable();
        examples = chosen.into_iter().map(|at| examples[at].clone()).collect();
    }
    let rows = args.output.join("rows.jsonl");
    ensure!(
        args.resume || args.estimate_only || !rows.exists(),
        "{}: expected no rows of an earlier evaluation without --resume, got some",
        rows.display()
    );
    let named = args.named.open("--compressors", &args.compressors)?;
    let entrants = named.entrants("--compressors")?;
    let mut participants = Vec::new();
    for entrant in &entrants {
        ensure!(
            entrant.members.len() == 1 && entrant.name != IDENTITY,
            "--compressors: expected each name once, got {} runs of {:?}; NAME=RUN tells them apart",
            entrant.members.len(),
            entrant.name
        );
        let blind = |run: &&gist::runs::TrainedRun| run.config().condition == Condition::None;
        let is_part = |run: &&gist::runs::TrainedRun| entrant.name.split('+').any(|part| part == run.config().name);
        let sees_query = !named.runs.iter().filter(is_part).any(|run| blind(&run));
        let (name, weights) = (entrant.name.clone(), entrant.made_of[0].clone());
        participants.push(Participant { name, weights, sees_query, compressor: entrant.members[0].as_ref() });
    }
    let reader = LocalReader { models: &named.models, answer_tokens: args.answer_tokens.into() };
    if args.estimate_only {
        return estimate(&reader, &examples, participants.len(), &budgets);
    }
    let base = named.models.base();
    let origin = RowOrigin {
        dataset: FileHash::of(&args.from)?.sha256,
        task_model: base.name,
        task_model_sha256: base.sha256,
        answer_tokens: args.answer_tokens.into(),
        seed: args.seed,
        metric_version: METRIC_VERSION.into(),
        git_sha: Build::own().to_string(),
    };
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let _lock = FolderLock::take(&args.output)?;
    let stop = start::catch_interrupt()?;
    let downstream = Downstream { reader, participants, budgets: &budgets, origin, stop };
    let mut file = RowFile::open(&rows, &downstream.origin, &downstream.weights(), args.resume)?;
    match downstream.run(&examples, &mut file) {
        Err(Error::Interrupted { step }) => anyhow::bail!("stopped after {step} rows; --resume goes on"),
        other => other?,
    }
    let all = figures(&file.rows, args.resamples, args.seed);
    let passed = json!({
        "empty": found.empty, "without_answer": found.without_answer, "not_in_context": found.not_in_context,
    });
    let summary = json!({
        "benchmark": args.benchmark, "origin": downstream.origin, "examples": examples.len(), "passed_over": passed,
        "total_cost_usd": 0.0, "resume": args.resume, "compressors": all,
    });
    write_json_atomic(&args.output.join("summary.json"), &summary)?;
    write_atomic(&args.output.join("summary.csv"), &csv_of(&all)?)?;
    println!("{}", table(&all));
    println!("95 % intervals by bootstrap over documents; closed = nothing read; identity = the whole context");
    println!("figures: {}", args.output.join("summary.json").display());
    Ok(())
}

/// Prints how much would be asked.
fn estimate(
    reader: &LocalReader,
    examples: &[gist::data::task::TaskRow],
    compressors: usize,
    budgets: &[f64],
) -> anyhow::Result<()> {
    let (mut full, mut around) = (0usize, 0usize);
    for row in examples {
        let context = reader.models.tokenizer.encode(&row.context)?.len();
        full += context;
        around += reader.question(row, Some(&row.context))?.ids.len().saturating_sub(context);
    }
    let shares: f64 = budgets.iter().sum();
    let answers = examples.len() * (2 + compressors * budgets.len());
    let kept = (full as f64 * shares * compressors as f64) as usize;
    println!(
        "{} examples, {answers} answers, about {} prompt tokens, $0 (a model that runs here)",
        examples.len(),
        full + kept + around * (2 + compressors * budgets.len())
    );
    Ok(())
}

fn shown(mean: Mean) -> String {
    percent_ci(mean.mean, mean.ci95)
}

fn table(all: &[DownstreamFigures]) -> Table {
    let mut table = Table::new();
    let header = [
        "compressor",
        "budget",
        "kept",
        "EM [95 %]",
        "F1 [95 %]",
        "F1 less full [95 %]",
        "gap closed [95 %]",
        "answer kept",
    ];
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    for own in all {
        table.add_row([
            own.compressor.clone(),
            percent(own.budget_requested),
            percent(own.keep_ratio_micro),
            shown(own.compressed_exact_match),
            shown(own.compressed_f1),
            points_ci(own.delta_f1.mean, own.delta_f1.ci95),
            shown(own.gap_closed),
            percent(own.answer_kept),
        ]);
    }
    if let Some(own) = all.first() {
        let (closed, f1) = (shown(own.closed_exact_match), shown(own.closed_f1));
        let nothing = String::new();
        table.add_row([
            "closed book".into(),
            percent(0.0),
            percent(0.0),
            closed,
            f1,
            nothing.clone(),
            nothing.clone(),
            nothing,
        ]);
    }
    table
}

fn csv_of(all: &[DownstreamFigures]) -> anyhow::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let means = [
        "full_exact_match",
        "compressed_exact_match",
        "closed_exact_match",
        "full_f1",
        "compressed_f1",
        "closed_f1",
        "delta_exact_match",
        "delta_f1",
        "gap_closed",
    ];
    let mut header: Vec<String> =
        ["compressor", "budget_requested", "n", "documents", "keep_ratio_macro", "keep_ratio_micro"]
            .map(String::from)
            .to_vec();
    header.extend(means.iter().flat_map(|name| [name.to_string(), format!("{name}_low"), format!("{name}_high")]));
    header
        .extend(["answer_kept", "latency_ms_full", "latency_ms_compressed", "latency_ms_compressor"].map(String::from));
    csv.write_record(&header)?;
    for own in all {
        let number = |value: f64| format!("{value:.5}");
        let mut row = vec![
            own.compressor.clone(),
            own.budget_requested.to_string(),
            own.n.to_string(),
            own.documents.to_string(),
        ];
        row.extend([own.keep_ratio_macro, own.keep_ratio_micro].map(number));
        let values = [
            own.full_exact_match,
            own.compressed_exact_match,
            own.closed_exact_match,
            own.full_f1,
            own.compressed_f1,
            own.closed_f1,
            own.delta_exact_match,
            own.delta_f1,
            own.gap_closed,
        ];
        row.extend(values.iter().flat_map(|mean| [mean.mean, mean.ci95[0], mean.ci95[1]].map(number)));
        row.extend(
            [own.answer_kept, own.latency_ms_full, own.latency_ms_compressed, own.latency_ms_compressor].map(number),
        );
        csv.write_record(&row)?;
    }
    Ok(csv.into_inner()?)
}
