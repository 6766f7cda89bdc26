//! Words of a text that a shortened version of it kept: the labels of LLMLingua-2 (Pan et al. 2024, arXiv 2403.12968, §3.2)
//! from a text that another model compressed by deleting words. Each word of the short text is looked for near where the
//! last one was found, forwards and backwards, the nearest that no other word took.
//!
//! Differences from the published code: words are equal when they are the same letters in any case without the punctuation
//! around them (there: the same lemma); the search goes on from the word that was found last (there: from half a window
//! further, at times); and a pair is dropped when it is *worse* than the 90th percentile (there: also when it equals it, so
//! that all go where most are perfect).

use crate::text;
use std::ops::Range;

/// Words on either side of the last one found among which the next is looked for.
pub const REACH: usize = 150;
/// Percentile of each measure beyond which pairs are dropped.
const PERCENTILE: f64 = 0.9;

/// A text beside its shortened version.
#[derive(Clone, Debug, PartialEq)]
pub struct Alignment {
    /// Bytes of the text that were kept: words, with what stands between two that follow each other.
    pub keep: Vec<Range<usize>>,
    /// Share of the short text's words that the text does not have at all: the compressor's own.
    pub variation_rate: f64,
    /// Words of the short text that the text has, less those found near the last one, a share of the text's words: what
    /// the labels miss.
    pub alignment_gap: f64,
}

/// Aligns `short` with `text`.
pub fn align(text: &str, short: &str) -> Alignment {
    let (words, wanted) = (words(text), words(short));
    let plain: Vec<String> = words.iter().map(|word| bare(&text[word.clone()])).collect();
    let known: std::collections::BTreeSet<&String> = plain.iter().collect();
    let mut kept = vec![false; words.len()];
    let (mut last, mut has) = (0usize, 0usize);
    for word in &wanted {
        let word = bare(&short[word.clone()]);
        if !known.contains(&word) {
            continue;
        }
        has += 1;
        let is_free = |at: &usize| !kept[*at] && plain[*at] == word;
        let near = (0..REACH).flat_map(|step| [last.checked_add(step), last.checked_sub(step)]).flatten();
        if let Some(at) = near.filter(|&at| at < words.len()).find(is_free) {
            kept[at] = true;
            last = at;
        }
    }
    let found = kept.iter().filter(|kept| **kept).count();
    let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let mut keep: Vec<Range<usize>> = Vec::new();
    for (at, word) in words.iter().enumerate().filter(|(at, _)| kept[*at]) {
        match keep.last_mut() {
            Some(range) if at > 0 && kept[at - 1] => range.end = word.end,
            _ => keep.push(word.clone()),
        }
    }
    Alignment {
        keep,
        variation_rate: share(wanted.len() - has, wanted.len()),
        alignment_gap: share(has, words.len()) - share(found, words.len()),
    }
}

type Measure = fn(&Alignment) -> f64;

/// Why each pair of a corpus is dropped, if it is: the worst tenth by variation rate, then of the rest the worst by
/// alignment gap.
pub fn dropped(pairs: &[Alignment]) -> Vec<Option<&'static str>> {
    let mut why = vec![None; pairs.len()];
    let measures: [(&str, Measure); 2] =
        [("variation rate", |pair| pair.variation_rate), ("alignment gap", |pair| pair.alignment_gap)];
    for (name, measure) in measures {
        let mut left: Vec<f64> = (0..pairs.len()).filter(|&i| why[i].is_none()).map(|i| measure(&pairs[i])).collect();
        left.sort_by(f64::total_cmp);
        let Some(most) = left.get((left.len() as f64 * PERCENTILE) as usize).copied() else { continue };
        for (i, pair) in pairs.iter().enumerate() {
            if why[i].is_none() && measure(pair) > most {
                why[i] = Some(name);
            }
        }
    }
    why
}

