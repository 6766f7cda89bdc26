//! `comparison.html`: one self-contained page. Style, script and drawings are inline and its policy forbids any request;
//! `maud` escapes all text. Without the script everything is still there, only not to be chosen or sorted.

use maud::{Markup, PreEscaped, html};

use crate::error::Result;
use crate::eval::schema::comparison::Comparison;
use crate::report::comparison::view::{ranked, readers};
use crate::report::comparison::{gallery, tables};
use crate::report::figure::Figure;
use crate::report::format::{nats, nats_ci, percent, percent_ci, points_ci, thousands};
use crate::report::html::PageFrame;
use crate::report::table::reader_title;

const OWN_STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const TERMS: [(&str, &str); 3] = [
    ("shared reader", "one reader, adapted to the outputs of all compared compressors in equal shares, at all budgets"),
    ("adapted reader", "a reader for each compressor, adapted to its own output at all budgets, for as many updates"),
    ("not separable", "the paired 95 % interval of the difference includes 0"),
];

/// The whole page.
pub fn page(comparison: &Comparison, figures: &[Figure]) -> Result<String> {
    let mut sections: Vec<(&str, &str, Markup)> = vec![
        ("curves", "Rate–distortion curves", curves(comparison, figures)),
        ("winners", "The best at each budget", tables::winners(comparison)),
        ("table", "Every point", tables::points(comparison)),
    ];
    sections.extend(tables::slices(comparison).map(|body| ("slices", "Where it helps", body)));
    sections.push(("speed", "Speed", tables::speed(comparison)));
    sections.extend(gallery::gallery(comparison).map(|body| ("gallery", "What is kept", body)));
    sections.push(("origin", "How it was made", origin(comparison)));
    let header = html! {
        h1 { (title(comparison)) }
        p.headline { (headline(comparison)) }
        (tiles(comparison))
        p.muted {
            (thousands(comparison.n_windows)) " held-out windows of " (thousands(comparison.n_documents))
            " documents: prefix " (comparison.windows.prefix) ", local " (comparison.windows.local)
            ", future " (comparison.windows.future) " tokens · every reader had "
            (thousands(comparison.updates)) " updates at all of these budgets · " (comparison.device)
        }
    };
    let frame = PageFrame {
        title: &format!("{} compared", comparison.name),
        head: html! { style { (PreEscaped(OWN_STYLE)) } },
        header,
        sections: &sections,
        terms: &TERMS,
        end: html! { div #tip role="status" hidden {} script { (PreEscaped(SCRIPT)) } },
    };
    Ok(frame.draw())
}

fn title(comparison: &Comparison) -> String {
    let trained: Vec<&str> = comparison.compressors.iter().filter(|c| c.trained()).map(|c| c.name.as_str()).collect();
    let others = comparison.compressors.len() - trained.len();
    let others = match others {
        0 => String::new(),
        1 => " against 1 baseline".into(),
        n => format!(" against {n} baselines"),
    };
    trained.join(", ") + &others
}

/// The result at the run's own budget, in words.
fn headline(comparison: &Comparison) -> String {
    let own = comparison.own_budget_tokens;
    let found = readers(comparison).into_iter().find_map(|reader| {
        let winner = comparison.winners.iter().find(|w| w.reader == reader && w.budget_tokens == own)?;
        let point = ranked(comparison, reader, own).into_iter().next()?;
        Some((reader, winner, point))
    });
    let Some((reader, winner, point)) = found else { return "Nothing was compared.".into() };
    let lead = format!(
        "At {} of {} tokens, under the {reader} reader{}, {} closes the largest part of the gap, {}",
        own,
        comparison.windows.prefix,
        if reader == "shared" { "" } else { "s" },
        winner.compressor,
        percent_ci(point.gap_closed, point.gap_closed_ci95)
    );
    match &winner.runner_up {
        None => lead + ".",
        Some(second) => format!(
            "{lead}; {} points more than {second}, {}.",
            points_ci(winner.gap_closed_diff, winner.ci95).trim_start_matches('+'),
            if winner.separable() { "which the windows tell apart" } else { "from which the windows cannot tell it" }
        ),
    }
}

fn tiles(comparison: &Comparison) -> Markup {
    let tile = |label: &str, value: String, note: String| {
        html! { div.tile { span.label { (label) } span.value { (value) } span.note { (note) } } }
    };
    let context = nats_ci(comparison.context_value, comparison.context_value_ci95);
    let wins = |reader: &str| {
        let own: Vec<_> = comparison.winners.iter().filter(|w| w.reader == reader).collect();
        let trained = |name: &str| comparison.compressors.iter().any(|c| c.name == name && c.trained());
        let won: Vec<_> = own.iter().filter(|w| trained(&w.compressor)).collect();
        let told = won.iter().filter(|w| w.separable()).count();
        (format!("{} of {}", won.len(), own.len()), format!("{told} of them told apart from the second"))
    };
    html! {
        div.tiles {
            (tile("Context value", nats(comparison.context_value), format!("nats per token that there are to gain; {context}")))
            @for reader in readers(comparison) {
                @let (value, note) = wins(reader);
                (tile(&format!("Budgets won by a trained compressor, {reader} reader"), value, note))
            }
        }
    }
}

fn curves(comparison: &Comparison, figures: &[Figure]) -> Markup {
    html! {
        p.lead {
            "Lower is better. Each point is one budget; the axis is what was kept, not what was asked for. Bars are 95 % \
             intervals of the gap closed, over documents. Point at a mark, or reach it with the Tab key, to read it; point at a name to \
             bring its line out. Requested: "
            (comparison.budgets.iter().map(|b| percent(b.requested)).collect::<Vec<_>>().join(", ")) "."
            @if comparison.terms.contains_key("adaptive") {
                " What extracts meets them on average, found on validation windows; its length follows the content."
            }
            @if comparison.bound.is_some() { " Dashed: the least that any gist of that length leaves." }
        }
        @for (reader, drawn) in readers(comparison).into_iter().zip(figures) {
            h3 { (reader_title(reader)) }
            figure.curves aria-label=(drawn.title) { (PreEscaped(&drawn.svg)) }
        }
    }
}

fn origin(comparison: &Comparison) -> Markup {
    html! {
        dl.flat {
            @for run in &comparison.runs {
                dt { (run.experiment) ", seed " (run.seed) }
                dd { (run.path) ", step " (run.step) ", weights " (run.weights) }
            }
            @for (key, value) in &comparison.terms { dt { (key) } dd { (value) } }
            @if !comparison.program.is_empty() { dt { "program" } dd { (comparison.program) } }
            @for change in &comparison.accepted { dt { "accepted" } dd { (change) } }
        }
    }
}
