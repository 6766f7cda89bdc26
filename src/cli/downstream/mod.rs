//! `downstream`: do questions still get their answers from what a compressor keeps?

mod tables;

use crate::cli::args::naming;
use crate::cli::compare::ask;
use crate::cli::named::NamedArgs;
use crate::cli::start;
use crate::cli::task_model::TaskModelArgs;
use anyhow::{Context, ensure};
use clap::Parser;
use gist::data::task::{TaskRow, benchmark, read_task};
use gist::endpoint::Endpoint;
use gist::error::Error;
use gist::eval::task::downstream::{Downstream, IDENTITY, Participant};
use gist::eval::task::figures::figures;
use gist::eval::task::reader::LocalReader;
use gist::eval::task::rows::{DownstreamRow, METRIC_VERSION, RowFile, RowOrigin};
use gist::eval::task::span_model::SpanModel;
use gist::eval::task::task_model::{RemoteReader, TaskModel};
use gist::hash::FileHash;
use gist::rng::{self, Stream};
use gist::run_dir::{Build, FolderLock, write_atomic, write_json_atomic};
use gist::shard::Shard;
use gist::shard::merge::Verified;
use gist::shard::record::ShardRecord;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tables::{csv_of, table};

/// File of the rows.
const ROWS: &str = "rows.jsonl";
/// File that all shards have alike.
const SETTINGS: &str = "settings.json";

/// Flags of `downstream`.
#[derive(clap::Args)]
pub struct DownstreamArgs {
    /// Benchmark that the questions are of (`gist benchmark list` names all), or plain for rows in the common form (`gist benchmark
    /// prepare` writes them).
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
    /// Answer this part of the examples only, number I of N from 1; `gist merge` makes a whole of all N.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Resamples of the intervals.
    #[arg(long, default_value_t = 2000)]
    resamples: usize,
    /// Say how many answers would be asked, of how many tokens and dollars; ask none.
    #[arg(long)]
    estimate_only: bool,
    #[command(flatten)]
    model: TaskModelArgs,
    #[command(flatten)]
    named: NamedArgs,
}

/// The flags of an evaluation, as the record of a shard has them.
#[derive(Parser)]
struct Recorded {
    #[command(flatten)]
    args: DownstreamArgs,
}

/// Makes an evaluation of the rows of shards, in the folder that they are in.
pub fn join(verified: &Verified, folder: &Path) -> anyhow::Result<()> {
    let recorded = Recorded::try_parse_from(&verified.argv);
    let Recorded { mut args } =
        recorded.with_context(|| format!("{}: the command of shard 1 cannot be read", folder.display()))?;
    let mut rows = Vec::new();
    for (_, path) in &verified.files {
        rows.extend(std::fs::read(path).with_context(|| path.display().to_string())?);
    }
    let whole = folder.join(ROWS);
    let is_other = whole.exists() && std::fs::read(&whole).with_context(|| whole.display().to_string())? != rows;
    ensure!(!is_other, "{}: expected no rows or those of the shards, got others; not replaced", whole.display());
    write_atomic(&whole, &rows)?;
    (args.shard, args.resume, args.output) = (None, true, folder.to_path_buf());
    evaluate(args, true)
}

/// Evaluates, and writes rows and figures.
pub fn run(args: DownstreamArgs) -> anyhow::Result<()> {
    evaluate(args, false)
}

