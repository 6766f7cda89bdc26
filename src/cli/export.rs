//! `export`: what a run trained, in a folder that other tools read: an adapter as PEFT has it, the base with it merged in, or
//! an encoder of its own with its tokenizer.

use crate::cli::start;
use anyhow::Context;
use gist::base;
use gist::config::compressors::CompressorConfig;
use gist::config::train::TrainConfig;
use gist::error::Error;
use gist::model::config::ModelConfig;
use gist::model::folder::{self, DTYPES};
use gist::model::lora::Adapter;
use gist::model::peft::{Base, check_base};
use gist::model::{merge, weights};
use gist::run_dir::{RunDir, write_atomic, write_json_atomic};
use gist::tokenizer::{CONTROLS, Tokenizer};
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
    #[arg(required_unless_present = "base")]
    run: Option<PathBuf>,
    /// In place of what a run trained, a base itself as a Hugging Face folder: a GGUF file, a folder, or a repository of the
    /// Hub that is in the cache.
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["run", "role", "merge"])]
    base: Option<PathBuf>,
    /// Kind of the base's weights; without it as they are stored (float32 for GGUF).
    #[arg(long, requires = "base", value_parser = DTYPES.map(|(name, _)| name))]
    dtype: Option<String>,
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

/// Exports a role of a run's last checkpoint, or a base.
pub fn run(args: &ExportArgs) -> anyhow::Result<()> {
    if args.output.exists() {
        return Err(Error::file(&args.output, "expected a folder that does not exist yet, got one that does").into());
    }
    match (&args.base, &args.run) {
        (Some(path), _) => {
            let kind = DTYPES.iter().find(|(name, _)| Some(*name) == args.dtype.as_deref()).map(|(_, kind)| *kind);
            let from = base::folder(path, None)?;
            whole(&args.output, |to| Ok(folder::write(&from, to, kind)?))
        }
        (None, Some(run)) => role(args, run),
        (None, None) => anyhow::bail!("expected a run or --base, got neither"),
    }
}

/// What `fill` leaves in a folder, whole or not at all.
fn whole(output: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
    let made = tempfile::Builder::new().prefix(".export").tempdir_in(parent).map_err(|e| Error::io(parent, e))?;
    fill(made.path())?;
    std::fs::rename(made.keep(), output).map_err(|e| Error::io(output, e))?;
    println!("{}", output.display());
    Ok(())
}

fn role(args: &ExportArgs, run: &Path) -> anyhow::Result<()> {
    let run = RunDir::at(run)?;
    let config = start::load::<TrainConfig>(&run.config(), &[])?;
    let folder = match checkpoint::latest(&run.checkpoints())? {
        Some((_, folder)) => folder,
        None => Session::warm_folder(&run),
    };
    let averaged = folder.join("smoothed");
    let role = if args.role == ROLES[0] && averaged.exists() { averaged } else { folder.join(&args.role) };
    let writes = args.role == ROLES[0];
    whole(&args.output, |to| match args.merge {
        true => merged(&config, &role, writes, to),
        false => adapter(&config, &role, writes, to),
    })
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
    let model = ModelConfig::load(&base::file(&folder, base::CONFIG))?;
    let sha256 = weights::identity(&folder, &model)?;
    check_base(role, &sha256)?;
    let adapter = Adapter::load(role, &model, Device::Cpu)?;
    if adapter.is_extractive() {
        copy(role, &["adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"], to)?;
        if let CompressorConfig::Extractive { encoder: Some(encoder), .. } = &config.compressor {
            copy(&encoder.folder()?, &TOKENIZER, to)?;
        }
        return Ok(());
    }
    let first = vocabulary(&folder, to)?;
    let base = Base { name: config.model.path.display().to_string(), sha256: Some(sha256) };
    adapter.export(to, &base, first, model.tie_word_embeddings)?;
    generation(&model, first, writes, to)
}

fn merged(config: &TrainConfig, role: &Path, writes: bool, to: &Path) -> anyhow::Result<()> {
    let folder = config.model.folder()?;
    let model = ModelConfig::load(&base::file(&folder, base::CONFIG))?;
    check_base(role, &weights::identity(&folder, &model)?)?;
    let adapter = Adapter::load(role, &model, Device::Cpu)?;
    let named = weights::read_model(&folder, &model, weights::stored_kind(&folder)?, Device::Cpu)?;
    let first = vocabulary(&folder, to)?;
    let (merged, named) = merge::merged(&model, named, &adapter, first)?;
    weights::write(&to.join("model.safetensors"), &named)?;
    write_json_atomic(&to.join("config.json"), &merged)?;
    generation(&merged, first, writes, to)
}

/// The base's tokenizer with the control tokens behind its own, of which the first has the id returned.
fn vocabulary(from: &Path, to: &Path) -> anyhow::Result<i64> {
    folder::write_tokenizer(from, to)?;
    let path = to.join(base::TOKENIZER);
    let first = Tokenizer::load(&path)?.vocab_size() as i64;
    write_atomic(&path, with_controls(&path, first)?.as_bytes())?;
    Ok(first)
}

/// What must not be written, and what ends a text.
fn generation(model: &ModelConfig, first: i64, writes: bool, to: &Path) -> anyhow::Result<()> {
    let silent = if writes { first + 1..first + 3 } else { first..first + 3 };
    let ends = if writes { json!(first) } else { json!(model.eos_token_id) };
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
