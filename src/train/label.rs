//! Labels for an extractive compressor: what the teacher attributes to each unit of training prefixes, measured by reading.
//! Either alone (how much the KL falls when the unit is all that the reader gets) or by leaving it out (how much it rises
//! for the bare base when the rest of the prefix stays), as leave-one-out attributions of a context are (Cohen-Wang et al.
//! 2024, arXiv 2409.00729). Kept in files, so that a killed run loses little; what another run of the same folder of runs
//! has measured with the same settings is taken over, so that a sweep labels once a seed.

use crate::compressor::budget::Controller;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::scorer::Scorer;
use crate::compressor::scorers::bm25::Bm25;
use crate::config::compressors::{CompressorConfig, Unit};
use crate::config::distill::Label;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::model::copy_head;
use crate::model::lora::Adapter;
use crate::rollout::{reader_context, request};
use crate::run_dir::{read_json, subfolders, write_json_atomic};
use crate::tensor::to_vec;
use crate::train::checkpoint::sha256_file;
use crate::train::progress::Progress;
use crate::train::setup::{Setup, model_files};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Windows between two files.
const LABELS_AT_ONCE: usize = 48;
/// Marks the training windows that are labelled.
const LABEL_STEP: u64 = 1 << 43;
/// Settings, beside the files, that decide what a label means, as JSON pointers.
const MEANING: [&str; 11] = [
    "/distill.label",
    "/begin",
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

/// One training window with its labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labelled {
    /// Index of its training document.
    pub document: usize,
    /// Where it begins there, in tokens.
    pub start: usize,
    /// Ids of its prefix.
    pub prefix: Vec<u32>,
    /// First token of each unit and the one after its last.
    pub units: Vec<(usize, usize)>,
    /// What each is worth, nats a token.
    pub worth: Vec<f64>,
}

impl Labelled {
    fn new(window: &Window, units: Vec<Range<usize>>, worth: Vec<f64>) -> Self {
        let units = units.into_iter().map(|unit| (unit.start, unit.end)).collect();
        Self { document: window.document, start: window.start, prefix: window.prefix.clone(), units, worth }
    }
}

/// What lies beside the labels: with what they were made.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    settings: Value,
}

/// Weights of the reader and the teacher that labels may depend on, with the key that names each.
fn adapter_files(from: Option<&Path>, teacher: Option<&Path>) -> Vec<(&'static str, PathBuf)> {
    let reader = from.map(|from| ("warm_start.from", from.join("generator")));
    let teacher = teacher.map(|folder| ("distill.teacher", folder.to_path_buf()));
    let both = [reader, teacher].into_iter().flatten();
    both.map(|(key, folder)| (key, folder.join("adapter_model.safetensors"))).collect()
}

fn settings(setup: &Setup) -> Result<Value> {
    let c = setup.config;
    let adapters = adapter_files(c.warm_start.from.as_deref(), c.distill.teacher.as_deref());
    // Whoever loads one that is not there, or is of another kind, says so.
    let adapters = adapters.into_iter().map(|(_, path)| path).filter(|path| path.exists());
    let files = model_files(&c.model.folder()?).into_iter().chain(c.data.train.clone()).chain(adapters);
    let hashed = |path: PathBuf| Ok((path.display().to_string(), sha256_file(&path)?.1));
    let files: BTreeMap<String, String> = files.map(hashed).collect::<Result<_>>()?;
    // A larger budget than a unit changes nothing.
    let budget = match &c.compressor {
        CompressorConfig::Extractive { unit: Unit::Span { tokens, .. }, .. } => setup.budget.min(*tokens),
        _ => setup.budget,
    };
    // What is measured by reading does not depend on what a compressor may see.
    let condition = (c.distill.label == Label::Teacher).then_some(c.condition);
    // Nothing says as much as no tokens.
    let begin = Some(setup.decoder.begin()).filter(|begin| !begin.is_empty());
    Ok(serde_json::json!({
        "files": files, "model.path": c.model.path, "data": c.data, "compressor": c.compressor, "seed": c.seed,
        "train.imagined_futures": c.train.imagined_futures, "warm_start.from": c.warm_start.from,
        "budget": budget, "condition": condition, "begin": begin, "distill.label": c.distill.label,
        "distill.teacher": c.distill.teacher, "distill.windows": c.distill.windows,
    }))
}

