//! Questions with their answers, and the contexts with what each compressor kept of them marked.

use maud::{Markup, html};

use crate::eval::task::downstream::IDENTITY;
use crate::eval::task::rows::DownstreamRow;
use crate::report::format::{percent, points_ci};
use crate::report::gallery::{Mark, marks};

/// Examples shown.
const SHOWN: usize = 12;
/// Words of a context that are shown: finding what was kept takes time with their square.
const WORDS: usize = 1200;

/// The gallery; nothing where rows are of a program that kept no questions.
pub fn gallery(rows: &[DownstreamRow]) -> Option<Markup> {
    let budgets = budgets(rows);
    let budget = *budgets.get(budgets.len() / 2)?;
    let examples = spread(rows, budget);
    if examples.is_empty() || rows.iter().any(|row| row.query.is_empty()) {
        return None;
    }
    Some(html! {
        p.lead {
            (examples.len()) " examples at the budget of " (percent(budget)) ", evenly spaced from the one where compressors lose \
             least against the whole context to the one where they lose most, so failures show as well. "
            mark.span { "Marked" } " words stand in what was kept, three or more in a row; "
            mark.shared { "underlined" } " ones stand there alone."
        }
        @for (rank, own) in examples.iter().enumerate() { (article(rank + 1, own)) }
    })
}

/// All budgets but that of the whole context, ascending.
fn budgets(rows: &[DownstreamRow]) -> Vec<f64> {
    let mut budgets: Vec<f64> =
        rows.iter().filter(|row| row.compressor != IDENTITY).map(|row| row.budget_requested).collect();
    budgets.sort_by(f64::total_cmp);
    budgets.dedup();
    budgets
}

/// The rows of an example at a budget, and its whole context.
struct Shown<'a> {
    whole: &'a DownstreamRow,
    kept: Vec<&'a DownstreamRow>,
}

/// At most `SHOWN` examples at even ranks of what compressors lose.
fn spread(rows: &[DownstreamRow], budget: f64) -> Vec<Shown<'_>> {
    let whole = rows.iter().filter(|row| row.compressor == IDENTITY);
    let of = |whole: &DownstreamRow| -> Vec<&DownstreamRow> {
        let own = |row: &&DownstreamRow| {
            row.example_id == whole.example_id && row.compressor != IDENTITY && row.budget_requested == budget
        };
        rows.iter().filter(own).collect()
    };
    let mut lost: Vec<(f64, &str, &DownstreamRow)> = whole
        .map(|whole| (of(whole).iter().map(|row| -row.delta_f1).sum::<f64>(), whole.example_id.as_str(), whole))
        .collect();
    lost.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
    let count = lost.len().min(SHOWN);
    let at = |i: usize| if count < 2 { 0 } else { i * (lost.len() - 1) / (count - 1) };
    (0..count).map(|i| Shown { whole: lost[at(i)].2, kept: of(lost[at(i)].2) }).collect()
}

fn article(rank: usize, own: &Shown) -> Markup {
    let whole = own.whole;
    let answer = |name: &str, tokens: usize, output: &str, f1: f64, delta: Option<f64>| {
        html! {
            tr {
                td { (name) } td { (tokens) } td { (if output.is_empty() { "–" } else { output }) } td { (percent(f1)) }
                td { @if let Some(delta) = delta { (points_ci(delta, [f64::NAN; 2])) } }
            }
        }
    };
    html! {
        article.example {
            header { span.rank { (rank) } strong { (whole.query) } span.muted { (whole.example_id) } }
            p { "Expected: " (if whole.answers.is_empty() { "nothing".to_string() } else { whole.answers.join(" / ") }) }
            div.scroll {
                table {
                    thead { tr { th { "read" } th { "tokens" } th { "answer" } th { "F1" } th { "less full" } } }
                    tbody {
                        (answer("the whole context", whole.context_tokens_full, &whole.full_output, whole.full_f1, None))
                        (answer("nothing", 0, &whole.closed_output, whole.closed_f1, Some(whole.closed_f1 - whole.full_f1)))
                        @for row in &own.kept {
                            (answer(&row.compressor, row.context_tokens_compressed, &row.compressed_output, row.compressed_f1,
                                Some(row.delta_f1)))
                        }
                    }
                }
            }
            @for row in &own.kept {
                details {
                    summary { (row.compressor) " kept " (row.context_tokens_compressed) " of " (row.context_tokens_full) " tokens" }
                    (marked(&whole.compressed_text, &row.compressed_text))
                }
            }
        }
    }
}

/// A context with the words marked that stand in what was kept.
fn marked(context: &str, kept: &str) -> Markup {
    let (words, kept) = (words(context), words(kept));
    let shown = &words[..words.len().min(WORDS)];
    let marks = marks(shown, &kept);
    let mut runs: Vec<(Mark, String)> = Vec::new();
    for (mark, word) in marks.into_iter().zip(shown) {
        match runs.last_mut() {
            Some((same, text)) if *same == mark => text.push_str(word),
            _ => runs.push((mark, word.clone())),
        }
    }
    html! {
        pre.text.prefix {
            @for (mark, text) in &runs {
                @match mark.class() {
                    Some(class) => mark class=(class) { (text) },
                    None => (text),
                }
            }
            @if shown.len() < words.len() { " …" }
        }
    }
}

/// Words, and white space and signs between them, each alone.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut inside = false;
    for c in text.chars() {
        let letter = c.is_alphanumeric();
        match words.last_mut() {
            Some(word) if letter && inside => word.push(c),
            _ => words.push(c.to_string()),
        }
        inside = letter;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_signs_stand_alone() {
        assert_eq!(words("Anna hid 12, so."), ["Anna", " ", "hid", " ", "12", ",", " ", "so", "."]);
        assert_eq!(words("a  b").concat(), "a  b");
        let drawn = marked("Anna hid 12 coins. Boris <b> none.", "Anna hid 12 coins").into_string();
        assert!(drawn.contains("<mark class=\"span\">Anna hid 12 coins</mark>. Boris &lt;b&gt; none."), "{drawn}");
    }
}