/// Byte ranges of what stands between blanks; in scripts that are written without them, of the words there, each with the
/// punctuation after it.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut open = None; // whether the word that goes on has letters, and whether the last part with letters needs no blank
    for part in text::words(text) {
        let content = &text[part.clone()];
        if text::is_blank(content) {
            open = None;
            continue;
        }
        let (said, unspaced) = (text::is_said(content), content.starts_with(text::is_unspaced));
        match (found.last_mut(), open) {
            (Some(last), Some((had, was))) if !(said && had && (unspaced || was)) => {
                last.end = part.end;
                open = Some((had || said, if said { unspaced } else { was }));
            }
            _ => {
                found.push(part);
                open = Some((said, said && unspaced));
            }
        }
    }
    found
}

/// The letters and digits of a word in lower case, or all of one that has none.
fn bare(word: &str) -> String {
    let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
    if inner.is_empty() { word.to_string() } else { inner.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, short: &str) -> Vec<String> {
        align(text, short).keep.into_iter().map(|range| text[range].to_string()).collect()
    }

    #[test]
    fn words_are_found_in_order_whatever_their_case_and_punctuation() {
        let text = "The meeting, which John chaired, began at 10:30 in Rome.";
        assert_eq!(kept(text, "meeting John chaired 10:30 rome"), ["meeting,", "John chaired,", "10:30", "Rome."]);
        assert_eq!(align(text, "meeting John chaired 10:30 rome").variation_rate, 0.0);
        assert_eq!(align(text, "meeting was chaired").variation_rate, 1.0 / 3.0);
        assert!(kept("", "a").is_empty() && kept("a", "").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn words_are_what_stands_between_blanks(text in "[a-z.,'\"0-9\\-éж \n\t]{0,40}") {
            let found: Vec<&str> = words(&text).into_iter().map(|word| &text[word]).collect();
            proptest::prop_assert_eq!(found, text.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn words_without_blanks_between_them_are_found_and_no_character_is_cut() {
        assert_eq!(kept("私は「東京大学」で勉強する。", "東京 勉強"), ["東京", "勉強"]);
        assert_eq!(kept("ภาษาไทยราคา 25 บาท", "ไทย 25"), ["ไทย", "25"]);
        assert_eq!(kept("Der Flughafen 東京2024 war voll", "flughafen 東京"), ["Flughafen 東京"]);
        assert_eq!(kept("cafe\u{301}s and 👩\u{200d}👧 .", "and 👩\u{200d}👧"), ["and 👩\u{200d}👧"]);
        assert_eq!(kept("한국어 문장", "문장"), ["문장"]);
    }

    #[test]
    fn a_repeated_word_is_the_nearest_that_is_free_and_may_lie_behind() {
        let text = "a b a c a d";
        let places = |short: &str| -> Vec<usize> { align(text, short).keep.iter().map(|range| range.start).collect() };
        assert_eq!(places("c a"), [6]);
        assert_eq!(align(text, "c a").keep, vec![6..9; 1]);
        // `b` lies before `c`.
        assert_eq!(places("c b"), [2, 6]);
        // A third `a` finds the first; a fourth none, which is the gap.
        assert_eq!(align(text, "d a a a").alignment_gap, 0.0);
        assert!((align(text, "d a a a a").alignment_gap - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn words_out_of_reach_are_not_labelled_and_count_as_a_gap() {
        let text = format!("start {}end", "x ".repeat(REACH));
        assert_eq!(kept(&text, "start end"), ["start"]);
        assert!(align(&text, "start end").alignment_gap > 0.0);
    }

    #[test]
    fn the_worst_tenths_are_dropped_and_a_perfect_corpus_stays_whole() {
        let pair =
            |variation_rate: f64, alignment_gap: f64| Alignment { keep: Vec::new(), variation_rate, alignment_gap };
        assert!(dropped(&vec![pair(0.0, 0.0); 20]).iter().all(Option::is_none));
        let mut pairs = vec![pair(0.0, 0.0); 20];
        (pairs[3], pairs[7], pairs[9]) = (pair(0.5, 0.0), pair(0.1, 0.0), pair(0.1, 0.0));
        (pairs[11], pairs[12]) = (pair(0.0, 0.3), pair(0.0, 0.2));
        let why = dropped(&pairs);
        assert_eq!((why[3], why[11]), (Some("variation rate"), Some("alignment gap")));
        assert_eq!(why.iter().flatten().count(), 2);
        assert!(dropped(&[]).is_empty());
    }
}
