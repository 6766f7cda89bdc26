//! Compressors by name for commands that have no experiment: finished runs, baselines, frozen models, chains.

use crate::cli::args::{DeviceArg, naming};
use crate::cli::compare::ask;
use anyhow::{Context, ensure};
use gist::base;
use gist::compressor::budget::Controller;
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::prompted::Prompt;
use gist::compressor::scorers::ScorerKind;
use gist::config::bos::Bos;
use gist::config::choices::Condition;
use gist::config::compressors::CompressorConfig;
use gist::config::hardware::Hardware;
use gist::config::parts::check_name;
use gist::data::read_documents;
use gist::device;
use gist::eval::compare::{Entrant, Entrants};
use gist::hub;
use gist::models::{BaseName, Models};
use gist::runs::TrainedRun;
use gist::train::inputs;
use gist::train::windows::Windows;
use std::path::{Path, PathBuf};

/// The base that `./setup` brings.
const SMOLLM2: &str = ".smollm2";

/// Flags that say what compressors by name are made of.
#[derive(clap::Args)]
pub struct NamedArgs {
    /// Model that reads what is kept: its tokenizer counts the budget, and baselines score with it. A run's directory (its base,
    /// and its training text for idf, tf_idf and overlap), a folder, a GGUF file or OWNER/NAME of the Hub; absent = the base of the
    /// first run that is named, or else .smollm2.
    #[arg(long, value_name = "RUN|MODEL")]
    pub(in crate::cli) base: Option<PathBuf>,
    /// Text in which idf, tf_idf and overlap count how rare a word is: a folder, a .txt or a .jsonl file.
    #[arg(long, value_name = "TEXT")]
    counts: Option<PathBuf>,
    /// Keep this before anything else, inside the budget (all that extract; repeatable): numbers, identifiers, text:TEXT, or a
    /// regular expression such as '[A-Z]{2,}'.
    #[arg(long, value_name = "WHAT")]
    must_keep: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    /// Ask the network for nothing: models of the Hub must be in the cache.
    #[arg(long)]
    offline: bool,
}

/// A base, counts and runs, of which compressors are made.
pub struct Named {
    /// Base and tokenizer.
    pub models: Models,
    /// Runs that were named, each under its name.
    pub runs: Vec<TrainedRun>,
    names: Vec<String>,
    frequencies: DocumentFrequencies,
    controller: Controller,
}

impl NamedArgs {
    /// Opens runs, base and counts for compressors that are `wanted`: run directories, `NAME=` and a run directory, or names of
    /// baselines. `flag` is named in errors.
    pub fn open(&self, flag: &'static str, wanted: &[String]) -> anyhow::Result<Named> {
        let (mut runs, mut names) = (Vec::new(), Vec::new());
        for one in wanted {
            match run(one)? {
                Some(run) => runs.push(run),
                None => names.push(one.clone()),
            }
        }
        let must_keep = ask::must_keep(&self.must_keep)?;
        if !must_keep.is_empty() {
            let writes = |run: &&TrainedRun| matches!(run.config().compressor, CompressorConfig::Gist { .. });
            let writing = runs.iter().find(writes).map(|run| run.config().name.clone());
            let deaf =
                |name: &&String| Prompt::named(name).is_some() || ["draft", "recent_joined"].contains(&name.as_str());
            if let Some(name) = writing.or(names.iter().find(deaf).cloned()) {
                anyhow::bail!(
                    "--must-keep: expected compressors that score what they keep, got {name:?}; <gist_keep> tags protect a span \
                     from any"
                );
            }
        }
        let base_run = match &self.base {
            Some(path) if is_run(path) => Some(TrainedRun::open(path)?),
            Some(_) => None,
            None => runs.first().cloned(),
        };
        let counting = names.iter().find(|name| counts(name));
        let (models, windows) = match &base_run {
            Some(run) => {
                let mut config = run.config().clone();
                self.device.put(&mut config.hardware)?;
                hub::fetch(&config.model.path, config.model.revision.as_deref(), self.offline)?;
                let models = inputs::models(&config, device::prepare(&config)?)?;
                let windows = counting.filter(|_| self.counts.is_none()).map(|_| Windows::load(&config, &models));
                (models, windows.transpose()?)
            }
            None => (self.model()?, None),
        };
        for run in &runs {
            let (own, base) = (run.config().model.folder()?, models.config_file());
            ensure!(
                base::file(&own, base::CONFIG) == base,
                "{flag}: expected runs over one base, got {} over {} beside {}",
                run.dir().root().display(),
                own.display(),
                base.display()
            );
        }
        let documents = match (&self.counts, windows) {
            (Some(path), _) => {
                let documents = read_documents(path)?;
                models.tokenizer.encode_all(&documents.iter().map(|own| own.text.as_str()).collect::<Vec<_>>())?
            }
            (None, Some(windows)) => windows.train,
            (None, None) => {
                ensure!(
                    counting.is_none(),
                    "{flag}: {:?} counts how rare words are: expected --counts TEXT, or --base RUN for its training text",
                    counting.cloned().unwrap_or_default()
                );
                Vec::new()
            }
        };
        let frequencies = DocumentFrequencies::count(&models.tokenizer, &documents)?;
        // A chain may name the run that gives the base.
        if let Some(run) = base_run.filter(|own| runs.iter().all(|run| run.config().name != own.config().name)) {
            let is_part = |name: &String| name.split('+').any(|part| part == run.config().name);
            if names.iter().any(|name| name.contains('+') && is_part(name)) {
                runs.push(run);
            }
        }
        Ok(Named { models, runs, names, frequencies, controller: Controller { must_keep, ..Controller::default() } })
    }

