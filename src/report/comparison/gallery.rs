//! Windows with the words that were kept marked in the source, and the generated gists beside it. Without the script the
//! marks are those of the best compressor that only deletes; with it, those of whichever is chosen.

use maud::{Markup, html};

use crate::eval::schema::comparison::{Compared, ComparedGist, Comparison};
use crate::report::comparison::view::count;
use crate::report::format::{nats, percent};
use crate::report::gallery::{Mark, chips, marks};

/// Windows shown.
const SHOWN: usize = 12;

/// The gallery; nothing when there are no examples.
pub fn gallery(comparison: &Comparison) -> Option<Markup> {
    let shown = &comparison.examples[..comparison.examples.len().min(SHOWN)];
    (!shown.is_empty()).then(|| {
        html! {
            p.lead {
                "At " (count(comparison.own_budget_tokens)) ". " mark.span { "Marked" } " in the source is what the chosen compressor \
                 keeps, or, of a generated gist, the words that occur in it; choose another by its name. Shorter bars are better."
            }
            @for example in shown { (article(comparison, example)) }
        }
    })
}

/// Positions of the prefix that a gist keeps, or copies.
fn kept(example: &Compared, gist: &ComparedGist) -> Vec<usize> {
    let copied = || {
        let marks = marks(&example.prefix_tokens, &gist.tokens);
        (0..marks.len()).filter(|&at| marks[at] != Mark::New).collect()
    };
    gist.kept.clone().unwrap_or_else(copied)
}

fn article(comparison: &Comparison, example: &Compared) -> Markup {
    let mut ranked: Vec<&ComparedGist> = example.gists.iter().collect();
    ranked.sort_by(|a, b| a.kl.total_cmp(&b.kl));
    let first = ranked.iter().find(|gist| gist.kept.is_some()).or(ranked.first());
    let first = first.map_or("", |gist| gist.compressor.as_str());
    let on = ranked.iter().find(|gist| gist.compressor == first).map_or(Vec::new(), |gist| kept(example, gist));
    let most = ranked.iter().map(|gist| gist.kl).chain([example.context_value]);
    let most = most.filter(|kl| kl.is_finite()).fold(1e-9, f64::max);
    html! {
        article.example {
            header {
                span.rank { (example.window) }
                span.muted { (example.document) " · KL without a gist " (nats(example.context_value)) }
            }
            div.pair {
                div {
                    h4 { "Prefix" span.muted { " · " (example.prefix_tokens.len()) " tokens" } }
                    pre.text.prefix {
                        @for (at, token) in example.prefix_tokens.iter().enumerate() {
                            span.token.kept[on.contains(&at)] { (token) }
                        }
                    }
                    h4 { "Local window" }
                    pre.text.short { (example.local) }
                    h4 { "Future" }
                    pre.text.short { (example.future) }
                }
                div {
                    @for gist in example.gists.iter().filter(|gist| generated(comparison, gist)) {
                        h4 { (gist.compressor) span.muted { " · " (gist.tokens.len()) " tokens" } }
                        (chips(&gist.tokens, &example.prefix_tokens))
                    }
                    h4 { "KL to the teacher" span.muted { " · nats per token" } }
                    dl.kl {
                        @for gist in ranked {
                            @let share = if gist.kl.is_finite() { 100.0 * gist.kl / most } else { 0.0 };
                            @let places = ranges(&kept(example, gist));
                            @let kept = gist.tokens.len() as f64 / example.prefix_tokens.len().max(1) as f64;
                            dt {
                                button.pick type="button" data-kept=(places) aria-pressed=(gist.compressor == first) {
                                    (gist.compressor)
                                }
                            }
                            dd {
                                span.track { span.fill.main[trained(comparison, gist)] style=(format!("width:{share:.1}%")) {} }
                                span.value { (nats(gist.kl)) " · " (percent(kept)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn trained(comparison: &Comparison, gist: &ComparedGist) -> bool {
    comparison.compressors.iter().any(|c| c.name == gist.compressor && c.trained())
}

/// Trained, or written and not kept: worth reading, not only seeing in the source.
fn generated(comparison: &Comparison, gist: &ComparedGist) -> bool {
    gist.kept.is_none() || trained(comparison, gist)
}

/// `[1, 2, 3, 7]` → `1-3,7`.
fn ranges(places: &[usize]) -> String {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for &place in places {
        match out.last_mut() {
            Some((_, last)) if *last + 1 == place => *last = place,
            _ => out.push((place, place)),
        }
    }
    let one = |(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    out.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_as_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3,7,9-10");
        assert_eq!(ranges(&[]), "");
    }
}
