//! The terms of a run: the windows that it is judged on, the base that is their teacher, its tokenizer, the text. Figures of
//! two runs can be compared, and paired window by window, where these are the same.

use crate::base;
use crate::config::bos::Bos;
use crate::config::choices::Condition;
use crate::config::eval::ExamSplit;
use crate::config::parts::RecallSection;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::gguf::is_gguf;
use crate::hash::sha256;
use crate::hub::INDEX;
use crate::run_dir::{Hashes, Provenance, RunDir, short};
use crate::tokenizer::begin;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Dotted key → value; the key of a hash ends in `.sha256`.
pub type Terms = BTreeMap<String, String>;

/// Terms that do not decide what is measured: what compressors see, and the text that they learned from.
const FREE: [&str; 3] = ["condition", "data.train.sha256", "data.valid.sha256"];

/// The terms of the experiment of a run, with the hashes that it recorded when its figures were measured; the files themselves
/// may be gone. An error where the run recorded nothing, or not what its configuration names.
pub fn recorded(run: &RunDir, config: &TrainConfig) -> Result<Terms> {
    of(config, &Provenance::read(run)?.measured().inputs(), &run.provenance())
}

/// The terms of an experiment whose files have these hashes; an error about the file `at`, where they are from, when one that
/// the experiment names is missing.
pub fn of(config: &TrainConfig, inputs: &Hashes, at: &Path) -> Result<Terms> {
    let named = &config.model.path;
    // Otherwise the model is of the Hub, and its files were recorded where the cache has them.
    let own = inputs.keys().find(|path| is_gguf(path) && (*path == named || path.parent() == Some(named.as_path())));
    let folder = match own {
        Some(file) => file.clone(),
        None if inputs.contains_key(&named.join(base::CONFIG)) => named.clone(),
        None => config.model.folder()?,
    };
    let is_base = |path: &&PathBuf| **path == folder || path.parent() == Some(folder.as_path()) && is_weights(path);
    let base: Vec<PathBuf> = inputs.keys().filter(is_base).cloned().collect();
    with_hashes(config, &folder, &base, |path| {
        let absent = || Error::file(at, format!("expected the hash of {}, got none", path.display()));
        inputs.get(path).cloned().or_else(|| of_folder(inputs, path)).ok_or_else(absent)
    })
}

/// One hash for a folder of text: that of the names and hashes of its files. None where none lies in it.
fn of_folder(inputs: &Hashes, folder: &Path) -> Option<String> {
    let inside = inputs.iter().filter_map(|(path, hash)| Some((path.strip_prefix(folder).ok()?, hash)));
    let lines: String = inside.map(|(path, hash)| format!("{} {hash}\n", path.display())).collect();
    (!lines.is_empty()).then(|| sha256(lines.as_bytes()))
}

/// The `terms` of an experiment that decide what is measured: a run that saw other things, or was trained on other
/// text, is still judged on the same windows by the same teacher.
pub fn judged(config: &TrainConfig, mut terms: Terms) -> Terms {
    let is_judged = |key: &str| config.eval.split == ExamSplit::Valid && key == "data.valid.sha256";
    FREE.iter().filter(|key| !is_judged(key)).for_each(|key| drop(terms.remove(*key)));
    if !config.eval.split.is_test() {
        terms.remove("data.test.sha256");
    }
    if let Some(recall) = &config.data.recall {
        terms.insert("data.recall".into(), held_out(recall));
    }
    terms
}

/// Terms that will decide what is measured, before any file is read: paths in the place of hashes.
pub fn planned(config: &TrainConfig) -> Terms {
    let mut terms = judged(config, values(config));
    terms.insert("model.path".into(), config.model.path.display().to_string());
    if let Some(revision) = &config.model.revision {
        terms.insert("model.revision".into(), revision.clone());
    }
    if config.model.bos == Bos::Yes {
        terms.insert("model.bos".into(), "true".into());
    }
    if let Some(file) = config.data.judged(config.eval.split) {
        terms.insert(format!("data.{}", config.eval.split.name()), file.display().to_string());
    }
    terms
}

/// A sentence for each key of which the two do not have the same value.
pub fn differing(expected: &Terms, got: &Terms) -> Vec<String> {
    let shown = |key: &str, value: Option<&String>| match value {
        None => "nothing".to_string(),
        Some(hash) if key.ends_with(".sha256") => short(hash).to_string(),
        Some(value) => value.clone(),
    };
    let mut keys: Vec<&String> = expected.keys().chain(got.keys()).collect();
    keys.sort();
    keys.dedup();
    (keys.into_iter().filter(|key| expected.get(*key) != got.get(*key)))
        .map(|key| format!("`{key}`: expected {}, got {}", shown(key, expected.get(key)), shown(key, got.get(key))))
        .collect()
}

