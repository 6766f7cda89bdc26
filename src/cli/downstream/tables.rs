//! Figures of a downstream evaluation as a table and as CSV.

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use gist::eval::task::figures::{DownstreamFigures, Mean};
use gist::report::format::{percent, percent_ci, points_ci};

fn shown(mean: Mean) -> String {
    percent_ci(mean.mean, mean.ci95)
}

/// A row a compressor and budget, and one for nothing read.
pub fn table(all: &[DownstreamFigures]) -> Table {
    let mut table = Table::new();
    let header = [
        "compressor",
        "budget",
        "kept",
        "EM [95 %]",
        "F1 [95 %]",
        "F1 less full [95 %]",
        "gap closed [95 %]",
        "answer kept",
    ];
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    for own in all {
        table.add_row([
            own.compressor.clone(),
            percent(own.budget_requested),
            percent(own.keep_ratio_micro),
            shown(own.compressed_exact_match),
            shown(own.compressed_f1),
            points_ci(own.delta_f1.mean, own.delta_f1.ci95),
            shown(own.gap_closed),
            percent(own.answer_kept),
        ]);
    }
    if let Some(own) = all.first() {
        let (closed, f1) = (shown(own.closed_exact_match), shown(own.closed_f1));
        let nothing = String::new();
        table.add_row([
            "closed book".into(),
            percent(0.0),
            percent(0.0),
            closed,
            f1,
            nothing.clone(),
            nothing.clone(),
            nothing,
        ]);
    }
    table
}

/// More figures of each, as CSV.
pub fn csv_of(all: &[DownstreamFigures]) -> anyhow::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    let means = [
        "full_exact_match",
        "compressed_exact_match",
        "closed_exact_match",
        "full_f1",
        "compressed_f1",
        "closed_f1",
        "delta_exact_match",
        "delta_f1",
        "gap_closed",
    ];
    let mut header: Vec<String> =
        ["compressor", "budget_requested", "n", "documents", "keep_ratio_macro", "keep_ratio_micro"]
            .map(String::from)
            .to_vec();
    header.extend(means.iter().flat_map(|name| [name.to_string(), format!("{name}_low"), format!("{name}_high")]));
    header
        .extend(["answer_kept", "latency_ms_full", "latency_ms_compressed", "latency_ms_compressor"].map(String::from));
    csv.write_record(&header)?;
    for own in all {
        let number = |value: f64| format!("{value:.5}");
        let mut row = vec![
            own.compressor.clone(),
            own.budget_requested.to_string(),
            own.n.to_string(),
            own.documents.to_string(),
        ];
        row.extend([own.keep_ratio_macro, own.keep_ratio_micro].map(number));
        let values = [
            own.full_exact_match,
            own.compressed_exact_match,
            own.closed_exact_match,
            own.full_f1,
            own.compressed_f1,
            own.closed_f1,
            own.delta_exact_match,
            own.delta_f1,
            own.gap_closed,
        ];
        row.extend(values.iter().flat_map(|mean| [mean.mean, mean.ci95[0], mean.ci95[1]].map(number)));
        row.extend(
            [own.answer_kept, own.latency_ms_full, own.latency_ms_compressed, own.latency_ms_compressor].map(number),
        );
        csv.write_record(&row)?;
    }
    Ok(csv.into_inner()?)
}
