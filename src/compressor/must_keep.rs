//! What must be kept, as users name it: kinds of text, a text as it stands, or a pattern.

use regex::Regex;

/// Digits, with what stands inside numbers, dates and times.
const NUMBERS: &str = r"[0-9]+(?:[.,:/-][0-9]+)*";
/// Names that prose does not have: with an underscore, a capital after a small letter, or a digit after letters.
const IDENTIFIERS: &str = r"\b(?:[A-Za-z0-9]*_\w+|[A-Za-z]\w*[a-z][A-Z]\w*|[A-Za-z]+[0-9]\w*)\b";

/// One pattern for all of these: `numbers`, `identifiers`, `text:` and a text as it stands, or a regular expression. Nothing
/// for nothing; an error in words for what is no pattern.
pub fn pattern(wanted: &[String]) -> Result<Option<Regex>, String> {
    let mut parts = Vec::new();
    for one in wanted {
        let part = match (one.as_str(), one.strip_prefix("text:")) {
            ("numbers", _) => NUMBERS.to_string(),
            ("identifiers", _) => IDENTIFIERS.to_string(),
            (_, Some(text)) => regex::escape(text),
            (pattern, None) => pattern.to_string(),
        };
        let wrong = |said: String| format!("expected numbers, identifiers, text:TEXT or a pattern, got {one:?}{said}");
        match Regex::new(&part) {
            Ok(_) if part.is_empty() => return Err(wrong(String::new())),
            Ok(_) => parts.push(format!("(?:{part})")),
            Err(error) => return Err(wrong(format!(": {error}"))),
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    Regex::new(&parts.join("|")).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(wanted: &[&str], text: &str) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(|one| one.to_string()).collect();
        let pattern = pattern(&wanted).unwrap().unwrap();
        pattern.find_iter(text).map(|found| found.as_str().to_string()).collect()
    }

    #[test]
    fn kinds_texts_and_patterns() {
        let text = "On 2024-05-17 at 10:30 max_len rose to 1,024.5 in parseHTML and utf8 (see README, a.b).";
        assert_eq!(found(&["numbers"], "17:45, 1,024.5 or 2024-05-17."), ["17:45", "1,024.5", "2024-05-17"]);
        assert_eq!(found(&["identifiers"], text), ["max_len", "parseHTML", "utf8"]);
        assert_eq!(found(&["identifiers"], "self.__init__(x)"), ["__init__"]);
        assert_eq!(found(&["text:a.b", "README"], text), ["README", "a.b"]);
        assert_eq!(found(&["text:a.b"], "aXb a.b"), ["a.b"]);
        assert!(pattern(&[]).unwrap().is_none());
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for bad in ["[0-9", "text:", ""] {
            let said = pattern(&[bad.to_string()]).unwrap_err();
            assert!(said.starts_with("expected numbers, identifiers, text:TEXT or a pattern, got"), "{said}");
            assert!(said.contains(&format!("{bad:?}")), "{said}");
        }
    }
}
