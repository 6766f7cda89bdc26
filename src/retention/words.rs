//! Words of a text, and their kinds.

use crate::text;
use std::collections::BTreeSet;

const KEYWORDS: [&str; 14] =
    ["if", "for", "while", "switch", "match", "return", "in", "is", "and", "or", "not", "with", "assert", "catch"];

/// A word and the text around it.
pub(super) struct Word<'a> {
    pub text: &'a str,
    pub before: &'a str,
    after: Option<char>,
}

pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let breaks = breaks(text);
    let mut found = Vec::new();
    let mut characters = characters(text).peekable();
    while let Some((start, first)) = characters.next() {
        if !part(first) {
            continue;
        }
        let mut end = text.len();
        while let Some(&(at, c)) = characters.peek() {
            let digit_follows = || text[at + c.len_utf8()..].starts_with(char::is_numeric);
            let joins = first.is_numeric() && matches!(c, '.' | ',') && digit_follows();
            if (!part(c) && !joins) || breaks.binary_search(&at).is_ok() {
                end = at;
                break;
            }
            characters.next();
        }
        found.push(Word { text: &text[start..end], before: &text[..start], after: text[end..].chars().next() });
    }
    found
}

/// Every character of a text: its first byte, and its first code point, which tells its kind.
pub(super) fn characters(text: &str) -> impl Iterator<Item = (usize, char)> {
    text::character_borders(text).into_iter().filter_map(|at| Some((at, text[at..].chars().next()?)))
}

/// Byte offsets, ascending, at which words begin or end in scripts that are written without blanks.
fn breaks(text: &str) -> Vec<usize> {
    if text.is_ascii() {
        return Vec::new();
    }
    let words = text::words(text).into_iter().filter(|word| text[word.clone()].starts_with(text::is_unspaced));
    let mut breaks: Vec<usize> = words.flat_map(|word| [word.start, word.end]).collect();
    breaks.dedup();
    breaks
}

pub(super) fn distinct<'a>(words: &[Word<'a>], wanted: fn(&Word<'a>) -> bool) -> BTreeSet<&'a str> {
    words.iter().filter(|word| wanted(word)).map(|word| word.text).collect()
}

impl Word<'_> {
    pub(super) fn is_number(&self) -> bool {
        let digits = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_numeric() || matches!(c, '.' | ',' | '_'));
        let hexadecimal = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_hexdigit());
        self.text.starts_with(char::is_numeric)
            && (digits(self.text)
                || self.text.strip_prefix("0x").is_some_and(hexadecimal)
                || self.text.split_once(['e', 'E']).is_some_and(|(m, e)| digits(m) && (e.is_empty() || digits(e))))
    }

    pub(super) fn is_identifier(&self) -> bool {
        let ascii = self.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let first_letter = self.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !ascii || !first_letter || self.text.len() < 2 || KEYWORDS.contains(&self.text) {
            return false;
        }
        let has = |wanted: fn(u8) -> bool| self.text.bytes().any(wanted);
        let (upper, lower) = (|b: &u8| b.is_ascii_uppercase(), |b: &u8| b.is_ascii_lowercase());
        let bytes = self.text.as_bytes();
        let hump = bytes.windows(2).any(|w| lower(&w[0]) && upper(&w[1]))
            || bytes.windows(3).any(|w| upper(&w[0]) && upper(&w[1]) && lower(&w[2]));
        let mut back = self.before.chars().rev();
        let attribute =
            back.next() == Some('.') && back.next().is_some_and(|c| c.is_alphanumeric() || "_)]".contains(c));
        has(|b| b.is_ascii_alphabetic())
            && (has(|b| b == b'_') || hump || has(|b| b.is_ascii_digit()) || self.after == Some('(') || attribute)
    }

    pub(super) fn is_name(&self) -> bool {
        let capitalised = self.text.starts_with(char::is_uppercase) && characters(self.text).count() > 1;
        capitalised
            && characters(self.text).all(|(_, c)| c.is_alphabetic())
            && !self.is_identifier()
            && !self.begins_sentence()
    }

    fn begins_sentence(&self) -> bool {
        let spaces = self.before.len() - self.before.trim_end().len();
        if self.before[self.before.len() - spaces..].matches('\n').count() > 1 {
            return true;
        }
        let previous = self.before.trim_end();
        match previous.chars().next_back() {
            None | Some('!' | '?' | '。' | '！' | '？' | '।' | '؟' | '"' | '\'' | '“' | '‘' | '«' | ':' | '#') => {
                true
            }
            // "Mr. Smith" and "J. Smith" go on; "the end. Then" does not.
            Some('.') => {
                let last = previous.trim_end_matches('.').rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
                !(last.starts_with(char::is_uppercase) && last.len() <= 3)
            }
            Some(_) => false,
        }
    }
}
