//! Trained weights in a folder that other tools read: an adapter as PEFT has it, the base with it merged in, or an encoder
//! of its own with its tokenizer.

use crate::base;
use crate::config::bos::Bos;
use crate::config::compressors::CompressorConfig;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::folder;
use crate::model::lora::Adapter;
use crate::model::peft::{Base, check_base};
use crate::model::{merge, weights};
use crate::run_dir::{read_json, write_json_atomic};
use crate::runs::TrainedRun;
use crate::tokenizer::{self, CONTROLS, Tokenizer, begin};
use crate::train::roles::ROLES;
use serde_json::{Value, json};
use std::path::Path;
use tch::{Device, Kind};

/// Files of an encoder's tokenizer that are taken along.
const TOKENIZER: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/// Writes the adapter of a role, one of [`ROLES`], into the new folder `output`, or with `merge` the base with it merged in.
/// The folder is whole or not there at all.
pub fn export(run: &TrainedRun, role: &str, merge: bool, output: &Path) -> Result<()> {
    let (folder, writes) = (run.adapter_folder(role), role == ROLES[0]);
    whole(output, |to| match merge {
        true => merged(run.config(), &folder, writes, to),
        false => adapter(run.config(), &folder, writes, to),
    })
}

/// Writes the base in the folder or GGUF file `from` into the new folder `output` as a Hugging Face folder, weights in this
/// kind or as they are stored. The folder is whole or not there at all.
pub fn export_base(from: &Path, kind: Option<Kind>, output: &Path) -> Result<()> {
    whole(output, |to| folder::write(from, to, kind))
}

/// Makes the new folder `output` with the files that `fill` writes; it appears whole or not at all.
fn whole(output: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if output.exists() {
        return Err(Error::file(output, "expected a folder that does not exist yet, got one that does"));
    }
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
    let made = tempfile::Builder::new().prefix(".export").tempdir_in(parent).map_err(|e| Error::io(parent, e))?;
    fill(made.path())?;
    std::fs::rename(made.keep(), output).map_err(|e| Error::io(output, e))
}

fn copy(from: &Path, files: &[&str], to: &Path) -> Result<()> {
    for file in files.iter().filter(|file| from.join(file).exists()) {
        std::fs::copy(from.join(file), to.join(file)).map_err(|e| Error::io(to.join(file), e))?;
    }
    Ok(())
}

/// An adapter as peft loads it, with the vocabulary that its control tokens are in. What peft knows nothing of, an encoder or
/// heads over the base, as it is; beside an encoder the tokenizer that it reads with.
fn adapter(config: &TrainConfig, role: &Path, writes: bool, to: &Path) -> Result<()> {
    let folder = config.model.folder()?;
    let model = weights::architecture(&folder)?;
    let sha256 = weights::identity(&folder, &model)?;
    let begin = begin(&base::file(&folder, base::TOKENIZER), config.model.bos)?;
    check_base(role, &sha256, &begin)?;
    let adapter = Adapter::load(role, &model, Device::Cpu)?;
    if adapter.is_extractive() {
        copy(role, &["adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"], to)?;
        if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor {
            copy(&encoder.folder()?, &TOKENIZER, to)?;
        }
        return Ok(());
    }
    let first = vocabulary(&folder, &begin, to)?;
    let base = Base { name: config.model.path.display().to_string(), sha256: Some(sha256), begin };
    adapter.export(to, &base, first, model.tie_word_embeddings)?;
    generation(&model, first, writes, to)
}

fn merged(config: &TrainConfig, role: &Path, writes: bool, to: &Path) -> Result<()> {
    let folder = config.model.folder()?;
    let model = weights::architecture(&folder)?;
    let begin = begin(&base::file(&folder, base::TOKENIZER), config.model.bos)?;
    check_base(role, &weights::identity(&folder, &model)?, &begin)?;
    let adapter = Adapter::load(role, &model, Device::Cpu)?;
    let named = weights::read_model(&folder, &model, weights::stored_kind(&folder)?, Device::Cpu)?;
    let first = vocabulary(&folder, &begin, to)?;
    let (merged, named) = merge::merged(&model, named, &adapter, first)?;
    weights::write(&to.join("model.safetensors"), &named)?;
    write_json_atomic(&to.join("config.json"), &merged)?;
    generation(&merged, first, writes, to)
}

/// Writes the base's tokenizer with the control tokens behind its own, of which the first has the id returned. It puts before a
/// text what rows began with.
fn vocabulary(from: &Path, begin: &[u32], to: &Path) -> Result<i64> {
    folder::write_tokenizer(from, to)?;
    let path = to.join(base::TOKENIZER);
    let own = Tokenizer::load(&path)?;
    let first = own.vocab_size() as i64;
    let mut tokenizer: Value = read_json(&path)?;
    add_controls(&mut tokenizer, &path, first)?;
    if tokenizer::begin(&path, Bos::Auto)? != begin {
        tokenizer["post_processor"] = tokenizer::template(&own.named(begin)?);
    }
    write_json_atomic(&path, &tokenizer)?;
    Ok(first)
}

/// Generation settings: ids that must not be written, and the one that ends a text.
fn generation(model: &ModelConfig, first: i64, writes: bool, to: &Path) -> Result<()> {
    let silent = if writes { first + 1..first + 3 } else { first..first + 3 };
    let ends = if writes { json!(first) } else { json!(model.eos_token_id) };
    let generation = json!({"suppress_tokens": silent.collect::<Vec<_>>(), "eos_token_id": ends});
    write_json_atomic(&to.join("generation_config.json"), &generation)
}

/// Puts the control tokens at the ids from `first` on into the `tokenizer.json` that was read at `path`.
fn add_controls(tokenizer: &mut Value, path: &Path, first: i64) -> Result<()> {
    let added = tokenizer.as_object_mut().map(|all| all.entry("added_tokens").or_insert_with(|| json!([])));
    let added =
        added.and_then(Value::as_array_mut).ok_or_else(|| Error::file(path, "expected a list `added_tokens`"))?;
    for (content, id) in CONTROLS.iter().zip(first..) {
        added.push(json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }));
    }
    Ok(())
}
