//! `report.html` of a downstream evaluation: one self-contained page whose policy forbids any request.

use maud::{Markup, PreEscaped, html};
use std::collections::BTreeMap;

use crate::error::Result;
use crate::eval::task::downstream::IDENTITY;
use crate::eval::task::figures::{DownstreamFigures, Mean, PartFigures};
use crate::eval::task::rows::DownstreamRow;
use crate::report::downstream::gallery;
use crate::report::figure::Figure;
use crate::report::format::{percent, percent_ci, points_ci, thousands};
use crate::report::html::PageFrame;

const TERMS: [(&str, &str); 4] = [
    ("closed book", "the question alone, with no context"),
    ("less full", "points of F1 against the answer to the whole context, paired by example"),
    (
        "gap closed",
        "(compressed − closed book) / (full − closed book) of F1; 1: nothing lost, 0: as good as nothing read",
    ),
    ("answer kept", "share of examples of which a reference stands in what was kept, whatever the model made of it"),
];

/// The whole page.
pub fn page(rows: &[DownstreamRow], figures: &[DownstreamFigures], drawn: Option<&Figure>) -> Result<String> {
    let (Some(row), Some(first)) = (rows.first(), figures.first()) else {
        return Ok(PageFrame {
            title: "Downstream",
            head: html! {},
            header: html! { p { "No rows." } },
            sections: &[],
            terms: &[],
            end: html! {},
        }
        .draw());
    };
    let mut sections: Vec<(&str, &str, Markup)> = Vec::new();
    sections.extend(drawn.map(|own| ("curves", "F1 over tokens", curve(own))));
    sections.push(("table", "Every compressor and budget", table(figures)));
    sections.push(("parts", "Where it is lost", parts(figures)));
    sections.extend(gallery::gallery(rows).map(|body| ("gallery", "Contexts and answers", body)));
    sections.push(("origin", "How it was made", origin(row)));
    let title = format!("{} answered by {}", row.benchmark, row.origin.task_model);
    let header = html! {
        h1 { (title) }
        p.headline { (headline(figures)) }
        p.muted {
            (thousands(first.n)) " examples of " (thousands(first.documents)) " documents; intervals of 95 % by bootstrap over \
             documents. Full context: F1 " (shown(first.full_f1)) ", closed book: " (shown(first.closed_f1)) ". "
            (dollars(figures))
        }
    };
    let frame = PageFrame { title: &title, head: html! {}, header, sections: &sections, terms: &TERMS, end: html! {} };
    Ok(frame.draw())
}

fn shown(mean: Mean) -> String {
    percent_ci(mean.mean, mean.ci95)
}

/// The best F1 of all, in words.
fn headline(figures: &[DownstreamFigures]) -> String {
    let others = figures.iter().filter(|own| own.compressor != IDENTITY);
    let best = others.max_by(|a, b| a.compressed_f1.mean.total_cmp(&b.compressed_f1.mean));
    best.map_or("No compressor took part.".into(), |own| {
        format!(
            "{} keeps most: with {} of the tokens, F1 is {}, {} points against the whole context.",
            own.compressor,
            percent(own.keep_ratio_micro),
            shown(own.compressed_f1),
            points_ci(own.delta_f1.mean, own.delta_f1.ci95)
        )
    })
}

/// Dollars of full and compressed answers, where they were counted.
fn dollars(figures: &[DownstreamFigures]) -> String {
    let Some(full) = figures.first().and_then(|own| own.total_cost_usd_full).filter(|usd| *usd > 0.0) else {
        return String::new();
    };
    let saved = |own: &&DownstreamFigures| own.compressor != IDENTITY;
    let all = figures.iter().filter(saved).filter_map(|own| {
        Some(format!("{} at {} ${:.4}", own.compressor, percent(own.budget_requested), own.total_cost_usd_compressed?))
    });
    format!("Answers to whole contexts cost ${full:.4}; {}.", all.collect::<Vec<_>>().join(", "))
}

fn curve(drawn: &Figure) -> Markup {
    html! {
        p.lead { "Dashed: the whole context, and nothing read. Bars are intervals." }
        figure role="img" aria-label=(drawn.title) { (PreEscaped(&drawn.svg)) }
    }
}

fn table(figures: &[DownstreamFigures]) -> Markup {
    let heads =
        ["compressor", "budget", "kept", "tokens", "exact match", "F1", "less full", "gap closed", "answer kept", "ms"];
    html! {
        div.scroll {
            table {
                thead { tr { @for head in heads { th { (head) } } } }
                tbody {
                    @for own in figures {
                        tr.gist[own.trained] {
                            td { (own.compressor) @if !own.sees_query && own.compressor != IDENTITY { span.note { "blind" } } }
                            td { (percent(own.budget_requested)) }
                            td { (percent(own.keep_ratio_micro)) }
                            td { (thousands(own.context_tokens.round() as usize)) }
                            td { (shown(own.compressed_exact_match)) }
                            td { (shown(own.compressed_f1)) }
                            td { (points_ci(own.delta_f1.mean, own.delta_f1.ci95)) }
                            td { (shown(own.gap_closed)) }
                            td { (percent(own.answer_kept)) }
                            td { (format!("{:.0}", own.latency_ms_compressor + own.latency_ms_compressed)) }
                        }
                    }
                }
            }
        }
        ul.facts { li { "“blind” compressors do not see the question. Milliseconds are of compressor and answer." } }
    }
}

/// F1 by slice and by the place of the answer.
fn parts(figures: &[DownstreamFigures]) -> Markup {
    let block = |title: &str, of: &dyn Fn(&DownstreamFigures) -> &BTreeMap<String, PartFigures>| {
        let names: Vec<&String> = figures.first().map(|own| of(own).keys().collect()).unwrap_or_default();
        html! {
            @if !names.is_empty() {
                h3 { (title) }
                div.scroll {
                    table {
                        thead {
                            tr {
                                th { "compressor" } th { "budget" }
                                @for name in &names {
                                    th { (name) " (" (figures.first().and_then(|own| of(own).get(*name)).map_or(0, |p| p.n)) ")" }
                                }
                            }
                        }
                        tbody {
                            @for own in figures {
                                tr {
                                    td { (own.compressor) } td { (percent(own.budget_requested)) }
                                    @for name in &names {
                                        td { (percent(of(own).get(*name).map_or(f64::NAN, |part| part.compressed_f1))) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    html! {
        (block("F1 by domain and slice", &|own| &own.slices))
        (block("F1 by the place of the answer in the context", &|own| &own.places))
    }
}

fn origin(row: &DownstreamRow) -> Markup {
    let origin = serde_json::to_value(&row.origin).unwrap_or_default();
    let plain = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    html! {
        dl.flat {
            @for (key, value) in origin.as_object().into_iter().flatten() { dt { (key) } dd { (plain(value)) } }
        }
    }
}
