//! The comparison as text: a terminal table, a Markdown table, and the sentences that say what it means.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table};

use crate::config::eval::ExamSplit;
use crate::eval::schema::summary::{Entry, Role, Summary};
use crate::report::format::{duration, nats, nats_ci, percent, percent_ci, points_ci, thousands};
use crate::report::ledger;

/// Column heads of every comparison table.
pub const HEAD: [&str; 8] =
    ["compressor", "kept", "KL", "NLL", "gap closed [95 %]", "top-1", "kept, as text", "KL, as text"];

/// Name of a run with the weights of its warm start.
pub const BEFORE: &str = "the run before co-training";
/// Possible causes of a difference to [`BEFORE`].
const SINCE: &str = "both compressor and generator have been trained since";

/// comfy-table's `UTF8_HORIZONTAL_ONLY` without lines between rows.
const RULES: &str = "  ── ══      ──    ";

/// One row of a comparison.
#[derive(Clone, Debug)]
pub struct TableRow<'a> {
    /// Name of the compressor.
    pub name: &'a str,
    /// Figures of the compressor.
    pub entry: &'a Entry,
    /// Role of the row in the comparison.
    pub role: Role,
    /// Note beside the name, such as "hindsight, cheating"; may be empty.
    pub note: String,
}

/// The rows of one reader: by gap_closed, best first, with the leak controls after all others.
pub fn rows<'a>(summary: &Summary, entries: &'a BTreeMap<String, Entry>) -> Vec<TableRow<'a>> {
    let mut rows: Vec<TableRow> = entries
        .iter()
        .map(|(name, entry)| {
            let role = summary.role(entry);
            TableRow { name, entry, role, note: note(summary, role, entry) }
        })
        .collect();
    let order = |row: &TableRow| if row.entry.gap_closed.is_nan() { f64::INFINITY } else { -row.entry.gap_closed };
    rows.sort_by(|a, b| {
        let leaks = |row: &TableRow| row.role == Role::LeakControl;
        leaks(a).cmp(&leaks(b)).then(order(a).total_cmp(&order(b)))
    });
    rows
}

fn note(summary: &Summary, role: Role, entry: &Entry) -> String {
    let role = match role {
        Role::Contestant => "",
        Role::Search => "search, not cheating",
        Role::Hindsight => "hindsight, cheating",
        Role::Reference => "reference",
        Role::LeakControl => "leak control",
    };
    let windows =
        if entry.n_windows == summary.eval.n_windows { "".into() } else { format!("{} windows", entry.n_windows) };
    [role, &windows].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

impl TableRow<'_> {
    /// The text of each column.
    pub fn cells(&self) -> [String; 8] {
        let e = self.entry;
        let name = if self.note.is_empty() { self.name.into() } else { format!("{} ({})", self.name, self.note) };
        [
            name,
            percent(e.keep_ratio),
            nats(e.kl),
            nats(e.nll),
            percent_ci(e.gap_closed, e.gap_closed_ci95),
            percent(e.top1_agreement),
            percent(e.keep_ratio_decoded.unwrap_or(f64::NAN)),
            nats(e.kl_decoded.unwrap_or(f64::NAN)),
        ]
    }
}

/// The compressor that the run is about: `gist`, else another gist, else the best within the budget.
pub fn primary(summary: &Summary) -> Option<(&str, &Entry)> {
    let all = &summary.eval.compressors;
    let best = || rows(summary, all).into_iter().find(|row| row.role == Role::Contestant).map(|row| row.name);
    let named = gist_name(all.keys()).or_else(best)?;
    all.get_key_value(named).map(|(name, entry)| (name.as_str(), entry))
}

/// `gist`, or else the first name that begins so.
pub fn gist_name<'a>(mut names: impl Iterator<Item = &'a String> + Clone) -> Option<&'a str> {
    let exact = names.clone().find(|name| *name == "gist");
    exact.or_else(|| names.find(|name| name.starts_with("gist"))).map(String::as_str)
}

/// The readers other than the one of `compressors`, with their rows.
pub fn other_readers(summary: &Summary) -> impl Iterator<Item = (&String, &BTreeMap<String, Entry>)> {
    summary.eval.readers.iter().filter(|(name, _)| *name != "generator")
}

/// Title of a reader's table.
pub fn reader_title(reader: &str) -> String {
    match reader {
        "generator" => "Read by the co-trained generator".into(),
        "base" => "Read by the frozen base, adapters off".into(),
        "adapted" => "Read by a reader of its own, adapted to each compressor's output".into(),
        "shared" => "Read by one reader that all share, adapted to all their outputs".into(),
        "unasked" => "Asked for names and numbers of the text round the facts, read by the co-trained generator".into(),
        other => format!("Read by {other}"),
    }
}

/// The main result in plain words.
pub fn headline(summary: &Summary) -> String {
    let Some((name, entry)) = primary(summary) else { return "No compressor was evaluated.".into() };
    format!(
        "The {name} keeps {} of the prefix tokens (at most {} of {}) and closes {} of the gap between reading none of \
         them and reading all.",
        percent(entry.keep_ratio),
        summary.eval.budget_tokens,
        summary.windows.prefix,
        percent_ci(entry.gap_closed, entry.gap_closed_ci95)
    )
}