/// Evaluates in a folder, which whoever merges shards `holds` already.
fn evaluate(mut args: DownstreamArgs, holds: bool) -> anyhow::Result<()> {
    if let Some(local) = args.model.local() {
        let base = args.named.base.get_or_insert_with(|| local.to_path_buf());
        ensure!(
            base == local,
            "--task-model: expected the model of --base or one behind HTTP, got {}",
            local.display()
        );
    }
    let endpoint = args.model.endpoint(&args.output)?;
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
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    shard.check(examples.len(), "examples")?;
    let (output, name) = match args.shard {
        Some(shard) => (shard.folder(&args.output), format!("rows_{:04}.jsonl", shard.index())),
        None => (args.output.clone(), ROWS.to_string()),
    };
    let rows = output.join(&name);
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
        let sees_query = named.sees_query(entrant);
        let (name, weights) = (entrant.name.clone(), entrant.made_of[0].clone());
        participants.push(Participant { name, weights, sees_query, compressor: entrant.members[0].as_ref() });
    }
    let answer_tokens = args.answer_tokens.into();
    let tokenizer = &named.models.tokenizer;
    let model = match (&endpoint, args.model.span()) {
        (Some(endpoint), _) => TaskModel::Remote(RemoteReader { endpoint, tokenizer, answer_tokens }),
        (None, Some(folder)) => {
            let reader = SpanModel::load(folder, tokenizer, named.models.decoder.device());
            TaskModel::Span(Box::new(reader.map_err(naming("--task-model"))?))
        }
        (None, None) => TaskModel::Local(LocalReader { models: &named.models, answer_tokens }),
    };
    if args.estimate_only {
        return estimate(&model, &examples, participants.len(), &budgets);
    }
    let base = named.models.base();
    let mut origin = RowOrigin {
        dataset: FileHash::of(&args.from)?.sha256,
        task_model: base.name.clone(),
        task_model_sha256: base.sha256.clone(),
        endpoint: None,
        request: None,
        tokenizer: None,
        answer_tokens,
        seed: args.seed,
        metric_version: METRIC_VERSION.into(),
        git_sha: Build::own().to_string(),
    };
    if let Some(endpoint) = &endpoint {
        (origin.task_model, origin.task_model_sha256) = (endpoint.name(), None);
        (origin.endpoint, origin.request) = (Some(endpoint.base_url()), endpoint.further());
    }
    if let (TaskModel::Span(reader), Some(folder)) = (&model, args.model.span()) {
        origin.task_model = format!("span:{}", folder.display());
        origin.task_model_sha256 = Some(reader.sha256.clone());
    }
    if !matches!(model, TaskModel::Local(_)) {
        origin.tokenizer = Some(base.sha256.unwrap_or(base.name));
    }
    std::fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    let _lock = (!holds).then(|| FolderLock::take(&output)).transpose()?;
    let stop = start::catch_interrupt()?;
    let downstream = Downstream { model, participants, budgets: &budgets, origin, stop };
    let mut file = RowFile::open(&rows, &downstream.origin, &downstream.weights(), args.resume)?;
    match downstream.run(&examples, shard.range(examples.len()), &mut file) {
        Err(Error::Interrupted { step }) => anyhow::bail!("stopped after {step} rows; --resume goes on"),
        other => other?,
    }
    if let Some(shard) = args.shard {
        let settings = json!({
            "origin": downstream.origin, "weights": downstream.weights(), "budgets": budgets, "examples": examples.len(),
        });
        write_json_atomic(&output.join(SETTINGS), &settings)?;
        // One file a shard, whatever its number of examples.
        ShardRecord::write(&output, "downstream", shard, shard.count(), &[name], &[SETTINGS.to_string()])?;
        println!("shard {shard}: {} rows, {}", file.rows.len(), rows.display());
        return Ok(());
    }
    let all = figures(&file.rows, args.resamples, args.seed);
    let passed = json!({
        "empty": found.empty, "without_answer": found.without_answer, "not_in_context": found.not_in_context,
    });
    let price = endpoint.as_ref().and_then(Endpoint::price).map(|price| {
        let usd = [price.input_usd_per_million, price.output_usd_per_million];
        json!({"input_usd_per_million": usd[0], "output_usd_per_million": usd[1], "as_of": price.as_of.to_string()})
    });
    let summary = json!({
        "benchmark": args.benchmark, "origin": downstream.origin, "examples": examples.len(), "passed_over": passed,
        "total_cost_usd": total(&file.rows), "price": price, "spent_now": endpoint.as_ref().map(Endpoint::spent),
        "resume": args.resume, "resamples": args.resamples, "compressors": all,
    });
    write_json_atomic(&args.output.join("summary.json"), &summary)?;
    write_atomic(&args.output.join("summary.csv"), &csv_of(&all)?)?;
    let page = gist::report::downstream::write(&args.output, &file.rows, &all)?;
    println!("{}", table(&all));
    println!("95 % intervals by bootstrap over documents; closed = nothing read; identity = the whole context");
    if let Some(endpoint) = &endpoint {
        println!("{}", spent(endpoint));
    }
    println!("figures: {}", args.output.join("summary.json").display());
    println!("report: {}", page.display());
    Ok(())
}

