//! `benchmark adversarial`: rows that word matching cannot answer, and what compressors keep of them and of the plain rows.

use crate::cli::compare::ask;
use crate::cli::named::NamedArgs;
use crate::cli::task_rows::{read, write_rows};
use anyhow::ensure;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::condense::Condenser;
use gist::data::task::adversarial::adversarial;
use gist::eval::task::answer_kept::{AnswerKeptFigures, answer_kept};
use gist::hash::FileHash;
use gist::progress::Progress;
use gist::report::format::{percent, percent_ci, points_ci};
use gist::run_dir::{Build, write_json_atomic};
use serde_json::json;
use std::path::PathBuf;

/// Flags of `benchmark adversarial`.
#[derive(clap::Args)]
pub struct AdversarialArgs {
    /// Name of a benchmark.
    name: String,
    /// A file in its format.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// File that receives the rows, in the common form.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// File that receives the figures, as JSON.
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Budgets, as shares of a context's tokens; the filler is larger than the largest.
    #[arg(long, value_name = "SHARE,..", value_delimiter = ',', default_value = "0.095,0.2,0.33")]
    budgets: Vec<String>,
    /// Compressors that are measured, as in `gist downstream --compressors`.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "bm25:sentence")]
    compressors: Vec<String>,
    /// Seed of the filler's order and place, and of the intervals.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Resamples of the intervals.
    #[arg(long, default_value_t = 2000)]
    resamples: usize,
    #[command(flatten)]
    named: NamedArgs,
}

/// Makes rows, writes them, and measures.
pub fn run(args: &AdversarialArgs) -> anyhow::Result<()> {
    let budgets = ask::shares(&args.budgets)?;
    let largest = budgets.iter().copied().fold(0.0, f64::max);
    let rows = read(&args.name, &args.from)?.rows;
    let named = args.named.open("--compressors", &args.compressors)?;
    let entrants = named.entrants("--compressors")?;
    let tokenizer = &named.models.tokenizer;
    let made = adversarial(&rows, largest, args.seed, &|text| Ok(tokenizer.encode(text)?.len()))?;
    ensure!(
        !made.rows.is_empty(),
        "{}: expected rows that can be made adversarial, got none of {}",
        args.from.display(),
        rows.len()
    );
    let members = || entrants.iter().flat_map(|own| own.members.iter().map(move |one| (own, one)));
    let progress = Progress::new("answers kept", members().count() * budgets.len() * 4, 0);
    let mut all = Vec::new();
    for (entrant, compressor) in members() {
        let condenser = Condenser { compressor: compressor.as_ref(), tokenizer };
        let sees_query = named.sees_query(entrant);
        for &share in &budgets {
            let step = || progress.step(&entrant.name);
            let drawn = (args.resamples, args.seed);
            let own = answer_kept(&condenser, sees_query, &made.rows, share, drawn, &step)?;
            all.push(AnswerKeptFigures { compressor: entrant.name.clone(), ..own });
        }
    }
    progress.finish();
    write_rows(&args.output, made.rows.iter().map(|row| &row.hard))?;
    if let Some(path) = &args.figures {
        let figures = json!({
            "benchmark": args.name, "dataset": FileHash::of(&args.from)?.sha256, "git_sha": Build::own().to_string(),
            "seed": args.seed, "resamples": args.resamples, "base": named.models.base().name,
            "rows": made.rows.len(), "passed_over": made.passed, "answer_kept": all,
        });
        write_json_atomic(path, &figures)?;
    }
    for (reason, count) in &made.passed {
        eprintln!("{count} rows are passed over: {reason}");
    }
    println!("{}", table(&all));
    println!("share of rows of which a reference is kept; 95 % intervals by bootstrap over documents");
    println!("{} rows: {}", made.rows.len(), args.output.display());
    Ok(())
}

fn table(all: &[AnswerKeptFigures]) -> Table {
    let mut table = Table::new();
    let header =
        ["compressor", "budget", "n", "plain", "new question", "filler", "adversarial", "adversarial less plain"];
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    for own in all {
        let [plain, paraphrase, filler, hard] =
            [own.plain, own.paraphrase, own.filler, own.adversarial].map(|mean| percent_ci(mean.mean, mean.ci95));
        let budget = percent(own.budget_requested);
        let difference = points_ci(own.difference.mean, own.difference.ci95);
        table.add_row([own.compressor.clone(), budget, own.n.to_string(), plain, paraphrase, filler, hard, difference]);
    }
    table
}
