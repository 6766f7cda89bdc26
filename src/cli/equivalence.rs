//! `equivalence`: do a text and its shorter form say the same? Three gates over pairs, the third optional.

use crate::cli::asked::{AskedArgs, OpenModels};
use crate::cli::start;
use anyhow::{Context, ensure};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::compressor::scorers::embedding::Embedding;
use gist::data::pairs::read_pairs;
use gist::error::Error;
use gist::eval::equivalence::{ANSWER_TOKENS, Equivalence, EquivalenceFigures, EquivalenceRow, GATES, figures};
use gist::hash::FileHash;
use gist::progress::Progress;
use gist::report::format::percent_ci;
use gist::run_dir::{Build, FolderLock, write_atomic, write_json_atomic};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use tch::Device;

/// Flags of `equivalence`.
#[derive(clap::Args)]
pub struct EquivalenceArgs {
    /// Pairs, {"verbose", "compressed", "domain"?} a line: .jsonl, .jsonl.zst or .jsonl.gz. The domain is nl, code or mixed;
    /// a row without one is classified.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Folder that receives rows.jsonl and summary.json.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Folder of the sentence encoder of the first two gates (./setup --minilm brings it).
    #[arg(long, value_name = "DIR", default_value = ".minilm")]
    embedding: PathBuf,
    /// Models whose answers to both texts are compared: PROTOCOL:NAME behind HTTP, as `gist downstream --task-model`, or a base
    /// that runs here. Absent = the two texts themselves are compared.
    #[arg(long, value_name = "MODEL,..", value_delimiter = ',')]
    models: Vec<String>,
    /// Model of the third gate, named like one of --models; absent = two gates.
    #[arg(long, value_name = "MODEL")]
    judge: Option<String>,
    /// Pairs at most, the first ones; absent = all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    asked: AskedArgs,
}

/// Scores pairs, and writes rows and figures.
pub fn run(args: &EquivalenceArgs) -> anyhow::Result<()> {
    let mut pairs = read_pairs(&args.from)?;
    pairs.truncate(args.limit.map_or(usize::MAX, |limit| limit as usize));
    ensure!(
        args.embedding.is_dir(),
        "--embedding: expected the folder of a sentence encoder, got {} (./setup --minilm brings .minilm)",
        args.embedding.display()
    );
    let embedding = Embedding::load(&args.embedding, Device::Cpu)?;
    // A model that is among --models and the judge too is opened once.
    let names = args.models.iter().chain(&args.judge);
    let opened = args.asked.open("--models or --judge", names, &args.output)?;
    std::fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let _lock = FolderLock::take(&args.output)?;
    let stop = start::catch_interrupt()?;
    let asked = |name: &String| opened.asked(name, ANSWER_TOKENS, "equivalence", stop);
    let equivalence = Equivalence {
        embedding: &embedding,
        models: args.models.iter().filter_map(asked).collect(),
        judge: args.judge.as_ref().and_then(asked),
    };
    let progress = Progress::new("equivalence", pairs.len(), 0);
    let (mut rows, mut passed) = (Vec::new(), 0);
    for (line, pair) in &pairs {
        let stopped = || Error::Stopped(format!("{} of {} pairs are scored, none is written", rows.len(), pairs.len()));
        ensure!(!stop.load(Ordering::SeqCst), stopped());
        let row = match equivalence.row(*line, pair) {
            Err(Error::Interrupted { .. }) => return Err(stopped().into()),
            other => other.with_context(|| format!("{}:{line}", args.from.display()))?,
        };
        passed += usize::from(row.passed);
        rows.push(row);
        progress.step(&format!("{passed} of {} pass", rows.len()));
    }
    progress.finish();
    write(args, &rows, &opened)
}

/// Rows and summary, in files and as a table.
fn write(args: &EquivalenceArgs, rows: &[EquivalenceRow], opened: &OpenModels) -> anyhow::Result<()> {
    let lines = rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    write_atomic(&args.output.join("rows.jsonl"), (lines.join("\n") + "\n").as_bytes())?;
    let all = figures(rows, args.asked.resamples, args.asked.seed);
    let weights = FileHash::of(&args.embedding.join("model.safetensors"))?.sha256;
    let summary = json!({
        "dataset": FileHash::of(&args.from)?.sha256, "embedding": weights, "models": args.models, "judge": args.judge,
        "thresholds": BTreeMap::from(GATES), "classified": rows.iter().filter(|row| !row.domain_given).count(),
        "seed": args.asked.seed, "resamples": args.asked.resamples, "git_sha": Build::own().to_string(), "spent_now": opened.spent(),
        "domains": all,
    });
    write_json_atomic(&args.output.join("summary.json"), &summary)?;
    println!("{}", table(&all));
    println!("share of pairs that pass; 95 % intervals by bootstrap over pairs");
    println!("figures: {}", args.output.join("summary.json").display());
    Ok(())
}

fn table(all: &BTreeMap<&'static str, EquivalenceFigures>) -> Table {
    let mut table = Table::new();
    let gates = GATES.map(|(name, from)| format!("{name} ≥ {from:.2} [95 %]"));
    let header = ["domain", "n", "pass [95 %]"].map(String::from).into_iter().chain(gates);
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    for (domain, own) in all {
        let share = |name: &str| own.gates.get(name).map(|gate| percent_ci(gate.passed.mean, gate.passed.ci95));
        let of_gates = GATES.map(|(name, _)| share(name).unwrap_or_default());
        let first = [(*domain).to_string(), own.n.to_string(), percent_ci(own.passed.mean, own.passed.ci95)];
        table.add_row(first.into_iter().chain(of_gates));
    }
    table
}
