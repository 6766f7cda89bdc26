//! An instruct model's instruction around a text, in the chat template that came with the model, rendered
//! as transformers does it ([`render()`]).

mod python;
mod reader;
mod render;

pub use reader::ReaderFrame;
pub use render::render;

use crate::base;
use crate::config::compressors::CompressorConfig;
use crate::error::{Error, Result};
use crate::text_file::read_text;
use crate::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Stands for the prefix in an instruction.
pub const PLACE: &str = "{prefix}";
/// Text in the prefix's place while the template is rendered; nobody writes it.
const MARK: &str = "\u{f8ff}prefix\u{f8ff}";

/// The ids before and behind the prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Ids before the prefix.
    pub before: Vec<u32>,
    /// Ids behind the prefix, the beginning of the answer included.
    pub after: Vec<u32>,
}

impl Frame {
    /// `instruction` (with [`PLACE`] once) as the message of a user to the base in `folder` (or GGUF file), or as it stands
    /// where the model has no chat template.
    pub fn new(folder: &Path, tokenizer: &Tokenizer, instruction: &str) -> Result<Self> {
        let message = instruction.replace(PLACE, MARK);
        let text = rendered(folder, &message)?.unwrap_or(message);
        let parts: Vec<&str> = text.split(MARK).collect();
        let [before, after] = parts[..] else {
            let got = parts.len() - 1;
            return Err(Error::file(folder, format!("chat template: expected the message once, got it {got} times")));
        };
        Ok(Self { before: tokenizer.encode_control(before)?, after: tokenizer.encode_control(after)? })
    }

    /// The instruction of a compressor of this kind; nothing around the bare text where it has no instruction.
    pub fn of(compressor: &CompressorConfig, folder: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        match compressor {
            CompressorConfig::Gist { instruction: Some(text), .. } => Self::new(folder, tokenizer, text),
            CompressorConfig::Gist { instruction: None, .. } | CompressorConfig::Extractive { .. } => {
                Ok(Self::default())
            }
        }
    }

    /// A frame that stands behind the tokens that every row of the base begins with: where the template writes them too, they
    /// are not read twice.
    pub fn behind(mut self, begin: &[u32]) -> Self {
        if self.before.starts_with(begin) {
            self.before.drain(..begin.len());
        }
        self
    }