/// Fails unless the run in the folder `other` has the terms of the one in `first`; names both, the keys and their values.
pub fn check(first: &Path, expected: &Terms, other: &Path, got: &Terms) -> Result<()> {
    let differing = differing(expected, got);
    if differing.is_empty() {
        return Ok(());
    }
    Err(Error::file(other, format!("cannot be compared with {}: {}", first.display(), differing.join("; "))))
}

/// The terms that the configuration gives without reading a file.
fn values(config: &TrainConfig) -> Terms {
    let data = &config.data;
    let mut terms = Terms::new();
    let mut tell = |key: &str, value: String| _ = terms.insert(key.to_string(), value);
    tell("condition", format!("{:?}", config.condition).to_lowercase());
    tell("data.prefix_tokens", data.prefix_tokens.to_string());
    tell("data.local_tokens", data.local_tokens.to_string());
    tell("data.future_tokens", data.future_tokens.to_string());
    tell("eval.windows", config.eval.windows.to_string());
    tell("eval.windows_per_document", config.eval.windows_per_document.to_string());
    if !config.eval.split.is_test() {
        tell("eval.split", config.eval.split.name().to_string());
    }
    if !config.eval.cluster.is_document() {
        tell("eval.cluster", config.eval.cluster.plural().to_string());
    }
    if let Some(recall) = &data.recall {
        tell("data.recall", format!("{recall:?}"));
    }
    if let Some(facts) = &data.facts {
        tell("data.facts", format!("{facts:?}"));
    }
    if let Some(qa) = &data.qa {
        tell("data.qa", format!("{qa:?}"));
    }
    if config.asks() {
        // Where a compressor sees a probe, a window has that one alone.
        tell("probes of a window", if config.condition == Condition::None { "all" } else { "one" }.into());
    }
    if !config.reader.is_plain() {
        tell("reader", format!("{:?}", config.reader));
    }
    terms
}

/// The terms of a model in `folder` with these files of `weights`.
fn with_hashes(
    config: &TrainConfig,
    folder: &Path,
    weights: &[PathBuf],
    hash: impl Fn(&Path) -> Result<String>,
) -> Result<Terms> {
    let data = &config.data;
    let mut terms = values(config);
    let mut tell = |key: &str, value: String| _ = terms.insert(key.to_string(), value);
    for file in weights {
        // One file is the base; of several each has its name.
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let key = if weights.len() == 1 { "base.sha256".into() } else { format!("base.{name}.sha256") };
        tell(&key, hash(file)?);
    }
    // A GGUF file is configuration and tokenizer too.
    for (key, name) in
        [("base.config", base::CONFIG), ("tokenizer", base::TOKENIZER)].iter().filter(|_| !is_gguf(folder))
    {
        tell(&format!("{key}.sha256"), hash(&folder.join(name))?);
    }
    let tokenizer = base::file(folder, base::TOKENIZER);
    // Files of a finished run may be gone.
    let begins = match tokenizer.exists() {
        true => !begin(&tokenizer, config.model.bos)?.is_empty(),
        false => config.model.bos == Bos::Yes,
    };
    if begins {
        tell("model.bos", "true".into());
    }
    let last = data.last.clone().filter(|_| config.eval.split == ExamSplit::Final);
    for (key, path) in [("train", &data.train), ("valid", &data.valid), ("test", &data.test), ("final", &last)] {
        if let Some(path) = path {
            tell(&format!("data.{key}.sha256"), hash(path)?);
        }
    }
    Ok(terms)
}

fn is_weights(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "safetensors") || path.file_name().is_some_and(|name| name == INDEX)
}

