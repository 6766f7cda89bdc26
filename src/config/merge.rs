//! Loading TOML: `base` chains, deep merging, `--set` overrides, and where each key was set. Knows nothing of the schema.
//!
//! Precedence: base < the file that names it < … < `--set`. Tables merge key by key; lists and scalars replace. When
//! both sides of a table carry `type` (a tagged enum) and the two differ, the upper table replaces the lower one whole,
//! since the keys of one variant mean nothing to another. `unset = ["dotted.key", …]` takes away keys that are set below,
//! before the other keys of its layer are merged.

use crate::config::chain::{parse, read_chain};
use crate::config::explain;
use crate::config::keys::{each_leaf, is_within, join, leaves, nest, parse_key, remove};
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Name that stands for the command line where an error names the file of a key.
pub const COMMAND_LINE: &str = "--set";
/// Top-level key of a layer: the dotted keys (one, or a list) that it takes away from what lies below.
pub const UNSET: &str = "unset";

/// A merged configuration and where each of its leaves was set.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The merged keys, without `base`.
    pub table: Table,
    origin: BTreeMap<String, PathBuf>,
    /// Keys that were taken away, and the file that did so.
    unset: BTreeMap<String, PathBuf>,
    path: PathBuf,
}

/// Loads a TOML file, follows its `base = "relative/path.toml"` chain (relative to the file that names it), merges, then
/// applies `--set dotted.key=value` overrides (a TOML value, else a bare string). `unset` of a key that is not set below is an
/// error.
pub fn load_tree(path: &Path, set: &[String]) -> Result<Tree> {
    let mut tree = Tree::at(path);
    for (file, layer) in read_chain(path)?.iter().rev() {
        tree.apply(layer, file)?;
    }
    tree.apply(&parse_set(set)?, Path::new(COMMAND_LINE))?;
    Ok(tree)
}

impl Tree {
    fn at(path: &Path) -> Tree {
        Tree { table: Table::new(), origin: BTreeMap::new(), unset: BTreeMap::new(), path: path.to_path_buf() }
    }

    /// Deserialises into `T`. An unknown key, a wrong type, a missing key or an unknown variant becomes
    /// `Error::Config` naming the file where that key was set, the dotted key, what was expected and what was got.
    pub fn resolve<T: DeserializeOwned>(&self) -> Result<T> {
        serde_path_to_error::deserialize(self.table.clone()).map_err(|error| {
            let (key, mut message) = explain::explain(&self.table, error.path(), error.inner().message());
            if self.unset.keys().any(|unset| is_within(unset, &key)) {
                message += "; `unset` takes it away here";
            }
            self.invalid(&key, message)
        })
    }

    /// An error about `key` that names the file where it was set; for checks across fields.
    pub fn invalid(&self, key: &str, message: String) -> Error {
        Error::config(self.origin_of(key), key, message)
    }

    /// The string under a dotted key, if there is one.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The value under a dotted key, if there is one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let parts = parse_key(key)?;
        let (name, parents) = parts.split_last()?;
        parents.iter().try_fold(&self.table, |table, part| table.get(part)?.as_table())?.get(name)
    }

    /// The file that was asked for, the last of its `base` chain.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes away what `layer` unsets, which must be there, and merges the rest over what is left; `from` is named in errors
    /// about its keys.
    pub fn apply(&mut self, layer: &Table, from: &Path) -> Result<()> {
        match self.apply_loosely(layer, from)?.first() {
            Some(absent) => Err(self.not_set(absent, from)),
            None => Ok(()),
        }
    }

    /// [`Tree::apply`] that lets `layer` unset what is not there; returns those keys.
    pub fn apply_loosely(&mut self, layer: &Table, from: &Path) -> Result<Vec<String>> {
        let mut absent = Vec::new();
        for parts in unset_keys(layer, from)? {
            let key = parts.iter().fold(String::new(), |parent, part| join(&parent, part));
            match remove(&mut self.table, &parts) {
                Some(_) => {
                    self.origin.retain(|leaf, _| !is_within(leaf, &key));
                    self.unset.insert(key, from.to_path_buf());
                }
                None => absent.push(key),
            }
        }
        let mut rest = layer.clone();
        rest.remove(UNSET);
        merge(&mut self.table, &rest, "", from, &mut self.origin);
        let set = leaves(&rest);
        self.unset.retain(|key, _| !set.keys().any(|leaf| is_within(leaf, key)));
        Ok(absent)
    }

    /// The error about a key that `from` unsets and nothing below sets.
    pub fn not_set(&self, key: &str, from: &Path) -> Error {
        let mut known: Vec<&str> = self.origin.keys().map(String::as_str).filter(|known| *known != key).collect();
        known.extend(self.table.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| name.as_str()));
        let suggestion = explain::suggestion(key, &known);
        Error::config(from, UNSET, format!("expected keys that are set below, got `{key}`, which is not{suggestion}"))
    }

    /// Puts `rest` below what is there: keys that are set stay as they are.
    pub fn complete(&mut self, rest: Table) {
        let above = std::mem::replace(&mut self.table, rest);
        overlay(&mut self.table, &above);
    }

    /// Takes top-level keys out into a tree of their own.
    pub fn split_off(&mut self, names: &[&str]) -> Tree {
        let mut taken = Tree::at(&self.path);
        for &name in names {
            if let Some(value) = self.table.remove(name) {
                taken.table.insert(name.to_string(), value);
            }
            let keys: Vec<String> = self.origin.keys().filter(|key| is_within(key, name)).cloned().collect();
            taken.origin.extend(keys.into_iter().filter_map(|key| self.origin.remove_entry(&key)));
        }
        taken
    }

    /// The file of the leaf itself, of a list around it, or of the first leaf under it; else the one that took it away, or the
    /// file asked for.
    fn origin_of(&self, key: &str) -> &Path {
        let around = std::iter::successors(Some(key), |key| key.rfind(['.', '[']).map(|end| &key[..end]));
        let exact = around.filter_map(|key| self.origin.get(key)).next();
        let under = || [&self.origin, &self.unset].into_iter().flatten().find(|(leaf, _)| is_within(leaf, key));
        exact.or_else(|| under().map(|(_, file)| file)).unwrap_or(&self.path)
    }
}

