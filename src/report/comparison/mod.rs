//! From a comparison to its files: `comparison.json`, `comparison.csv`, figures as SVG and PNG, and one HTML page that
//! works without a network. Needs no device.

mod figure;
mod gallery;
mod page;
mod tables;
#[cfg(test)]
mod tests;
mod view;

use comfy_table::{CellAlignment, Table};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::eval::schema::comparison::{Comparison, Point};
use crate::report::figure::Figure;
use crate::report::format::{percent, percent_ci};
use crate::report::table::reader_title;
use crate::run_dir::{read_json, write_atomic, write_json_atomic};
use view::{count, number, readers, verdict};

/// Pixels of a PNG file for one of the drawing.
const PNG_SCALE: f32 = 2.0;
const CSV_HEAD: [&str; 18] = [
    "compressor",
    "trained",
    "seeds",
    "reader",
    "requested_keep_ratio",
    "budget_tokens",
    "keep_ratio",
    "kl",
    "kl_low",
    "kl_high",
    "gap_closed",
    "gap_closed_low",
    "gap_closed_high",
    "nll",
    "top1_agreement",
    "ms_per_window",
    "prefix_tokens_per_second",
    "latency_ms",
];

/// Writes the files of a comparison again, from the `comparison.json` in `folder`. Returns the page's path.
pub fn redraw(folder: &Path) -> Result<PathBuf> {
    write(folder, &read_json(&folder.join("comparison.json"))?)
}

/// Writes every file of the comparison into `folder`; all are made before the first is written. Returns the page's path.
pub fn write(folder: &Path, comparison: &Comparison) -> Result<PathBuf> {
    let figures = figures(comparison)?;
    let page = page::page(comparison, &figures)?;
    let mut files = vec![(folder.join("comparison.csv"), csv(comparison)?)];
    for figure in &figures {
        let path = |kind: &str| folder.join("figures").join(format!("{}.{kind}", figure.name));
        files.push((path("svg"), figure.standalone().into_bytes()));
        files.push((path("png"), figure.png(PNG_SCALE)?));
    }
    let html = folder.join("comparison.html");
    files.push((html.clone(), page.into_bytes()));
    write_json_atomic(&folder.join("comparison.json"), comparison)?;
    for (path, bytes) in files {
        write_atomic(&path, &bytes)?;
    }
    Ok(html)
}

fn figures(comparison: &Comparison) -> Result<Vec<Figure>> {
    let drawn = readers(comparison).into_iter().map(|reader| figure::curves(comparison, reader));
    Ok(drawn.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// A row a compressor, budget and reader.
fn csv(comparison: &Comparison) -> Result<Vec<u8>> {
    let path = Path::new("comparison.csv");
    let wrong = |e: csv::Error| Error::file(path, e.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(CSV_HEAD).map_err(wrong)?;
    for point in &comparison.points {
        let contestant = comparison.compressors.iter().find(|c| c.name == point.compressor);
        let seeds = contestant.map_or(&[][..], |c| &c.seeds).iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        let speed = contestant.and_then(|c| c.speed.iter().find(|s| s.budget_tokens == point.budget_tokens));
        let [low, high] = point.kl_ci95;
        let [gap_low, gap_high] = point.gap_closed_ci95;
        let mut row = vec![point.compressor.clone(), (!seeds.is_empty()).to_string(), seeds, point.reader.clone()];
        row.extend([point.requested.to_string(), point.budget_tokens.to_string()]);
        let figures = [point.keep_ratio, point.kl, low, high, point.gap_closed, gap_low, gap_high, point.nll];
        row.extend(figures.iter().chain([&point.top1_agreement]).map(|x| number(*x, 6)));
        row.push(number(speed.map_or(f64::NAN, |s| s.ms_per_window), 4));
        row.push(number(speed.map_or(f64::NAN, |s| s.prefix_tokens_per_second), 0));
        row.push(number(speed.map_or(f64::NAN, |s| s.latency_ms), 4));
        writer.write_record(&row).map_err(wrong)?;
    }
    writer.into_inner().map_err(|e| Error::file(path, e.to_string()))
}

/// Tables for a terminal: the gap closed at each budget, and who wins.
pub fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    for reader in readers(comparison) {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
        let heads = comparison.budgets.iter().map(|b| format!("{} ({})", percent(b.requested), count(b.tokens)));
        table.set_header(["gap closed [95 %]".to_string()].into_iter().chain(heads));
        for contestant in &comparison.compressors {
            let at = |tokens: usize| {
                let own =
                    |p: &&Point| p.compressor == contestant.name && p.reader == reader && p.budget_tokens == tokens;
                comparison.points.iter().find(own)
            };
            let cells = comparison
                .budgets
                .iter()
                .map(|b| at(b.tokens))
                .map(|point| point.map_or("–".to_string(), |p| percent_ci(p.gap_closed, p.gap_closed_ci95)));
            table.add_row([contestant.name.clone()].into_iter().chain(cells));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        out += &format!("{}\n{table}\n", reader_title(reader));
        for winner in comparison.winners.iter().filter(|winner| winner.reader == reader) {
            out += &format!("{}: {}, {}\n", count(winner.budget_tokens), winner.compressor, verdict(winner));
        }
    }
    out
}
