//! Units that an extractive compressor keeps or drops as a whole: tokens, words, sentences, spans; always whole tokens of the
//! reading model's tokenizer, and whole characters: a token that is a part of a character goes with the others of it.

use crate::config::compressors::Unit;
use crate::text::{is_blank, sentences, words};
use crate::tokenizer::Decoded;
use std::ops::Range;

impl Unit {
    /// The units of what was decoded, as ranges of its tokens, ascending; but for spans they are disjoint and together all of
    /// it. A token belongs to the unit in which its first character that is no blank stands, a token of blanks to the one in
    /// which it begins. The borders of spans are moved back to the beginning of the character that they cut.
    pub fn cut(self, decoded: &Decoded) -> Vec<Range<usize>> {
        let text = decoded.text();
        match self {
            Unit::Token {} => decoded.groups().collect(),
            Unit::Span { tokens, stride } => {
                let spans = spans(decoded.len(), tokens, stride).into_iter();
                let whole = spans.map(|span| decoded.floor(span.start)..decoded.floor(span.end));
                let mut spans: Vec<Range<usize>> = whole.filter(|span| !span.is_empty()).collect();
                spans.dedup();
                spans
            }
            Unit::Word {} => {
                let mut starts = Vec::new();
                let mut after_blank = None;
                for word in words(text) {
                    // Blanks go with the word after them.
                    let begin = after_blank.unwrap_or(word.start);
                    after_blank = is_blank(&text[word]).then_some(begin);
                    if after_blank.is_none() {
                        starts.push(begin);
                    }
                }
                grouped(decoded, &starts)
            }
            Unit::Sentence {} => {
                grouped(decoded, &sentences(text).iter().map(|sentence| sentence.start).collect::<Vec<_>>())
            }
        }
    }
}

/// Tokens grouped by the last of the ascending byte offsets `starts` at or before their first character that is no blank.
fn grouped(decoded: &Decoded, starts: &[usize]) -> Vec<Range<usize>> {
    let mut begins = Vec::new();
    let mut next = 0;
    for group in decoded.groups() {
        let before = next;
        let seen = decoded.slice(&group).find(|c: char| !is_blank(c.encode_utf8(&mut [0; 4]))).unwrap_or(0);
        let visible = decoded.bytes(&group).start + seen;
        while starts.get(next).is_some_and(|&start| start <= visible) {
            next += 1;
        }
        if group.start == 0 || next > before {
            begins.push(group.start);
        }
    }
    let ends = begins.iter().copied().skip(1).chain([decoded.len()]);
    begins.iter().copied().zip(ends).map(|(begin, end)| begin..end).collect()
}

/// Spans of `tokens` that start at multiples of `stride`, and one at the end; the whole of a shorter prefix.
pub fn spans(len: usize, tokens: usize, stride: usize) -> Vec<Range<usize>> {
    let span = tokens.min(len);
    if span == 0 {
        return Vec::new();
    }
    let end = len - span;
    let mut starts: Vec<usize> = (0..=end).step_by(stride.max(1)).collect();
    if starts.last() != Some(&end) {
        starts.push(end);
    }
    starts.into_iter().map(|start| start..start + span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units of tokens given with `|` between them.
    fn cut(unit: Unit, tokens: &str) -> Vec<String> {
        let decoded = Decoded::of(&tokens.split('|').collect::<Vec<_>>());
        unit.cut(&decoded).iter().map(|range| decoded.slice(range).to_string()).collect()
    }

    #[test]
    fn words_have_their_blanks_in_front_and_whole_tokens() {
        assert_eq!(cut(Unit::Word {}, "The| qu|ick| fox|,| a"), ["The", " quick", " fox", ",", " a"]);
        assert_eq!(cut(Unit::Word {}, "a|  |b"), ["a", "  b"]);
        assert_eq!(cut(Unit::Word {}, "  "), ["  "]);
        assert!(Unit::Word {}.cut(&Decoded::default()).is_empty());
        // A token of two words goes with the first.
        assert_eq!(cut(Unit::Word {}, "東|京|大学で|学|ぶ"), ["東京", "大学で", "学ぶ"]);
    }

    #[test]
    fn sentences_end_at_full_stops_and_at_line_breaks() {
        assert_eq!(
            cut(Unit::Sentence {}, "One| two|.| Three|!|\n|x = 1\n|y"),
            ["One two.", " Three!\n", "x = 1\n", "y"]
        );
        assert_eq!(cut(Unit::Sentence {}, "雨|だ|。|風|だ|。"), ["雨だ。", "風だ。"]);
    }

    #[test]
    fn no_unit_cuts_a_character() {
        let decoded = Decoded::of(&"a東京b\u{301}c".as_bytes().chunks(1).collect::<Vec<_>>());
        let cut = |unit: Unit| unit.cut(&decoded);
        assert_eq!(cut(Unit::Token {}), [0..1, 1..4, 4..7, 7..10, 10..11]);
        assert_eq!(cut(Unit::Span { tokens: 2, stride: 2 }), [0..1, 1..4, 4..7, 7..10, 7..11]);
        assert_eq!(cut(Unit::Span { tokens: 5, stride: 3 }), [0..4, 1..7, 4..11]);
        assert_eq!(cut(Unit::Span { tokens: 1, stride: 4 }), [0..1, 10..11], "where spans leave gaps");
        assert_eq!(cut(Unit::Word {}), [0..1, 1..7, 7..11]);
    }

    #[test]
    fn spans_have_one_at_the_end() {
        assert_eq!(spans(7, 3, 2), [0..3, 2..5, 4..7]);
        assert_eq!(spans(8, 3, 4), [0..3, 4..7, 5..8]);
        assert_eq!(spans(2, 3, 1), vec![0..2; 1]);
    }
}
