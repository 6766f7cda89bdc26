//! Prefix → gist pairs: what was kept, token by token, and the KL it left.

use maud::{Markup, html};

use crate::eval::schema::windows::{ExampleGist, WindowExample};
use crate::report::format::{nats, percent};
use crate::report::table::gist_name;

/// Examples shown.
pub const SHOWN: usize = 16;
/// A run of at least this many tokens in the prefix's order counts as a copied span.
const SPAN: usize = 3;

/// Relation of a token to the other text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// A token that the other text does not have.
    New,
    /// A token that the other text has.
    Shared,
    /// A token of a copied span.
    Span,
}

impl Mark {
    pub(super) fn class(self) -> Option<&'static str> {
        match self {
            Mark::New => None,
            Mark::Shared => Some("shared"),
            Mark::Span => Some("span"),
        }
    }
}

/// The gallery; nothing when there are no examples.
pub fn gallery(examples: &[WindowExample]) -> Option<Markup> {
    let chosen = spread(examples);
    (!chosen.is_empty()).then(|| {
        html! {
            p.lead {
                (chosen.len()) " of " (examples.len()) " held-out windows, evenly spaced from the one where the gist \
                 gains most over the empty gist to the one where it gains least, so failures show as well. "
                mark.span { "Marked" } " tokens belong to a copied span of " (SPAN) " or more, "
                mark.shared { "underlined" } " ones occur in both; chips without a mark are new, or too common to tell."
            }
            @for (rank, example) in chosen.iter().enumerate() { (article(rank + 1, example)) }
        }
    })
}

/// At most `SHOWN` examples at even ranks of KL gained by the gist.
fn spread(examples: &[WindowExample]) -> Vec<&WindowExample> {
    let gain = |example: &WindowExample| {
        let kl = |gist: Option<&ExampleGist>| gist.map_or(0.0, |gist| gist.kl);
        kl(example.gists.get("empty")) - kl(main_gist(example).map(|(_, gist)| gist))
    };
    let mut ranked: Vec<&WindowExample> = examples.iter().collect();
    ranked.sort_by(|a, b| gain(b).total_cmp(&gain(a)).then(a.window.cmp(&b.window)));
    if ranked.len() <= SHOWN {
        return ranked;
    }
    (0..SHOWN).map(|i| ranked[i * (ranked.len() - 1) / (SHOWN - 1)]).collect()
}

fn main_gist(example: &WindowExample) -> Option<(&str, &ExampleGist)> {
    let name = gist_name(example.gists.keys())?;
    example.gists.get_key_value(name).map(|(name, gist)| (name.as_str(), gist))
}

