//! `export`: what a run trained, in a folder that other tools read: an adapter as PEFT has it, the base with it merged in, or
//! an encoder of its own with its tokenizer.

use crate::cli::start;
use anyhow::Context;
use gist::config::compressors::CompressorConfig;
use gist::config::train::TrainConfig;
use gist::error::Error;
use gist::model::config::ModelConfig;
use gist::model::lora::Adapter;
use gist::model::{merge, weights};
use gist::run_dir::{RunDir, write_atomic, write_json_atomic};
use gist::tokenizer::Tokenizer;
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

/// Names of the control tokens in a merged tokenizer, in the order of their rows.
const CONTROLS: [&str; 3] = ["<|gist_end|>", "<|gist_start|>", "<|gist_separator|>"];
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
    match args.merge {
        true => merged(&config, &role, args.role == ROLES[0], made.path())?,
        false => adapter(&config, &role, made.path())?,
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

/// The adapter's files as they are; beside an encoder of its own the tokenizer that it reads with.
fn adapter(config: &TrainConfig, role: &Path, to: &Path) -> anyhow::Result<()> {
    let files = ["adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"];
    copy(role, &files, to)?;
    if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor
        && role.join("config.json").exists()
    {
        copy(&encoder.folder()?, &TOKENIZER, to)?;
    }
    Ok(())
}

fn merged(config: &TrainConfig, role: &Path, writes: bool, to: &Path) -> anyhow::Result<()> {
    let base = config.model.folder()?;
    let (path, tokenizer_path) = (base.join("config.json"), base.join("tokenizer.json"));
    let model = ModelConfig::load(&path)?;
    let stored = weights::stored_kind(&base)?;
    let named = weights::read_model(&base, &model.parameters(), stored, Device::Cpu)?;
    let adapter = Adapter::load(role, &model, Device::Cpu)?;
    let tokenizer = Tokenizer::load(&tokenizer_path)?;
    let first = tokenizer.vocab_size() as i64;
    let (merged, weights) = merge::merged(&model, named, &adapter, first, writes)?;
    weights::write(&to.join("model.safetensors"), &weights)?;
    write_json_atomic(&to.join("config.json"), &merged)?;
    copy(&base, &TOKENIZER[1..], to)?;
    write_atomic(&to.join("tokenizer.json"), with_controls(&tokenizer_path, first)?.as_bytes())?;
    let silent = if writes { first + 1..first + 3 } else { first..first + 3 };
    let ends = if writes { json!(first) } else { json!(merged.eos_token_id) };
    let generation = json!({"suppress_tokens": silent.collect::<Vec<_>>(), "eos_token_id": ends});
    Ok(write_json_atomic(&to.join("generation_config.json"), &generation)?)
}

/// `tokenizer.json` with the control tokens at the ids from `first` on.
fn with_controls(path: &Path, first: i64) -> anyhow::Result<String> {
    let mut tokenizer: Value = gist::run_dir::read_json(path)?;
    let added = tokenizer.as_object_mut().map(|all| all.entry("added_tokens").or_insert_with(|| json!([])));
    let added =
        added.and_then(Value::as_array_mut).ok_or_else(|| Error::file(path, "expected a list `added_tokens`"))?;
    for (content, id) in CONTROLS.iter().zip(first..) {
        added.push(json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }));
    }
    Ok(serde_json::to_string_pretty(&tokenizer)?)
}