/// Generated documents, those to learn from left out.
fn held_out(recall: &RecallSection) -> String {
    let RecallSection { words, prefix, facts, rounds, held_out_documents, .. } = recall;
    format!("words {words}, prefix {prefix}, facts {facts}, rounds {rounds}, held_out_documents {held_out_documents}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::run_dir::{Start, write_json_atomic};

    const CONFIG: &str = "kind = \"train\"\nname = \"x\"\nbudget.tokens = 4\n\
        [model]\npath = \"models/base\"\n\
        [data]\ntrain = \"a.jsonl\"\nvalid = \"b.jsonl\"\ntest = \"c.jsonl\"\n\
        prefix_tokens = 32\nlocal_tokens = 8\nfuture_tokens = 8\n\
        [train]\nsteps = 1\nwindows_per_step = 1\n\
        [optim]\ncompressor.lr = 1e-3\ngenerator.lr = 1e-3\nimitation.lr = 1e-3\n";

    fn config(from: &str, to: &str) -> TrainConfig {
        assert!(CONFIG.contains(from), "{from}");
        toml::from_str(&CONFIG.replace(from, to)).unwrap()
    }

    #[test]
    fn differing_keys_are_named_with_both_values() {
        let terms = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let expected: Terms = terms(&[("condition", "local"), ("data.test.sha256", "aa"), ("same", "1")]);
        let got = terms(&[("condition", "none"), ("same", "1")]);
        let words = ["`condition`: expected local, got none", "`data.test.sha256`: expected aa, got nothing"];
        assert_eq!(differing(&expected, &got), words);
        assert!(differing(&expected, &expected).is_empty());
        assert_eq!(
            check(Path::new("a"), &expected, Path::new("b"), &got).unwrap_err().to_string(),
            format!("b: cannot be compared with a: {}", words.join("; "))
        );
    }

    #[test]
    fn what_is_learned_from_does_not_decide_what_is_measured() {
        let first = planned(&config("", ""));
        for (from, to) in [
            ("a.jsonl", "other.jsonl"),
            ("b.jsonl", "other.jsonl"),
            ("lr = 1e-3", "lr = 1e-4"),
            ("budget.tokens = 4", "budget.tokens = 5"),
            ("name = \"x\"", "name = \"y\"\ncondition = \"local\""),
        ] {
            assert_eq!(planned(&config(from, to)), first, "{to}");
        }
        for (from, to, said) in [
            ("prefix_tokens = 32", "prefix_tokens = 30", "`data.prefix_tokens`: expected 32, got 30"),
            ("c.jsonl", "d.jsonl", "`data.test`: expected c.jsonl, got d.jsonl"),
            ("models/base", "models/other", "`model.path`: expected models/base, got models/other"),
            ("[train]", "[eval]\ncluster = \"source\"\n[train]", "`eval.cluster`: expected nothing, got sources"),
            ("[model]", "[model]\nrevision = \"v2\"", "`model.revision`: expected nothing, got v2"),
            ("[train]", "[eval]\nwindows = 7\n[train]", "`eval.windows`: expected 400, got 7"),
        ] {
            assert_eq!(differing(&first, &planned(&config(from, to))), [said]);
        }
        let files = "train = \"a.jsonl\"\nvalid = \"b.jsonl\"\ntest = \"c.jsonl\"\n";
        let generated = |train: usize, held_out: usize| {
            let section = "[data.recall]\nwords = 9\nprefix = 8\nfacts = 2\n";
            let section = format!("{section}train_documents = {train}\nheld_out_documents = {held_out}\n[train]");
            let text = CONFIG.replace(files, "").replace("[train]", &section);
            planned(&toml::from_str(&text).unwrap())
        };
        assert_eq!(generated(10, 4), generated(20, 4));
        assert_ne!(generated(10, 4), generated(10, 5));
    }

    #[test]
    fn recorded_hashes_need_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path(), CONFIG, Start::Fresh).unwrap();
        let config = config("models/base", "models/gone");
        assert!(recorded(&run, &config).unwrap_err().to_string().contains("provenance.json"), "no record");
        let record = |files: &[&str]| {
            let inputs: Vec<_> = (files.iter().enumerate())
                .map(|(i, path)| serde_json::json!({"path": path, "bytes": 1, "sha256": i.to_string()}))
                .collect();
            let versions = serde_json::json!({"gist": "", "rustc": "", "tch": "", "libtorch": ""});
            let record = serde_json::json!({
                "started": 0, "commit": null, "dirty": null, "argv": [], "versions": versions, "device": "cpu",
                "threads": {"libtorch": 1, "rayon": 1}, "inputs": inputs,
            });
            write_json_atomic(&run.provenance(), &record).unwrap();
        };
        let own = ["a.jsonl", "b.jsonl", "c.jsonl", "models/gone/config.json", "models/gone/tokenizer.json"];
        record(&[&own[..], &["models/gone/model.safetensors", "models/other/model.safetensors"]].concat());
        let found = recorded(&run, &config).unwrap();
        let hash = |key: &str| found[&format!("{key}.sha256")].clone();
        assert_eq!([hash("data.test"), hash("tokenizer"), hash("base")], ["2", "4", "5"]);
        let kept = judged(&config, found.clone());
        let left: Vec<&String> = found.keys().filter(|key| !kept.contains_key(*key)).collect();
        assert_eq!(left, ["condition", "data.train.sha256", "data.valid.sha256"]);

        let shards = ["models/gone/model-1.safetensors", "models/gone/model.safetensors.index.json"];
        record(&[&own[..], &shards].concat());
        let found = recorded(&run, &config).unwrap();
        assert_eq!(found["base.model-1.safetensors.sha256"], "5");
        assert_eq!(found["base.model.safetensors.index.json.sha256"], "6");

        record(&[&own[1..], &shards].concat());
        let said = recorded(&run, &config).unwrap_err().to_string();
        assert!(said.ends_with("provenance.json: expected the hash of a.jsonl, got none"), "{said}");
    }
}
