//! `benchmark`: the benchmarks there are, their rows in the common form, what of them was trained on, and a look at them.

use crate::cli::adversarial::{self, AdversarialArgs};
use crate::cli::leaks::{self, LeaksArgs};
use crate::cli::task_rows::{read, write_rows};
use anyhow::{Context, ensure};
use clap::Subcommand;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::base;
use gist::data::task::ruler::{RulerSize, RulerTask, generate};
use gist::data::task::{BENCHMARKS, TaskRow, benchmark, joined};
use gist::rng::{self, Stream};
use gist::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Before the name of a task of RULER.
const RULER: &str = "ruler/";

/// Subcommands of `benchmark`.
#[derive(Subcommand)]
pub enum BenchmarkCommand {
    /// Names, file formats, licences.
    List,
    /// Write rows of a benchmark in the common form, one JSON object a line.
    Prepare(PrepareArgs),
    /// Make rows that word matching cannot answer, and measure what compressors keep of them and of the plain rows.
    Adversarial(AdversarialArgs),
    /// Say whether rows, their questions, contexts or answers are in files that something was trained on.
    Leaks(LeaksArgs),
    /// Show how many rows a file has, of which kinds, and the first of them.
    Show(ShowArgs),
}

/// Flags of `benchmark prepare`.
#[derive(clap::Args)]
pub struct PrepareArgs {
    /// Name of a benchmark, or ruler/TASK.
    name: String,
    /// File in the benchmark's own format, plain, .zst or .gz; for ruler/qa_1 one of squad, for ruler/qa_2 one of hotpotqa.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// File that receives the rows.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Rows at most, drawn evenly by the seed; absent = all, and 100 of RULER.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Join up to N contexts of one document, in the order of the file, before --limit; absent = none.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    join: Option<u64>,
    /// Seed of draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Length of a prompt of RULER with its answer, in tokens of --base.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    tokens: usize,
    /// Model whose tokenizer counts: a folder, a GGUF file, or OWNER/NAME in the cache.
    #[arg(long, value_name = "MODEL", default_value = ".smollm2")]
    base: PathBuf,
}

/// Flags of `benchmark show`.
#[derive(clap::Args)]
pub struct ShowArgs {
    /// Name of a benchmark.
    name: String,
    /// A file in its format.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Rows that are shown.
    #[arg(long, default_value_t = 2)]
    limit: usize,
}

/// Runs a subcommand.
pub fn run(command: &BenchmarkCommand) -> anyhow::Result<()> {
    match command {
        BenchmarkCommand::List => {
            list();
            Ok(())
        }
        BenchmarkCommand::Prepare(args) => prepare(args),
        BenchmarkCommand::Adversarial(args) => adversarial::run(args),
        BenchmarkCommand::Leaks(args) => leaks::run(args),
        BenchmarkCommand::Show(args) => show(args),
    }
}

fn list() {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(["benchmark", "format", "licence, source"]);
    for own in &BENCHMARKS {
        table.add_row([own.name, own.format, own.source]);
    }
    for task in RulerTask::ALL {
        let format = task.questions().map_or("generated".into(), |of| format!("generated, from a file of {of}"));
        table.add_row([format!("{RULER}{}", task.name()), format, "Apache-2.0, NVIDIA/RULER".into()]);
    }
    println!("{table}");
}

fn prepare(args: &PrepareArgs) -> anyhow::Result<()> {
    let rows = match args.name.strip_prefix(RULER) {
        Some(task) => {
            ensure!(args.join.is_none(), "--join: expected a benchmark that is read from a file, got {}", args.name);
            ruler(RulerTask::named(task)?, args)?
        }
        None => {
            let known = benchmark(&args.name)?;
            let from =
                args.from.as_ref().with_context(|| format!("--from: expected a file of {}, got none", known.name))?;
            let rows = read(&args.name, from)?.rows;
            let rows = match args.join {
                Some(most) => joined(rows, most as usize),
                None => rows,
            };
            drawn(rows, args)
        }
    };
    write_rows(&args.output, rows.iter())?;
    println!("{} rows: {}", rows.len(), args.output.display());
    Ok(())
}

/// At most `--limit` rows, in their order.
fn drawn(rows: Vec<TaskRow>, args: &PrepareArgs) -> Vec<TaskRow> {
    let Some(limit) = args.limit else { return rows };
    let mut draws = rng::rng(args.seed, Stream::Split, 0, 0, 0);
    let mut chosen = rng::choose(&mut draws, rows.len(), (limit as usize).min(rows.len()));
    chosen.sort_unstable();
    let mut rows: Vec<Option<TaskRow>> = rows.into_iter().map(Some).collect();
    chosen.into_iter().filter_map(|at| rows[at].take()).collect()
}

fn ruler(task: RulerTask, args: &PrepareArgs) -> anyhow::Result<Vec<TaskRow>> {
    let questions = match (task.questions(), &args.from) {
        (None, None) => Vec::new(),
        (None, Some(_)) => anyhow::bail!("--from: expected none for {}, which is all made up", args.name),
        (Some(of), None) => anyhow::bail!("--from: expected a file of {of} for {}, got none", args.name),
        (Some(of), Some(path)) => read(of, path)?.rows,
    };
    let tokenizer = Tokenizer::load(&base::file(&base::folder(&args.base, None)?, base::TOKENIZER))?;
    let rows = args.limit.unwrap_or(100) as usize;
    let size = RulerSize { tokens: args.tokens, rows, seed: args.seed };
    let made = generate(task, size, &questions, &|text| Ok(tokenizer.encode(text)?.len()))?;
    ensure!(
        made.len() == rows || task.questions().is_some(),
        "--tokens: expected a length that every row of {} fits into, got {} of {rows} rows",
        args.name,
        made.len()
    );
    Ok(made)
}

fn show(args: &ShowArgs) -> anyhow::Result<()> {
    let rows = read(&args.name, &args.from)?.rows;
    let documents: std::collections::BTreeSet<_> = rows.iter().map(|row| row.document.as_ref()).collect();
    let mut slices: BTreeMap<&str, usize> = BTreeMap::new();
    rows.iter().for_each(|row| *slices.entry(row.slice.as_deref().unwrap_or("all")).or_default() += 1);
    let counted: Vec<String> = slices.iter().map(|(slice, count)| format!("{slice} {count}")).collect();
    println!("{} rows of {} documents: {}", rows.len(), documents.len(), counted.join(", "));
    for row in rows.iter().take(args.limit) {
        println!("{}", serde_json::to_string_pretty(row)?);
    }
    Ok(())
}
