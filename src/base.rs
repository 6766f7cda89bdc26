//! A base as it lies on disk: a Hugging Face folder, or one GGUF file that holds all of it. Whoever wants its configuration,
//! tokenizer, chat template or weights asks for the file of that part here; the readers of the parts know both formats.

use crate::error::{Error, Result};
use crate::gguf::{Gguf, is_gguf};
use crate::hub;
use crate::text_file::read_text;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// File of the architecture.
pub const CONFIG: &str = "config.json";
/// File of the tokenizer: text ↔ ids.
pub const TOKENIZER: &str = "tokenizer.json";
/// File of the special tokens and the chat template.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// Folder or GGUF file of a base, found from a path or a repository of the Hub. A folder without safetensors that holds one
/// GGUF file stands for that file.
pub fn folder(path: &Path, revision: Option<&str>) -> Result<PathBuf> {
    let folder = hub::folder(path, revision)?;
    if !folder.is_dir() || [hub::SINGLE, hub::INDEX].iter().any(|file| folder.join(file).exists()) {
        return Ok(folder);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
        let path = entry.map_err(|e| Error::io(&folder, e))?.path();
        if path.extension().is_some_and(|_| is_gguf(&path)) {
            found.push(path);
        }
    }
    found.sort();
    match found.len() {
        0 => Ok(folder),
        1 => Ok(found.remove(0)),
        _ => {
            let names: Vec<_> =
                found.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
            let message = format!("expected one GGUF file, got {}; name one of them", names.join(", "));
            Err(Error::file(&folder, message))
        }
    }
}

/// The file of a base that holds what `name` holds in a Hugging Face folder.
pub fn file(base: &Path, name: &str) -> PathBuf {
    if is_gguf(base) { base.to_path_buf() } else { base.join(name) }
}

/// The content of one of the JSON files of a base: read from a folder, made of the metadata of a GGUF file. None where a
/// folder has no such file.
pub fn json<T: DeserializeOwned>(base: &Path, name: &str) -> Result<Option<T>> {
    let path = base.join(name);
    let refuse = |path: &Path, error: serde_json::Error| Error::file(path, error.to_string());
    if is_gguf(base) {
        let gguf = Gguf::open(base)?;
        let made = match name {
            CONFIG => gguf.config()?,
            TOKENIZER => gguf.tokenizer()?,
            TOKENIZER_CONFIG => gguf.tokenizer_config()?,
            _ => return Ok(None),
        };
        return serde_json::from_value(made).map(Some).map_err(|error| refuse(base, error));
    }
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_str(&read_text(&path)?).map(Some).map_err(|error| refuse(&path, error))
}
