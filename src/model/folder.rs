//! A base written as a Hugging Face folder, whatever it is read from: what transformers and peft load.

use crate::base::{self, CONFIG, TOKENIZER, TOKENIZER_CONFIG};
use crate::error::{Error, Result};
use crate::gguf::is_gguf;
use crate::hub::SINGLE;
use crate::model::weights;
use crate::run_dir::write_json_atomic;
use serde_json::{Map, Value, json};
use std::path::Path;
use tch::{Device, Kind};

const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const GENERATION: &str = "generation_config.json";
/// Files of a folder that are taken along as they are.
const TAKEN: [&str; 5] = [TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS, "chat_template.jinja", GENERATION];

/// The kinds that weights are written in, by the names that configurations give them.
pub const DTYPES: [(&str, Kind); 3] = [("float32", Kind::Float), ("bfloat16", Kind::BFloat16), ("float16", Kind::Half)];

/// Writes configuration, weights, tokenizer and what ends a text into the folder `to`: weights in this kind, or as they are
/// stored (of a GGUF file: float32).
pub fn write(from: &Path, to: &Path, kind: Option<Kind>) -> Result<()> {
    let path = base::file(from, CONFIG);
    let model = weights::architecture(from)?;
    let kind = kind.map_or_else(|| weights::stored_kind(from), Ok)?;
    let named: Vec<_> = weights::read_model(from, &model, kind, Device::Cpu)?.into_iter().collect();
    weights::write(&to.join(SINGLE), &named)?;
    let mut config: Value = base::json(from, CONFIG)?.unwrap_or_default();
    let all = config.as_object_mut().ok_or_else(|| Error::file(&path, "expected an object"))?;
    let dtype = DTYPES.iter().find(|(_, known)| *known == kind).map(|(name, _)| *name);
    let key = if all.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    all.insert(key.into(), json!(dtype));
    all.insert("tie_word_embeddings".into(), json!(model.tie_word_embeddings));
    write_json_atomic(&to.join(CONFIG), &config)?;
    write_tokenizer(from, to)?;
    let generation = to.join(GENERATION);
    if !generation.exists() {
        let ids = ["bos_token_id", "eos_token_id", "pad_token_id"];
        let ids = ids.iter().filter_map(|key| Some((key.to_string(), config.get(*key)?.clone())));
        write_json_atomic(&generation, &ids.filter(|(_, id)| !id.is_null()).collect::<Map<String, Value>>())?;
    }
    Ok(())
}

/// Writes the tokenizer of a base into the folder `to`, with its special tokens and chat template.
pub fn write_tokenizer(from: &Path, to: &Path) -> Result<()> {
    if is_gguf(from) {
        let config: Value = base::json(from, TOKENIZER_CONFIG)?.unwrap_or_default();
        let special = ["bos_token", "eos_token", "unk_token", "pad_token"];
        let special = special.iter().filter_map(|key| Some((key.to_string(), config.get(*key)?.clone())));
        write_json_atomic(&to.join(SPECIAL_TOKENS), &special.collect::<Map<String, Value>>())?;
        write_json_atomic(&to.join(TOKENIZER_CONFIG), &config)?;
        write_json_atomic(&to.join(TOKENIZER), &base::json::<Value>(from, TOKENIZER)?)?;
    } else {
        for path in TAKEN.iter().map(|file| from.join(file)).filter(|path| path.exists()) {
            let name = path.file_name().unwrap_or_default();
            std::fs::copy(&path, to.join(name)).map_err(|e| Error::io(&path, e))?;
        }
    }
    let config = to.join(TOKENIZER_CONFIG);
    if !config.exists() {
        // Without one neither transformers nor peft looks for a tokenizer.
        write_json_atomic(&config, &json!({"tokenizer_class": "PreTrainedTokenizerFast"}))?;
    }
    Ok(())
}
