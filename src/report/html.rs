//! `report.html`: one self-contained page, inline styles and drawings, nothing fetched. `maud` escapes all text.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use crate::error::Result;
use crate::eval::schema::ledger::KlLedger;
use crate::eval::schema::summary::{Role, Summary};
use crate::report::data::RunData;
use crate::report::figure::Figure;
use crate::report::format::{duration, nats, percent, percent_ci, points_ci, thousands};
use crate::report::table::{
    BEFORE, HEAD, TableRow, difference, facts, headline, other_readers, primary, reader_title, rows,
};
use crate::report::{bars, curves, gallery, ledger};

/// Style of every page.
const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(run: &RunData) -> Result<String> {
    let name = match &run.summary {
        Some(s) => format!("{} / {}", s.experiment, s.run),
        None => run.dir.root().file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned()),
    };
    let mut sections: Vec<(&str, &str, Markup)> = Vec::new();
    if let Some(summary) = &run.summary {
        sections.push(("comparison", "Comparison", comparison(summary)?));
    }
    sections.extend(learning(run)?.map(|body| ("learning", "Learning curves", body)));
    sections.extend(retention(run)?.map(|body| ("retention", "What the gist keeps", body)));
    sections.extend(gallery::gallery(&run.examples).map(|body| ("gallery", "Prefix and gist", body)));
    sections.push(("origin", "How it was made", origin(run)));
    let header = html! { h1 { (name) } (opening(run)) };
    let own = [("as text", "after decoding the gist and encoding it again, which is what is used downstream")];
    let page = PageFrame { title: &name, head: html! {}, header, sections: &sections, terms: &own, end: html! {} };
    Ok(page.draw())
}

/// Content security policy of a page: nothing is fetched, whatever the page holds.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

/// The parts of a page around its sections.
pub(super) struct PageFrame<'a> {
    /// Title in the browser's tab, before the project's name.
    pub title: &'a str,
    /// Further elements of `<head>`, before the style.
    pub head: Markup,
    /// Heading and opening.
    pub header: Markup,
    /// Anchor, title and body of each.
    pub sections: &'a [(&'a str, &'a str, Markup)],
    /// Terms of the page's own, after those of all pages.
    pub terms: &'a [(&'a str, &'a str)],
    /// Markup after the footer, such as scripts.
    pub end: Markup,
}

impl PageFrame<'_> {
    /// The page as text.
    pub fn draw(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · gist" }
                    style { (PreEscaped(STYLE)) }
                    (self.head)
                }
                body {
                    header.top {
                        p.kicker { "gist · learned context compression" }
                        (self.header)
                        nav { @for (id, title, _) in self.sections { a href=(format!("#{id}")) { (title) } } }
                    }
                    main {
                        @for (id, title, body) in self.sections {
                            section id=(id) { h2 { (title) } (body) }
                        }
                    }
                    footer { (self.glossary()) }
                    (self.end)
                }
            }
        };
        page.into_string()
    }

    fn glossary(&self) -> Markup {
        html! {
            dl.flat {
                @for (term, meaning) in TERMS.iter().chain(self.terms) { dt { (term) } dd { (meaning) } }
            }
        }
    }
}

/// Terms of every page.
const TERMS: [(&str, &str); 6] = [
    ("keep_ratio", "kept tokens over tokens of the prefix, in the reading model's own tokenizer"),
    ("KL", "mean over future tokens of KL(teacher ‖ reader), nats per token; the teacher reads the whole prefix"),
    ("context_value", "KL of a reader adapted to the empty gist: what there is to gain"),
    ("gap_closed", "1 − KL / context_value; 1: nothing lost, 0: the gist is useless, below 0: harmful"),
    (
        "K_e/K_g",
        "KL of the reader adapted to nothing over that with the gist: the only figure of which tenfold is said",
    ),
    (
        "[95 %]",
        "percentile bootstrap that resamples whole documents (sources, where it is said below the table), numerator and denominator together",
    ),
];