fn article(rank: usize, example: &WindowExample) -> Markup {
    let gist = main_gist(example);
    let kept: &[String] = gist.map_or(&[], |(_, gist)| &gist.tokens);
    let beside = |name: &str| name == "empty" || name == "recent" || name.starts_with("oracle");
    let (near, rest): (Vec<_>, Vec<_>) = example
        .gists
        .iter()
        .map(|(name, gist)| (name.as_str(), gist))
        .partition(|(name, _)| beside(name) || gist.is_some_and(|(main, _)| main == *name));
    html! {
        article.example {
            header {
                span.rank { (rank) }
                span { "window " (example.window) }
                span.muted { (example.document) }
            }
            div.pair {
                div {
                    h4 { "Prefix" span.muted { " · " (example.prefix_tokens.len()) " tokens" } }
                    (prefix_text(&example.prefix_tokens, kept))
                }
                div {
                    @if let Some((name, gist)) = gist {
                        h4 {
                            "Gist" span.muted { " · " (name) ", " (gist.tokens.len()) " tokens, " (percent(gist.keep_ratio)) }
                        }
                        (chips(&gist.tokens, &example.prefix_tokens))
                    }
                    h4 { "Local window" span.muted { " · read as it is" } }
                    pre.text.short { (example.local) }
                    h4 { "Future" span.muted { " · to be predicted" } }
                    pre.text.short { (example.future) }
                    h4 { "KL to the teacher" span.muted { " · nats per token, shorter is better" } }
                    (bars(near, gist.map(|(name, _)| name)))
                    @if !rest.is_empty() {
                        details {
                            summary { "Other compressors" }
                            @for (name, gist) in sorted(rest) {
                                p.other { b { (name) } " " span.muted { (nats(gist.kl)) " · " (percent(gist.keep_ratio)) } }
                                pre.text.short { (gist.text) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn sorted<'a>(mut gists: Vec<(&'a str, &'a ExampleGist)>) -> Vec<(&'a str, &'a ExampleGist)> {
    gists.sort_by(|a, b| a.1.kl.total_cmp(&b.1.kl).then(a.0.cmp(b.0)));
    gists
}

fn bars(gists: Vec<(&str, &ExampleGist)>, main: Option<&str>) -> Markup {
    let most = gists.iter().map(|(_, gist)| gist.kl).filter(|kl| kl.is_finite()).fold(1e-9, f64::max);
    html! {
        dl.kl {
            @for (name, gist) in sorted(gists) {
                dt { (name) }
                dd {
                    @let share = if gist.kl.is_finite() { 100.0 * gist.kl / most } else { 0.0 };
                    span.track { span.fill.main[Some(name) == main] style=(format!("width:{share:.1}%")) {} }
                    span.value { (nats(gist.kl)) }
                }
            }
        }
    }
}

fn prefix_text(prefix: &[String], gist: &[String]) -> Markup {
    let marks = marks(prefix, gist);
    let mut at = 0;
    let mut runs: Vec<(Mark, String)> = Vec::new();
    while at < prefix.len() {
        let end = (at..prefix.len()).find(|&i| marks[i] != marks[at]).unwrap_or(prefix.len());
        runs.push((marks[at], prefix[at..end].concat()));
        at = end;
    }
    html! {
        pre.text.prefix {
            @for (kind, text) in &runs {
                @match kind.class() {
                    Some(class) => mark class=(class) { (text) },
                    None => (text),
                }
            }
        }
    }
}

pub(super) fn chips(tokens: &[String], prefix: &[String]) -> Markup {
    let marks = marks(tokens, prefix);
    html! {
        p.chips {
            @if tokens.is_empty() { span.muted { "(empty: the compressor chose to send nothing)" } }
            // The rest of a character of several tokens is empty.
            @for (token, mark) in tokens.iter().zip(marks).filter(|(token, _)| !token.is_empty()) {
                span.chip.(mark.class().unwrap_or("new")) {
                    @for (visible, text) in pieces(token) {
                        @if visible { (text) } @else { i { (text) } }
                    }
                }
            }
        }
    }
}

/// A token with its white space made visible: (true, letters) or (false, sign).
fn pieces(token: &str) -> Vec<(bool, String)> {
    let mut out: Vec<(bool, String)> = Vec::new();
    for c in token.chars() {
        let (visible, c) = match c {
            ' ' => (false, '·'),
            '\n' => (false, '↵'),
            '\t' => (false, '→'),
            '\r' => (false, '␍'),
            c if c.is_control() => (false, '�'),
            c => (true, c),
        };
        match out.last_mut() {
            Some((same, text)) if *same == visible => text.push(c),
            _ => out.push((visible, c.to_string())),
        }
    }
    out
}

/// For every token, whether `other` has it, and whether within a common run of `SPAN` visible tokens. Outside of runs,
/// white space and punctuation are too common to be worth a mark.
pub(super) fn marks(tokens: &[String], other: &[String]) -> Vec<Mark> {
    let blank = |token: &String| token.trim().is_empty();
    let word = |token: &String| token.chars().any(char::is_alphanumeric);
    let mut marks: Vec<Mark> = tokens.iter().map(|_| Mark::New).collect();
    let mut before = vec![0usize; other.len() + 1];
    for (i, token) in tokens.iter().enumerate() {
        let mut run = vec![0usize; other.len() + 1];
        for j in (0..other.len()).filter(|&j| other[j] == *token) {
            run[j + 1] = before[j] + 1;
            if marks[i] == Mark::New && word(token) {
                marks[i] = Mark::Shared;
            }
            let visible = |k: &usize| !blank(&tokens[*k]);
            let covered = i + 1 - run[j + 1]..i + 1;
            if visible(&i) && covered.clone().filter(visible).count() >= SPAN {
                covered.skip_while(|k| !visible(k)).for_each(|k| marks[k] = Mark::Span);
            }
        }
        before = run;
    }
    // The rest of a character of several tokens is empty.
    for i in (1..tokens.len()).filter(|&i| tokens[i].is_empty()) {
        marks[i] = marks[i - 1];
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        text.split_inclusive(' ').map(String::from).collect()
    }

    #[test]
    fn spans_and_single_tokens_are_told_apart() {
        let marks = marks(&split("a b c d e , f "), &split("x b c d y , e "));
        use Mark::{New, Shared, Span};
        assert_eq!(marks, [New, Span, Span, Span, Shared, New, New]);
        assert_eq!(super::marks(&split("a a "), &split("a ")), [Shared, Shared]);
        assert_eq!(super::marks(&split("    a "), &split("    a ")), [New, New, New, New, Shared]);
        assert_eq!(super::marks(&split("  a  b c  "), &split("  a  b c  ")), [New, New, Span, Span, Span, Span, New]);
        assert!(super::marks(&[], &split("a ")).is_empty());
        assert_eq!(super::marks(&split("a b "), &[]), [New, New]);
        let bytes = ["東", "", "", "京", "", ""].map(String::from);
        assert_eq!(super::marks(&bytes, &bytes[3..]), [New, New, New, Shared, Shared, Shared]);
        assert_eq!(chips(&bytes, &[]).into_string().matches("class=\"chip ").count(), 2, "a chip a character");
    }

    #[test]
    fn spread_reaches_from_best_to_worst() {
        let example = |window: usize| WindowExample {
            window,
            document: String::new(),
            prefix: String::new(),
            prefix_tokens: Vec::new(),
            local: String::new(),
            future: String::new(),
            gists: [("empty", 1.0), ("gist", (window * 37 % 100) as f64 / 100.0)]
                .map(|(n, kl)| (n.into(), ExampleGist { text: String::new(), tokens: Vec::new(), kl, keep_ratio: 0.0 }))
                .into(),
        };
        let all: Vec<WindowExample> = (0..100).map(example).collect();
        let chosen: Vec<f64> = spread(&all).iter().map(|e| e.gists["gist"].kl).collect();
        assert_eq!(chosen.len(), SHOWN);
        assert!(chosen[0] == 0.0 && chosen[SHOWN - 1] == 0.99 && chosen.is_sorted());
        assert_eq!(spread(&all[..5]).len(), 5);
    }

    #[test]
    fn white_space_is_shown() {
        assert_eq!(pieces(" ab\n"), [(false, "·".into()), (true, "ab".into()), (false, "↵".into())]);
    }
}
