//! `pool`: several seeds of one experiment as one result, from the files of the run directories alone. Runs that were not
//! judged by the same things are refused.

use crate::cli::args::AcceptArg;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::config::experiment;
use gist::config::train::TrainConfig;
use gist::eval::pooled::Series;
use gist::eval::schema::readers::{ADAPTED, BASE, GENERATOR};
use gist::eval::schema::summary::{Role, Summary};
use gist::eval::schema::windows::{WindowRow, read_windows};
use gist::eval::stats::Interval;
use gist::run_dir::{RunDir, read_json, settle, write_json_atomic};
use gist::runs::integrity::{between, program_between};
use gist::runs::terms::{self, Terms};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const RESAMPLES: usize = 10_000;
const GIST: &str = "gist";

struct PooledRun {
    dir: RunDir,
    /// Terms that decide what was measured.
    terms: Terms,
    summary: Summary,
    windows: Vec<WindowRow>,
}

/// Flags of `pool`.
#[derive(clap::Args)]
pub struct PoolArgs {
    /// Run directories.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Runs of another experiment with the same seeds: prints the paired difference.
    #[arg(long, num_args = 1..)]
    against: Vec<PathBuf>,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    accept: AcceptArg,
}

/// Prints pooled and per-seed figures of some runs, and of the difference to others (the same seeds of another experiment).
pub fn run(args: &PoolArgs) -> anyhow::Result<()> {
    let PoolArgs { runs, against, json, accept } = args;
    let mine = runs.iter().map(|r| load(r)).collect::<anyhow::Result<Vec<_>>>()?;
    let others = against.iter().map(|r| load(r)).collect::<anyhow::Result<Vec<_>>>()?;
    if !others.is_empty() && others.len() != mine.len() {
        anyhow::bail!("--against: expected {} runs, one a run, got {}", mine.len(), others.len());
    }
    let seeds = |runs: &[PooledRun]| runs.iter().map(|run| run.summary.seed).collect::<Vec<_>>();
    if !others.is_empty() && seeds(&others) != seeds(&mine) {
        anyhow::bail!("--against: expected the seeds {:?}, in this order, got {:?}", seeds(&mine), seeds(&others));
    }
    for run in mine.iter().chain(&others) {
        terms::check(mine[0].dir.root(), &mine[0].terms, run.dir.root(), &run.terms)?;
    }
    let mut changes = Vec::new();
    for run in &mine[1..] {
        changes.extend(between(&mine[0].dir, &run.dir)?);
    }
    for run in &others {
        changes.extend(program_between(&mine[0].dir, &run.dir)?);
    }
    let accepted = settle(changes, accept.accept_changes, "not pooled, the runs were made from different things")?;
    let mut output = Map::new();
    output.insert("runs".into(), json!(runs));
    output.insert("seeds".into(), json!(seeds(&mine)));
    output.insert("accepted".into(), json!(accepted));
    for reader in [GENERATOR, ADAPTED, BASE] {
        if let Some(found) = table(&mine, reader)? {
            output.insert(reader.into(), found);
        }
    }
    if !others.is_empty() {
        let difference = differences(&mine, &others, GIST, GIST, GENERATOR)?;
        println!("gist here − gist of {}: {}", others[0].summary.experiment, in_words(&difference));
        output.insert("against".into(), json!({"runs": against, "gap_closed_diff": difference}));
    }
    if let Some(path) = json {
        write_json_atomic(path, &Value::Object(output))?;
    }
    Ok(())
}

fn load(root: &Path) -> anyhow::Result<PooledRun> {
    let run = RunDir::at(root)?;
    let summary: Summary = read_json(&run.summary())?;
    let windows = read_windows(&run.eval(summary.steps).join("windows.jsonl"))?;
    let config = experiment::load::<TrainConfig>(&run.config(), &[])?;
    let terms = terms::judged(&config, terms::recorded(&run, &config)?);
    Ok(PooledRun { dir: run, terms, summary, windows })
}

fn rows(runs: &[PooledRun]) -> Vec<Vec<WindowRow>> {
    runs.iter().map(|r| r.windows.clone()).collect()
}

fn interval(found: Interval) -> Value {
    json!({"mean": found.mean, "ci95": [found.low, found.high]})
}

/// Pooled difference in gap_closed of two compressors, and each seed's.
fn differences(a: &[PooledRun], b: &[PooledRun], of: &str, less: &str, reader: &str) -> anyhow::Result<Value> {
    let pooled = Series::new(&rows(a), of, reader)?.minus(&Series::new(&rows(b), less, reader)?, RESAMPLES, 0)?;
    let mut seeds = Vec::new();
    for (a, b) in a.iter().zip(b) {
        let own = Series::new(std::slice::from_ref(&a.windows), of, reader)?;
        let found = own.minus(&Series::new(std::slice::from_ref(&b.windows), less, reader)?, RESAMPLES, 0)?;
        seeds.push(interval(found));
    }
    Ok(json!({"pooled": interval(pooled), "seeds": seeds}))
}

fn in_words(difference: &Value) -> String {
    let of = |v: &Value| {
        format!(
            "{:+.3} [{:+.3}, {:+.3}]",
            v["mean"].as_f64().unwrap_or(f64::NAN),
            v["ci95"][0].as_f64().unwrap_or(f64::NAN),
            v["ci95"][1].as_f64().unwrap_or(f64::NAN)
        )
    };
    let seeds: Vec<String> = difference["seeds"].as_array().into_iter().flatten().map(of).collect();
    format!("pooled {} · by seed {}", of(&difference["pooled"]), seeds.join(", "))
}

/// One reader's table; none when the runs lack its gist.
fn table(runs: &[PooledRun], reader: &str) -> anyhow::Result<Option<Value>> {
    let Some(entries) = runs[0].summary.eval.readers.get(reader).filter(|e| e.contains_key(GIST)) else {
        return Ok(None);
    };
    let all = rows(runs);
    let mut found = Vec::new();
    for (name, entry) in entries {
        let gap = Series::new(&all, name, reader)?.gap_closed(RESAMPLES, 0);
        let kept: Vec<f64> =
            runs.iter().filter_map(|r| Some(r.summary.eval.readers.get(reader)?.get(name)?.keep_ratio)).collect();
        found.push((name.clone(), runs[0].summary.role(entry), gap, gist::tensor::mean(&kept)));
    }
    found.sort_by(|a, b| b.2.mean.total_cmp(&a.2.mean));
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["compressor", "keep_ratio", "gap_closed [95 %]"]);
    let mut entries = Map::new();
    for (name, role, gap, kept) in &found {
        let mark = match role {
            Role::Hindsight => " (hindsight)",
            Role::Search => " (search)",
            _ => "",
        };
        let shown = format!("{:.3} [{:.3}, {:.3}]", gap.mean, gap.low, gap.high);
        table.add_row([format!("{name}{mark}"), format!("{kept:.3}"), shown]);
        entries.insert(name.clone(), json!({"keep_ratio": kept, "gap_closed": interval(*gap)}));
    }
    println!("reader: {reader}, {} seeds\n{table}", runs.len());
    let rival = found.iter().find(|(name, role, _, _)| *role == Role::Contestant && !name.starts_with(GIST));
    let mut output = json!({"compressors": entries});
    if let Some((name, ..)) = rival {
        let difference = differences(runs, runs, GIST, name, reader)?;
        println!("gist − {name} (strongest honest baseline): {}\n", in_words(&difference));
        output["gist_minus_best"] = json!({"name": name, "gap_closed_diff": difference});
    }
    Ok(Some(output))
}
