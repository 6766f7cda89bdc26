//! `pool`: several seeds of one experiment as one result, from the files of the run directories alone, or from rows that
//! were shipped. Runs that were not judged by the same things are refused.

use crate::cli::args::AcceptArg;
use anyhow::Context;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::config::eval::Cluster;
use gist::config::experiment;
use gist::config::train::TrainConfig;
use gist::eval::crossed::{detectable, pooled_sd};
use gist::eval::ledger::Accounts;
use gist::eval::pooled::{Series, numbered};
use gist::eval::schema::ledger::KlLedger;
use gist::eval::schema::readers::{ADAPTED, BASE, GENERATOR};
use gist::eval::schema::shipped;
use gist::eval::schema::summary::{Role, Summary};
use gist::eval::schema::windows::{WindowRow, read_windows};
use gist::eval::stats::{self, Interval};
use gist::report::ledger;
use gist::run_dir::{Provenance, RunDir, component, read_json, settle, write_atomic, write_json_atomic};
use gist::runs::integrity::{between, program_between};
use gist::runs::terms::{self, Terms};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const RESAMPLES: usize = 10_000;
const GIST: &str = "gist";

struct PooledRun {
    /// Folder of the run, or file of its rows.
    place: PathBuf,
    /// None where only its rows are there.
    dir: Option<RunDir>,
    /// Terms that decide what was measured.
    terms: Terms,
    summary: Summary,
    /// Commit and commands; none in files of older programs.
    made_by: Option<Value>,
    windows: Vec<WindowRow>,
}

/// Flags of `pool`.
#[derive(clap::Args)]
pub struct PoolArgs {
    /// Run directories, or files that `--export` wrote.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Runs of another experiment with the same seeds: prints the paired difference.
    #[arg(long, num_args = 1..)]
    against: Vec<PathBuf>,
    /// Unit that intervals resample; that of the first run where it is not given.
    #[arg(long, value_parser = ["document", "source"])]
    cluster: Option<String>,
    /// Write the rows of each run to this folder, compressed, for `pool` to read in place of the run.
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// Compressors whose rows are written.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "gist,recent,empty")]
    export_compressors: Vec<String>,
    /// Write the figures here too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    accept: AcceptArg,
}

/// Prints the ledger, pooled and per-seed figures of some runs, and of the difference to others (the same seeds of another experiment).
pub fn run(args: &PoolArgs) -> anyhow::Result<()> {
    let PoolArgs { runs, against, json, accept, .. } = args;
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
        terms::check(&mine[0].place, &mine[0].terms, &run.place, &run.terms)?;
    }
    let mut changes = Vec::new();
    if let Some(first) = &mine[0].dir {
        for run in mine[1..].iter().filter_map(|run| run.dir.as_ref()) {
            changes.extend(between(first, run)?);
        }
        for run in others.iter().filter_map(|run| run.dir.as_ref()) {
            changes.extend(program_between(first, run)?);
        }
    }
    let accepted = settle(changes, accept.accept_changes, "not pooled, the runs were made from different things")?;
    let mut output = Map::new();
    output.insert("runs".into(), json!(runs));
    output.insert("seeds".into(), json!(seeds(&mine)));
    output.insert("accepted".into(), json!(accepted));
    let cluster = match args.cluster.as_deref() {
        Some("source") => Cluster::Source,
        Some(_) => Cluster::Document,
        None => mine[0].summary.eval.cluster,
    };
    for run in mine.iter().chain(&others) {
        let known = run.windows.iter().try_for_each(|row| row.cluster(cluster).map(drop));
        known.with_context(|| run.place.display().to_string())?;
    }
    output.insert("cluster".into(), json!(cluster));
    output.insert("split".into(), json!(mine[0].summary.split));
    output.insert("n_contexts".into(), json!(Series::over(&rows(&mine), GIST, GENERATOR, cluster)?.windows()));
    output.insert("made_by".into(), json!(mine.iter().map(|run| &run.made_by).collect::<Vec<_>>()));
    if let Some(found) = ledger(&mine, cluster)? {
        output.insert("ke_over_kg".into(), json!(found.ke_over_kg.mean));
        output.insert("ke_over_kg_ci95".into(), json!(found.ke_over_kg.ci95));
        output.insert("nll_gap_closed".into(), json!(found.nll_gap_closed));
        output.insert("ledger".into(), json!(found));
    }
    for reader in [GENERATOR, ADAPTED, BASE] {
        if let Some(found) = table(&mine, reader, cluster)? {
            output.insert(reader.into(), found);
        }
    }
    if !others.is_empty() {
        let difference = differences([&mine, &others], [GIST, GIST], GENERATOR, cluster)?;
        println!("gist here − gist of {}: {}", others[0].summary.experiment, in_words(&difference));
        output.insert("against".into(), json!({"runs": against, "gap_closed_diff": difference}));
    }
    if let Some(folder) = &args.export {
        export(&mine, folder, &args.export_compressors)?;
    }
    if let Some(path) = json {
        write_json_atomic(path, &Value::Object(output))?;
    }
    Ok(())
}

