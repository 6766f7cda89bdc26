//! What an instruct model is told: an instruction around the text, in the chat template that came with the model (Jinja, as
//! transformers renders it, in its own sandboxed engine).

use crate::base;
use crate::config::compressors::CompressorConfig;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, context};
use serde_json::Value;
use std::path::Path;

/// Stands for the prefix in an instruction.
pub const PLACE: &str = "{prefix}";
/// Stands for it while the template is rendered; nobody writes it.
const MARK: &str = "\u{f8ff}prefix\u{f8ff}";

/// What stands before and behind the prefix, as ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Before it.
    pub before: Vec<u32>,
    /// Behind it, the beginning of the answer included.
    pub after: Vec<u32>,
}

impl Frame {
    /// `instruction` (with [`PLACE`] once) as the message of a user to the base in `folder` (or GGUF file), or as it stands where the model
    /// has no chat template.
    pub fn new(folder: &Path, tokenizer: &Tokenizer, instruction: &str) -> Result<Self> {
        let text = instruction.replace(PLACE, MARK);
        let text = match template(folder)? {
            Some((path, template, special)) => render(&template, &special, &text)
                .map_err(|message| Error::file(&path, format!("chat template: {message}")))?,
            None => text,
        };
        let parts: Vec<&str> = text.split(MARK).collect();
        let [before, after] = parts[..] else {
            let got = parts.len() - 1;
            return Err(Error::file(folder, format!("chat template: expected the message once, got it {got} times")));
        };
        Ok(Self { before: tokenizer.encode_control(before)?, after: tokenizer.encode_control(after)? })
    }

    /// What a compressor of this kind is told; nothing around the bare text where it has no instruction.
    pub fn of(compressor: &CompressorConfig, folder: &Path, tokenizer: &Tokenizer) -> Result<Self> {
        match compressor {
            CompressorConfig::Gist { instruction: Some(text) } => Self::new(folder, tokenizer, text),
            CompressorConfig::Gist { instruction: None } | CompressorConfig::Extractive { .. } => Ok(Self::default()),
        }
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

type Template = (std::path::PathBuf, String, Value);

/// The template of a folder with the file that it is from and the special tokens beside it.
fn template(folder: &Path) -> Result<Option<Template>> {
    let (own, config) = (folder.join("chat_template.jinja"), base::file(folder, base::TOKENIZER_CONFIG));
    let special = base::json(folder, base::TOKENIZER_CONFIG)?.unwrap_or_default();
    if own.exists() {
        let text = std::fs::read_to_string(&own).map_err(|e| Error::io(&own, e))?;
        return Ok(Some((own, text, special)));
    }
    let text = match special.get("chat_template") {
        Some(Value::String(text)) => Some(text.clone()),
        // Several: the one for plain use.
        Some(Value::Array(named)) => {
            let plain = named.iter().find(|one| one.get("name").and_then(Value::as_str) == Some("default"));
            plain.and_then(|one| one.get("template")?.as_str()).map(String::from)
        }
        _ => None,
    };
    Ok(text.map(|text| (config, text, special)))
}

fn render(template: &str, special: &Value, message: &str) -> std::result::Result<String, String> {
    let mut environment = Environment::new();
    let whitespace = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(whitespace.map_err(|e| e.to_string())?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> std::result::Result<String, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    // A run must not depend on the day.
    environment.add_function("strftime_now", |_: String| String::from("01 Jan 2025"));
    environment.add_template("chat", template).map_err(|e| e.to_string())?;
    let token = |key: &str| match special.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(object) => object.get("content").and_then(Value::as_str).unwrap_or_default().to_string(),
        None => String::new(),
    };
    let rendered = environment.get_template("chat").and_then(|chat| {
        chat.render(context! {
            messages => vec![context! { role => "user", content => message }],
            add_generation_prompt => true,
            enable_thinking => false,
            bos_token => token("bos_token"),
            eos_token => token("eos_token"),
        })
    });
    rendered.map_err(|e| e.to_string())
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
        let text = render(CHATML, &Value::Null, &format!("Keep what matters:\n{MARK}\nShort.")).unwrap();
        let expected = format!(
            "<|im_start|>user\nKeep what matters:\n{MARK}\nShort.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
        );
        assert_eq!(text, expected);
        let special = serde_json::json!({"bos_token": {"content": "<s>"}, "eos_token": "</s>"});
        let text = render("{{ bos_token }}[INST] {{ messages[0].content }} [/INST]", &special, "x").unwrap();
        assert_eq!(text, "<s>[INST] x [/INST]");
        let error = render("{{ raise_exception('only images') }}", &Value::Null, "x").unwrap_err();
        assert!(error.contains("only images"), "{error}");
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
        let config = serde_json::json!({"chat_template": [{"name": "default", "template": template}]});
        std::fs::write(&path, config.to_string()).unwrap();
        let frame = Frame::new(folder.path(), &tokenizer, "Keep this:{prefix}").unwrap();
        // A special token is itself, not its letters.
        assert_eq!((frame.before[0], frame.after.as_slice()), (0, [0].as_slice()));
        std::fs::write(folder.path().join("chat_template.jinja"), "{{ nothing }}").unwrap();
        let error = Frame::new(folder.path(), &tokenizer, "{prefix}").unwrap_err().to_string();
        assert!(error.contains("expected the message once, got it 0 times"), "{error}");
    }
}