fn opening(run: &RunData) -> Markup {
    let Some(s) = &run.summary else {
        let last = run.metrics.last().map_or(0, |row| row.step);
        return html! { p.headline { "No summary.json: the run has reached step " (thousands(last)) "." } };
    };
    html! {
        p.headline { (headline(s)) }
        (tiles(s))
        p.muted {
            "Seed " (s.seed) " · " (thousands(s.steps)) " steps in " (duration(s.seconds)) " · " (s.device) " · peak "
            (thousands(s.peak_rss_mib.max(0.0).round() as usize)) " MiB · " (thousands(s.eval.n_windows))
            " held-out windows of " (thousands(s.eval.n_documents)) " documents: prefix " (s.windows.prefix) ", local "
            (s.windows.local) ", future " (s.windows.future) " tokens"
        }
    }
}

/// One key figure.
fn tile(label: &str, value: String, note: String) -> Markup {
    html! { div.tile { span.label { (label) } span.value { (value) } span.note { (note) } } }
}

fn tiles(s: &Summary) -> Markup {
    let e = &s.eval;
    let against = |diff: f64, ci: [f64; 2], other: &str| {
        let sentence = difference(diff, ci, other);
        let (_, note) = sentence.split_once(" points ").unwrap_or(("", &sentence));
        (
            points_ci(diff, [f64::NAN; 2]) + " points",
            format!("{} {note}", points_ci(diff, ci).split_once(' ').map_or("", |p| p.1)),
        )
    };
    html! {
        div.tiles {
            @if let Some((name, entry)) = primary(s) {
                (tile("Gap closed", percent(entry.gap_closed), ci_note(percent_ci(entry.gap_closed, entry.gap_closed_ci95), name)))
                (tile("Kept of the prefix", percent(entry.keep_ratio), format!("budget {} of {} tokens", e.budget_tokens, s.windows.prefix)))
                (tile("KL with the gist", nats(entry.kl), match e.kl_warm_start.is_nan() {
                    true => "nats per token".into(),
                    false => format!("nats per token; {} after the warm start", nats(e.kl_warm_start)),
                }))
            }
            (tile("Context value", nats(e.context_value), "nats per token that there are to gain".into()))
            @if let Some(d) = &e.gist_minus_best {
                @let (value, note) = against(d.gap_closed_diff, d.ci95, &d.name);
                (tile("Against the best baseline", value, note))
            }
            @if let Some(d) = &e.gist_minus_warm_start {
                @let (value, note) = against(d.gap_closed_diff, d.ci95, BEFORE);
                (tile("Against the run before co-training", value, note))
            }
        }
    }
}

/// The bracketed interval of `text` with the compressor's name.
fn ci_note(text: String, name: &str) -> String {
    match text.split_once(" [") {
        Some((_, interval)) => format!("95 % interval [{interval}, {name}"),
        None => name.into(),
    }
}

fn figure(figure: &Figure) -> Markup {
    html! { figure role="img" aria-label=(figure.title) { (PreEscaped(&figure.svg)) } }
}

fn panels(panels: &[curves::Panel]) -> Result<Markup> {
    let figures = panels.iter().map(curves::Panel::figure).collect::<Result<Vec<_>>>()?;
    Ok(html! { div.panels { @for drawn in &figures { (figure(drawn)) } } })
}

fn comparison(s: &Summary) -> Result<Markup> {
    let mut blocks = vec![(None, bars::comparison(s, "generator")?, rows(s, &s.eval.compressors))];
    for (reader, entries) in other_readers(s) {
        blocks.push((Some(reader_title(reader)), bars::comparison(s, reader)?, rows(s, entries)));
    }
    Ok(html! {
        p.lead {
            "Every compressor gets the same budget of " (s.eval.budget_tokens) " tokens and the same windows. 100 % of the \
             gap closed is reading the whole prefix; 0 % is a reader that was trained to do without it."
        }
        @for (title, chart, rows) in &blocks {
            @if let Some(title) = title { h3 { (title) } }
            @if let Some(chart) = chart { (figure(chart)) }
            (comparison_table(rows))
        }
        @if let Some(found) = &s.eval.ledger {
            h3 { (ledger::TITLE) }
            (ledger_table(found))
        }
        ul.facts { @for line in facts(s) { li { (line) } } }
    })
}