fn load(root: &Path) -> anyhow::Result<PooledRun> {
    if root.is_file() {
        let (shipped::Heading { summary, terms, made_by }, windows) = shipped::read(root)?;
        return Ok(PooledRun { place: root.into(), dir: None, terms, summary, made_by, windows });
    }
    let run = RunDir::at(root)?;
    let summary: Summary = read_json(&run.summary())?;
    let windows = read_windows(&run.eval(summary.steps).join("windows.jsonl"))?;
    let mut config = experiment::load::<TrainConfig>(&run.config(), &[])?;
    // The figures may be of another split than the run's own, and intervals are made anew.
    (config.eval.split, config.eval.cluster) = (summary.split, Cluster::Document);
    let terms = terms::judged(&config, terms::recorded(&run, &config)?);
    let made_by = Some(origin(&run)?);
    Ok(PooledRun { place: root.into(), dir: Some(run), terms, summary, made_by, windows })
}

/// The commit that measured a run, and the commands that trained and measured it.
fn origin(run: &RunDir) -> anyhow::Result<Value> {
    let record = Provenance::read(run)?;
    let [trained, measured] = [record.trained(), record.measured()].map(serde_json::to_value);
    let (trained, measured) = (trained?, measured?);
    let command = |sitting: &Value| {
        let words = sitting["argv"].as_array().into_iter().flatten().skip(1).filter_map(Value::as_str);
        format!("gist {}", words.collect::<Vec<_>>().join(" "))
    };
    let mut commands = vec![command(&trained), command(&measured)];
    commands.dedup();
    Ok(json!({"commit": measured["commit"], "commands": commands}))
}

/// Writes the rows of each run.
fn export(runs: &[PooledRun], folder: &Path, compressors: &[String]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for run in runs {
        let known = run.windows.first().map(|row| &row.compressors);
        if let Some(name) = compressors.iter().find(|name| known.is_some_and(|known| !known.contains_key(*name))) {
            anyhow::bail!("--export-compressors: expected compressors of {}, got `{name}`", run.place.display());
        }
        let summary = shipped::reduced(&run.summary, compressors);
        let name = format!("{}-seed{}{}", component(&summary.experiment), summary.seed, shipped::ENDING);
        let (path, terms, made_by) = (folder.join(name), run.terms.clone(), run.made_by.clone());
        let rows: Vec<WindowRow> = run.windows.iter().map(|row| shipped::shortened(row, compressors)).collect();
        let bytes = shipped::encode(&path, &shipped::Heading { summary, terms, made_by }, &rows)?;
        write_atomic(&path, &bytes)?;
        println!("{}: {} rows, {} bytes", path.display(), rows.len(), bytes.len());
    }
    Ok(())
}

/// The ledger of all runs together, printed; none where the rows are of an older version.
fn ledger(runs: &[PooledRun], cluster: Cluster) -> anyhow::Result<Option<KlLedger>> {
    let all: Vec<&WindowRow> = runs.iter().flat_map(|run| &run.windows).collect();
    let Some(accounts) = Accounts::of(all.iter().copied(), GIST) else { return Ok(None) };
    let names = all.iter().map(|row| row.cluster(cluster)).collect::<Result<Vec<_>, _>>()?;
    let clusters = numbered(names.into_iter());
    let found = accounts.ledger(|statistic| stats::bootstrap(&clusters, RESAMPLES, 0, statistic));
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(ledger::HEAD).add_rows(ledger::rows(&found));
    println!("{}\n{table}\n{}\n", ledger::TITLE, ledger::sentence(&found));
    Ok(Some(found))
}

fn rows(runs: &[PooledRun]) -> Vec<Vec<WindowRow>> {
    runs.iter().map(|r| r.windows.clone()).collect()
}

fn interval(found: Interval) -> Value {
    json!({"mean": found.mean, "ci95": [found.low, found.high]})
}

