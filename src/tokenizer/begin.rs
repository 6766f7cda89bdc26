//! The tokens that a base reads before every row. A base whose training rows all began with a beginning-of-text token (Llama
//! and Mistral: `<s>`, `<|begin_of_text|>`) gives other likelihoods without it. One that was trained without (Qwen, SmolLM,
//! those that are pretrained here unless told otherwise) reads none.
//!
//! Values of `model.bos`, and the tokens at the beginning of a row that follow:
//!
//! - `"auto"`: the tokens that the post-processor of `tokenizer.json` puts before a text; where it puts none, `bos_token` of
//!   `tokenizer_config.json` if `add_bos_token` there is true; else none. A template that adds the token counts whatever
//!   `add_bos_token` says, as in transformers 5.
//! - `true`: as `"auto"`, and where that gives none, the `bos_token`, or else `bos_token_id` of `config.json`.
//! - `false`: none.
//!
//! The decoder then puts them before each row that it reads, in every role ([`crate::model::decoder::Decoder::begin`]).

use crate::base;
use crate::config::bos::Bos;
use crate::error::{Error, Result};
use crate::gguf::is_gguf;
use crate::run_dir::read_json;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The keys of `tokenizer.json` that name the tokens around a text.
#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    post_processor: Option<Processor>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

/// Post-processors of the tokenizers library.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Processor {
    TemplateProcessing { single: Vec<Piece>, special_tokens: BTreeMap<String, Special> },
    Sequence { processors: Vec<Processor> },
    BertProcessing { cls: (String, u32) },
    RobertaProcessing { cls: (String, u32) },
    ByteLevel {},
}

#[derive(Deserialize)]
enum Piece {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Deserialize)]
struct Special {
    ids: Vec<u32>,
}

/// The post-processor of a `tokenizer.json` that puts these tokens, each with its id, before a text; null for none.
pub fn template(begin: &[(String, u32)]) -> Value {
    if begin.is_empty() {
        return Value::Null;
    }
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let tokens = begin.iter().map(|(token, _)| json!({"SpecialToken": {"id": token, "type_id": 0}}));
    let single: Vec<Value> = tokens.chain([text("A", 0)]).collect();
    let pair: Vec<Value> = single.iter().cloned().chain([text("B", 1)]).collect();
    let special = begin.iter().map(|(token, id)| (token.clone(), json!({"id": token, "ids": [id], "tokens": [token]})));
    json!({
        "type": "TemplateProcessing", "single": single, "pair": pair,
        "special_tokens": special.collect::<Map<String, Value>>(),
    })
}

impl Processor {
    /// Ids before a text.
    fn begin(&self) -> Vec<u32> {
        match self {
            Processor::TemplateProcessing { single, special_tokens } => single
                .iter()
                .map_while(|piece| match piece {
                    Piece::SpecialToken { id } => Some(special_tokens.get(id).map_or(&[][..], |token| &token.ids)),
                    Piece::Sequence {} => None,
                })
                .flatten()
                .copied()
                .collect(),
            // Each works on what the one before it made.
            Processor::Sequence { processors } => processors.iter().rev().flat_map(Processor::begin).collect(),
            Processor::BertProcessing { cls } | Processor::RobertaProcessing { cls } => vec![cls.1],
            Processor::ByteLevel {} => Vec::new(),
        }
    }
}

/// The value of `key` in a file beside `tokenizer` (of a GGUF file, in the part that it stands for), where both are there and
/// it is not null.
fn beside(tokenizer: &Path, file: &str, key: &str) -> Result<Option<Value>> {
    let folder = if is_gguf(tokenizer) { tokenizer } else { tokenizer.parent().unwrap_or(Path::new("")) };
    let mut all: Map<String, Value> = base::json(folder, file)?.unwrap_or_default();
    Ok(all.remove(key).filter(|value| !value.is_null()))
}

fn read(tokenizer: &Path) -> Result<File> {
    match is_gguf(tokenizer) {
        true => Ok(base::json(tokenizer, base::TOKENIZER)?.unwrap_or_default()),
        false => read_json(tokenizer),
    }
}

/// The first added token of the `tokenizer.json` or GGUF file at this path that the library moved, `id_of` being the id that it
/// has there: one more than its id in the file, and its id in the library. It closes gaps in the ids of added tokens.
pub(super) fn moved(tokenizer: &Path, id_of: impl Fn(&str) -> Option<u32>) -> Result<Option<(usize, u32)>> {
    let file = read(tokenizer)?;
    let placed = file.added_tokens.iter().filter_map(|token| Some((token.id, id_of(&token.content)?)));
    Ok(placed.into_iter().find(|(told, got)| told != got).map(|(told, got)| (told as usize + 1, got)))
}

