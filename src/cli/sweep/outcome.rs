//! The outcome of a sweep: a row a run in `results.csv`, a row an arm in `verdict.json` and `verdict.md`.

use crate::cli::sweep::member::Checked;
use crate::cli::sweep::plan::SweepPlan;
use anyhow::Context;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::eval::schema::summary::Summary;
use gist::eval::schema::windows::read_windows;
use gist::eval::verdict::{self, ArmRuns, Judged};
use gist::report::format::{percent_ci, points_ci};
use gist::run_dir::{read_json, write_atomic, write_json_atomic};
use std::path::Path;

const COLUMNS: [&str; 13] = [
    "run",
    "arm",
    "seed",
    "state",
    "steps",
    "seconds",
    "keep_ratio",
    "kl",
    "nll",
    "gap_closed",
    "gap_closed_low",
    "gap_closed_high",
    "context_value",
];

/// Writes `results.csv`; returns a line for every run that is not finished.
pub fn results(root: &Path, plan: &SweepPlan) -> anyhow::Result<Vec<String>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(COLUMNS)?;
    let mut unfinished = Vec::new();
    for member in &plan.members {
        let mut row = vec![member.name.clone(), member.label.clone(), member.config.seed.to_string()];
        match member.finished() {
            Err(said) => {
                unfinished.push(format!("  {}: {} (logs/{}.log)", member.name, said.trim(), member.name));
                row.push(said.split(' ').next().unwrap_or_default().to_string());
                row.resize(COLUMNS.len(), String::new());
            }
            Ok(run) => {
                let summary: Summary = read_json(&run.summary())?;
                let eval = &summary.eval;
                let entry = eval.compressors.get(&plan.compressor).with_context(|| {
                    format!("{}: expected a compressor `{}`, got none", run.root().display(), plan.compressor)
                })?;
                let [low, high] = entry.gap_closed_ci95;
                row.extend(["done".into(), summary.steps.to_string(), format!("{:.0}", summary.seconds)]);
                let figures = [entry.keep_ratio, entry.kl, entry.nll, entry.gap_closed, low, high];
                row.extend(figures.iter().chain([&eval.context_value]).map(|x| format!("{x:.5}")));
            }
        }
        csv.write_record(&row)?;
    }
    write_atomic(&root.join("results.csv"), &csv.into_inner()?)?;
    Ok(unfinished)
}

/// Writes `verdict.json` and `verdict.md`; returns the table for the terminal.
pub fn judge(root: &Path, plan: &SweepPlan, checked: &Checked) -> anyhow::Result<String> {
    let mut arms: Vec<ArmRuns> = Vec::new();
    for member in &plan.members {
        let at = arms.iter().position(|arm| arm.label == member.label).unwrap_or_else(|| {
            arms.push(ArmRuns { label: member.label.clone(), baseline: member.rival.clone(), runs: Vec::new() });
            arms.len() - 1
        });
        if let Ok(run) = member.finished() {
            let summary: Summary = read_json(&run.summary())?;
            arms[at].runs.push((member.config.seed, read_windows(&run.eval(summary.steps).join("windows.jsonl"))?));
        }
    }
    let mut judged = verdict::judge(&arms, &plan.compressor, plan.cluster(), plan.spec.min_effect)?;
    judged.iter_mut().for_each(|arm| arm.accepted = checked.accepted(&arm.label));
    write_json_atomic(&root.join("verdict.json"), &judged)?;
    let rows: Vec<[String; 9]> = judged.iter().map(cells).collect();
    let mut page = format!("# {}\n\n", plan.name);
    if let Some(question) = &plan.spec.question {
        page += &format!("{question}\n\n");
    }
    page += &format!("| {} |\n|---|---|---|---|---|---|---|---|---|\n", HEADER.join(" | "));
    rows.iter().for_each(|row| page += &format!("| {} |\n", row.join(" | ")));
    let accepted: Vec<&String> = judged.iter().flat_map(|arm| &arm.accepted).collect();
    if !accepted.is_empty() {
        page += "\nAccepted, although runs were made from other things:\n\n";
        accepted.iter().for_each(|change| page += &format!("- {change}\n"));
    }
    write_atomic(&root.join("verdict.md"), page.as_bytes())?;
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(HEADER).add_rows(rows);
    Ok(table.to_string())
}

const HEADER: [&str; 9] = [
    "arm",
    "n",
    "gap closed [95 %]",
    "less the baseline [95 %]",
    "by seed",
    "over seeds and clusters [95 %]",
    "p, Holm",
    "detectable",
    "verdict",
];

fn cells(judged: &Judged) -> [String; 9] {
    let points = |share: f64| points_ci(share, [f64::NAN; 2]);
    let seeds: Vec<String> = judged.by_seed.iter().filter_map(|seed| seed.difference).map(points).collect();
    let crossed = judged.crossed_difference;
    let p = |p: f64| format!("{p:.4}");
    [
        judged.label.clone(),
        judged.n(),
        percent_ci(judged.gap_closed.mean, judged.gap_closed.ci95()),
        judged.difference.map_or(String::new(), |found| points_ci(found.mean, found.ci95())),
        seeds.join(", "),
        crossed.map_or(String::new(), |found| points_ci(found.interval.mean, found.interval.ci95())),
        crossed.zip(judged.holm_p).map_or(String::new(), |(found, holm)| format!("{}, {}", p(found.p), p(holm))),
        judged.detectable.map_or(String::new(), |effect| format!("±{:.1}", 100.0 * effect)),
        judged.verdict.map_or(String::new(), |verdict| format!("{verdict:?}").to_lowercase()),
    ]
}