/// Pooled difference in gap_closed of two compressors, and each seed's: with the seeds as they are, and crossed with them.
fn differences(
    [a, b]: [&[PooledRun]; 2],
    [of, less]: [&str; 2],
    reader: &str,
    cluster: Cluster,
) -> anyhow::Result<Value> {
    let own = Series::over(&rows(a), of, reader, cluster)?;
    let rival = Series::over(&rows(b), less, reader, cluster)?;
    let pooled = own.minus(&rival, RESAMPLES, 0)?;
    let crossed = own.crossed_minus(&rival, true, RESAMPLES, 0)?;
    let cluster_se = own.crossed_minus(&rival, false, RESAMPLES, 0)?.se;
    let by_seed: Vec<f64> = own.by_run().iter().zip(rival.by_run()).map(|(a, b)| a - b).collect();
    let detectable = pooled_sd(std::slice::from_ref(&by_seed)).map(|sd| detectable(sd, by_seed.len(), cluster_se));
    let mut seeds = Vec::new();
    for (a, b) in a.iter().zip(b) {
        let own = Series::over(std::slice::from_ref(&a.windows), of, reader, cluster)?;
        let rival = Series::over(std::slice::from_ref(&b.windows), less, reader, cluster)?;
        let found = own.minus(&rival, RESAMPLES, 0)?;
        seeds.push(interval(found));
    }
    let crossed =
        json!({"mean": crossed.interval.mean, "ci95": crossed.interval.ci95(), "se": crossed.se, "p": crossed.p});
    Ok(json!({"pooled": interval(pooled), "seeds": seeds, "crossed": crossed, "detectable": detectable}))
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
    let crossed = &difference["crossed"];
    let p = crossed["p"].as_f64().map_or(String::new(), |p| format!(", p {p:.4}"));
    let least = difference["detectable"].as_f64();
    let least = least.map_or(String::new(), |least| format!(" · could have seen ±{least:.3}"));
    let (pooled, crossed) = (of(&difference["pooled"]), of(crossed));
    format!("pooled {pooled} · by seed {} · over seeds and clusters {crossed}{p}{least}", seeds.join(", "))
}

/// One reader's table; none when the runs lack its gist.
fn table(runs: &[PooledRun], reader: &str, cluster: Cluster) -> anyhow::Result<Option<Value>> {
    let Some(entries) = runs[0].summary.eval.readers.get(reader).filter(|e| e.contains_key(GIST)) else {
        return Ok(None);
    };
    let all = rows(runs);
    let mut found = Vec::new();
    for (name, entry) in entries {
        let series = Series::over(&all, name, reader, cluster)?;
        let gap = series.gap_closed(RESAMPLES, 0);
        let kept: Vec<f64> =
            runs.iter().filter_map(|r| Some(r.summary.eval.readers.get(reader)?.get(name)?.keep_ratio)).collect();
        let spread = (series.crossed(true, RESAMPLES, 0).interval, series.by_run());
        found.push((name.clone(), runs[0].summary.role(entry), gap, gist::tensor::mean(&kept), spread));
    }
    found.sort_by(|a, b| b.2.mean.total_cmp(&a.2.mean));
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["compressor", "keep_ratio", "gap_closed [95 %]", "over seeds and clusters", "by seed"]);
    let mut entries = Map::new();
    for (name, role, gap, kept, (crossed, seeds)) in &found {
        let mark = match role {
            Role::Hindsight => " (hindsight)",
            Role::Search => " (search)",
            _ => "",
        };
        let shown = format!("{:.3} [{:.3}, {:.3}]", gap.mean, gap.low, gap.high);
        let wide = format!("[{:.3}, {:.3}]", crossed.low, crossed.high);
        let each: Vec<String> = seeds.iter().map(|gap| format!("{gap:.3}")).collect();
        table.add_row([format!("{name}{mark}"), format!("{kept:.3}"), shown, wide, each.join(" ")]);
        let figures =
            json!({"keep_ratio": kept, "gap_closed": interval(*gap), "crossed": interval(*crossed), "seeds": seeds});
        entries.insert(name.clone(), figures);
    }
    println!("reader: {reader}, {} seeds, {} split\n{table}", runs.len(), runs[0].summary.split.name());
    let rival = found.iter().find(|(name, role, ..)| *role == Role::Contestant && !name.starts_with(GIST));
    let mut output = json!({"compressors": entries});
    if let Some((name, ..)) = rival {
        let difference = differences([runs, runs], [GIST, name], reader, cluster)?;
        println!("gist − {name} (strongest honest baseline): {}\n", in_words(&difference));
        output["gist_minus_best"] = json!({"name": name, "gap_closed_diff": difference});
    }
    Ok(Some(output))
}
