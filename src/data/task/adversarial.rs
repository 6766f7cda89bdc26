//! Rows that word matching cannot answer, made from the rows of a benchmark. No scorer is asked: this module cannot import one.
//!
//! ```text
//! question   What did the second stage burn?   ->   What did the next step combust?
//! context    the row's own text, and beside it a paragraph that repeats the new question again and again
//! ```
//! - **Paraphrase.** No content word of the new question stands in a sentence that holds a reference. Common words give way to a
//!   synonym (`src/data/task/synonyms.rs`), names and numbers to "that one". A row for which that is not enough is passed over.
//! - **Filler.** Sentences that repeat the new question and hold no reference, until their paragraph (the entity block) has more
//!   tokens than the largest budget.
//!
//! Words are alike if they are equal, or if one differs from the other in its ending only ([`alike`]).

use crate::data::task::row::TaskRow;
use crate::data::task::synonyms::{FUNCTION_WORDS, SYNONYMS};
use crate::error::Result;
use crate::rng::{self, Stream};
use crate::text::{is_said, sentences, words};
use std::collections::BTreeMap;
use std::ops::Range;

/// Content words that a new question has at least.
const LEAST_WORDS: usize = 2;

/// Filler: `{}` is the new question.
const ECHOES: [&str; 5] = [
    "Many readers ask: {}?",
    "Other pages discuss it: {}?",
    "Opinions differ: {}?",
    "Nothing is settled here: {}?",
    "It is often heard: {}?",
];

/// A row as it was, and as it is asked now.
#[derive(Clone, Debug, PartialEq)]
pub struct AdversarialRow {
    /// The row of the benchmark.
    pub plain: TaskRow,
    /// Its adversarial form: the same id and references. Its slice says how the question was changed: `unchanged`, `synonyms`
    /// or `names`.
    pub hard: TaskRow,
}

/// Adversarial rows, and the number of those passed over by reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdversarialRows {
    /// Rows in the order of the file.
    pub rows: Vec<AdversarialRow>,
    /// Rows passed over, by reason.
    pub passed: BTreeMap<&'static str, usize>,
}

/// The adversarial forms of `rows`. `share` is the largest budget, as a share of a context; `count` gives a text's tokens.
///
/// # Errors
/// A text that cannot be counted.
pub fn adversarial(
    rows: &[TaskRow],
    share: f64,
    seed: u64,
    count: &dyn Fn(&str) -> Result<usize>,
) -> Result<AdversarialRows> {
    let mut made = AdversarialRows::default();
    for (number, row) in rows.iter().enumerate() {
        match hardened(row, share, (seed, number as u64), count)? {
            Ok(hard) => made.rows.push(AdversarialRow { plain: row.clone(), hard }),
            Err(reason) => *made.passed.entry(reason).or_default() += 1,
        }
    }
    Ok(made)
}

fn hardened(
    row: &TaskRow,
    share: f64,
    (seed, number): (u64, u64),
    count: &dyn Fn(&str) -> Result<usize>,
) -> Result<std::result::Result<TaskRow, &'static str>> {
    let held = content_words(&holding(row).join(" "));
    if held.is_empty() {
        return Ok(Err("no reference stands in the context"));
    }
    if row.prompt.is_some() {
        return Ok(Err("the question is part of a prompt"));
    }
    let is_held = |word: &str| held.iter().any(|own| alike(own, word));
    let Some((query, slice)) = paraphrase(&row.query, &is_held) else {
        return Ok(Err("a word that it shares with the answer's sentence has no synonym"));
    };
    let named = content_words(&query);
    if named.len() < LEAST_WORDS || named.iter().any(|word| is_held(word)) {
        return Ok(Err("too few words are left of the question"));
    }
    let asked = query.trim_end_matches(|c: char| c == '?' || c.is_whitespace());
    let echoes = ECHOES.map(|form| form.replace("{}", asked));
    let told = echoes.join(" ").to_lowercase();
    if row.answers.iter().any(|answer| told.contains(&answer.to_lowercase())) {
        return Ok(Err("a reference stands in the question"));
    }
    let mut draw = rng::rng(seed, Stream::Synthetic, 0, number, 0);
    let turn = rng::below(&mut draw, ECHOES.len());
    let plain = count(&row.context)?;
    let mut block = Vec::new();
    // The block is above `share` of all if it is above share / (1 - share) of the rest.
    let most = share / (1.0 - share) * plain as f64;
    loop {
        block.push(echoes[(turn + block.len()) % ECHOES.len()].as_str());
        if count(&block.join(" "))? as f64 > most + 1.0 {
            break;
        }
    }
    let mut paragraphs: Vec<&str> = row.context.split("\n\n").collect();
    let block = block.join(" ");
    paragraphs.insert(rng::below(&mut draw, paragraphs.len() + 1), &block);
    let context = paragraphs.join("\n\n");
    Ok(Ok(TaskRow { context, query, slice: Some(slice.into()), ..row.clone() }))
}