/// The resolved configuration as TOML with block headers only, every default written out.
pub fn to_toml<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string(value).map_err(|error| Error::invalid(format!("configuration cannot be written as TOML: {error}")))
}

/// Every leaf of a TOML text: dotted key and value as TOML; `path` is named in errors.
pub fn flat(text: &str, path: &Path) -> Result<BTreeMap<String, String>> {
    Ok(leaves(&parse(text, path)?))
}

/// A leaf that differs: dotted key, left value, right value.
pub type Difference = (String, Option<String>, Option<String>);

/// Leaves that differ between two TOML texts, in the order of their keys; values as TOML.
pub fn differences(a: &str, b: &str) -> Result<Vec<Difference>> {
    let (a, b) = (leaves(&parse(a, Path::new("left"))?), leaves(&parse(b, Path::new("right"))?));
    let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let pairs = keys.into_iter().map(|key| (key.clone(), a.get(key).cloned(), b.get(key).cloned()));
    Ok(pairs.filter(|(_, left, right)| left != right).collect())
}

/// The keys that a layer unsets, each in its parts.
fn unset_keys(layer: &Table, from: &Path) -> Result<Vec<Vec<String>>> {
    let all = match layer.get(UNSET) {
        None => return Ok(Vec::new()),
        Some(Value::Array(keys)) => keys.iter().collect(),
        Some(key) => vec![key],
    };
    let parts = |key: &Value| {
        let bad = || Error::config(from, UNSET, format!("expected a dotted key or a list of them, got {key}"));
        key.as_str().and_then(parse_key).ok_or_else(bad)
    };
    all.into_iter().map(parts).collect()
}

/// The overrides of the command line as one table; a later one wins, and what several unset is put together.
pub(crate) fn parse_set(set: &[String]) -> Result<Table> {
    let mut table = Table::new();
    for text in set {
        let bad = |message: &str| Error::config(COMMAND_LINE, text, message);
        let (key, value) = text.split_once('=').ok_or_else(|| bad("expected dotted.key=value"))?;
        let parts = parse_key(key.trim()).ok_or_else(|| bad("expected dotted.key=value, got a malformed key"))?;
        if parts.first().is_some_and(|part| part == "base") {
            return Err(bad("`base` can only be set in a file"));
        }
        let value = value.trim().parse().unwrap_or_else(|_| Value::from(value.trim()));
        if parts == [UNSET] {
            let more = if let Value::Array(keys) = value { keys } else { vec![value] };
            let before = table.get(UNSET).and_then(Value::as_array).cloned().unwrap_or_default();
            table.insert(UNSET.into(), Value::Array([before, more].concat()));
            continue;
        }
        overlay(&mut table, &nest(&parts, value));
    }
    Ok(table)
}

/// Merges `upper` over `lower` by the rules of this module.
pub(crate) fn overlay(lower: &mut Table, upper: &Table) {
    merge(lower, upper, "", Path::new(""), &mut BTreeMap::new());
}

fn merge(lower: &mut Table, upper: &Table, parent: &str, from: &Path, origin: &mut BTreeMap<String, PathBuf>) {
    for (name, value) in upper {
        let key = join(parent, name);
        match (lower.get_mut(name), value) {
            (Some(Value::Table(low)), Value::Table(up)) if !retyped(low, up) => merge(low, up, &key, from, origin),
            _ => {
                origin.retain(|leaf, _| !is_within(leaf, &key));
                match value {
                    Value::Table(up) if !up.is_empty() => each_leaf(up, &key, &mut |leaf, _| {
                        origin.insert(leaf, from.to_path_buf());
                    }),
                    _ => {
                        origin.insert(key, from.to_path_buf());
                    }
                }
                lower.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Whether a tagged enum changes its variant.
fn retyped(lower: &Table, upper: &Table) -> bool {
    matches!((lower.get("type"), upper.get("type")), (Some(low), Some(up)) if low != up)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