    /// The base alone, of a folder or the Hub.
    fn model(&self) -> anyhow::Result<Models> {
        let path = self.base.clone().unwrap_or_else(|| SMOLLM2.into());
        ensure!(
            path.exists() || self.base.is_some(),
            "--base: not given, and {SMOLLM2}, its default, is not there (./setup brings it)"
        );
        model(&path, &self.device, self.offline).with_context(|| format!("--base {}", path.display()))
    }
}

/// A base of a folder, a GGUF file or the Hub, in the precision of its weights.
pub fn model(path: &Path, device: &DeviceArg, offline: bool) -> anyhow::Result<Models> {
    let mut hardware = Hardware { device: "cpu".into(), ..Hardware::default() };
    device.put(&mut hardware)?;
    let device = device::open(&hardware, false)?;
    hub::fetch(path, None, offline)?;
    let folder = base::folder(path, None)?;
    Ok(Models::load(BaseName { name: path, folder: &folder, bos: Bos::default() }, hardware.kind(), device)?)
}

impl Named {
    /// Whether a run is the one compressor that was named.
    pub fn is_only(&self, run: &TrainedRun) -> bool {
        self.names.is_empty() && self.runs.iter().all(|own| own.dir().root() == run.dir().root())
    }

    /// Whether a compressor is shown the question: not if a run that is a part of it was trained without one.
    pub fn sees_query(&self, entrant: &Entrant) -> bool {
        let is_part = |run: &&TrainedRun| entrant.name.split('+').any(|part| part == run.config().name);
        !self.runs.iter().filter(is_part).any(|run| run.config().condition == Condition::None)
    }

    /// The compressors, runs first.
    pub fn entrants(&self, flag: &'static str) -> anyhow::Result<Vec<Entrant<'_>>> {
        let entrants = Entrants { models: &self.models, frequencies: &self.frequencies, controller: &self.controller };
        entrants.enter(&self.runs, &self.names).map_err(naming(flag))
    }
}

/// Whether a path is the directory of a run.
fn is_run(path: &Path) -> bool {
    path.join("config.toml").is_file()
}

/// The run that an argument names, if it names one.
fn run(argument: &str) -> anyhow::Result<Option<TrainedRun>> {
    let path = Path::new(argument);
    if path.is_dir() {
        return Ok(Some(TrainedRun::open(path)?));
    }
    match argument.split_once('=').filter(|(name, _)| check_name(name).is_ok()) {
        Some((name, root)) => Ok(Some(TrainedRun::open(Path::new(root))?.called(name))),
        None => Ok(None),
    }
}

/// Whether a compressor of this name, or a part of it, counts on documents.
fn counts(name: &str) -> bool {
    let kind = |part: &str| part.split(':').next().and_then(|kind| kind.parse::<ScorerKind>().ok());
    name.split('+').any(|part| kind(part).is_some_and(ScorerKind::counts))
}