/// What decides the meaning of labels of this kind, files by what is in them; all else (seed, windows, the blocks that the
/// compressor reads with) may be another experiment's.
fn meaning(settings: &Value, label: &Value) -> Value {
    let counts = |key: &str| match key {
        "budget" | "warm_start.from" => label == "alone",
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

/// Labels the experiment's training windows into `folder`, from where it stands; `reader` reads units that stand alone (the
/// bare base when none is given), `check_stop` fails when the user asked to stop.
pub fn make(
    setup: &Setup,
    policy: &ExtractivePolicy,
    reader: Option<&Adapter>,
    folder: &Path,
    check_stop: impl Fn() -> Result<()>,
) -> Result<Vec<Labelled>> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let manifest = folder.join("manifest.json");
    let own = Manifest { settings: settings(setup)? };
    if manifest.exists() {
        let found: Manifest = read_json(&manifest)?;
        let keys: Vec<&str> = differences(&own.settings, &found.settings).iter().map(|(key, ..)| *key).collect();
        if !keys.is_empty() {
            let message = format!("expected labels of the same experiment, got others that differ in {keys:?}");
            return Err(Error::file(manifest, message));
        }
    }
    write_json_atomic(&manifest, &own)?;
    let windows = setup.training_windows(LABEL_STEP, setup.config.distill.windows);
    let stretches = windows.chunks(LABELS_AT_ONCE);
    let progress = Progress::new("label", stretches.len(), 0);
    let mut all = Vec::with_capacity(windows.len());
    for (i, stretch) in stretches.enumerate() {
        check_stop()?;
        let path = folder.join(stretch_name(i));
        let mut whence = String::new();
        if !path.exists() {
            let labels = match (taken_over(folder, &own, i), &setup.config.distill.teacher) {
                (Some((other, labels)), _) => {
                    whence = format!("taken over from {}", other.display());
                    labels
                }
                (None, Some(teacher)) => by_teacher(setup, policy, teacher, stretch)?,
                (None, None) => measure(setup, policy, reader, stretch, i)?,
            };
            write_json_atomic(&path, &labels)?;
        }
        all.extend(read_json::<Vec<Labelled>>(&path)?);
        progress.step(&whence);
    }
    progress.finish();
    Ok(all)
}

/// The labels of a folder that `make` filled, all of them, for this experiment or another whose labels mean the same.
pub fn read(setup: &Setup, folder: &Path) -> Result<Vec<Labelled>> {
    let manifest = folder.join("manifest.json");
    let found = read_json::<Manifest>(&manifest)?.settings;
    let own = settings(setup)?;
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
        all.extend(read_json::<Vec<Labelled>>(&path)?);
    }
    if let Some(asked) = found["distill.windows"].as_u64().filter(|&asked| asked != all.len() as u64) {
        let message = format!("expected {asked} labelled windows, got {}; `gist label` makes the rest", all.len());
        return Err(Error::file(folder, message));
    }
    Ok(all)
}

/// Stretch `i` as another run labelled it, with the settings of `own`, and where: `folder` is
/// `<runs>/<experiment>/<run>/labels`.
fn taken_over(folder: &Path, own: &Manifest, i: usize) -> Option<(PathBuf, Vec<Labelled>)> {
    let experiments = subfolders(folder.ancestors().nth(3)?);
    let mut others = experiments.iter().flat_map(|path| subfolders(path)).map(|run| run.join("labels"));
    others.find_map(|labels| {
        let path = labels.join(stretch_name(i));
        let is_own = |found: Manifest| differences(&own.settings, &found.settings).is_empty();
        let same = path.exists() && read_json(&labels.join("manifest.json")).is_ok_and(is_own);
        same.then(|| read_json(&path).ok()).flatten().map(|found| (path, found))
    })
}

fn stretch_name(i: usize) -> String {
    format!("labels_{i:04}.json")
}

