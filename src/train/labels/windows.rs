//! Labels of training windows in files: what each unit of a prefix is worth, measured by reading ([`super::measured`]) or
//! given by a trained compressor ([`super::teacher`]). Kept in stretches, so that a killed run loses little; what another run
//! of the same folder of runs has labelled with the same settings is taken over, so that a sweep labels once a seed.

use crate::compressor::extractive::ExtractivePolicy;
use crate::config::compressors::{CompressorConfig, Unit};
use crate::config::distill::Label;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::hash::FileHash;
use crate::model::lora::Adapter;
use crate::run_dir::{read_json, subfolders, write_json_atomic};
use crate::shard::Shard;
use crate::train::draws::LABEL_STEP;
use crate::train::inputs::{Inputs, model_files};
use crate::train::labels::labelled_window::LabelledWindow;
use crate::train::labels::measured::{UnitMeasure, measure};
use crate::train::labels::teacher::Teacher;
use crate::train::progress::Progress;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The file with the settings, beside the labels.
pub const MANIFEST: &str = "manifest.json";
/// Windows between two files.
const LABELS_AT_ONCE: usize = 48;
/// Settings, beside the files, that decide what a label means, as JSON pointers.
const MEANING: [&str; 12] = [
    "/distill.label",
    "/begin",
    "/distill.teacher_hints",
    "/condition",
    "/budget",
    "/train.imagined_futures",
    "/compressor/unit",
    "/compressor/aggregate",
    "/data/recall",
    "/data/prefix_tokens",
    "/data/local_tokens",
    "/data/future_tokens",
];

/// The file beside the labels: the settings with which they were made.
#[derive(Debug, Serialize, Deserialize)]
struct LabelManifest {
    settings: Value,
}

/// Weights of the reader and the teacher that labels may depend on, with the key that names each.
fn adapter_files(from: Option<&Path>, teacher: Option<&Path>) -> Vec<(&'static str, PathBuf)> {
    let reader = from.map(|from| ("warm_start.from", from.join("generator")));
    let teacher = teacher.map(|folder| ("distill.teacher", folder.to_path_buf()));
    let both = [reader, teacher].into_iter().flatten();
    both.map(|(key, folder)| (key, folder.join("adapter_model.safetensors"))).collect()
}

fn settings(inputs: Inputs) -> Result<Value> {
    let c = inputs.config;
    let adapters = adapter_files(c.warm_start.from.as_deref(), c.distill.teacher.as_deref());
    // Whoever loads one that is not there, or is of another kind, says so.
    let adapters = adapters.into_iter().map(|(_, path)| path).filter(|path| path.exists());
    let files = model_files(&c.model.folder()?).into_iter().chain(c.data.train.clone()).chain(adapters);
    let hashed = |path: PathBuf| Ok((path.display().to_string(), FileHash::of(&path)?.sha256));
    let files: BTreeMap<String, String> = files.map(hashed).collect::<Result<_>>()?;
    // A larger budget than a unit changes nothing.
    let budget = match &c.compressor {
        CompressorConfig::Extractive { unit: Unit::Span { tokens, .. }, .. } => inputs.budget().min(*tokens),
        CompressorConfig::Extractive { .. } | CompressorConfig::Gist { .. } => inputs.budget(),
    };
    // What is measured by reading does not depend on what a compressor may see.
    let condition = (c.distill.label == Label::Teacher).then_some(c.condition);
    let hints = Some(&c.distill.teacher_hints).filter(|hints| !hints.is_empty());
    // No tokens are told by nothing, as before there were any.
    let begin = Some(inputs.models.decoder.begin()).filter(|begin| !begin.is_empty());
    Ok(serde_json::json!({
        "files": files, "model.path": c.model.path, "data": c.data, "compressor": c.compressor, "seed": c.seed,
        "train.imagined_futures": c.train.imagined_futures, "warm_start.from": c.warm_start.from,
        "budget": budget, "begin": begin, "condition": condition, "distill.label": c.distill.label,
        "distill.teacher": c.distill.teacher, "distill.teacher_hints": hints, "distill.windows": c.distill.windows,
    }))
}

