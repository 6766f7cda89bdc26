//! The tables of the page: winners, every point, parts of the windows, speed.

use maud::{Markup, html};

use crate::eval::schema::comparison::{Comparison, Point, Slice};
use crate::report::comparison::view::{count, number, ranked, readers, verdict};
use crate::report::format::{nats, nats_ci, percent, percent_ci, thousands};
use crate::report::table::reader_title;

/// The best at each budget, under each reader.
pub fn winners(comparison: &Comparison) -> Markup {
    html! {
        @for reader in readers(comparison) {
            h3 { (reader_title(reader)) }
            div.scroll {
                table.left {
                    thead { tr { @for head in ["budget", "best", "kept", "gap closed [95 %]", "ahead of the second by", "not separable from the best"] { th { (head) } } } }
                    tbody {
                        @for winner in comparison.winners.iter().filter(|w| w.reader == reader) {
                            @let own = ranked(comparison, reader, winner.budget_tokens).into_iter().next();
                            tr.gist[trained(comparison, &winner.compressor)] {
                                td { (percent(winner.requested)) span.note { (count(winner.budget_tokens)) } }
                                td { (winner.compressor) }
                                td { (percent(own.map_or(f64::NAN, |p| p.keep_ratio))) }
                                td { (own.map_or(String::new(), |p| percent_ci(p.gap_closed, p.gap_closed_ci95))) }
                                td { (verdict(winner)) }
                                td { (winner.not_separable.join(", ")) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn trained(comparison: &Comparison, name: &str) -> bool {
    comparison.compressors.iter().any(|c| c.name == name && c.trained())
}

const HEAD: [&str; 9] =
    ["compressor", "reader", "budget", "kept", "KL [95 %]", "gap closed [95 %]", "NLL", "top-1", "ms a window"];

/// Every point, best first within its budget; the script filters and sorts it.
pub fn points(comparison: &Comparison) -> Markup {
    let speed = |p: &Point| {
        let own = comparison.compressors.iter().find(|c| c.name == p.compressor)?;
        own.speed.iter().find(|s| s.budget_tokens == p.budget_tokens).map(|s| s.ms_per_window)
    };
    let cells = |p: &Point| -> [(String, f64); 6] {
        let ms = speed(p).unwrap_or(f64::NAN);
        [
            (percent(p.keep_ratio), p.keep_ratio),
            (nats_ci(p.kl, p.kl_ci95), p.kl),
            (percent_ci(p.gap_closed, p.gap_closed_ci95), p.gap_closed),
            (nats(p.nll), p.nll),
            (percent(p.top1_agreement), p.top1_agreement),
            (number(ms, 2), ms),
        ]
    };
    html! {
        form.filter {
            label { "Reader " select data-filter="reader" {
                option value="" { "all" }
                @for reader in readers(comparison) { option value=(reader) { (reader) } }
            } }
            label { "Budget " select data-filter="budget" {
                option value="" { "all" }
                @for budget in &comparison.budgets {
                    option value=(budget.tokens) { (percent(budget.requested)) " (" (count(budget.tokens)) ")" }
                }
            } }
        }
        div.scroll {
            table #points {
                thead { tr { @for head in HEAD { th scope="col" aria-sort="none" { button type="button" { (head) } } } } }
                tbody {
                    @for reader in readers(comparison) {
                        @for budget in &comparison.budgets {
                            @for point in ranked(comparison, reader, budget.tokens) {
                                tr.gist[trained(comparison, &point.compressor)] data-reader=(reader) data-budget=(budget.tokens) {
                                    td { (point.compressor) }
                                    td { (reader) }
                                    td data-value=(budget.tokens) { (percent(budget.requested)) span.note { (budget.tokens) } }
                                    @for (text, value) in cells(point) { td data-value=(value) { (text) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The gap closed on parts of the windows, a block a reader and budget; nothing when the windows have no parts.
pub fn slices(comparison: &Comparison) -> Option<Markup> {
    let mut parts: Vec<&Slice> = Vec::new();
    for slice in &comparison.slices {
        if !parts.iter().any(|known| (&known.by, &known.part) == (&slice.by, &slice.part)) {
            parts.push(slice);
        }
    }
    if parts.is_empty() {
        return None;
    }
    let cell = |part: &Slice, name: &str, reader: &str, tokens: usize| {
        comparison.slices.iter().find(|s| {
            (&s.by, &s.part, s.compressor.as_str(), s.reader.as_str(), s.budget_tokens)
                == (&part.by, &part.part, name, reader, tokens)
        })
    };
    let firsts = readers(comparison);
    Some(html! {
        p.lead {
            "The gap closed on parts of the windows, each against the context value of the part. Darker is more; the \
             interval of a cell shows when it is pointed at. Parts are small, and intervals are wide."
        }
        @for reader in &firsts {
            @for budget in &comparison.budgets {
                details open[*reader == firsts[0] && budget.tokens == comparison.own_budget_tokens] {
                    summary { (percent(budget.requested)) " of the prefix (" (count(budget.tokens)) "), " (reader) " reader" }
                    div.scroll {
                        table.heat {
                            thead { tr { th { "windows" } th { "n" } th { "context value" } @for c in &comparison.compressors { th { (c.name) } } } }
                            tbody {
                                @for (i, part) in parts.iter().enumerate() {
                                    @if i == 0 || parts[i - 1].by != part.by {
                                        tr.by { th colspan=(3 + comparison.compressors.len()) { "by " (part.by) } }
                                    }
                                    tr {
                                        td { (part.part) }
                                        td { (part.n_windows) }
                                        td { (nats(part.context_value)) }
                                        @for c in &comparison.compressors { (shade(cell(part, &c.name, reader, budget.tokens))) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// A cell as dark as the gap that it says is closed.
fn shade(slice: Option<&Slice>) -> Markup {
    let Some(slice) = slice else { return html! { td { "–" } } };
    let share = if slice.gap_closed.is_finite() { slice.gap_closed.clamp(0.0, 1.0) } else { 0.0 };
    html! {
        td title=(percent_ci(slice.gap_closed, slice.gap_closed_ci95)) style=(format!("--share:{share:.3}")) {
            (percent(slice.gap_closed))
        }
    }
}

/// Milliseconds a window at each budget, and the throughput at the run's own.
pub fn speed(comparison: &Comparison) -> Markup {
    html! {
        p.lead {
            "Time to compress, measured here on " (comparison.device) " with all " (thousands(comparison.n_windows))
            " windows at hand at once, after a few to warm up, and in the last column with one (median of some); of several seeds the mean. Other work on the machine shows in it."
        }
        div.scroll {
            table {
                thead {
                    tr {
                        th { "ms a window at" }
                        @for budget in &comparison.budgets { th { (percent(budget.requested)) " (" (budget.tokens) ")" } }
                        th { "prefix tokens/s at " (count(comparison.own_budget_tokens)) }
                        th { "ms for one window alone at " (count(comparison.own_budget_tokens)) }
                    }
                }
                tbody {
                    @for c in &comparison.compressors {
                        tr.gist[c.trained()] {
                            td { (c.name) }
                            @for budget in &comparison.budgets {
                                @let found = c.speed.iter().find(|s| s.budget_tokens == budget.tokens);
                                td { (number(found.map_or(f64::NAN, |s| s.ms_per_window), 2)) }
                            }
                            @let own = c.speed.iter().find(|s| s.budget_tokens == comparison.own_budget_tokens);
                            td { (own.map_or("–".into(), |s| thousands(s.prefix_tokens_per_second.max(0.0) as usize))) }
                            td { (number(own.map_or(f64::NAN, |s| s.latency_ms), 2)) }
                        }
                    }
                }
            }
        }
    }
}
