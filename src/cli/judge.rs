//! `judge`: grades from 1 to 10 of what compressors kept, by any model, over the rows of a downstream evaluation.

use crate::cli::asked::AskedArgs;
use crate::cli::start;
use anyhow::{Context, ensure};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::error::Error;
use gist::eval::judge::{Agreement, JudgeFigures, REPLY_TOKENS, agreement, figures, judge};
use gist::eval::task::figures::Mean;
use gist::eval::task::rows::read_rows;
use gist::hash::FileHash;
use gist::progress::Progress;
use gist::report::format::percent;
use gist::run_dir::{Build, FolderLock, write_atomic, write_json_atomic};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Flags of `judge`.
#[derive(clap::Args)]
pub struct JudgeArgs {
    /// Folder of a downstream evaluation, which has rows.jsonl.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Models that grade: PROTOCOL:NAME behind HTTP, as `gist downstream --task-model`, or a base that runs here. Of two or more
    /// the agreement is told.
    #[arg(long, value_name = "MODEL,..", value_delimiter = ',', required = true)]
    judges: Vec<String>,
    /// Folder that receives judged.jsonl and judged.json; absent = --from.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Examples at most, the first ones; absent = all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    #[command(flatten)]
    asked: AskedArgs,
}

/// Grades, and writes rows and figures.
pub fn run(args: &JudgeArgs) -> anyhow::Result<()> {
    let names: BTreeSet<&String> = args.judges.iter().collect();
    ensure!(names.len() == args.judges.len(), "--judges: expected each model once, got {}", args.judges.join(","));
    let path = args.from.join("rows.jsonl");
    let mut rows = read_rows(&path)?;
    if let Some(limit) = args.limit {
        let mut seen = BTreeSet::new();
        rows.retain(|row| {
            seen.contains(&row.example_id) || (seen.len() < limit as usize && seen.insert(row.example_id.clone()))
        });
    }
    let examples: BTreeSet<&String> = rows.iter().map(|row| &row.example_id).collect();
    let output = args.output.as_ref().unwrap_or(&args.from);
    let opened = args.asked.open("--judges", &args.judges, output)?;
    std::fs::create_dir_all(output).with_context(|| output.display().to_string())?;
    let _lock = FolderLock::take(output)?;
    let stop = start::catch_interrupt()?;
    let asked = |name: &String| opened.asked(name, REPLY_TOKENS, "judge", stop);
    let judges: Vec<_> = args.judges.iter().filter_map(asked).collect();
    let progress = Progress::new("judge", examples.len(), 0);
    let judged = judge(&rows, &judges, |_| {
        progress.step("");
        !stop.load(std::sync::atomic::Ordering::SeqCst)
    });
    let judged = match judged {
        Err(Error::Interrupted { step }) => {
            return Err(Error::Stopped(format!("{step} of {} rows are judged, none is written", rows.len())).into());
        }
        other => other.with_context(|| path.display().to_string())?,
    };
    progress.finish();
    let lines = judged.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    write_atomic(&output.join("judged.jsonl"), (lines.join("\n") + "\n").as_bytes())?;
    let (all, agreed) = (figures(&judged, args.asked.resamples, args.asked.seed), agreement(&judged));
    let summary = json!({
        "rows": FileHash::of(&path)?.sha256, "judges": args.judges, "examples": examples.len(), "compressors": all,
        "agreement": agreed, "seed": args.asked.seed, "resamples": args.asked.resamples, "git_sha": Build::own().to_string(),
        "spent_now": opened.spent(),
    });
    write_json_atomic(&output.join("judged.json"), &summary)?;
    println!("{}", table(&args.judges, &all));
    println!("mean grades, 1 to 10; 95 % intervals by bootstrap over documents");
    agreed.iter().for_each(|own| println!("{}", said(own)));
    println!("figures: {}", output.join("judged.json").display());
    ensure!(all.iter().any(|own| !own.grades.is_empty()), "--judges: expected a reply that can be read, got none");
    Ok(())
}

fn table(judges: &[String], all: &[JudgeFigures]) -> Table {
    let mut table = Table::new();
    let header = ["compressor", "budget", "n"].map(String::from);
    let own = judges.iter().flat_map(|judge| [format!("{judge} [95 %]"), "unread".to_string()]);
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header.into_iter().chain(own));
    for row in all {
        let shown = |mean: &Mean| format!("{:.2} [{:.2}, {:.2}]", mean.mean, mean.ci95[0], mean.ci95[1]);
        let of = |judge: &String| {
            let unread = row.unread.get(judge).map_or(String::new(), ToString::to_string);
            [row.grades.get(judge).map_or(String::new(), shown), unread]
        };
        let first = [row.compressor.clone(), percent(row.budget_requested), row.n.to_string()];
        table.add_row(first.into_iter().chain(judges.iter().flat_map(of)));
    }
    table
}

fn said(own: &Agreement) -> String {
    let [first, second] = &own.judges;
    let kappa = own.kappa.map_or("-".to_string(), |kappa| format!("{kappa:.2}"));
    let (equal, near) = (percent(own.equal), percent(own.within_one));
    format!("{first} and {second}: {} rows, equal {equal}, at most 1 apart {near}, weighted kappa {kappa}", own.n)
}
