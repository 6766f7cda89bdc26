//! Characters, words and sentences of a text in any script, by the rules of Unicode (UAX 29) as ICU4X keeps them. A character
//! is an extended grapheme cluster: what a reader takes for one sign, such as a letter with its accents, a Hangul syllable of
//! several jamo, a flag, an emoji joined of several, or `\r\n`.
//!
//! Scripts that are written without blanks (Chinese, Japanese, Thai, Lao, Khmer, Burmese) have no rule for words, so there
//! ICU's dictionaries find them. Its neural models for the four last would do as well, but compute with floating-point
//! numbers that may differ from one processor to another. The dictionaries add about 2 MB to the program; a crate that knows
//! the rules alone (`unicode-segmentation`) would make a word of every Chinese character.

use icu_segmenter::options::{SentenceBreakInvariantOptions, WordBreakInvariantOptions};
use icu_segmenter::{GraphemeClusterSegmenter, SentenceSegmenter, WordSegmenter};
use std::ops::Range;
use unicode_script::{Script, UnicodeScript};

/// Separates words in scripts without blanks, and is not seen.
const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// Byte offsets between characters, ascending, 0 and the length of the text among them.
pub fn character_borders(text: &str) -> Vec<usize> {
    if text.is_ascii() && !text.contains('\r') {
        return (0..=text.len()).collect();
    }
    whole(GraphemeClusterSegmenter::new().segment_str(text).collect())
}

/// The words of a text as ranges of bytes, with what stands between them (blanks, punctuation) in ranges of its own: together
/// the whole text. None begins or ends inside a character.
pub fn words(text: &str) -> Vec<Range<usize>> {
    let segmenter = WordSegmenter::new_dictionary(WordBreakInvariantOptions::default());
    ranges(text, segmenter.segment_str(text).collect())
}

/// The sentences of a text as ranges of bytes, each with the blanks after it: together the whole text. A line break ends a
/// sentence; in Thai and Lao, which have no full stop, a blank between two of their letters does.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    let mut borders: Vec<usize> = segmenter.segment_str(text).collect();
    let mut before = None; // the last character that is no blank, and whether a blank followed it
    for (at, c) in text.char_indices() {
        match (before, c.is_whitespace()) {
            (Some((letter, _)), true) => before = Some((letter, true)),
            (None, true) => {}
            (_, false) => {
                if before.is_some_and(|(letter, blank)| blank && lacks_full_stop(letter) && lacks_full_stop(c)) {
                    borders.push(at);
                }
                before = Some((c, false));
            }
        }
    }
    borders.sort_unstable();
    ranges(text, borders)
}

fn lacks_full_stop(c: char) -> bool {
    matches!(c.script(), Script::Thai | Script::Lao)
}

