//! Text that must be kept, as users name it: by kind, word for word, or by a pattern.

use regex::Regex;
use std::ops::Range;

/// Digits and other numerals of any script, with the marks inside numbers, dates and times; numbers in Chinese characters, of
/// two or more, since one alone is often a part of a word.
const NUMBERS: [&str; 2] = [r"\p{N}+(?:[.,:/\-٫٬．，：／–’]\p{N}+)*", "[〇零一二三四五六七八九十百千万萬億亿兆]{2,}"];

/// Number plates with blanks or marks inside: `SBA 1234 A`, `B-MW 1234`, `AB12 CDE`, `12 AB 34`, `京A·12345`, `1กก 1234`.
const PLATES: [&str; 6] = [
    r"\b[A-Z]{2,3}[ -][0-9]{1,4}(?:[ -]?[A-Z]{1,3}(?:[ -]?[0-9]{1,4})?)?\b",
    r"\b[A-Z]{1,3}[ -][A-Z]{1,2} [0-9]{1,4}\b",
    r"\b[A-Z]{2}[0-9]{2} [A-Z]{3}\b",
    r"\b[0-9]{1,4}[ -][A-Z]{2,3}(?:[ -][0-9]{1,4})?\b",
    r"\p{Han}[A-Z][-· ]?[A-Z0-9]{4,6}",
    "[0-9]?[ก-ฮ]{2}[- ]?[0-9]{1,4}",
];

/// Names that prose does not have: with an underscore (`max_len`), a capital after a small letter (`parseHTML`), letters and
/// digits in one word (`utf8`, `3f2a9c`, `v1.2.3`), or joined to one by hyphens (`7-Eleven`, `2024-Q3`).
fn identifiers() -> [String; 4] {
    // Where there are no blanks between words, a run of letters is none.
    let word = r"[\w--[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]]";
    let (letter, digit) = (format!(r"[{word}&&\p{{Alphabetic}}]"), format!(r"[{word}&&\p{{Nd}}]"));
    let digits = format!("(?:{digit}+(?:[.:]{digit}+)*)");
    let part = format!("(?:[-·]?(?:{digits}|{word}))");
    [
        format!("{word}*_{word}+"),
        format!(r"{letter}{word}*\p{{Ll}}\p{{Lu}}{word}*"),
        format!("{letter}{part}*?[-·]?{digits}{part}*"),
        format!("{digits}{part}*?[-·]?{letter}{part}*"),
    ]
}

/// The patterns of these: `numbers`, `identifiers`, `text:` and a text as it stands, or a regular expression; an error in words
/// for what is no pattern.
pub fn patterns(wanted: &[String]) -> Result<Vec<Regex>, String> {
    let mut all = Vec::new();
    for one in wanted {
        let patterns = match (one.as_str(), one.strip_prefix("text:")) {
            ("numbers", _) => NUMBERS.map(String::from).to_vec(),
            ("identifiers", _) => identifiers().into_iter().chain(PLATES.map(String::from)).collect(),
            (_, Some(text)) => vec![regex::escape(text)],
            (pattern, None) => vec![pattern.to_string()],
        };
        let wrong = |said: String| format!("expected numbers, identifiers, text:TEXT or a pattern, got {one:?}{said}");
        for pattern in patterns {
            match Regex::new(&pattern) {
                Ok(_) if pattern.is_empty() => return Err(wrong(String::new())),
                Ok(pattern) => all.push(pattern),
                Err(error) => return Err(wrong(format!(": {error}"))),
            }
        }
    }
    Ok(all)
}

/// Bytes of a text that patterns match, ascending; matches that overlap are one.
pub fn matches(patterns: &[Regex], text: &str) -> Vec<Range<usize>> {
    let found = patterns.iter().flat_map(|pattern| pattern.find_iter(text).map(|found| found.range()));
    let mut found: Vec<Range<usize>> = found.filter(|bytes| !bytes.is_empty()).collect();
    found.sort_by_key(|bytes| (bytes.start, bytes.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for bytes in found {
        match merged.last_mut() {
            Some(last) if bytes.start < last.end => last.end = last.end.max(bytes.end),
            _ => merged.push(bytes),
        }
    }
    merged
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found<'a>(wanted: &[&str], text: &'a str) -> Vec<&'a str> {
        let wanted: Vec<String> = wanted.iter().map(|one| one.to_string()).collect();
        matches(&patterns(&wanted).unwrap(), text).into_iter().map(|found| &text[found]).collect()
    }

    #[test]
    fn kinds_texts_and_patterns() {
        let text = "On 2024-05-17 at 10:30 max_len rose to 1,024.5 in parseHTML and utf8 (see README, a.b).";
        assert_eq!(found(&["numbers"], "17:45, 1,024.5 or 2024-05-17."), ["17:45", "1,024.5", "2024-05-17"]);
        assert_eq!(found(&["identifiers"], text), ["max_len", "parseHTML", "utf8"]);
        assert_eq!(found(&["identifiers"], "self.__init__(x)"), ["__init__"]);
        assert_eq!(found(&["text:a.b", "README"], text), ["README", "a.b"]);
        assert_eq!(found(&["text:a.b"], "aXb a.b"), ["a.b"]);
        assert!(patterns(&[]).unwrap().is_empty());
    }

    #[test]
    fn letters_and_digits_in_one_word_are_an_identifier_whichever_comes_first() {
        for whole in [
            "3f2a9c",
            "4x100",
            "7-Eleven",
            "2024-Q3",
            "0x1F",
            "4T1BF1FK5CU",
            "SBA1234A",
            "F-16",
            "v1.2.3",
            "10:30am",
            "1ABC234",
            "12-AB-34",
            "550e8400-e29b-41d4-a716-446655440000",
            "2024-05-17T10:30:00Z",
            "пункт7",
            "٣ب",
            "é2",
        ] {
            assert_eq!(found(&["identifiers"], &format!("one {whole}, two")), [whole]);
            assert_eq!(found(&["numbers", "identifiers"], &format!("({whole})")), [whole], "not in pieces");
        }
        for plate in
            ["SBA 1234 A", "B-MW 1234", "B MW 1234", "AB12 CDE", "12 AB 34", "KA 01 AB 1234", "京A·12345", "1กก 1234"]
        {
            assert_eq!(found(&["identifiers"], &format!("car {plate} left")), [plate]);
        }
        assert_eq!(found(&["identifiers"], "型番X20を2024年に、max_lenと"), ["X20", "max_len"], "no blanks round them");
        for none in
            ["a well-known word", "10 of 20", "2024-05-17, 10:30", "a[1:n] = d[i:10]", "On THE 4th", "ราคา 25 บาท"]
        {
            let expected: &[&str] = if none.contains("4th") { &["4th"] } else { &[] };
            assert_eq!(found(&["identifiers"], none), expected);
        }
    }

    #[test]
    fn digits_of_any_script_are_numbers() {
        let text = "१२.५ ٢٬٠٢٤ ๒๕๖๗ ２０２４／５ Ⅷ ½ m² ① 〇七 三百二十, 一般";
        let expected = ["१२.५", "٢٬٠٢٤", "๒๕๖๗", "２０２４／５", "Ⅷ", "½", "²", "①", "〇七", "三百二十"];
        assert_eq!(found(&["numbers"], text), expected);
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for bad in ["[0-9", "text:", ""] {
            let said = patterns(&[bad.to_string()]).unwrap_err();
            assert!(said.starts_with("expected numbers, identifiers, text:TEXT or a pattern, got"), "{said}");
            assert!(said.contains(&format!("{bad:?}")), "{said}");
        }
    }
}