fn ledger_table(found: &KlLedger) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { @for head in ledger::HEAD { th { (head) } } } }
                tbody { @for row in ledger::rows(found) { tr { @for cell in &row { td { (cell) } } } } }
            }
        }
    }
}

fn comparison_table(rows: &[TableRow]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { @for head in HEAD { th { (head) } } } }
                tbody {
                    @for row in rows {
                        tr.leak[row.role == Role::LeakControl].gist[row.role == Role::Contestant && row.name.starts_with("gist")] {
                            td {
                                (row.name)
                                @if !row.note.is_empty() { span.note { (row.note) } }
                            }
                            @for cell in &row.cells()[1..] { td { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

fn learning(run: &RunData) -> Result<Option<Markup>> {
    let (main, others) = (curves::learning(run), curves::others(run));
    if main.is_empty() && others.is_empty() {
        return Ok(None);
    }
    Ok(Some(html! {
        p.lead {
            "Against updates. Faint points are single updates, lines a centred moving average."
            @if curves::rl_begins(run).is_some() { " The dotted vertical line is where co-training takes over from the warm start." }
        }
        (panels(&main)?)
        @if !others.is_empty() {
            details open[main.is_empty()] {
                summary { "Every other metric" }
                (panels(&others)?)
            }
        }
    }))
}

fn retention(run: &RunData) -> Result<Option<Markup>> {
    let curves = curves::retention(run);
    let table = run.summary.as_ref().map(|s| &s.eval.retention).filter(|table| !table.is_empty());
    if curves.is_empty() && table.is_none() {
        return Ok(None);
    }
    Ok(Some(html! {
        @if let Some(table) = table {
            @let heads = crate::retention::Retention::default().named().map(|(name, _)| name.replace('_', " "));
            div.scroll {
                table {
                    thead { tr { th { "compressor" } @for head in &heads { th { (head) } } } }
                    tbody {
                        @for (name, figures) in table {
                            tr.gist[name.starts_with("gist")] {
                                td { (name) }
                                @for (_, value) in figures.named() { td { (percent(value.unwrap_or(f64::NAN))) } }
                            }
                        }
                    }
                }
            }
        }
        (panels(&curves)?)
    }))
}

fn origin(run: &RunData) -> Markup {
    html! {
        @if let Some(provenance) = &run.provenance {
            details {
                summary { "Provenance" }
                dl.flat { @for (key, value) in flatten("", provenance) { dt { (key) } dd { (value) } } }
            }
        }
        details { summary { "Configuration" } pre.text { (run.config) } }
    }
}

/// Nested JSON as dotted keys with plain values.
fn flatten(key: &str, value: &Value) -> Vec<(String, String)> {
    let join = |part: &str| if key.is_empty() { part.to_string() } else { format!("{key}.{part}") };
    match value {
        Value::Object(fields) => fields.iter().flat_map(|(part, value)| flatten(&join(part), value)).collect(),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().flat_map(|(i, value)| flatten(&join(&i.to_string()), value)).collect()
        }
        Value::Array(items) => vec![(key.into(), items.iter().map(plain).collect::<Vec<_>>().join(" "))],
        other => vec![(key.into(), plain(other))],
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_flattened() {
        let value = serde_json::json!({"a": {"b": 1, "c": ["x", "y"]}, "d": [{"e": null}]});
        let expected = [("a.b", "1"), ("a.c", "x y"), ("d.0.e", "null")].map(|(k, v)| (k.to_string(), v.to_string()));
        assert_eq!(flatten("", &value), expected);
    }

    #[test]
    fn intervals_in_tiles() {
        assert_eq!(ci_note("47.0 % [42.0, 52.0]".into(), "gist"), "95 % interval [42.0, 52.0], gist");
        assert_eq!(ci_note("47.0 %".into(), "gist"), "gist");
    }
}
