//! Rows of pairs on their way to a supervised compressor, read one at a time.
//!
//! A row is `{"verbose", "compressed", "domain"?, "document"?}`, or a chat whose user says `Compress:` and the text, and whose
//! assistant answers with the shorter form. Other keys stay as they are.

use crate::data::pairs::Domain;
use crate::data::{next_line, open_rows, parse_row};
use crate::error::Result;
use crate::text_file::at_line;
use crate::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// Words of a user before the text.
pub const ASKED: &str = "Compress:";
/// Words of the system, unless told otherwise.
pub const SYSTEM: &str = "You make texts shorter. Answer with the shortest text from which a reader learns the same.";

/// A row of a file of pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRow {
    /// Line in the file, from 1.
    pub line: usize,
    /// The row as it stands there.
    pub row: Map<String, Value>,
    /// The text.
    pub verbose: String,
    /// Its shorter form.
    pub compressed: String,
    /// The domain that the row says, or that of the text.
    pub domain: Domain,
}

impl PairRow {
    /// Reads a line.
    ///
    /// # Errors
    /// A line in neither of the two forms.
    pub fn parse(path: &Path, line: usize, text: &str) -> Result<Self> {
        let forms = "with `verbose` and `compressed`, or `messages` of a chat";
        let row: Map<String, Value> = parse_row(path, line, text, forms)?;
        let wrong = |message: String| at_line(path, line, message);
        let field = |key: &str| match row.get(key) {
            Some(Value::String(text)) => Ok(text.clone()),
            other => Err(wrong(format!("`{key}`: expected a text, got {}", shown(other)))),
        };
        let (verbose, compressed) = match row.get("messages") {
            Some(messages) => chat(messages).map_err(|got| wrong(format!("`messages`: {got}")))?,
            None => (field("verbose")?, field("compressed")?),
        };
        let domain = match row.get("domain") {
            None | Some(Value::Null) => Domain::of(&verbose),
            Some(own) => serde_json::from_value(own.clone())
                .map_err(|_| wrong(format!("`domain`: expected nl, code or mixed, got {own}")))?,
        };
        Ok(Self { line, row, verbose, compressed, domain })
    }

    /// The document that the text is from; the text itself where the row names none.
    pub fn document(&self) -> String {
        match self.row.get("document") {
            None | Some(Value::Null) => self.verbose.clone(),
            Some(Value::String(name)) => name.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// Tokens of the shorter form as a share of those of the text.
    pub fn token_ratio(&self, tokenizer: &Tokenizer) -> Result<f64> {
        let [before, after] = [&self.verbose, &self.compressed].map(|text| tokenizer.encode(text));
        Ok(after?.len() as f64 / before?.len().max(1) as f64)
    }

    /// The row as a chat; document and domain stay beside it.
    pub fn as_chat(&self, system: &str) -> Value {
        let mut row = self.row.clone();
        row.remove("verbose");
        row.remove("compressed");
        let asked = format!("{ASKED}\n{}", self.verbose);
        let said = [("system", system), ("user", &asked), ("assistant", &self.compressed)];
        let messages: Vec<Value> = said
            .into_iter()
            .filter(|(_, content)| !content.is_empty())
            .map(|(role, content)| json!({"role": role, "content": content}))
            .collect();
        row.insert("messages".into(), messages.into());
        row.insert("domain".into(), self.domain.name().into());
        Value::Object(row)
    }
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("nothing".into(), |value| value.to_string().chars().take(40).collect())
}

/// Text and shorter form of a chat: what the user says behind `Compress:`, and what the assistant answers.
fn chat(messages: &Value) -> std::result::Result<(String, String), String> {
    let turns = messages.as_array().ok_or_else(|| format!("expected a list, got {}", shown(Some(messages))))?;
    let said = |role: &str| {
        let of_role = |turn: &&Value| turn.get("role").and_then(Value::as_str) == Some(role);
        let content = turns.iter().rev().find(of_role).and_then(|turn| turn.get("content")).and_then(Value::as_str);
        content.ok_or_else(|| format!("expected a turn of the {role} with a text as `content`, got none"))
    };
    let (asked, answer) = (said("user")?, said("assistant")?);
    let text = asked.split_once(ASKED).map(|(_, text)| text.trim());
    let text = text.ok_or_else(|| format!("expected {ASKED:?} in what the user says, got {asked:.40?}"))?;
    Ok((text.into(), answer.trim().into()))
}

/// The rows of a `.jsonl` file, plain, `.zst` or `.gz`, one at a time; blank lines are passed over.
pub struct PairRows {
    path: PathBuf,
    lines: Box<dyn BufRead>,
    line: usize,
}

impl PairRows {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_path_buf(), lines: open_rows(path)?, line: 0 })
    }

    fn next_row(&mut self) -> Result<Option<PairRow>> {
        let text = next_line(&self.path, &mut self.lines, &mut self.line)?;
        text.map(|text| PairRow::parse(&self.path, self.line, text.trim())).transpose()
    }
}

impl Iterator for PairRows {
    type Item = Result<PairRow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    pub fn row(text: &str) -> Result<PairRow> {
        PairRow::parse(Path::new("pairs.jsonl"), 3, text)
    }

    pub fn pair(verbose: &str, compressed: &str) -> PairRow {
        row(&json!({"verbose": verbose, "compressed": compressed}).to_string()).unwrap()
    }

    #[test]
    fn both_forms_say_the_same() {
        let plain = pair("The sky is blue today.", "sky blue");
        let chat = row(&plain.as_chat(SYSTEM).to_string()).unwrap();
        assert_eq!((chat.verbose, chat.compressed, chat.domain), (plain.verbose, plain.compressed, Domain::Nl));
        assert_eq!(chat.row["messages"][0]["content"], SYSTEM);
        let silent = pair("a b", "a").as_chat("");
        assert_eq!(silent["messages"].as_array().unwrap().len(), 2, "no turn of a system that says nothing");
    }

    #[test]
    fn a_row_keeps_its_document() {
        let named = row(r#"{"verbose": "a", "compressed": "b", "document": 7, "domain": "code", "more": 1}"#).unwrap();
        assert_eq!((named.document().as_str(), named.domain), ("7", Domain::Code));
        let chat = named.as_chat("s");
        assert_eq!((&chat["document"], &chat["domain"], &chat["more"]), (&json!(7), &json!("code"), &json!(1)));
        assert_eq!(pair("text", "t").document(), "text");
    }

    #[test]
    fn what_is_wrong_with_a_row_is_named() {
        for (text, expected) in [
            (r#"{"verbose": "a"}"#, "`compressed`: expected a text, got nothing"),
            (r#"{"verbose": 3, "compressed": "b"}"#, "`verbose`: expected a text, got 3"),
            (r#"{"verbose": "a", "compressed": "b", "domain": "poem"}"#, "`domain`: expected nl, code or mixed"),
            (r#"{"messages": 3}"#, "`messages`: expected a list, got 3"),
            (r#"{"messages": [{"role": "user", "content": "Compress: a"}]}"#, "a turn of the assistant"),
            (
                r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "b"}]}"#,
                "expected \"Compress:\" in what the user says, got \"Hi\"",
            ),
            ("[1]", "expected a JSON object"),
        ] {
            let error = row(text).unwrap_err().to_string();
            assert!(error.contains("pairs.jsonl:3: ") && error.contains(expected), "{error}");
        }
    }
}
