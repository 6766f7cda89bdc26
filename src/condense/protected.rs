//! Protected spans: text between `<gist_keep>` and `</gist_keep>` that no compressor touches.

use crate::error::{Error, Result};
use std::ops::Range;

/// Begins a protected span.
const OPEN: &str = "<gist_keep>";
/// Ends one.
const CLOSE: &str = "</gist_keep>";

/// A run of a text that is protected as a whole or free as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stretch {
    /// Bytes of the text, tags left out.
    pub bytes: Range<usize>,
    /// Whether it stood between tags.
    pub protected: bool,
}

/// The stretches of a text in order, none of them empty. A tag without its partner, and a span inside a span, are errors.
pub(super) fn stretches(text: &str) -> Result<Vec<Stretch>> {
    let mut found = Vec::new();
    let mut at = 0;
    let wrong = |place: usize, got: &str| {
        Error::invalid(format!("expected {OPEN} and {CLOSE} in pairs, got {got} at byte {place}"))
    };
    loop {
        let end = text[at..].find(OPEN).map(|place| at + place);
        let free = at..end.unwrap_or(text.len());
        if let Some(place) = text[free.clone()].find(CLOSE) {
            return Err(wrong(free.start + place, "an end without a beginning"));
        }
        found.push(Stretch { bytes: free, protected: false });
        let Some(open) = end else { break };
        let start = open + OPEN.len();
        let close = text[start..].find(CLOSE).ok_or_else(|| wrong(open, "a beginning without an end"))?;
        if let Some(inner) = text[start..start + close].find(OPEN) {
            return Err(wrong(start + inner, "a beginning inside a span"));
        }
        found.push(Stretch { bytes: start..start + close, protected: true });
        at = start + close + CLOSE.len();
    }
    found.retain(|stretch| !stretch.bytes.is_empty());
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_what_is_between_them() {
        let text = "a<gist_keep>bé</gist_keep><gist_keep></gist_keep>c";
        let found = stretches(text).unwrap();
        let said: Vec<_> = found.iter().map(|own| (&text[own.bytes.clone()], own.protected)).collect();
        assert_eq!(said, [("a", false), ("bé", true), ("c", false)]);
        assert!(stretches("").unwrap().is_empty());
    }

    #[test]
    fn tags_come_in_pairs() {
        for (text, said) in [
            ("ab</gist_keep>", "an end without a beginning at byte 2"),
            ("a<gist_keep>b", "a beginning without an end at byte 1"),
            ("<gist_keep>a<gist_keep>b</gist_keep></gist_keep>", "a beginning inside a span at byte 12"),
        ] {
            assert!(stretches(text).unwrap_err().to_string().ends_with(said), "{text}");
        }
    }
}
