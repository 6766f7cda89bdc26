//! The frame round context and local text wherever teacher and readers read them: the `[reader]` section.

use crate::config::parts::{Problem, is_false};
use serde::{Deserialize, Serialize};

/// Stands for the prefix, or for what a compressor made of it.
pub const CONTEXT: &str = "{context}";
/// Stands for the local text of a probe.
pub const LOCAL: &str = "{local}";

/// The frame, the same for teacher and readers. A compressor does not see it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReaderSection {
    /// Text that is read: `{context}` stands for the context, `{local}` for the local text of a probe, which is the question of
    /// `data.qa`, the cloze of `data.facts`, and else the local window. Absent = the plain form of the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// Whether the frame is the message of a user in the base's chat template.
    #[serde(skip_serializing_if = "is_false")]
    pub chat: bool,
    /// Text with which the model's turn begins; `{local}` may stand here in place of the frame. Only where `chat` is true.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answer: String,
}

impl ReaderSection {
    /// Whether it says nothing.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The frame in words, where `plain` is that of the data.
    pub fn in_words(&self, plain: &str) -> String {
        let frame = self.frame.as_deref().unwrap_or(plain);
        match (self.chat, self.answer.as_str()) {
            (false, _) => format!("{frame:?}"),
            (true, "") => format!("{frame:?} as a message in the chat template"),
            (true, answer) => format!("{frame:?} as a message in the chat template, answered {answer:?}…"),
        }
    }

    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        if !self.answer.is_empty() && !self.chat {
            return Err(("answer".into(), "expected chat = true beside it, got false".into()));
        }
        let Some(frame) = &self.frame else {
            return match self.answer.contains(CONTEXT) || self.answer.contains(LOCAL) {
                true => Err(("frame".into(), "expected a text (`answer` has a place to fill), got none".into())),
                false => Ok(()),
            };
        };
        match [frame, "\0", &self.answer].concat().split_once(CONTEXT) {
            Some((before, rest))
                if !before.contains(LOCAL) && !rest.contains(CONTEXT) && rest.matches(LOCAL).count() == 1 =>
            {
                Ok(())
            }
            _ => {
                let expected = format!("expected {CONTEXT} and then {LOCAL}, once each, in it and `answer`");
                Err(("frame".into(), format!("{expected}, got {frame:?} and {:?}", self.answer)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_both_places_once_and_in_order() {
        let said = |frame: &str, chat: bool, answer: &str| {
            let section = ReaderSection { frame: Some(frame.into()), chat, answer: answer.into() };
            section.check().err().map(|(key, _)| key)
        };
        assert_eq!(said("Text: {context}\nQ: {local}\nA:", false, ""), None);
        assert_eq!(said("{context}", true, "{local}"), None);
        for (frame, answer) in [
            ("", ""),
            ("{context}", ""),
            ("{local} {context}", ""),
            ("{context} {local}", "{local}"),
            ("{context}{context}{local}", ""),
            ("{local}", "{context}"),
        ] {
            assert_eq!(said(frame, true, answer).as_deref(), Some("frame"), "{frame} {answer}");
        }
        assert_eq!(said("{context}{local}", false, "So").as_deref(), Some("answer"));
        let bare = ReaderSection { frame: None, chat: true, answer: "{local}".into() };
        assert_eq!(bare.check().err().map(|(key, _)| key).as_deref(), Some("frame"));
        assert_eq!(ReaderSection::default().check(), Ok(()));
        assert_eq!(ReaderSection::default().in_words("{context}{local}"), "\"{context}{local}\"");
        let words = bare.in_words("{context}");
        assert_eq!(words, "\"{context}\" as a message in the chat template, answered \"{local}\"…");
    }
}
