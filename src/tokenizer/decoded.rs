//! The text of a sequence of tokens, and where each token stands in it.
//!
//! ```text
//! tokens   ▁The    ▁    <0xE6>  <0x9D>  <0xB1>  京
//! text     The   blank                      東  京        together; alone, three of them say nothing
//! bytes    0..3   3..4   4..5    5..6    6..7  7..10      ascending, one beside the other
//! groups   0..1   1..2   2..5                   5..6      tokens between borders of characters
//! ```
//! A token may be a part of a character only: some of its bytes, or one code point of a grapheme cluster. What is kept,
//! dropped or labelled is made of whole groups. Bytes that are no UTF-8, as at the ends of a window that was cut inside a
//! character, stand as a replacement character.

use crate::text::{character_borders, is_said, is_unspaced, words};
use std::ops::Range;

/// Text of a sequence of tokens, with the place of each token in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    text: String,
    /// Byte offsets at which tokens begin, and the length of the text: `[N + 1]`.
    borders: Vec<usize>,
    /// First token of each group, and the number of tokens.
    starts: Vec<usize>,
}

impl Default for Decoded {
    fn default() -> Self {
        Self::of::<&[u8]>(&[])
    }
}

impl Decoded {
    /// Decodes tokens, each given as the bytes that it stands for. Every longest run of bytes that begins a character and
    /// does not end it, and every other byte that is no UTF-8, becomes a replacement character.
    pub fn of<B: AsRef<[u8]>>(tokens: &[B]) -> Self {
        let (mut raw, mut borders) = (Vec::new(), vec![0]);
        for token in tokens {
            raw.extend_from_slice(token.as_ref());
            borders.push(raw.len());
        }
        let raw = match String::from_utf8(raw) {
            Ok(text) => return Self::new(text, borders, 0),
            Err(error) => error.into_bytes(),
        };
        let (mut text, mut place) = (String::new(), Vec::with_capacity(raw.len() + 1)); // of each byte, in the text
        for chunk in raw.utf8_chunks() {
            place.extend((0..chunk.valid().len()).map(|at| text.len() + at));
            text.push_str(chunk.valid());
            // At most three bytes, as many as a replacement character has.
            place.extend((0..chunk.invalid().len()).map(|at| text.len() + at));
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        place.push(text.len());
        // The rest of a character that began before the first token is one character too.
        let rest = raw.iter().take(3).take_while(|byte| (0x80..0xc0).contains(*byte)).count();
        Self::new(text, borders.into_iter().map(|at| place[at]).collect(), place[rest])
    }

    /// A text and the offsets `[N + 1]` of its tokens; its first `rest` bytes are one character.
    pub(super) fn new(text: String, borders: Vec<usize>, rest: usize) -> Self {
        let tokens = borders.len() - 1;
        let mut starts: Vec<usize> = (0..=tokens).collect();
        if !text.is_ascii() || text.contains('\r') {
            let characters = character_borders(&text);
            let mut characters = characters.into_iter().filter(|border| *border == 0 || *border >= rest).peekable();
            starts.retain(|&token| {
                let at = borders[token];
                while characters.next_if(|border| *border < at).is_some() {}
                token == 0 || token == tokens || characters.peek() == Some(&at)
            });
        }
        Self { text, borders, starts }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.borders.len() - 1
    }

    /// True where there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the text that each token stands for: ascending, one beside the other, together the whole text. They may begin
    /// and end inside a character, and be empty.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        self.borders.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// Bytes of the text that some tokens stand for together.
    pub fn bytes(&self, tokens: &Range<usize>) -> Range<usize> {
        self.borders[tokens.start]..self.borders[tokens.end]
    }

    /// The text of some tokens. A code point that the range cuts belongs to it if it begins there.
    pub fn slice(&self, tokens: &Range<usize>) -> &str {
        let whole = |at: usize| (at..self.text.len()).find(|&at| self.text.is_char_boundary(at));
        let [start, end] =
            [tokens.start, tokens.end].map(|token| whole(self.borders[token]).unwrap_or(self.text.len()));
        &self.text[start..end]
    }

    /// The text of each token, to be shown: together the whole text. A character of several tokens stands whole where it
    /// begins, and its other tokens are empty.
    pub fn pieces(&self) -> Vec<String> {
        let characters = character_borders(&self.text);
        let whole = |at: usize| characters[characters.partition_point(|border| *border < at)];
        self.ranges().map(|bytes| self.text[whole(bytes.start)..whole(bytes.end)].to_string()).collect()
    }

    /// The text of each token by itself. A token that is a part of a code point is spelled by its bytes, `<0xE6>`.
    pub fn spelled(&self) -> Vec<String> {
        let byte = |byte: &u8| format!("<0x{byte:02X}>");
        let part = |bytes: Range<usize>| {
            let begin = self.text.floor_char_boundary(bytes.start);
            match self.text[begin..].starts_with(char::REPLACEMENT_CHARACTER) {
                true => char::REPLACEMENT_CHARACTER.to_string(),
                false => self.text.as_bytes()[bytes].iter().map(byte).collect(),
            }
        };
        self.ranges().map(|bytes| self.text.get(bytes.clone()).map_or_else(|| part(bytes), String::from)).collect()
    }

    /// The smallest ranges of tokens that cut no character: together all tokens.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        self.starts.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The groups that lie in a range of tokens.
    pub fn groups_in(&self, tokens: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let first = self.starts.partition_point(|start| *start < tokens.start);
        let end = tokens.end;
        self.starts[first..].windows(2).map(|pair| pair[0]..pair[1]).take_while(move |group| group.end <= end)
    }

    /// The group of a token.
    pub fn group(&self, token: usize) -> Range<usize> {
        self.floor(token)..self.ceil(token + 1)
    }

    /// The last token at or before `token` that begins a group; the number of tokens counts as one that does.
    pub fn floor(&self, token: usize) -> usize {
        self.starts[self.starts.partition_point(|start| *start <= token).saturating_sub(1)]
    }

    /// The first token at or after `token` that begins a group; the number of tokens counts as one that does.
    pub fn ceil(&self, token: usize) -> usize {
        self.starts[self.starts.partition_point(|start| *start < token).min(self.starts.len() - 1)]
    }

    /// The groups that lie in a range of tokens, as one range.
    pub fn inner(&self, tokens: &Range<usize>) -> Range<usize> {
        let (start, end) = (self.ceil(tokens.start), self.floor(tokens.end));
        start.min(end)..end
    }

    /// The groups that share bytes with a range of the text that is not empty, as one range.
    pub fn holding(&self, bytes: &Range<usize>) -> Range<usize> {
        let first = self.borders.partition_point(|border| *border <= bytes.start).saturating_sub(1);
        let end = self.borders.partition_point(|border| *border < bytes.end).min(self.len());
        self.floor(first)..self.ceil(end)
    }

    /// Terms by which texts are compared: a token, a character made of several tokens, or, in scripts that are written
    /// without blanks, a word. Ranges of tokens in whole groups, which together hold all tokens.
    pub fn terms(&self) -> Vec<Range<usize>> {
        let mut starts = self.starts.clone();
        if !self.text.is_ascii() {
            let unspaced = |word: &str| is_said(word) && word.starts_with(is_unspaced);
            let mut words = words(&self.text).into_iter().filter(|word| unspaced(&self.text[word.clone()])).peekable();
            starts.retain(|&token| {
                let at = self.borders[token];
                while words.next_if(|word| word.end <= at).is_some() {}
                token == 0 || token == self.len() || words.peek().is_none_or(|word| at <= word.start)
            });
        }
        starts.windows(2).map(|pair| pair[0]..pair[1]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn groups(tokens: &[&[u8]]) -> Vec<Range<usize>> {
        Decoded::of(tokens).groups().collect()
    }

    #[test]
    fn a_character_of_several_tokens_is_one_group() {
        let bytes = |text: &'static str| text.as_bytes().chunks(1).collect::<Vec<_>>();
        assert_eq!(groups(&bytes("a東b")), [0..1, 1..4, 4..5]);
        assert_eq!(groups(&[b"cafe", "\u{301}".as_bytes(), b" x"]), [0..2, 2..3]);
        assert_eq!(groups(&["👩\u{200d}".as_bytes(), "👧".as_bytes(), b"!"]), [0..2, 2..3]);
        assert_eq!(groups(&[b"a", b"\r", b"\n", b"b"]), [0..1, 1..3, 3..4]);
        assert_eq!(
            groups(&[b"a", b"", b"b"]),
            [0..1, 1..2, 2..3],
            "a token that says nothing is no part of a character"
        );
        // Two characters, of which a token has the end of one and the beginning of the other.
        assert_eq!(groups(&[b" \xe6", b"\x9d\xb1\xe4", b"\xba\xac"]), vec![0..3; 1]);
        assert!(groups(&[]).is_empty());
    }

    #[test]
    fn characters_that_the_window_cut_are_one_group_each() {
        // …東 from its second byte on, a, 京 up to its second byte.
        let tokens: [&[u8]; 5] = [b"\x9d", b"\xb1", b"a", b"\xe4", b"\xba"];
        let decoded = Decoded::of(&tokens);
        assert_eq!(decoded.text(), "\u{fffd}\u{fffd}a\u{fffd}");
        assert_eq!(decoded.ranges().collect::<Vec<_>>(), [0..3, 3..6, 6..7, 7..8, 8..10]);
        assert_eq!(decoded.groups().collect::<Vec<_>>(), [0..2, 2..3, 3..5]);
        assert_eq!(decoded.pieces(), ["\u{fffd}", "\u{fffd}", "a", "\u{fffd}", ""]);
        assert_eq!(decoded.spelled(), ["\u{fffd}", "\u{fffd}", "a", "\u{fffd}", "\u{fffd}"]);
        assert_eq!(Decoded::of(&[b"\xf0\x9f", b"\x91a"]).text(), "\u{fffd}a");
    }

    #[test]
    fn a_part_of_a_character_is_spelled_by_its_bytes() {
        assert_eq!(
            Decoded::of(&[&b"x\xe6"[..], b"\x9d", b"\xb1y"]).spelled(),
            ["<0x78><0xE6>", "<0x9D>", "<0xB1><0x79>"]
        );
        assert_eq!(Decoded::of(&[&b"cafe"[..], "\u{301}".as_bytes(), b""]).spelled(), ["cafe", "\u{301}", ""]);
    }

    #[test]
    fn places_are_moved_to_the_borders_of_groups() {
        let decoded = Decoded::of(&"x東y".as_bytes().chunks(1).collect::<Vec<_>>());
        assert_eq!([0, 1, 2, 3, 4, 5].map(|at| decoded.floor(at)), [0, 1, 1, 1, 4, 5]);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|at| decoded.ceil(at)), [0, 1, 4, 4, 4, 5]);
        assert_eq!([0, 3, 4].map(|at| decoded.group(at)), [0..1, 1..4, 4..5]);
        assert_eq!((decoded.inner(&(0..3)), decoded.inner(&(2..5)), decoded.inner(&(2..3))), (0..1, 4..5, 1..1));
        assert_eq!(decoded.groups_in(&(0..3)).collect::<Vec<_>>(), vec![0..1; 1]);
        assert_eq!(decoded.groups_in(&(1..5)).collect::<Vec<_>>(), [1..4, 4..5]);
        assert_eq!((decoded.holding(&(1..2)), decoded.holding(&(0..2)), decoded.holding(&(4..5))), (1..4, 0..4, 4..5));
        assert_eq!((decoded.slice(&(0..4)), decoded.slice(&(2..5)), decoded.bytes(&(1..4))), ("x東", "y", 1..4));
        assert_eq!(decoded.pieces(), ["x", "東", "", "", "y"]);
        // A match finds the token that holds it, not an empty one where it begins.
        assert_eq!(Decoded::of(&["a", "", "b"]).holding(&(1..2)), 2..3);
    }

    #[test]
    fn terms_are_tokens_and_words_where_there_are_no_blanks() {
        let tokens = [&["The", " re", "d"][..], &["東", "京", "大", "学"], &[" caf", "e", "\u{301}"]].concat();
        let decoded = Decoded::of(&tokens);
        let said: Vec<&str> = decoded.terms().iter().map(|term| decoded.slice(term)).collect();
        assert_eq!(said, ["The", " re", "d", "東京", "大学", " caf", "e\u{301}"]);
    }

    proptest! {
        #[test]
        fn any_bytes_cut_anywhere(tokens in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..20)) {
            check(&tokens)?;
        }

        #[test]
        fn any_text_cut_anywhere(text in "\\PC{0,12}|[a\u{301}\u{200d}👩🇸กา漢\r\n .]{0,12}", cuts in prop::collection::vec(0..64usize, 0..9)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let tokens: Vec<Vec<u8>> = cuts.windows(2).map(|pair| text.as_bytes()[pair[0]..pair[1]].to_vec()).collect();
            let decoded = check(&tokens)?;
            prop_assert_eq!(decoded.text(), text);
        }
    }

    fn check(tokens: &[Vec<u8>]) -> Result<Decoded, TestCaseError> {
        let decoded = Decoded::of(tokens);
        let raw = tokens.concat();
        prop_assert_eq!(decoded.text(), String::from_utf8_lossy(&raw));
        prop_assert_eq!(decoded.len(), tokens.len());
        let mut end = 0;
        for bytes in decoded.ranges() {
            prop_assert!(bytes.start == end && bytes.end >= bytes.start);
            end = bytes.end;
        }
        prop_assert_eq!(end, decoded.text().len());
        prop_assert_eq!(decoded.pieces().concat(), decoded.text());
        let characters = character_borders(decoded.text());
        for ranges in [decoded.groups().collect(), decoded.terms()] {
            prop_assert_eq!(
                ranges.iter().cloned().flatten().collect::<Vec<_>>(),
                (0..tokens.len()).collect::<Vec<_>>()
            );
            prop_assert!(ranges.iter().all(|range| characters.contains(&decoded.bytes(range).end)));
        }
        Ok(decoded)
    }
}
