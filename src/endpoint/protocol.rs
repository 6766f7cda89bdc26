//! Three ways to ask a model: where a request goes, what it holds, and how its reply is read.

use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Version of Anthropic's interface, which its servers want to be told.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Form of requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Chat completions of OpenAI, and of servers that do as it does.
    OpenAi,
    /// Messages of Anthropic.
    Anthropic,
    /// generateContent of Gemini.
    Gemini,
}

/// A model's reply.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelReply {
    /// Its text; empty where the model refused or wrote none.
    pub text: String,
    /// The server's word for why it ended.
    pub finish: Option<String>,
    /// Tokens of the request that were billed; none where the server does not say.
    pub input_tokens: Option<usize>,
    /// Tokens of the reply that were billed, those of its thoughts too.
    pub output_tokens: Option<usize>,
    /// Name of the model that answered, which may be more exact than the one that was asked.
    pub model: Option<String>,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::OpenAi, Protocol::Anthropic, Protocol::Gemini];

    /// Name before the colon of a model's name.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::OpenAi => "openai",
            Protocol::Anthropic => "anthropic",
            Protocol::Gemini => "gemini",
        }
    }

    /// Protocol and model of `openai:MODEL`, `anthropic:MODEL` or `gemini:MODEL`; none of any other text.
    pub fn of(text: &str) -> Option<(Protocol, &str)> {
        let (name, model) = text.split_once(':')?;
        let found = Protocol::ALL.into_iter().find(|own| own.name() == name)?;
        (!model.trim().is_empty()).then_some((found, model))
    }

    /// Address of the provider's own server.
    pub fn own_address(self) -> &'static str {
        match self {
            Protocol::OpenAi => "https://api.openai.com/v1",
            Protocol::Anthropic => "https://api.anthropic.com",
            Protocol::Gemini => "https://generativelanguage.googleapis.com/v1beta",
        }
    }

    /// Variables that may hold the key.
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            Protocol::OpenAi => &["OPENAI_API_KEY"],
            Protocol::Anthropic => &["ANTHROPIC_API_KEY"],
            Protocol::Gemini => &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        }
    }

    /// Address of a request for a model.
    pub(super) fn address(self, base: &Url, model: &str) -> Url {
        let mut url = base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            match self {
                Protocol::OpenAi => path.extend(["chat", "completions"]),
                Protocol::Anthropic => path.extend(["v1", "messages"]),
                Protocol::Gemini => {
                    path.push("models").push(&format!("{}:generateContent", model.trim_start_matches("models/")))
                }
            };
        }
        url
    }

    /// Header that carries the key, its value, and further headers.
    pub(super) fn headers(self, key: Option<&str>) -> Vec<(&'static str, String)> {
        let version = ("anthropic-version", ANTHROPIC_VERSION.to_string());
        let key = key.map(|key| match self {
            Protocol::OpenAi => ("authorization", format!("Bearer {key}")),
            Protocol::Anthropic => ("x-api-key", key.to_string()),
            Protocol::Gemini => ("x-goog-api-key", key.to_string()),
        });
        key.into_iter().chain((self == Protocol::Anthropic).then_some(version)).collect()
    }

    /// A request of one message, at temperature 0. OpenAI's own server wants the limit under a name that others do not know.
    pub(super) fn request(self, model: &str, text: &str, answer_tokens: usize, at_own: bool) -> Map<String, Value> {
        let message = json!([{"role": "user", "content": text}]);
        let request = match self {
            Protocol::OpenAi => {
                let limit = if at_own { "max_completion_tokens" } else { "max_tokens" };
                json!({"model": model, "messages": message, "temperature": 0, limit: answer_tokens})
            }
            Protocol::Anthropic => {
                json!({"model": model, "messages": message, "temperature": 0, "max_tokens": answer_tokens})
            }
            Protocol::Gemini => json!({
                "contents": [{"role": "user", "parts": [{"text": text}]}],
                "generationConfig": {"temperature": 0, "maxOutputTokens": answer_tokens},
            }),
        };
        match request {
            Value::Object(request) => request,
            _ => Map::new(),
        }
    }

    /// Keys of a request that are not the user's to set.
    pub(super) fn own_keys(self) -> &'static [&'static str] {
        match self {
            Protocol::OpenAi => &["model", "messages", "stream", "n"],
            Protocol::Anthropic => &["model", "messages", "stream"],
            Protocol::Gemini => &["contents"],
        }
    }

    /// Most tokens of an answer to a request; none where it has no limit.
    pub(super) fn limit(self, request: &Map<String, Value>) -> Option<usize> {
        let limit = |value: Option<&Value>| value.and_then(Value::as_u64).map(|tokens| tokens as usize);
        match self {
            Protocol::OpenAi => limit(request.get("max_completion_tokens")).or(limit(request.get("max_tokens"))),
            Protocol::Anthropic => limit(request.get("max_tokens")),
            Protocol::Gemini => limit(request.get("generationConfig")?.get("maxOutputTokens")),
        }
    }

    /// Reads a reply; a message that says which field is not as expected.
    pub(super) fn reply(self, said: &Value) -> Result<ModelReply, String> {
        if let Some(error) = said.get("error").filter(|error| !error.is_null()) {
            return Err(format!("an error in place of a reply: {}", error["message"].as_str().unwrap_or("no message")));
        }
        let word = |value: &Value| value.as_str().map(String::from);
        let count = |value: &Value| value.as_u64().map(|tokens| tokens as usize);
        let sum = |counts: &[Option<usize>]| counts[0].map(|first| first + counts[1..].iter().flatten().sum::<usize>());
        let missing = |field: &str| format!("expected a reply with `{field}`, got none");
        match self {
            Protocol::OpenAi => {
                let choice = said["choices"].get(0).ok_or_else(|| missing("choices[0]"))?;
                let content = choice["message"].get("content").ok_or_else(|| missing("choices[0].message.content"))?;
                Ok(ModelReply {
                    text: content.as_str().map_or_else(|| joined(content), String::from),
                    finish: word(&choice["finish_reason"]),
                    input_tokens: count(&said["usage"]["prompt_tokens"]),
                    output_tokens: count(&said["usage"]["completion_tokens"]),
                    model: word(&said["model"]),
                })
            }
            Protocol::Anthropic => {
                let content = said.get("content").filter(|own| own.is_array()).ok_or_else(|| missing("content"))?;
                let usage = &said["usage"];
                let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"].map(|name| count(&usage[name]));
                Ok(ModelReply {
                    text: joined(content),
                    finish: word(&said["stop_reason"]),
                    input_tokens: sum(&[count(&usage["input_tokens"]), cached[0], cached[1]]),
                    output_tokens: count(&usage["output_tokens"]),
                    model: word(&said["model"]),
                })
            }
            Protocol::Gemini => {
                let usage = &said["usageMetadata"];
                let blocked = word(&said["promptFeedback"]["blockReason"]);
                let candidate = said["candidates"].get(0);
                if candidate.is_none() && blocked.is_none() {
                    return Err(missing("candidates[0]"));
                }
                let candidate = candidate.unwrap_or(&Value::Null);
                // A reply without text may leave its count out.
                let written = count(&usage["candidatesTokenCount"]).or(usage.is_object().then_some(0));
                Ok(ModelReply {
                    text: joined(&candidate["content"]["parts"]),
                    finish: word(&candidate["finishReason"]).or(blocked),
                    input_tokens: count(&usage["promptTokenCount"]),
                    output_tokens: sum(&[written, count(&usage["thoughtsTokenCount"])]),
                    model: word(&said["modelVersion"]),
                })
            }
        }
    }
}