/// Dollars for all answers that the rows hold, each once; none where the price is not known.
fn total(rows: &[DownstreamRow]) -> Option<f64> {
    let (mut seen, mut usd) = (BTreeSet::new(), Some(0.0));
    let local = |row: &DownstreamRow| row.origin.endpoint.is_none();
    for row in rows {
        let shared = seen.insert(&row.example_id).then(|| {
            let closed = if local(row) { Some(0.0) } else { row.cost_usd_closed };
            Some(row.cost_usd_full? + closed?)
        });
        let own = if row.compressor == IDENTITY { Some(0.0) } else { row.cost_usd_compressed };
        usd = usd.zip(shared.unwrap_or(Some(0.0))).zip(own).map(|((all, shared), own)| all + shared + own);
    }
    usd
}

/// A line about what this command had answered and spent.
fn spent(endpoint: &Endpoint) -> String {
    let spent = endpoint.spent();
    let usd = match spent.usd {
        Some(usd) => format!("${usd:.4}"),
        None => format!("price of {} unknown (--prices gives it one)", endpoint.name()),
    };
    let lost = match spent.lost {
        0 => String::new(),
        lost => format!("; {lost} answers were lost on their way and asked again"),
    };
    format!(
        "{} calls, {} answers that were there, {} tokens in and {} out as billed, {usd}{lost}",
        spent.calls, spent.kept, spent.input_tokens, spent.output_tokens
    )
}

/// Prints how much would be asked.
fn estimate(model: &TaskModel, examples: &[TaskRow], compressors: usize, budgets: &[f64]) -> anyhow::Result<()> {
    let (mut full, mut around, mut written) = (0usize, 0usize, 0usize);
    let (shares, times): (f64, usize) = (budgets.iter().sum(), 2 + compressors * budgets.len());
    let mut most = Some(0.0);
    for row in examples {
        let context = model.tokenizer().encode(&row.context)?.len();
        let question = model.question(row, Some(&row.context))?;
        full += context;
        around += question.ids.len().saturating_sub(context);
        written += question.answer_tokens;
        if let TaskModel::Remote(reader) = model {
            let one = reader.endpoint.most(&RemoteReader::asked(row, &question));
            most = most.zip(one).map(|(all, one)| all + one * times as f64);
        }
    }
    let kept = (full as f64 * shares * compressors as f64) as usize;
    let tokens = full + kept + around * times;
    let dollars = match model {
        TaskModel::Local(_) | TaskModel::Span(_) => "$0 (a model that runs here)".into(),
        TaskModel::Remote(reader) => match (reader.endpoint.price(), most) {
            (Some(price), Some(most)) => format!(
                "about ${:.4} where every answer is as long as it may be, ${most:.4} at most (price of {} as of {})",
                price.usd(tokens, written * times),
                price.model,
                price.as_of
            ),
            (Some(price), None) => format!("${:.4} and the answers, which have no limit", price.usd(tokens, 0)),
            (None, _) => format!("price of {} unknown (--prices gives it one)", reader.endpoint.name()),
        },
    };
    println!(
        "{} examples, {} answers, about {tokens} prompt tokens, {dollars}",
        examples.len(),
        examples.len() * times
    );
    Ok(())
}
