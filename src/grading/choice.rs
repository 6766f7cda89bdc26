//! Choices of LongBench v2, and answers of MeetingBank that stand within what was written.

use crate::grading::squad::words;

/// The letter of `The correct answer is (X)`, or without parentheses; asterisks do not count.
pub fn letter(prediction: &str) -> Option<char> {
    let plain = prediction.replace('*', "");
    let after = |lead: &str, close: &str| {
        plain.match_indices(lead).find_map(|(at, _)| {
            let rest = &plain[at + lead.len()..];
            let letter = rest.chars().next().filter(|c| ('A'..='D').contains(c))?;
            rest[1..].starts_with(close).then_some(letter)
        })
    };
    after("The correct answer is (", ")").or_else(|| after("The correct answer is ", ""))
}

/// Whether the letter of an answer is that of the reference.
pub fn multiple_choice(prediction: &str, reference: &str) -> f64 {
    let right = letter(prediction).is_some_and(|found| reference.trim() == found.to_string());
    f64::from(u8::from(right))
}

/// Whether a reference stands in the first line of an answer, both normalised as those of SQuAD.
pub fn contained(prediction: &str, reference: &str) -> f64 {
    let first = prediction.trim_start().lines().next().unwrap_or_default();
    f64::from(u8::from(words(first).join(" ").contains(&words(reference).join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_as_the_project_reads_them() {
        let cases = [
            ("The correct answer is (B).", Some('B')),
            ("Well. **The correct answer is (C)**", Some('C')),
            ("The correct answer is D, as", Some('D')),
            ("The correct answer is A, no: The correct answer is (B)", Some('B')),
            ("The correct answer is (E)", None),
            ("(A)", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(letter(text), expected, "{text}");
        }
        assert_eq!((multiple_choice("The correct answer is (B)", "B"), multiple_choice("B", "B")), (1.0, 0.0));
    }

    #[test]
    fn references_stand_within() {
        assert_eq!(contained("It passed, by a vote of 7-2.", "the vote of 72"), 1.0);
        assert_eq!(contained("It failed.\nIt passed.", "passed"), 0.0);
    }
}