/// Ranges between borders, without borders that lie inside a character.
fn ranges(text: &str, borders: Vec<usize>) -> Vec<Range<usize>> {
    let mut borders = whole(borders);
    if !text.is_ascii() {
        let allowed = character_borders(text);
        borders.retain(|border| allowed.binary_search(border).is_ok());
    }
    borders.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Borders as ICU gives them, each once, and of an empty text none but 0.
fn whole(mut borders: Vec<usize>) -> Vec<usize> {
    borders.dedup();
    if borders.is_empty() {
        borders.push(0);
    }
    borders
}

/// Whether a word (one of [`words`]) is only a blank.
pub fn is_blank(word: &str) -> bool {
    word.chars().all(|c| c.is_whitespace() || c == ZERO_WIDTH_SPACE)
}

/// Whether a word (one of [`words`]) has letters or digits, so that it is not only punctuation.
pub fn is_said(word: &str) -> bool {
    word.chars().any(|c| c.is_alphanumeric() || c == '_')
}

/// Whether a character is of a script that is written without blanks, where [`words`] come from a dictionary.
pub fn is_unspaced(c: char) -> bool {
    use Script::{Han, Hiragana, Katakana, Khmer, Lao, Myanmar, Thai};
    let scripts = c.script_extension();
    let shared = scripts.is_common() || scripts.is_inherited();
    !shared && [Han, Hiragana, Katakana, Khmer, Lao, Myanmar, Thai].iter().any(|&one| scripts.contains_script(one))
}

/// The smallest range of whole characters that holds `range`.
pub fn widened(borders: &[usize], range: &Range<usize>) -> Range<usize> {
    let start = borders.partition_point(|border| *border <= range.start).saturating_sub(1);
    let end = borders.partition_point(|border| *border < range.end).min(borders.len().saturating_sub(1));
    borders.get(start).copied().unwrap_or(0)..borders.get(end).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str, ranges: Vec<Range<usize>>) -> Vec<&str> {
        ranges.into_iter().map(|range| &text[range]).collect()
    }

    fn said(text: &str) -> Vec<&str> {
        parts(text, words(text)).into_iter().filter(|word| is_said(word)).collect()
    }

    #[test]
    fn a_character_is_what_a_reader_takes_for_one() {
        for (one, about) in [
            ("e\u{301}", "an accent of its own"),
            ("👩\u{200d}👩\u{200d}👧\u{200d}👦", "a family"),
            ("👍🏽", "a skin tone"),
            ("🇸🇬", "a flag"),
            ("☀\u{fe0f}", "a variation selector"),
            ("1\u{fe0f}\u{20e3}", "a keycap"),
            ("\u{1100}\u{1161}\u{11a8}", "Hangul jamo"),
            ("क\u{94d}षि", "a Devanagari conjunct with its vowel"),
            ("\r\n", "a line break of two bytes"),
        ] {
            assert_eq!(character_borders(one), [0, one.len()], "{about}");
            assert_eq!(words(one), vec![0..one.len(); 1], "{about}");
        }
        assert_eq!(character_borders("a\r\nb"), [0, 1, 3, 4]);
        assert_eq!(character_borders(""), [0]);
        assert!(words("").is_empty() && sentences("").is_empty());
    }

    #[test]
    fn words_of_scripts_without_blanks_come_from_a_dictionary() {
        assert_eq!(said("東京大学で勉強する。"), ["東京", "大学", "で", "勉強", "する"]);
        assert_eq!(said("今天我们去北京大学"), ["今天", "我们", "去", "北京", "大学"]);
        assert_eq!(said("ภาษาไทยราคา๒๕๖๗"), ["ภาษา", "ไทย", "ราคา", "๒๕๖๗"]);
        assert_eq!(said("ភាសា\u{200b}ខ្មែរ"), ["ភាសា", "ខ្មែរ"]);
        assert_eq!(said("ພາສາລາວ"), ["ພາສາ", "ລາວ"]);
        // Others have blanks.
        assert_eq!(said("한국어 문장, हिन्दी वाक्य: جملة عربية"), ["한국어", "문장", "हिन्दी", "वाक्य", "جملة", "عربية"]);
        assert_eq!(said("the `max_len` isn't 3.14"), ["the", "max_len", "isn't", "3.14"]);
    }

    #[test]
    fn sentences_end_at_the_marks_of_their_script() {
        for (text, expected) in [
            ("One two. Three!\nx = 1\n", vec!["One two. ", "Three!\n", "x = 1\n"]),
            ("東京です。雨だ！", vec!["東京です。", "雨だ！"]),
            ("एक वाक्य। दूसरा।", vec!["एक वाक्य। ", "दूसरा।"]),
            ("هل هذا؟ نعم.", vec!["هل هذا؟ ", "نعم."]),
            ("ฝนตก  แดดออก ปี 2567", vec!["ฝนตก  ", "แดดออก ", "ปี 2567"]),
        ] {
            assert_eq!(parts(text, sentences(text)), expected);
        }
    }

    #[test]
    fn ranges_are_widened_to_whole_characters() {
        let text = "ae\u{301}b";
        let borders = character_borders(text);
        assert_eq!(widened(&borders, &(1..2)), 1..4);
        assert_eq!(widened(&borders, &(2..5)), 1..5);
        assert_eq!(widened(&borders, &(0..1)), 0..1);
        assert_eq!(widened(&borders, &(0..9)), 0..5);
        assert_eq!(widened(&character_borders(""), &(0..0)), 0..0);
    }

    proptest! {
        #[test]
        fn they_tile_any_text_and_cut_no_character(text in "\\PC*|[a\u{301}\u{200d}👩🇸กา漢\r\n .]{0,30}") {
            let characters = character_borders(&text);
            prop_assert!(characters.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!((characters[0], characters[characters.len() - 1]), (0, text.len()));
            for ranges in [words(&text), sentences(&text)] {
                let borders = ranges.iter().flat_map(|range| [range.start, range.end]);
                prop_assert!(borders.clone().all(|border| characters.contains(&border)));
                prop_assert_eq!(ranges.iter().map(|range| &text[range.clone()]).collect::<String>(), text.clone());
            }
        }
    }
}