/// The tokens that a base reads before every row, by the `tokenizer.json` or GGUF file at this path, the files beside it and
/// the experiment's word. An error where `bos` asks for a token and none is named, or one is named that has no id.
pub fn begin(tokenizer: &Path, bos: Bos) -> Result<Vec<u32>> {
    if bos == Bos::No {
        return Ok(Vec::new());
    }
    let file = read(tokenizer)?;
    let found = file.post_processor.as_ref().map(Processor::begin).unwrap_or_default();
    let added = beside(tokenizer, "tokenizer_config.json", "add_bos_token")? == Some(Value::Bool(true));
    if !found.is_empty() || (bos.is_auto() && !added) {
        return Ok(found);
    }
    let mut named = beside(tokenizer, "tokenizer_config.json", "bos_token")?;
    if named.is_none() {
        named = beside(tokenizer, "special_tokens_map.json", "bos_token")?;
    }
    let content = named.as_ref().and_then(|token| token.as_str().or(token["content"].as_str()));
    if let Some(content) = content {
        let id = file.added_tokens.iter().find(|token| token.content == content).map(|token| token.id);
        let missing =
            || Error::file(tokenizer, format!("`added_tokens`: expected the `bos_token` {content:?} among them"));
        return Ok(vec![id.ok_or_else(missing)?]);
    }
    let id = beside(tokenizer, "config.json", "bos_token_id")?.and_then(|id| id.as_u64()).map(|id| id as u32);
    match (bos, id) {
        (Bos::Yes, Some(id)) => Ok(vec![id]),
        (Bos::Yes, None) => {
            let message = "model.bos is true: expected a token before a text in its `post_processor`, `bos_token` in \
                           tokenizer_config.json or `bos_token_id` in config.json, got none";
            Err(Error::file(tokenizer, message))
        }
        // Asked to add a token that has no name: as in transformers, none.
        (Bos::Auto | Bos::No, _) => Ok(Vec::new()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The beginning that a folder with these files comes to under each word of an experiment.
    fn found(post_processor: Value, config: Value) -> [Option<Vec<u32>>; 3] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let added =
            json!([{"id": 1, "content": "<s>", "special": true}, {"id": 2, "content": "</s>", "special": true}]);
        let file = json!({"added_tokens": added, "post_processor": post_processor, "model": {"type": "BPE"}});
        std::fs::write(&path, file.to_string()).unwrap();
        std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        [Bos::Auto, Bos::Yes, Bos::No].map(|bos| begin(&path, bos).ok())
    }

    fn ids(auto: &[u32], yes: Option<&[u32]>) -> [Option<Vec<u32>>; 3] {
        [Some(auto.to_vec()), yes.map(<[u32]>::to_vec), Some(Vec::new())]
    }

    #[test]
    fn the_template_decides_then_the_configuration_then_the_experiment() {
        let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let special = json!({"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
            "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}});
        let template = |single: Value| {
            json!({"type": "TemplateProcessing", "single": single, "pair": [],
            "special_tokens": special})
        };
        let level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
        let llama = template(json!([token("<s>"), text]));
        let ended = template(json!([text, token("</s>")]));
        let named = json!({"bos_token": "<s>"});
        assert_eq!(found(llama.clone(), json!({})), ids(&[1], Some(&[1])));
        assert_eq!(found(template(json!([token("<s>"), text, token("</s>")])), json!({})), ids(&[1], Some(&[1])));
        // As Llama 3 has it.
        let both = json!({"type": "Sequence", "processors": [level, llama]});
        assert_eq!(found(both, json!({"add_bos_token": false})), ids(&[1], Some(&[1])));
        assert_eq!(found(ended, named.clone()), ids(&[], Some(&[1])));
        // As Qwen has it: no token, and none asked for.
        assert_eq!(found(level.clone(), json!({"bos_token": null, "add_bos_token": false})), ids(&[], None));
        assert_eq!(found(level.clone(), named), ids(&[], Some(&[1])));
        let object = json!({"bos_token": {"content": "<s>", "special": true}, "add_bos_token": true});
        assert_eq!(found(level.clone(), object), ids(&[1], Some(&[1])));
        assert_eq!(found(Value::Null, json!({"bos_token": "<s>", "add_bos_token": true})), ids(&[1], Some(&[1])));
        assert_eq!(found(level, json!({"add_bos_token": true})), ids(&[], None));
    }

    #[test]
    fn a_template_that_is_written_is_read() {
        let begin = [("<s>".to_string(), 1), ("<t>".to_string(), 4)];
        assert_eq!(found(template(&begin), json!({}))[0], Some(vec![1, 4]));
        assert_eq!(template(&[]), Value::Null);
    }

    #[test]
    fn a_token_without_an_id_is_refused_and_the_models_own_id_is_the_last_resort() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, "{\"added_tokens\": [], \"post_processor\": null}").unwrap();
        let said = begin(&path, Bos::Yes).unwrap_err().to_string();
        assert!(said.contains("tokenizer.json: model.bos is true: expected a token before a text"), "{said}");
        std::fs::write(folder.path().join("config.json"), "{\"bos_token_id\": 7}").unwrap();
        assert_eq!((begin(&path, Bos::Auto).unwrap(), begin(&path, Bos::Yes).unwrap()), (vec![], vec![7]));
        std::fs::write(folder.path().join("special_tokens_map.json"), "{\"bos_token\": \"<s>\"}").unwrap();
        let said = begin(&path, Bos::Yes).unwrap_err().to_string();
        assert!(said.contains("`added_tokens`: expected the `bos_token` \"<s>\" among them"), "{said}");
    }
}
