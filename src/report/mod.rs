//! From a run directory to tables, figures and one HTML page. Reads files only; needs no device.

pub mod bars;
pub mod comparison;
pub mod curves;
pub mod data;
pub mod downstream;
pub mod figure;
pub mod format;
pub mod gallery;
pub mod html;
pub mod index;
pub mod ledger;
mod lines;
pub mod scaling;
pub mod table;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::run_dir::write_atomic;
use data::RunData;
pub use table::{markdown, table};

/// Writes `report.html` of the run at `root`, and its figures under `figures/`; returns the page's path.
pub fn render(root: &Path) -> Result<PathBuf> {
    let run = RunData::read(root)?;
    write_svg(&run, &run.dir.root().join("figures"))?;
    write_html(&run)
}

/// Writes `report.html` into the run directory.
pub fn write_html(run: &RunData) -> Result<PathBuf> {
    let path = run.dir.report();
    write_atomic(&path, html::page(run)?.as_bytes())?;
    Ok(path)
}

/// Writes every figure as an SVG file on white into `folder`: each panel alone, `curves.svg` and `retention.svg` as grids,
/// `comparison.svg` (one more per further reader). Returns the paths.
pub fn write_svg(run: &RunData, folder: &Path) -> Result<Vec<PathBuf>> {
    let (learning, retention) = (curves::learning(run), curves::retention(run));
    let panels = learning.iter().chain(&retention).map(curves::Panel::figure);
    let mut figures = panels.collect::<Result<Vec<_>>>()?;
    figures.extend(curves::grid("curves", "Learning curves", &learning, 3)?);
    figures.extend(curves::grid("retention", "What the gist keeps", &retention, 3)?);
    if let Some(summary) = &run.summary {
        figures.extend(bars::comparison(summary, "generator")?);
        for (reader, _) in table::other_readers(summary) {
            figures.extend(bars::comparison(summary, reader)?);
        }
    }
    let write = |figure: &figure::Figure| {
        let path = folder.join(format!("{}.svg", figure.name));
        write_atomic(&path, figure.standalone().as_bytes()).map(|()| path)
    };
    figures.iter().map(write).collect()
}
