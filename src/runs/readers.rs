//! Readers adapted to compressors: taught once, kept in a folder with a record of what they were made from, and used again by
//! whoever asks for the same. A reader that was made from other files or settings is taught again. One that only another
//! program taught is refused, unless the user accepts it.

use crate::compressor::Compressor;
use crate::error::{Error, Result};
use crate::model::lora::Adapter;
use crate::run_dir::{Build, read_json, settle, write_json_atomic};
use crate::runs::terms::Terms;
use crate::train::inputs::Inputs;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

pub use crate::train::adapt::{Lesson, teach};

/// The program that taught a reader, in its record.
const PROGRAM: &str = "program";

/// A folder of readers, with what they are taught from.
pub struct Readers<'a> {
    /// Experiment, models, windows.
    pub inputs: Inputs<'a>,
    /// Receives the batch of an update that is not finite.
    pub root: &'a Path,
    /// Holds a folder a reader.
    pub folder: PathBuf,
    /// Hashes of base, tokenizer and text, and whatever else the compressors' output depends on.
    pub terms: &'a Terms,
    /// Whether readers that another program taught are used.
    pub accept_changes: bool,
}

/// A reader.
pub struct KeptReader {
    /// Weights of the reader.
    pub adapter: Adapter,
    /// Sentences saying that another program taught it, where that was accepted.
    pub accepted: Vec<String>,
}

impl Readers<'_> {
    /// The reader in the folder `place` if it was made from all this, or else one taught now and kept there. `made_of` says
    /// which weights the compressors of the lesson have, by name.
    pub fn get(&self, place: &str, lesson: &Lesson, made_of: Value) -> Result<KeptReader> {
        let (folder, record) = (self.folder.join(place), self.record(lesson, made_of));
        let path = folder.join("record.json");
        if let Some(known) = path.exists().then(|| read_json::<Map<String, Value>>(&path)).transpose()? {
            let differing = differing(&known, &record);
            if differing.is_empty() {
                let changes = program(&known, &record)?;
                let refused = format!("{}: a kept reader that another program taught is not used", folder.display());
                let accepted = settle(changes, self.accept_changes, &refused)?;
                eprintln!("{}: kept from before", lesson.title);
                return Ok(KeptReader { adapter: self.inputs.models.decoder.load_adapter(&folder)?, accepted });
            }
            eprintln!("{}: trained again, because {}", lesson.title, differing.join("; "));
            // A record never lies beside a reader that it does not describe.
            std::fs::remove_file(&path).map_err(|e| Error::io(&path, e))?;
        } else {
            eprintln!("{} …", lesson.title);
        }
        let adapter = teach(self.inputs, self.root, lesson)?;
        adapter.save(&folder, &self.inputs.models.base())?;
        write_json_atomic(&path, &record)?;
        Ok(KeptReader { adapter, accepted: Vec::new() })
    }

    fn record(&self, lesson: &Lesson, made_of: Value) -> Map<String, Value> {
        let config = self.inputs.config;
        let fields = [
            ("updates", json!(lesson.updates)),
            ("budgets", json!(if is_idle(lesson.compressors) { &[][..] } else { lesson.budgets })),
            ("compressors", made_of),
            ("gists_per_window", json!(lesson.gists)),
            ("windows_per_step", json!(config.train.windows_per_step)),
            ("imagined_futures", json!(config.train.imagined_futures)),
            ("schedule", json!(config.train.schedule)),
            ("optim", json!(config.optim.generator)),
            ("lora", json!(config.model.lora.generator)),
            ("seed", json!(config.seed)),
            ("dtype", json!(config.hardware.dtype)),
            ("terms", json!(self.terms)),
            (PROGRAM, json!(Build::own())),
        ];
        fields.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }
}

/// Whether a lesson is that of the reader of nothing, to which budgets are all one.
pub fn is_idle(compressors: &[&dyn Compressor]) -> bool {
    compressors.len() == 1 && compressors[0].name() == "empty"
}

/// A sentence for every key, the program apart, in which two records differ.
fn differing(known: &Map<String, Value>, now: &Map<String, Value>) -> Vec<String> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    flatten("", &Value::Object(known.clone()), &mut before);
    flatten("", &Value::Object(now.clone()), &mut after);
    let of = |all: &[(String, String)], key: &str| {
        all.iter().find(|(known, _)| known == key).map_or("nothing".to_string(), |(_, value)| value.clone())
    };
    let mut keys: Vec<&String> = before.iter().chain(&after).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let keys = keys.into_iter().filter(|key| !key.starts_with(PROGRAM));
    let pairs = keys.map(|key| (key, of(&before, key), of(&after, key)));
    pairs.filter(|(_, was, is)| was != is).map(|(key, was, is)| format!("`{key}` was {was}, is now {is}")).collect()
}

/// Nested JSON as dotted keys with plain values.
fn flatten(key: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(part, value)| {
            flatten(&if key.is_empty() { part.clone() } else { format!("{key}.{part}") }, value, into);
        }),
        other => into.push((key.to_string(), other.to_string())),
    }
}

/// A sentence where another program wrote the record, or none is named.
fn program(known: &Map<String, Value>, now: &Map<String, Value>) -> Result<Vec<String>> {
    let build = |record: &Map<String, Value>| -> Result<Option<Build>> {
        let parsed = record.get(PROGRAM).map(|value| serde_json::from_value(value.clone())).transpose();
        parsed.map_err(|e| Error::invalid(format!("record.json: `{PROGRAM}`: {e}")))
    };
    Ok(match (build(known)?, build(now)?) {
        (Some(then), Some(now)) => then.difference(&now, ["then", "now"]).into_iter().collect(),
        _ => vec!["the program: unknown then".into()],
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn record(updates: usize, hash: &str, commit: &str) -> Map<String, Value> {
        let program = json!({"commit": commit, "dirty": false, "source": commit});
        let record = json!({"updates": updates, "terms": {"base.sha256": hash}, "program": program});
        record.as_object().unwrap().clone()
    }

    #[test]
    fn what_a_reader_was_made_from_is_told_apart_from_who_taught_it() {
        let known = record(3, "aa", "c1");
        assert!(differing(&known, &known).is_empty() && program(&known, &known).unwrap().is_empty());
        let other = record(4, "bb", "c1");
        let said = ["`terms.base.sha256` was \"aa\", is now \"bb\"", "`updates` was 3, is now 4"];
        assert_eq!(differing(&known, &other), said);
        let later = record(3, "aa", "c2");
        assert!(differing(&known, &later).is_empty());
        assert_eq!(program(&known, &later).unwrap(), ["the program: commit c1 then, commit c2 now"]);
        let mut old = known.clone();
        old.remove(PROGRAM);
        assert!(differing(&old, &known).is_empty());
        assert_eq!(program(&old, &known).unwrap(), ["the program: unknown then"]);
    }
}
