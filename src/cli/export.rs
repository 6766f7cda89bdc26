//! `export`: what a run trained, in a folder that other tools read: an adapter as PEFT has it, the base with it merged in, or
//! an encoder of its own with its tokenizer.

use crate::cli::start;
use anyhow::Context;
use gist::config::bos::Bos;
use gist::config::compressors::CompressorConfig;
use gist::config::train::TrainConfig;
use gist::error::Error;
use gist::model::config::ModelConfig;
use gist::model::lora::Adapter;
use gist::model::peft::{Base, check_base};
use gist::model::{merge, weights};
use gist::run_dir::{RunDir, read_json, write_atomic, write_json_atomic};
use gist::tokenizer::{self, CONTROLS, Tokenizer};
use gist::train::checkpoint;
use gist::train::roles::ROLES;
use gist::train::session::Session;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::Device;

/// What is exported, and where to.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// The run's directory.
    run: PathBuf,
    /// Which role.
    #[arg(long, default_value = ROLES[1], value_parser = ROLES)]
    role: String,
    /// Merge the adapter into the base: a checkpoint that needs nothing else.
    #[arg(long)]
    merge: bool,
    /// Folder that receives it; must not exist.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Files of a tokenizer that are taken along.
const TOKENIZER: [&str; 4] =
    ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];

/// Exports a role of a run's last checkpoint.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let run = RunDir::at(&args.run)?;
    let config = start::load::<TrainConfig>(&run.config(), &[])?;
    if args.output.exists() {
        return Err(Error::file(&args.output, "expected a folder that does not exist yet, got one that does").into());
    }
    let folder = match checkpoint::latest(&run.checkpoints())? {
        Some((_, folder)) => folder,
        None => Session::warm_folder(&run),
    };
    let averaged = folder.join("smoothed");
    let role = if args.role == ROLES[0] && averaged.exists() { averaged } else { folder.join(&args.role) };
    let parent = args.output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
    // Whole or not at all.
    let made = tempfile::Builder::new().prefix(".export").tempdir_in(parent).map_err(|e| Error::io(parent, e))?;
    let writes = args.role == ROLES[0];
    match args.merge {
        true => merged(&config, &role, writes, made.path())?,
        false => adapter(&config, &role, writes, made.path())?,
    }
    std::fs::rename(made.keep(), &args.output).map_err(|e| Error::io(&args.output, e))?;
    println!("{}", args.output.display());
    Ok(())
}

fn copy(from: &Path, files: &[&str], to: &Path) -> anyhow::Result<()> {
    for file in files.iter().filter(|file| from.join(file).exists()) {
        std::fs::copy(from.join(file), to.join(file)).with_context(|| to.join(file).display().to_string())?;
    }
    Ok(())
}

/// An adapter as peft loads it, with the vocabulary that its control tokens are in. What peft knows nothing of, an encoder or
/// heads over the base, as it is; beside an encoder the tokenizer that it reads with.
fn adapter(config: &TrainConfig, role: &Path, writes: bool, to: &Path) -> anyhow::Result<()> {
    let folder = config.model.folder()?;
    let model = weights::architecture(&folder)?;
    let sha256 = weights::identity(&folder, &model)?;
    let begin = tokenizer::begin(&folder.join(TOKENIZER[0]), config.model.bos)?;
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

fn merged(config: &TrainConfig, role: &Path, writes: bool, to: &Path) -> anyhow::Result<()> {
    let base = config.model.folder()?;
    let model = weights::architecture(&base)?;
    let begin = tokenizer::begin(&base.join(TOKENIZER[0]), config.model.bos)?;
    check_base(role, &weights::identity(&base, &model)?, &begin)?;
    let adapter = Adapter::load(role, &model, Device::Cpu)?;
    let named = weights::read_model(&base, &model, weights::stored_kind(&base)?, Device::Cpu)?;
    let first = vocabulary(&base, &begin, to)?;
    let (merged, named) = merge::merged(&model, named, &adapter, first)?;
    weights::write(&to.join("model.safetensors"), &named)?;
    write_json_atomic(&to.join("config.json"), &merged)?;
    generation(&merged, first, writes, to)
}

/// The base's tokenizer with the control tokens behind its own, of which the first has the id returned; it puts before a text
/// what rows began with.
fn vocabulary(base: &Path, begin: &[u32], to: &Path) -> anyhow::Result<i64> {
    let path = base.join(TOKENIZER[0]);
    let own = Tokenizer::load(&path)?;
    let first = own.vocab_size() as i64;
    copy(base, &TOKENIZER[1..], to)?;
    let mut tokenizer: Value = read_json(&path)?;
    add_controls(&mut tokenizer, &path, first)?;
    if tokenizer::begin(&path, Bos::Auto)? != begin {
        tokenizer["post_processor"] = tokenizer::template(&own.named(begin)?);
    }
    write_atomic(&to.join(TOKENIZER[0]), serde_json::to_string_pretty(&tokenizer)?.as_bytes())?;
    let config = to.join(TOKENIZER[1]);
    if !config.exists() {
        // Without one neither transformers nor peft looks for a tokenizer.
        write_json_atomic(&config, &json!({"tokenizer_class": "PreTrainedTokenizerFast"}))?;
    }
    Ok(first)
}

/// What must not be written, and what ends a text.
fn generation(model: &ModelConfig, first: i64, writes: bool, to: &Path) -> anyhow::Result<()> {
    let silent = if writes { first + 1..first + 3 } else { first..first + 3 };
    let ends = if writes { json!(first) } else { json!(model.eos_token_id) };
    let generation = json!({"suppress_tokens": silent.collect::<Vec<_>>(), "eos_token_id": ends});
    Ok(write_json_atomic(&to.join("generation_config.json"), &generation)?)
}

/// Puts the control tokens at the ids from `first` on into the `tokenizer.json` that was read at `path`.
fn add_controls(tokenizer: &mut Value, path: &Path, first: i64) -> Result<(), Error> {
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
