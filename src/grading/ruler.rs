//! RULER (Hsieh et al. 2024): references as substrings of the answer, in any case of letters.
//!
//! lm-evaluation-harness averages over the references of the QA tasks too, where RULER asks for any one of them: an answer
//! with one of three references has 1 here and 1/3 there.

/// The answer as RULER's own evaluation has it: control characters become line breaks, blanks at the ends go.
pub fn cleaned(prediction: &str) -> String {
    let lines = |c: char| if c <= '\u{1f}' { '\n' } else { c };
    prediction.trim().chars().map(lines).collect::<String>().trim().to_string()
}

fn found<'a>(prediction: &str, references: &'a [String]) -> impl Iterator<Item = bool> + use<'a> {
    let prediction = cleaned(prediction).to_lowercase();
    references.iter().map(move |one| prediction.contains(&one.to_lowercase()))
}

/// Share of the references that are in the answer (`string_match_all`).
pub fn all(prediction: &str, references: &[String]) -> f64 {
    let count = found(prediction, references).filter(|is_there| *is_there).count();
    if references.is_empty() { 0.0 } else { count as f64 / references.len() as f64 }
}

/// 1 where any reference is in the answer (`string_match_part`), as RULER's QA tasks are graded.
pub fn part(prediction: &str, references: &[String]) -> f64 {
    f64::from(u8::from(found(prediction, references).any(|is_there| is_there)))
}
