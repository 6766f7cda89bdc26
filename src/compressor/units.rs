//! What an extractive compressor keeps or drops as a whole: tokens, words, sentences, spans; always whole tokens of the
//! reading model's tokenizer.

use crate::config::compressors::Unit;
use bstr::ByteSlice;
use std::ops::Range;

impl Unit {
    /// The units of a prefix, ascending; but for spans they are disjoint and together all of it. `pieces` are the texts of
    /// its tokens. A token belongs to the unit in which its first character that is
    /// no blank stands, a token of blanks to the one in which it begins.
    pub fn cut(self, pieces: &[String]) -> Vec<Range<usize>> {
        match self {
            Unit::Token {} => (0..pieces.len()).map(|at| at..at + 1).collect(),
            Unit::Span { tokens, stride } => spans(pieces.len(), tokens, stride),
            Unit::Word {} => {
                let text = pieces.concat();
                let blank = |word: &str| word.chars().all(char::is_whitespace);
                let mut starts = Vec::new();
                let mut after_blank = None;
                for (start, _, word) in text.as_bytes().words_with_break_indices() {
                    // Blanks go with the word after them.
                    let begin = after_blank.unwrap_or(start);
                    after_blank = blank(word).then_some(begin);
                    if after_blank.is_none() {
                        starts.push(begin);
                    }
                }
                groups(pieces, &starts)
            }
            Unit::Sentence {} => {
                let text = pieces.concat();
                let starts: Vec<usize> = text.as_bytes().sentence_indices().map(|(start, _, _)| start).collect();
                groups(pieces, &starts)
            }
        }
    }

    /// Whether units need the texts of the tokens, not only their number.
    pub fn reads_text(self) -> bool {
        matches!(self, Unit::Word {} | Unit::Sentence {})
    }
}

/// Tokens grouped by the last of the ascending byte offsets `starts` at or before their first character that is no blank.
fn groups(pieces: &[String], starts: &[usize]) -> Vec<Range<usize>> {
    let mut begins = Vec::new();
    let (mut offset, mut next) = (0, 0);
    for (at, piece) in pieces.iter().enumerate() {
        let before = next;
        let visible = offset + piece.find(|c: char| !c.is_whitespace()).unwrap_or(0);
        while starts.get(next).is_some_and(|&start| start <= visible) {
            next += 1;
        }
        if at == 0 || next > before {
            begins.push(at);
        }
        offset += piece.len();
    }
    let ends = begins.iter().copied().skip(1).chain([pieces.len()]);
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

    fn pieces(text: &str) -> Vec<String> {
        text.split('|').map(String::from).collect()
    }

    fn cut(unit: Unit, text: &str) -> Vec<String> {
        let pieces = pieces(text);
        unit.cut(&pieces).into_iter().map(|range| pieces[range].concat()).collect()
    }

    #[test]
    fn words_have_their_blanks_in_front_and_whole_tokens() {
        assert_eq!(cut(Unit::Word {}, "The| qu|ick| fox|,| a"), ["The", " quick", " fox", ",", " a"]);
        assert_eq!(cut(Unit::Word {}, "a|  |b"), ["a", "  b"]);
        assert_eq!(cut(Unit::Word {}, "  "), ["  "]);
        assert!(Unit::Word {}.cut(&[]).is_empty());
    }

    #[test]
    fn sentences_end_at_full_stops_and_at_line_breaks() {
        assert_eq!(
            cut(Unit::Sentence {}, "One| two|.| Three|!|\n|x = 1\n|y"),
            ["One two.", " Three!\n", "x = 1\n", "y"]
        );
    }

    #[test]
    fn spans_have_one_at_the_end() {
        assert_eq!(spans(7, 3, 2), [0..3, 2..5, 4..7]);
        assert_eq!(spans(8, 3, 4), [0..3, 4..7, 5..8]);
        assert_eq!(spans(2, 3, 1), vec![0..2; 1]);
    }
}