fn measure(
    setup: &Setup,
    policy: &ExtractivePolicy,
    reader: Option<&Adapter>,
    windows: &[Window],
    stretch: usize,
) -> Result<Vec<Labelled>> {
    let _guard = tch::no_grad_guard();
    let decoder = &setup.decoder;
    let alone = setup.config.distill.label == Label::Alone;
    let taught = setup.taught(LABEL_STEP + stretch as u64, windows)?;
    let active = reader.filter(|_| alone).map(|adapter| decoder.activate(adapter, false));
    let v = decoder.config().vocab_size;
    let (mut units, mut contexts) = (Vec::new(), Vec::new());
    for (w, window) in windows.iter().enumerate() {
        let own = policy.units(&window.prefix)?;
        let mut read = |ids: &[u32]| contexts.push((w, reader_context(ids, active.is_some(), v)));
        read(&[]);
        for unit in &own {
            match alone {
                // Of a unit that passes the budget the controller keeps the head.
                true => read(&window.prefix[unit.start..unit.end.min(unit.start + setup.budget)]),
                false => read(&[&window.prefix[..unit.start], &window.prefix[unit.end..]].concat()),
            }
        }
        units.push(own);
    }
    let rows: Vec<(usize, &[u32])> = contexts.iter().map(|(w, c)| (*w, c.as_slice())).collect();
    let mut kls = taught.measure(decoder, active.as_ref(), &rows)?.into_iter().map(|reading| reading.kl);
    let mut all = Vec::new();
    for (window, units) in windows.iter().zip(units) {
        let empty = kls.next().unwrap_or(f64::NAN);
        let read = kls.by_ref().take(units.len());
        let worth = match alone {
            true => read.map(|kl| empty - kl).collect(),
            false => read.collect(), // with the whole prefix it is 0
        };
        all.push(Labelled::new(window, units, worth));
    }
    Ok(all)
}

/// The scores of a trained compressor that reads with all of the base.
fn by_teacher(setup: &Setup, policy: &ExtractivePolicy, folder: &Path, windows: &[Window]) -> Result<Vec<Labelled>> {
    let _guard = tch::no_grad_guard();
    let (decoder, tokenizer, unit) = (&setup.decoder, &setup.tokenizer, policy.unit);
    let adapter = decoder.load_adapter(folder)?;
    let active = decoder.activate(&adapter, false);
    let Some(heads) = active.heads.as_ref().filter(|_| active.encoder.is_none()) else {
        return Err(Error::file(folder, "expected an extractive compressor over the base, got another adapter"));
    };
    // Over the base, BM25 is the one hint that there is.
    let hints: Vec<Box<dyn Scorer>> = match heads.features() - copy_head::features(decoder.config()) {
        0 => Vec::new(),
        1 => vec![Box::new(Bm25)],
        n => {
            let expected = "distill.teacher: expected a compressor without compressor.hints, or with \"bm25\" alone";
            return Err(Error::file(folder, format!("{expected}, got one with {n} more features of a unit")));
        }
    };
    let teacher = ExtractivePolicy {
        decoder,
        tokenizer,
        unit,
        aggregate: policy.aggregate,
        foreign: None,
        blocks: None,
        hints,
        controller: Controller::default(),
    };
    let requests: Vec<_> = windows.iter().map(|window| request(window, setup.config.condition, 0)).collect();
    let mut all = Vec::new();
    for (window, own) in windows.iter().zip(teacher.worths(&active, &requests)?) {
        let mut worth = to_vec(&own.logits)?;
        let end = worth.pop().unwrap_or(0.0);
        worth.iter_mut().for_each(|worth| *worth -= end);
        all.push(Labelled::new(window, own.units, worth));
    }
    Ok(all)
}

/// A window and what each unit of its prefix is worth.
pub type Aligned = (Window, Vec<f64>);

/// The windows of labels that fit the training text and the units of `policy`, with those labels, and how many do not fit.
pub fn aligned(setup: &Setup, policy: &ExtractivePolicy, labels: Vec<Labelled>) -> Result<(Vec<Aligned>, usize)> {
    let (total, shape) = (labels.len(), setup.shape);
    let mut fitting = Vec::new();
    for label in labels {
        let end = label.start.saturating_add(shape.total());
        let Some(text) = setup.train.get(label.document).and_then(|text| text.get(label.start..end)) else { continue };
        let (prefix, rest) = text.split_at(shape.prefix);
        let units: Vec<(usize, usize)> = policy.units(prefix)?.into_iter().map(|unit| (unit.start, unit.end)).collect();
        let finite = label.worth.iter().all(|worth| worth.is_finite());
        if prefix != label.prefix || units != label.units || units.len() != label.worth.len() || !finite {
            continue;
        }
        let (local, future) = rest.split_at(shape.local);
        let (document, start) = (label.document, label.start);
        let (prefix, local, future) = (prefix.to_vec(), local.to_vec(), future.to_vec());
        fitting.push((Window { document, start, prefix, local, future }, label.worth));
    }
    let dropped = total - fitting.len();
    Ok((fitting, dropped))
}
