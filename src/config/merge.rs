//! Loading TOML: `base` chains, deep merging, `--set` overrides, and where each key was set. Knows nothing of the schema.
//!
//! Precedence: base < the file that names it < … < `--set`. Tables merge key by key; lists and scalars replace. When
//! both sides of a table carry `type` (a tagged enum) and the two differ, the upper table replaces the lower one whole,
//! since the keys of one variant mean nothing to another.

use crate::config::chain::{parse, read_chain};
use crate::config::explain;
use crate::config::keys::{each_leaf, is_within, join, leaves, nest, parse_key};
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What error messages name in place of a file when a key came from the command line.
pub const COMMAND_LINE: &str = "--set";

/// A merged configuration and where each of its leaves was set.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The merged keys, without `base`.
    pub table: Table,
    origin: BTreeMap<String, PathBuf>,
    path: PathBuf,
}

/// Loads a TOML file, follows its `base = "relative/path.toml"` chain (relative to the file that names it), merges, then
/// applies `--set dotted.key=value` overrides (a TOML value, else a bare string).
pub fn load_tree(path: &Path, set: &[String]) -> Result<Tree> {
    let mut tree = Tree { table: Table::new(), origin: BTreeMap::new(), path: path.to_path_buf() };
    for (file, layer) in read_chain(path)?.iter().rev() {
        tree.apply(layer, file);
    }
    tree.apply(&parse_set(set)?, Path::new(COMMAND_LINE));
    Ok(tree)
}

