//! The frame round what teacher and readers read: text before the context, between context and local text, and behind it, as
//! plain text or as the message of a user in the base's chat template.

use crate::chat::rendered;
use crate::config::reader::{CONTEXT, LOCAL, ReaderSection};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use std::path::Path;

/// Texts in the places of a frame while its template is rendered; nobody writes them.
const MARKS: [&str; 2] = ["\u{f8ff}context\u{f8ff}", "\u{f8ff}local\u{f8ff}"];

/// A frame, in tokens where it stands alone and in text where it joins a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReaderFrame {
    before: Vec<u32>,
    between: String,
    behind: String,
}

impl ReaderFrame {
    /// The frame of an experiment over the base in `folder` (or GGUF file), whose rows begin with `begin`; `plain` is that of
    /// its data, where the experiment says none.
    pub fn new(
        folder: &Path,
        tokenizer: &Tokenizer,
        begin: &[u32],
        section: &ReaderSection,
        plain: &str,
    ) -> Result<Self> {
        let marked =
            |text: &str| [CONTEXT, LOCAL].iter().zip(MARKS).fold(text.to_string(), |text, (a, b)| text.replace(a, b));
        let message = marked(section.frame.as_deref().unwrap_or(plain));
        let text = match section.chat {
            false => message,
            true => match rendered(folder, &message)? {
                Some(text) => text + &marked(&section.answer),
                None => return Err(Error::file(folder, "chat template: expected one (reader.chat is true), got none")),
            },
        };
        let parts: Vec<&str> = text.split(MARKS[0]).flat_map(|part| part.split(MARKS[1])).collect();
        let is_in_order = text.find(MARKS[0]) < text.find(MARKS[1]);
        let [before, between, behind] = parts[..] else {
            let got = MARKS.map(|mark| text.matches(mark).count());
            let message = "chat template: expected the context and the local text once each";
            return Err(Error::file(folder, format!("{message}, got them {} and {} times", got[0], got[1])));
        };
        if !is_in_order {
            return Err(Error::file(folder, "chat template: expected the context before the local text"));
        }
        let mut before = tokenizer.encode_control(before)?;
        if before.starts_with(begin) {
            before.drain(..begin.len()); // the base reads its own beginning before every row
        }
        Ok(Self { before, between: between.into(), behind: behind.into() })
    }

    /// Ids before the context.
    pub fn before(&self) -> &[u32] {
        &self.before
    }

    /// A local text in its frame.
    pub fn local(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        tokenizer.encode_between(&self.between, text, &self.behind)
    }

    /// Ids of a local window in their frame.
    pub fn around(&self, tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<u32>> {
        let (between, behind) = (tokenizer.encode_control(&self.between)?, tokenizer.encode_control(&self.behind)?);
        Ok([&between[..], ids, &behind].concat())
    }

    /// Text between a local text in its frame and an answer: a blank, unless one is there.
    pub fn gap(&self, local: &str) -> &'static str {
        let end = if self.behind.is_empty() { local } else { &self.behind };
        if end.ends_with(char::is_whitespace) { "" } else { " " }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn section(frame: &str, chat: bool, answer: &str) -> ReaderSection {
        ReaderSection { frame: Some(frame.into()), chat, answer: answer.into() }
    }

    #[test]
    fn texts_stand_round_context_and_local_text() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(["user assistant Of Question: short"].into_iter(), 290).unwrap();
        let new =
            |section: &ReaderSection| ReaderFrame::new(folder.path(), &tokenizer, &[0], section, "{context}{local}");
        let text = |ids: &[u32]| tokenizer.decode(ids).unwrap();
        let plain = new(&ReaderSection::default()).unwrap();
        assert_eq!(plain, ReaderFrame::default());
        assert_eq!(plain.local(&tokenizer, "Why?").unwrap(), tokenizer.encode("Why?").unwrap());
        let framed = new(&section("Of {context} Question: {local} short:", false, "")).unwrap();
        assert_eq!(text(framed.before()), "Of ");
        let local = framed.local(&tokenizer, "Why?").unwrap();
        assert_eq!(local, tokenizer.encode(" Question: Why? short:").unwrap(), "one text, its tokens joined");
        assert_eq!(
            text(&framed.around(&tokenizer, &[70, 71]).unwrap()),
            text(&tokenizer.encode(" Question: ").unwrap()) + &text(&[70, 71]) + " short:"
        );
        assert_eq!((framed.gap("Why?"), plain.gap("Why?"), plain.gap("Why? ")), (" ", " ", ""));

        let said = new(&section("{context}{local}", true, "")).unwrap_err().to_string();
        assert!(said.contains("chat template: expected one (reader.chat is true), got none"), "{said}");
        let write = |template: &str| {
            let config = json!({"chat_template": template}).to_string();
            std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        };
        write("<|endoftext|>user\n{{ messages[0].content }}<|endoftext|>{{ 'assistant\n' }}");
        let chat = new(&section("{context} Question: {local}", true, "")).unwrap();
        assert_eq!(text(chat.before()), "user\n", "the beginning of every row is not read twice");
        // Special tokens of the template are meant, those of a question are letters.
        let local = chat.local(&tokenizer, "<|endoftext|>").unwrap();
        assert_eq!(local.iter().filter(|&&id| id == 0).count(), 1);
        assert_eq!(local[local.len() - tokenizer.encode("assistant\n").unwrap().len() - 1], 0);
        assert_eq!((chat.gap("Why?"), text(&local).starts_with(" Question: <|endoftext|>")), ("", true));
        let begun = new(&section("{context}", true, "{local}")).unwrap();
        let local = begun.local(&tokenizer, "short").unwrap();
        assert_eq!((local[0], text(&local[1..]).as_str(), begun.gap("short")), (0, "assistant\nshort", " "));

        write("{{ messages[0].content[:4] }}");
        let said = new(&section("{context}{local}", true, "")).unwrap_err().to_string();
        assert!(said.contains("expected the context and the local text once each, got them 0 and 0 times"), "{said}");
    }
}