/// The sentences in which a reference stands, in part at least.
fn holding(row: &TaskRow) -> Vec<&str> {
    let said = row.answers.iter().filter(|answer| !answer.is_empty());
    let places: Vec<Range<usize>> = said
        .flat_map(|answer| row.context.match_indices(answer.as_str()).map(|(at, own)| at..at + own.len()))
        .collect();
    let holds = |own: &Range<usize>| places.iter().any(|place| place.start < own.end && own.start < place.end);
    sentences(&row.context).into_iter().filter(holds).map(|own| &row.context[own]).collect()
}

/// A word in lower case, without the `'s` of a possessor.
fn plain_word(word: &str) -> String {
    let lower = word.to_lowercase();
    ["'s", "\u{2019}s"].iter().find_map(|end| lower.strip_suffix(end)).unwrap_or(&lower).to_string()
}

fn is_content(word: &str) -> bool {
    is_said(word) && !FUNCTION_WORDS.contains(word)
}

/// The content words of a text in lower case, each once, in their order.
pub fn content_words(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in words(text).into_iter().map(|own| plain_word(&text[own])) {
        if is_content(&word) && !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

/// Whether two words are equal or begin alike: at least four letters, and all but two of the shorter one.
pub fn alike(a: &str, b: &str) -> bool {
    let common = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    a == b || common >= 4 && common + 2 >= a.chars().count().min(b.chars().count())
}

/// The question without the words that `is_held` refuses, and how it was changed; none where a word has no synonym.
fn paraphrase(query: &str, is_held: &dyn Fn(&str) -> bool) -> Option<(String, &'static str)> {
    let parts: Vec<&str> = words(query).into_iter().map(|own| &query[own]).collect();
    let first = parts.iter().position(|part| is_said(part));
    let is_name = |at: usize| {
        let begins = |c: char| c.is_numeric() || c.is_uppercase() && Some(at) != first;
        is_content(&plain_word(parts[at])) && parts[at].starts_with(begins)
    };
    let (mut out, mut slice, mut at) = (String::new(), "unchanged", 0);
    while at < parts.len() {
        let mut end = at + 1;
        if is_name(at) {
            // Names with blanks or hyphens between them are one name.
            while end + 1 < parts.len() && [" ", "-"].contains(&parts[end]) && is_name(end + 1) {
                end += 2;
            }
            let run: Vec<String> = (at..end).step_by(2).map(|own| plain_word(parts[own])).collect();
            if run.iter().any(|word| is_held(word)) {
                let lower = out.to_lowercase();
                let article = ["the ", "a ", "an "].into_iter().find(|one| {
                    lower.strip_suffix(one).is_some_and(|before| before.is_empty() || before.ends_with(' '))
                });
                out.truncate(out.len() - article.map_or(0, str::len));
                let of_one = parts[end - 1].to_lowercase().len() > run[run.len() - 1].len();
                out.push_str("that one");
                out.push_str(if of_one { "'s" } else { "" });
                slice = "names";
            } else {
                out.push_str(&parts[at..end].concat());
            }
        } else {
            let word = plain_word(parts[at]);
            if is_content(&word) && is_held(&word) {
                let synonym = SYNONYMS.get(word.as_str())?;
                if content_words(synonym).iter().any(|own| is_held(own)) {
                    return None;
                }
                out.push_str(synonym);
                slice = if slice == "names" { slice } else { "synonyms" };
            } else {
                out.push_str(parts[at]);
            }
        }
        at = end;
    }
    Some((out, slice))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn questions_lose_the_words_that_are_held() {
        let asked = |query: &str, held: &[&str]| paraphrase(query, &|word| held.iter().any(|own| alike(own, word)));
        let of = |text: &str, slice| Some((text.to_string(), slice));
        assert_eq!(asked("Who drew the logo?", &["ship"]), of("Who drew the logo?", "unchanged"));
        assert_eq!(asked("Who drew the logo?", &["logos"]), of("Who drew the emblem?", "synonyms"));
        assert_eq!(asked("Who drew the logo?", &["logos", "emblem"]), None, "the synonym is held too");
        assert_eq!(asked("Who drew the zebra?", &["zebra"]), None, "no synonym");
        assert_eq!(asked("Who drew ABC's logo?", &["abc"]), of("Who drew that one's logo?", "names"));
        assert_eq!(
            asked("Who met the Genghis Khan in 1206?", &["khan", "1206"]),
            of("Who met that one in that one?", "names")
        );
        assert_eq!(asked("Where is the Saturn V?", &["v"]), of("Where is that one?", "names"));
    }

    #[test]
    fn words_are_alike_by_their_beginning() {
        for (a, b, expected) in [
            ("burn", "burned", true),
            ("compose", "composer", true),
            ("war", "warm", false),
            ("war", "war", true),
            ("construct", "constitution", false),
            ("city", "cities", false),
        ] {
            assert_eq!(alike(a, b), expected, "{a} {b}");
        }
        assert_eq!(content_words("What is the nickname of ABC's logo, the logo?"), ["nickname", "abc", "logo"]);
    }
}
