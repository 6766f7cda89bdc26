//! LongBench v1 (Bai et al. 2024), English and code. QA is token F1 as in [`crate::grading::squad`], without HotpotQA's yes/no
//! rule. Its Chinese tasks are segmented by jieba, which is not here.

use crate::grading::difflib;
use crate::grading::rouge;

/// Tasks of which the first line of an answer counts.
const FIRST_LINE: [&str; 4] = ["trec", "triviaqa", "samsum", "lsht"];

/// The part of an answer that is graded.
pub fn graded<'a>(dataset: &str, prediction: &'a str) -> &'a str {
    match FIRST_LINE.contains(&dataset) {
        true => prediction.trim_start_matches('\n').split('\n').next().unwrap_or_default(),
        false => prediction,
    }
}

/// F of ROUGE-L.
pub fn rouge_l(prediction: &str, reference: &str) -> f64 {
    rouge::rouge_l(prediction, reference)
}

/// One over the classes that the answer names, where the right one is among them. As the official script has it, classes that
/// are a part of the right one's name are taken out one after another, so that of two side by side the second stays.
pub fn classification(prediction: &str, reference: &str, classes: &[String]) -> f64 {
    let mut named: Vec<&str> = classes.iter().map(String::as_str).filter(|class| prediction.contains(class)).collect();
    let mut at = 0;
    while at < named.len() {
        let class = named[at];
        if reference.contains(class) && class != reference {
            let first = named.iter().position(|other| *other == class).unwrap_or(at);
            named.remove(first);
        }
        at += 1;
    }
    if named.contains(&reference) { 1.0 / named.len() as f64 } else { 0.0 }
}

/// Runs of digits of any script.
fn numbers(text: &str) -> Vec<&str> {
    // Python's \d is any decimal digit.
    let is_digit = |c: char| c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric() && is_decimal(c));
    text.split(|c| !is_digit(c)).filter(|run| !run.is_empty()).collect()
}

/// Whether a character is a decimal digit (Nd): those come in runs of ten from a zero on.
fn is_decimal(c: char) -> bool {
    static DECIMAL: std::sync::LazyLock<Option<regex::Regex>> =
        std::sync::LazyLock::new(|| regex::Regex::new(r"^\d$").ok());
    DECIMAL.as_ref().is_some_and(|digit| digit.is_match(c.encode_utf8(&mut [0; 4])))
}

/// Share of the numbers in the answer that are the right one.
pub fn count(prediction: &str, reference: &str) -> f64 {
    let found = numbers(prediction);
    let right = found.iter().filter(|number| **number == reference).count();
    if found.is_empty() { 0.0 } else { right as f64 / found.len() as f64 }
}

/// Share of the numbers in the answer that are the paragraph's (`Paragraph 7`); 0 where the reference names none.
pub fn retrieval(prediction: &str, reference: &str) -> f64 {
    let named = reference.match_indices("Paragraph ").find_map(|(at, found)| {
        let rest = &reference[at + found.len()..];
        numbers(rest).first().copied().filter(|number| rest.starts_with(number))
    });
    named.map_or(0.0, |number| count(prediction, number))
}

/// Likeness of the first line of code in an answer with the right one, in hundredths (`fuzz.ratio`).
pub fn code_similarity(prediction: &str, reference: &str) -> f64 {
    let is_code = |line: &&str| !['`', '#'].iter().any(|mark| line.contains(*mark)) && !line.contains("//");
    let line = prediction.trim_start_matches('\n').split('\n').find(is_code).unwrap_or_default();
    if line == reference {
        return 1.0;
    }
    if line.is_empty() || reference.is_empty() {
        return 0.0;
    }
    (100.0 * difflib::ratio(line, reference)).round_ties_even() / 100.0
}
