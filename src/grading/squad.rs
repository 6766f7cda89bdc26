//! Exact match and token F1 of SQuAD (Rajpurkar et al. 2016 and 2018), with Python's idea of lower case, word and blank.

use crate::grading::grade::Grade;
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Articles that normalisation takes away.
const ARTICLES: [&str; 3] = ["a", "an", "the"];

/// Characters that Python's `\w` matches: letters, numbers and the underscore, but no combining mark.
static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\p{L}\p{N}_]").ok());

fn is_word(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || c == '_',
        false => LETTER.as_ref().is_some_and(|letter| letter.is_match(c.encode_utf8(&mut [0; 4]))),
    }
}

/// The words of an answer: lower case, without ASCII punctuation and articles, split at blanks.
pub fn words(answer: &str) -> Vec<String> {
    let plain: String = answer.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    // A word stands between characters that are of no word.
    let mut without = String::with_capacity(plain.len());
    let mut rest = plain.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        without.push_str(if ARTICLES.contains(&word) { " " } else { word });
        let next = after.find(is_word).unwrap_or(after.len());
        without.push_str(&after[..next]);
        rest = &after[next..];
    }
    without.split(is_blank).filter(|word| !word.is_empty()).map(String::from).collect()
}

/// Whether Python's `str.split` splits at a character: Unicode's blanks and the four information separators.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Precision, recall and F1 of words.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WordOverlap {
    /// Harmonic mean of the two.
    pub f1: f64,
    /// Share of the prediction's words that the reference has.
    pub precision: f64,
    /// Share of the reference's words that the prediction has.
    pub recall: f64,
}

/// WordOverlap of two bags of words; all 0 where they share none.
pub fn overlap<T: Ord>(prediction: &[T], reference: &[T]) -> WordOverlap {
    let mut left: BTreeMap<&T, usize> = BTreeMap::new();
    reference.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut taken = 0usize;
    for word in prediction {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            taken += 1;
        }
    }
    if taken == 0 {
        return WordOverlap::default();
    }
    let (precision, recall) = (taken as f64 / prediction.len() as f64, taken as f64 / reference.len() as f64);
    WordOverlap { f1: (2.0 * precision * recall) / (precision + recall), precision, recall }
}

/// 1 where both answers have the same words in the same order, else 0.
pub fn exact_match(prediction: &str, reference: &str) -> f64 {
    f64::from(u8::from(words(prediction) == words(reference)))
}

/// Token F1 of SQuAD 1.1: two answers without a word share none, and have 0.
pub fn f1(prediction: &str, reference: &str) -> f64 {
    overlap(&words(prediction), &words(reference)).f1
}

/// SQuAD 2.0: references without a word do not count, and where none is left the right answer is the empty one.
pub fn grade_v2(prediction: &str, references: &[String]) -> Grade {
    let answers: Vec<Vec<String>> = references.iter().map(|one| words(one)).filter(|own| !own.is_empty()).collect();
    let predicted = words(prediction);
    if answers.is_empty() {
        let same = f64::from(u8::from(predicted.is_empty()));
        return Grade { exact_match: same, f1: same };
    }
    let best = |rule: &dyn Fn(&Vec<String>) -> f64| answers.iter().map(rule).fold(0.0, f64::max);
    Grade {
        exact_match: best(&|own| f64::from(u8::from(*own == predicted))),
        f1: best(&|own| overlap(&predicted, own).f1),
    }
}