/// A paired difference in plain words.
pub fn difference(diff: f64, ci: [f64; 2], other: &str) -> String {
    let verdict = match ci {
        [low, _] if low > 0.0 => "the interval lies above 0",
        [_, high] if high < 0.0 => "the interval lies below 0",
        [low, high] if low.is_finite() && high.is_finite() => "the interval includes 0",
        _ => "no interval",
    };
    format!("{} points against {other}: {verdict}", points_ci(diff, ci))
}

/// The split in words.
fn split(summary: &Summary) -> String {
    match summary.split {
        ExamSplit::Test => "the test split".into(),
        ExamSplit::Valid => "the validation split".into(),
        ExamSplit::Final => format!("the final split (reading {} by this run)", summary.final_reads),
    }
}

/// The lines below a table.
pub fn facts(summary: &Summary) -> Vec<String> {
    let (s, e) = (summary, &summary.eval);
    let earlier = [("kl_start", e.kl_start), ("kl_warm_start", e.kl_warm_start)];
    let earlier = earlier.iter().filter(|(_, kl)| !kl.is_nan()).map(|(name, kl)| format!(" · {name} {}", nats(*kl)));
    let mut lines = vec![format!(
        "context_value {} nats/token (unadapted {}){}",
        nats_ci(e.context_value, e.context_value_ci95),
        nats(e.context_value_unadapted),
        earlier.collect::<String>()
    )];
    lines.extend(e.ledger.iter().map(ledger::sentence));
    lines.extend(
        e.gist_minus_best
            .as_ref()
            .map(|d| format!("gist_minus_best: {}", difference(d.gap_closed_diff, d.ci95, &d.name))),
    );
    lines.extend(
        e.gist_minus_warm_start
            .as_ref()
            .map(|d| format!("gist_minus_warm_start: {} ({SINCE})", difference(d.gap_closed_diff, d.ci95, BEFORE))),
    );
    lines.push(format!(
        "{} windows of {} documents of {}, prefix {} + local {} + future {} tokens, budget {}; 95 % intervals by bootstrap \
         over {}",
        thousands(e.n_windows),
        thousands(e.n_documents),
        split(s),
        s.windows.prefix,
        s.windows.local,
        s.windows.future,
        e.budget_tokens,
        e.cluster.plural()
    ));
    lines.extend(s.frame.as_ref().map(|frame| format!("teacher and readers read {frame}")));
    lines.push(format!(
        "seed {}, {} steps, {}, peak {} MiB, {}",
        s.seed,
        thousands(s.steps),
        duration(s.seconds),
        thousands(s.peak_rss_mib.max(0.0).round() as usize),
        s.device
    ));
    lines
}

/// The comparison for the terminal.
pub fn table(summary: &Summary) -> String {
    let mut out = grid(summary, &summary.eval.compressors);
    for (reader, entries) in other_readers(summary) {
        out += &format!("\n\n{}\n{}", reader_title(reader), grid(summary, entries));
    }
    if let Some(found) = &summary.eval.ledger {
        out += &format!("\n\n{}\n{}", ledger::TITLE, plain(&ledger::HEAD, ledger::rows(found)));
    }
    format!("{out}\n{}\n", facts(summary).join("\n"))
}

fn grid(summary: &Summary, entries: &BTreeMap<String, Entry>) -> String {
    plain(
        &HEAD.map(|head| head.replace(", ", "\n").replace(" [", "\n[")),
        rows(summary, entries).iter().map(TableRow::cells).collect(),
    )
}

/// A table of text, figures to the right.
fn plain<const N: usize>(head: &[impl ToString; N], rows: Vec<[String; N]>) -> String {
    let mut table = Table::new();
    table.load_preset(RULES).set_header(head.iter().map(ToString::to_string)).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

/// The comparison as Markdown.
pub fn markdown(summary: &Summary) -> String {
    let mut out = markdown_grid(summary, &summary.eval.compressors);
    for (reader, entries) in other_readers(summary) {
        out += &format!("\n{}:\n\n{}", reader_title(reader), markdown_grid(summary, entries));
    }
    if let Some(found) = &summary.eval.ledger {
        out += &format!("\n{}:\n\n| {} |\n|:---|---:|---:|\n", ledger::TITLE, ledger::HEAD.join(" | "));
        ledger::rows(found)
            .iter()
            .for_each(|row| out += &format!("| {} |\n", row.clone().map(|cell| escape(&cell)).join(" | ")));
    }
    for line in facts(summary) {
        out += &format!("\n{}\n", escape(&line));
    }
    out
}

fn markdown_grid(summary: &Summary, entries: &BTreeMap<String, Entry>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = line(&HEAD.map(String::from));
    out += "|:---|---:|---:|---:|---:|---:|---:|---:|\n";
    for row in rows(summary, entries) {
        let mut cells = row.cells().map(|cell| escape(&cell));
        if gist_name(entries.keys()) == Some(row.name) {
            cells[0] = format!("**{}**", cells[0]);
            cells[4] = format!("**{}**", cells[4]);
        }
        out += &line(&cells);
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('_', "\\_").replace('*', "\\*").replace('<', "&lt;")
}