/// The text of a list of parts, but for a model's thoughts.
fn joined(parts: &Value) -> String {
    let is_text = |part: &&Value| part["thought"] != true && part.get("type").is_none_or(|kind| kind == "text");
    parts.as_array().into_iter().flatten().filter(is_text).filter_map(|part| part["text"].as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        assert_eq!(Protocol::of("openai:llama3:8b"), Some((Protocol::OpenAi, "llama3:8b")));
        assert!(["openai", "openai:", "mistral:x", ".smollm2", "a/b"].iter().all(|text| Protocol::of(text).is_none()));
        let at = |protocol: Protocol, base: &str, model: &str| {
            protocol.address(&Url::parse(base).unwrap(), model).to_string()
        };
        assert_eq!(at(Protocol::OpenAi, "http://h:8000/v1/", "m"), "http://h:8000/v1/chat/completions");
        assert_eq!(at(Protocol::Anthropic, "https://h", "m"), "https://h/v1/messages");
        let gemini = at(Protocol::Gemini, "https://h/v1beta", "models/gemini-2.0-flash");
        assert_eq!(gemini, "https://h/v1beta/models/gemini-2.0-flash:generateContent");
    }

    #[test]
    fn thoughts_are_billed_but_are_no_answer() {
        let said = json!({"candidates": [{"content": {"parts": [{"text": "Hm.", "thought": true}, {"text": "Ida"}]},
            "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1, "thoughtsTokenCount": 5}});
        let reply = Protocol::Gemini.reply(&said).unwrap();
        assert_eq!((reply.text.as_str(), reply.input_tokens, reply.output_tokens), ("Ida", Some(9), Some(6)));
        let said = json!({"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Ida"}],
            "usage": {"input_tokens": 9, "output_tokens": 6, "cache_read_input_tokens": 2}});
        let reply = Protocol::Anthropic.reply(&said).unwrap();
        assert_eq!((reply.text.as_str(), reply.input_tokens, reply.output_tokens), ("Ida", Some(11), Some(6)));
        let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}});
        let reply = Protocol::Gemini.reply(&blocked).unwrap();
        assert_eq!((reply.text.as_str(), reply.finish.as_deref(), reply.output_tokens), ("", Some("SAFETY"), Some(0)));
    }

    #[test]
    fn a_reply_of_another_form_is_refused_by_its_field() {
        for (protocol, field) in Protocol::ALL.into_iter().zip(["choices[0]", "content", "candidates[0]"]) {
            let said = protocol.reply(&json!({"object": "list"})).unwrap_err();
            assert!(said.contains(&format!("`{field}`")), "{said}");
            assert!(protocol.reply(&json!({"error": {"message": "overloaded"}})).unwrap_err().ends_with("overloaded"));
        }
    }
}
