//! From a downstream evaluation to one HTML page that works without a network, its drawing as SVG, and rows in the forms that other
//! tools read. Reads rows and figures; needs no device.

mod exports;
mod figure;
mod gallery;
mod page;
#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::eval::task::figures::{DownstreamFigures, figures};
use crate::eval::task::rows::{DownstreamRow, read_rows};
use crate::run_dir::{read_json, write_atomic};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The part of `summary.json` by which figures are made again.
#[derive(Deserialize)]
struct Resampling {
    resamples: usize,
}

/// Writes `report.html`, the figure and the exports of an evaluation into its folder; returns the page's path.
pub fn write(folder: &Path, rows: &[DownstreamRow], figures: &[DownstreamFigures]) -> Result<PathBuf> {
    let drawn = figure::curves(figures)?;
    let page = page::page(rows, figures, drawn.as_ref())?;
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    // Rows that were begun by a program before this one have no questions.
    if rows.iter().all(|row| !row.query.is_empty()) {
        files = exports::ragas(rows);
        files.push(("every_eval_ever.jsonl".into(), exports::every_eval_ever(rows)));
    }
    files.extend(drawn.map(|own| (PathBuf::from(format!("figures/{}.svg", own.name)), own.standalone().into_bytes())));
    for (name, bytes) in files {
        write_atomic(&folder.join(name), &bytes)?;
    }
    let path = folder.join("report.html");
    write_atomic(&path, page.as_bytes())?;
    Ok(path)
}

/// Writes them again, from `rows.jsonl` and `summary.json` in the folder.
pub fn redraw(folder: &Path) -> Result<PathBuf> {
    let rows = read_rows(&folder.join("rows.jsonl"))?;
    let summary: Resampling = read_json(&folder.join("summary.json"))?;
    let seed = rows.first().map_or(0, |row| row.origin.seed);
    write(folder, &rows, &figures(&rows, summary.resamples, seed))
}