/// The settings that decide what labels of this kind mean, files by their contents; all else (seed, windows, the blocks that
/// the compressor reads with) may be another experiment's.
fn meaning(settings: &Value, label: &Value) -> Value {
    let counts = |key: &str| match key {
        "budget" | "warm_start.from" => label == "alone",
        "distill.teacher_hints" => label == "teacher",
        "train.imagined_futures" | "data.future_tokens" => label != "teacher",
        "compressor.aggregate" => label == "teacher",
        _ => true,
    };
    let folder = |key: &str| settings[key].as_str().map(Path::new);
    let adapters = adapter_files(folder("warm_start.from"), folder("distill.teacher"));
    let named = |path: &str| match adapters.iter().find(|(_, adapter)| adapter == Path::new(path)) {
        Some((key, _)) => (*key).to_string(),
        None if settings["data"]["train"] == path => "data.train".to_string(),
        None => format!("model.path/{}", Path::new(path).file_name().unwrap_or_default().to_string_lossy()),
    };
    let files = settings["files"].as_object().into_iter().flatten();
    let files = files.map(|(path, sha256)| (named(path), sha256.clone()));
    let others =
        MEANING.iter().map(|at| (at[1..].replace('/', "."), settings.pointer(at).cloned().unwrap_or_default()));
    files.chain(others).filter(|(key, _)| counts(key)).collect()
}

/// The keys in which two objects differ, with both values; null where there is none.
fn differences<'a>(a: &'a Value, b: &'a Value) -> Vec<(&'a str, &'a Value, &'a Value)> {
    let keys = [a, b].into_iter().filter_map(Value::as_object).flat_map(|object| object.keys());
    let keys: BTreeSet<&'a String> = keys.collect();
    keys.into_iter().map(|key| (key.as_str(), &a[key], &b[key])).filter(|(_, a, b)| a != b).collect()
}

/// The files of labels that a shard of `windows` windows makes; an error where it has none.
pub fn stretches(windows: usize, shard: Shard) -> Result<Vec<String>> {
    let count = windows.div_ceil(LABELS_AT_ONCE);
    shard.check(count, &format!("blocks of {LABELS_AT_ONCE} windows"))?;
    Ok(shard.range(count).map(stretch_name).collect())
}

/// Labels a shard of the experiment's training windows into `folder`, from where it stands; `reader` reads units that stand
/// alone (the bare base when none is given), `check_stop` fails when the user asked to stop.
pub fn make(
    inputs: Inputs,
    policy: &ExtractivePolicy,
    reader: Option<&Adapter>,
    shard: Shard,
    folder: &Path,
    check_stop: impl Fn() -> Result<()>,
) -> Result<Vec<LabelledWindow>> {
    let labeller = labeller(inputs, policy, reader)?;
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let manifest = folder.join(MANIFEST);
    let own = LabelManifest { settings: settings(inputs)? };
    if manifest.exists() {
        let found: LabelManifest = read_json(&manifest)?;
        let keys: Vec<&str> = differences(&own.settings, &found.settings).iter().map(|(key, ..)| *key).collect();
        if !keys.is_empty() {
            let message = format!("expected labels of the same experiment, got others that differ in {keys:?}");
            return Err(Error::file(manifest, message));
        }
    }
    write_json_atomic(&manifest, &own)?;
    let windows = inputs.training_windows(LABEL_STEP, inputs.config.distill.windows)?;
    let own_stretches = shard.range(windows.len().div_ceil(LABELS_AT_ONCE));
    let progress = Progress::new("label", own_stretches.len(), 0);
    let mut all = Vec::new();
    for i in own_stretches {
        let stretch = &windows[i * LABELS_AT_ONCE..windows.len().min((i + 1) * LABELS_AT_ONCE)];
        check_stop()?;
        let path = folder.join(stretch_name(i));
        let mut whence = String::new();
        if !path.exists() {
            let labels = match taken_over(folder, &own, i) {
                Some((other, labels)) => {
                    whence = format!("taken over from {}", other.display());
                    labels
                }
                None => match &labeller {
                    Labeller::Measured(how) => measure(inputs, policy, *how, stretch, LABEL_STEP + i as u64)?,
                    Labeller::Teacher(teacher) => teacher.label(stretch)?,
                },
            };
            write_json_atomic(&path, &labels)?;
        }
        all.extend(read_json::<Vec<LabelledWindow>>(&path)?);
        progress.step(&whence);
    }
    progress.finish();
    Ok(all)
}