impl Tree {
    /// Deserialises into `T`. An unknown key, a wrong type, a missing key or an unknown variant becomes
    /// `Error::Config` naming the file where that key was set, the dotted key, what was expected and what was got.
    pub fn resolve<T: DeserializeOwned>(&self) -> Result<T> {
        serde_path_to_error::deserialize(self.table.clone()).map_err(|error| {
            let (key, message) = explain::explain(&self.table, error.path(), error.inner().message());
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

    /// Merges `layer` over what is there; `from` is named in errors about its keys.
    pub fn apply(&mut self, layer: &Table, from: &Path) {
        merge(&mut self.table, layer, "", from, &mut self.origin);
    }

    /// Puts `rest` below what is there: keys that are set stay as they are.
    pub fn complete(&mut self, rest: Table) {
        let above = std::mem::replace(&mut self.table, rest);
        overlay(&mut self.table, &above);
    }

    /// Takes top-level keys out into a tree of their own.
    pub fn split_off(&mut self, names: &[&str]) -> Tree {
        let mut taken = Tree { table: Table::new(), origin: BTreeMap::new(), path: self.path.clone() };
        for &name in names {
            if let Some(value) = self.table.remove(name) {
                taken.table.insert(name.to_string(), value);
            }
            let keys: Vec<String> = self.origin.keys().filter(|key| is_within(key, name)).cloned().collect();
            taken.origin.extend(keys.into_iter().filter_map(|key| self.origin.remove_entry(&key)));
        }
        taken
    }

    /// The file of the leaf itself, of a list around it, or of the first leaf under it; else the file asked for.
    fn origin_of(&self, key: &str) -> &Path {
        let around = std::iter::successors(Some(key), |key| key.rfind(['.', '[']).map(|end| &key[..end]));
        let exact = around.filter_map(|key| self.origin.get(key)).next();
        let under = || self.origin.iter().find(|(leaf, _)| is_within(leaf, key)).map(|(_, file)| file);
        exact.or_else(under).unwrap_or(&self.path)
    }
}

/// The resolved configuration as TOML with block headers only, every default written out.
pub fn to_toml<T: Serialize>(value: &T) -> Result<String> {
    toml::to_string(value).map_err(|error| Error::invalid(format!("configuration cannot be written as TOML: {error}")))
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

/// The overrides of the command line as one table; a later one wins.
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
mod tests {
    use super::*;
    use serde::Deserialize;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    /// Loads `top.toml`; the folder's own path is cut from the result.
    fn load(files: &[(&str, &str)], set: &[&str]) -> std::result::Result<(Tree, tempfile::TempDir), String> {
        let folder = folder(files);
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        match load_tree(&folder.path().join("top.toml"), &set) {
            Ok(tree) => Ok((tree, folder)),
            Err(error) => Err(shorten(&error, &folder)),
        }
    }

    fn shorten(error: &Error, folder: &tempfile::TempDir) -> String {
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    }

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn tables_merge_and_lists_replace_along_the_chain() {
        let files = [
            ("top.toml", "base = \"bases/mid.toml\"\n[train]\nsteps = 3\nlayers = [9]\n"),
            ("bases/mid.toml", "base = \"low.toml\"\nname = \"mid\"\n[train]\nrate = 0.5\n"),
            (
                "bases/low.toml",
                "name = \"low\"\n[train]\nsteps = 1\nrate = 0.1\nlayers = [1, 2]\n[train.lora]\nrank = 4\n",
            ),
        ];
        let (tree, folder) = load(&files, &[]).unwrap();
        let expected = "name = \"mid\"\n[train]\nsteps = 3\nrate = 0.5\nlayers = [9]\n[train.lora]\nrank = 4\n";
        assert_eq!(tree.table, table(expected));
        let origin = |key: &str| shorten(&tree.invalid(key, "no".into()), &folder);
        assert_eq!(origin("train.steps"), "top.toml: `train.steps`: no");
        assert_eq!(origin("train.rate"), "bases/mid.toml: `train.rate`: no");
        assert_eq!(origin("train.layers[0]"), "top.toml: `train.layers[0]`: no");
        assert_eq!(origin("train.lora"), "bases/low.toml: `train.lora`: no");
        assert_eq!(origin("train.defaulted"), "top.toml: `train.defaulted`: no");
        assert_eq!(tree.get_str("name"), Some("mid"));
        assert_eq!(tree.get_str("train.steps"), None);
        assert_eq!(tree.get("train.lora.rank"), Some(&Value::Integer(4)));
    }

    #[test]
    fn another_type_replaces_the_whole_table() {
        let low = ("low.toml", "[algo]\ntype = \"grpo\"\nscale = \"std\"\n[algo.clip]\nhigh = 1\n");
        let (tree, _) = load(&[low, ("top.toml", "base = \"low.toml\"\n[algo]\ntype = \"rloo\"\n")], &[]).unwrap();
        assert_eq!(tree.table, table("[algo]\ntype = \"rloo\""));
        assert_eq!(tree.origin.keys().collect::<Vec<_>>(), ["algo.type"]);
        let (tree, _) =
            load(&[low, ("top.toml", "base = \"low.toml\"\n[algo]\ntype = \"grpo\"\nx = 1\n")], &[]).unwrap();
        assert_eq!(tree.table, table("[algo]\ntype = \"grpo\"\nscale = \"std\"\nx = 1\n[algo.clip]\nhigh = 1"));
        let (tree, _) = load(&[low, ("top.toml", "base = \"low.toml\"")], &["algo.clip=0.2", "algo.type=ppo"]).unwrap();
        assert_eq!(tree.table, table("[algo]\nclip = 0.2\ntype = \"ppo\""));
    }

    #[test]
    fn set_takes_toml_values_or_bare_strings() {
        let set = ["a.b=3", "a.c = [1, 2]", "a.d=1e-4", "e= q_proj", "f=\"7\"", "g=x=y", "a.\"x.y\"=true", "a.b=4"];
        let (tree, _) = load(&[("top.toml", "e = 1\n[a]\nz = 0\n")], &set).unwrap();
        let expected =
            "e = \"q_proj\"\nf = \"7\"\ng = \"x=y\"\n[a]\nz = 0\nb = 4\nc = [1, 2]\nd = 1e-4\n\"x.y\" = true\n";
        assert_eq!(tree.table, table(expected));
        assert_eq!(tree.invalid("a.b", "no".into()).to_string(), "--set: `a.b`: no");
        let fail = |text: &str| load(&[("top.toml", "")], &[text]).unwrap_err();
        assert_eq!(fail("steps"), "--set: `steps`: expected dotted.key=value");
        assert_eq!(fail("a..b=1"), "--set: `a..b=1`: expected dotted.key=value, got a malformed key");
        assert_eq!(fail("base=x.toml"), "--set: `base=x.toml`: `base` can only be set in a file");
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Schema {
        lora: Lora,
        #[serde(default)]
        targets: Vec<String>,
        #[serde(default)]
        stages: Vec<Lora>,
        #[serde(default = "half")]
        rate: f64,
        #[serde(default)]
        limit: Option<u64>,
    }

    fn half() -> f64 {
        0.5
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Lora {
        rank: u32,
        dropout: f64,
    }

    #[test]
    fn errors_name_the_file_that_set_the_key() {
        let base = ("low.toml", "[lora]\nrank = 4\ndropuot = 0.0\n");
        let fail = |files: &[(&str, &str)], set: &[&str]| {
            let (tree, folder) = load(files, set).unwrap();
            shorten(&tree.resolve::<Schema>().unwrap_err(), &folder)
        };
        assert_eq!(
            fail(&[base, ("top.toml", "base = \"low.toml\"\nrate = 1\n")], &[]),
            "low.toml: `lora.dropuot`: unknown key `dropuot` (did you mean `dropout`?); expected one of `rank`, `dropout`"
        );
        let top = ("top.toml", "[lora]\nrank = 4\n");
        assert_eq!(fail(&[top], &[]), "top.toml: `lora.dropout`: missing; it has no default");
        assert_eq!(
            fail(&[top], &["lora.rank=-4"]),
            "--set: `lora.rank`: expected a non-negative integer, got integer `-4`"
        );
        assert_eq!(fail(&[("top.toml", "")], &[]), "top.toml: `lora`: missing; it has no default");
    }

    #[test]
    fn resolved_text_has_block_headers_and_reads_back() {
        let text = "limit = 3\n[lora]\nrank = 4\ndropout = 1\n[[stages]]\nrank = 1\ndropout = 0\n";
        let (tree, _) = load(&[("top.toml", text)], &[]).unwrap();
        let resolved: Schema = tree.resolve().unwrap();
        let written = to_toml(&resolved).unwrap();
        let expected = "targets = []\nrate = 0.5\nlimit = 3\n\n[lora]\nrank = 4\ndropout = 1.0\n\n[[stages]]\nrank = 1\ndropout = 0.0\n";
        assert_eq!(written, expected);
        let (again, _) = load(&[("top.toml", &written)], &[]).unwrap();
        assert_eq!(again.resolve::<Schema>().unwrap(), resolved);
    }

    #[test]
    fn differences_list_changed_added_and_removed_leaves() {
        let a = "name = \"x\"\n[train]\nsteps = 1\nlayers = [1, 2]\n[old]\n";
        let b = "[train]\nlayers = [1, 3]\nsteps = 1\n[train.lora]\nrank = 4\n";
        let text = |value: &str| Some(value.to_string());
        let expected = vec![
            ("name".to_string(), text("\"x\""), None),
            ("old".to_string(), text("{}"), None),
            ("train.layers".to_string(), text("[1, 2]"), text("[1, 3]")),
            ("train.lora.rank".to_string(), None, text("4")),
        ];
        assert_eq!(differences(a, b).unwrap(), expected);
        assert_eq!(differences(a, a).unwrap(), vec![]);
        assert_eq!(differences("a = nan", "a = nan").unwrap(), vec![]);
    }

    #[test]
    fn completed_keys_lie_below_and_belong_to_no_file() {
        let (mut tree, folder) = load(&[("top.toml", "[lora]\nrank = 4\n")], &[]).unwrap();
        tree.complete(table("limit = 1\n[lora]\nrank = 1\ndropout = 0.5\n"));
        assert_eq!(tree.table, table("limit = 1\n[lora]\nrank = 4\ndropout = 0.5\n"));
        assert_eq!(shorten(&tree.invalid("lora.rank", "no".into()), &folder), "top.toml: `lora.rank`: no");
    }

    #[test]
    fn split_off_moves_keys_and_their_origin() {
        let (mut tree, folder) = load(&[("top.toml", "seeds = [1]\nseed = 0\n[grid]\na = [1]\n")], &[]).unwrap();
        let taken = tree.split_off(&["seeds", "grid", "absent"]);
        assert_eq!(taken.table, table("seeds = [1]\n[grid]\na = [1]"));
        assert_eq!(tree.table, table("seed = 0"));
        assert_eq!(taken.origin.keys().collect::<Vec<_>>(), ["grid.a", "seeds"]);
        assert_eq!(shorten(&taken.invalid("grid.a", "no".into()), &folder), "top.toml: `grid.a`: no");
    }
}