    /// Tokens of both parts.
    pub fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// Whether nothing stands around the prefix.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message of a user in the chat template of the base in `folder` (or GGUF file), up to where the answer begins; none where
/// there is no template.
fn rendered(folder: &Path, message: &str) -> Result<Option<String>> {
    let Some((path, template, special)) = template(folder)? else { return Ok(None) };
    let text = render(&template, &variables(message, &special));
    text.map(Some).map_err(|message| Error::file(&path, format!("chat template: {message}")))
}

/// Whether the base in `folder` (or GGUF file) has a chat template: it is an instruct model.
pub fn has_template(folder: &Path) -> Result<bool> {
    Ok(template(folder)?.is_some())
}

type Template = (PathBuf, String, Map<String, Value>);

/// The template of a folder with the file that it is from and the special tokens beside it.
fn template(folder: &Path) -> Result<Option<Template>> {
    let (own, config) = (folder.join("chat_template.jinja"), base::file(folder, base::TOKENIZER_CONFIG));
    let read = |name: &str| base::json::<Map<String, Value>>(folder, name).map(Option::unwrap_or_default);
    let mut told = read(base::TOKENIZER_CONFIG)?;
    let special = special(&read("special_tokens_map.json")?, &told);
    if own.exists() {
        let text = read_text(&own)?;
        return Ok(Some((own, text, special)));
    }
    let text = match told.remove("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text,
        // Several: the one for plain use.
        Some(Value::Array(named)) => {
            let plain = named.iter().find(|one| one["name"] == "default");
            plain.and_then(|one| one["template"].as_str()).map(String::from).ok_or_else(|| {
                let names: Vec<&Value> = named.iter().map(|one| &one["name"]).collect();
                Error::file(&config, format!("`chat_template`: expected one named \"default\", got {}", json!(names)))
            })?
        }
        Some(other) => {
            return Err(Error::file(
                &config,
                format!("`chat_template`: expected a text or a list of them, got {other}"),
            ));
        }
    };
    Ok(Some((config, text, special)))
}

/// The special tokens that are named, as text: those of `tokenizer_config.json` before those of `special_tokens_map.json`.
fn special(map: &Map<String, Value>, config: &Map<String, Value>) -> Map<String, Value> {
    let text = |(key, value): (&String, &Value)| {
        let content = value.as_str().or(value["content"].as_str())?;
        key.ends_with("_token").then(|| (key.clone(), Value::from(content)))
    };
    map.iter().chain(config).filter_map(text).collect()
}

/// The variables with which transformers renders a template for one message of a user, before the answer, which is not to begin
/// by thinking.
fn variables(message: &str, special: &Map<String, Value>) -> Value {
    let mut all = json!({
        "messages": [{"role": "user", "content": message}], "tools": null, "documents": null,
        "add_generation_prompt": true, "enable_thinking": false,
    });
    all.as_object_mut().into_iter().for_each(|all| all.extend(special.clone()));
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The shape of ChatML, as Qwen and SmolLM have it, with the constructions that such templates use.
    const CHATML: &str = "{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] | trim }}{%- endif %}\n\
        {%- for message in messages %}\n    {%- set content = message.content.strip() if message.content is string else '' %}\n    \
        {{- '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>' + '\\n' }}\n{%- endfor %}\n\
        {%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n\
        {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}";

    #[test]
    fn an_instruction_is_the_message_of_a_user() {
        let message = format!("Keep what matters:\n{MARK}\nShort.");
        let text = render(CHATML, &variables(&message, &Map::new())).unwrap();
        let expected = format!(
            "<|im_start|>user\nKeep what matters:\n{MARK}\nShort.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        );
        assert_eq!(text, expected);
        let map = |value: Value| value.as_object().cloned().unwrap();
        let config = map(json!({"bos_token": {"content": "<s>"}, "eos_token": null, "add_bos_token": true}));
        let special = special(&map(json!({"bos_token": "<t>", "eos_token": "</s>"})), &config);
        let text =
            render("{{ bos_token }}[INST] {{ messages[0].content }} [/INST]{{ eos_token }}", &variables("x", &special));
        assert_eq!(text.unwrap(), "<s>[INST] x [/INST]</s>");
    }

    #[test]
    fn what_stands_around_the_prefix_is_tokens() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(["user assistant Keep this: short"].into_iter(), 280).unwrap();
        let frame = Frame::new(folder.path(), &tokenizer, "Keep this:{prefix} short").unwrap();
        assert_eq!(tokenizer.decode(&frame.before).unwrap(), "Keep this:");
        assert_eq!(tokenizer.decode(&frame.after).unwrap(), " short");
        let path = folder.path().join("tokenizer_config.json");
        let template = "<|endoftext|>user {{ messages[0].content }}<|endoftext|>";
        let config = json!({"chat_template": [{"name": "default", "template": template}]});
        std::fs::write(&path, config.to_string()).unwrap();
        let frame = Frame::new(folder.path(), &tokenizer, "Keep this:{prefix}").unwrap();
        // A special token is itself, not its letters.
        assert_eq!((frame.before[0], frame.after.as_slice()), (0, [0].as_slice()));
        // The base reads its own beginning before every row.
        assert_eq!(
            (frame.clone().behind(&[0]).len(), frame.clone().behind(&[1]).len()),
            (frame.len() - 1, frame.len())
        );
        let config = json!({"chat_template": [{"name": "tool_use", "template": template}]});
        std::fs::write(&path, config.to_string()).unwrap();
        let error = Frame::new(folder.path(), &tokenizer, "{prefix}").unwrap_err().to_string();
        assert!(error.contains("`chat_template`: expected one named \"default\", got [\"tool_use\"]"), "{error}");
        std::fs::write(folder.path().join("chat_template.jinja"), "{{ nothing }}").unwrap();
        let error = Frame::new(folder.path(), &tokenizer, "{prefix}").unwrap_err().to_string();
        assert!(error.contains("expected the message once, got it 0 times"), "{error}");
    }
}