/// Source of labels.
enum Labeller<'a> {
    /// A reader, or the bare base.
    Measured(UnitMeasure<'a>),
    /// A trained compressor.
    Teacher(Box<Teacher<'a>>),
}

/// The source of labels that the experiment asks for.
fn labeller<'a>(inputs: Inputs<'a>, policy: &ExtractivePolicy, reader: Option<&'a Adapter>) -> Result<Labeller<'a>> {
    let distill = &inputs.config.distill;
    match (distill.label, &distill.teacher) {
        (Label::Alone, _) => Ok(Labeller::Measured(UnitMeasure::Alone(reader))),
        (Label::Without, _) => Ok(Labeller::Measured(UnitMeasure::Without)),
        (Label::Teacher, Some(folder)) => Ok(Labeller::Teacher(Box::new(Teacher::load(inputs, policy, folder)?))),
        (Label::Teacher, None) => {
            Err(Error::invalid("distill.teacher: expected a folder when distill.label is \"teacher\", got none"))
        }
    }
}

/// The labels of a folder that `make` filled, all of them, for this experiment or another whose labels mean the same.
pub fn read(inputs: Inputs, folder: &Path) -> Result<Vec<LabelledWindow>> {
    let manifest = folder.join(MANIFEST);
    let found = read_json::<LabelManifest>(&manifest)?.settings;
    let own = settings(inputs)?;
    let label = &own["distill.label"];
    let (asked, got) = (meaning(&own, label), meaning(&found, label));
    let differ = differences(&asked, &got).into_iter();
    let differ: Vec<String> = differ.map(|(key, asked, got)| format!("`{key}`: expected {asked}, got {got}")).collect();
    if !differ.is_empty() {
        return Err(Error::file(manifest, format!("expected labels that mean the same; {}", differ.join("; "))));
    }
    let mut all = Vec::new();
    for i in 0.. {
        let path = folder.join(stretch_name(i));
        if !path.exists() {
            break;
        }
        all.extend(read_json::<Vec<LabelledWindow>>(&path)?);
    }
    if let Some(asked) = found["distill.windows"].as_u64().filter(|&asked| asked != all.len() as u64) {
        let message = format!("expected {asked} labelled windows, got {}; `gist label` makes the rest", all.len());
        return Err(Error::file(folder, message));
    }
    Ok(all)
}

/// Stretch `i` as another run labelled it, with the settings of `own`, and where: `folder` is
/// `<runs>/<experiment>/<run>/labels`.
fn taken_over(folder: &Path, own: &LabelManifest, i: usize) -> Option<(PathBuf, Vec<LabelledWindow>)> {
    // Labels outside a run have no such neighbours: three folders up lies what belongs to others.
    let is_run = |run: &Path| run.join("config.toml").exists();
    if !folder.parent().is_some_and(is_run) {
        return None;
    }
    let experiments = subfolders(folder.ancestors().nth(3)?);
    let runs = experiments.iter().flat_map(|path| subfolders(path)).filter(|run| is_run(run));
    let mut others = runs.map(|run| run.join("labels"));
    others.find_map(|labels| {
        let path = labels.join(stretch_name(i));
        let is_own = |found: LabelManifest| differences(&own.settings, &found.settings).is_empty();
        let same = path.exists() && read_json(&labels.join(MANIFEST)).is_ok_and(is_own);
        same.then(|| read_json(&path).ok()).flatten().map(|found| (path, found))
    })
}

fn stretch_name(i: usize) -> String {
    format!("labels_{i:04}.json")
}

/// A window and what each unit of its prefix is worth.
pub type Aligned = (Window, Vec<f64>);

/// The windows of labels that fit the training text and the units of `policy`, with those labels, and how many do not fit.
pub fn aligned(
    inputs: Inputs,
    policy: &ExtractivePolicy,
    labels: Vec<LabelledWindow>,
) -> Result<(Vec<Aligned>, usize)> {
    let (total, shape) = (labels.len(), inputs.windows.shape);
    let mut fitting = Vec::new();
    for label in labels {
        let end = label.start.saturating_add(shape.total());
        let Some(text) = inputs.windows.train.get(label.document).and_then(|text| text.get(label.start..end)) else {
            continue;
        };
        let (prefix, rest) = text.split_at(shape.prefix);
        let units: Vec<(usize, usize)> = policy.units(prefix)?.into_iter().map(|unit| (unit.start, unit.end)).collect();
        let finite = label.worth.iter().all(|worth| worth.is_finite());
        if prefix != label.prefix || units != label.units || units.len() != label.worth.len() || !finite {
            continue;
        }
        let (local, future) = rest.split_at(shape.local);
        let (document, start) = (label.document, label.start);
        let (prefix, local, future) = (prefix.to_vec(), local.to_vec(), future.to_vec());
        fitting.push((Window::new([document, start], prefix, local, future), label.worth));
    }
    let dropped = total - fitting.len();
    Ok((fitting, dropped))
}
