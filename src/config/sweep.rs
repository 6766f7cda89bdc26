//! A sweep: one experiment file that stands for arms × grid × seeds, expanded into named runs. Pure; runs nothing.
//!
//! Precedence: base < file < arm < grid < seed < `--set`. Run names follow from what varies, such as
//! `no-kl__keep_ratio=0.25__seed=1` (`run_names`); what does not vary is left out. An arm takes keys away by
//! `unset = ["dotted.key"]`, a grid by an axis of such lists: `unset = [[], ["dotted.key"]]`.

use crate::config::keys::{join, leaves, nest, parse_key};
use crate::config::merge::{COMMAND_LINE, Tree, UNSET, load_tree, overlay, parse_set};
use crate::config::run_names;
use crate::config::submit::{SUBMIT, SubmitConfig};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// Top-level keys that describe the sweep and are no part of a run's configuration.
pub const KEYS: [&str; 7] = ["question", "primary_metric", "baseline", "min_effect", "seeds", "arm", "grid"];

/// Keys of a sweep: its variations and its comparison. A file that sets none of these is a sweep of one run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Question that the experiment is to answer.
    #[serde(default)]
    pub question: Option<String>,
    /// Dotted key of `summary.json` on which arms are compared: `eval.compressors.<name>.gap_closed` of a compressor that
    /// every run evaluates.
    #[serde(default)]
    pub primary_metric: Option<String>,
    /// Name of the arm that the others are compared with; those must be judged by the same things (`eval::terms`).
    #[serde(default)]
    pub baseline: Option<String>,
    /// Smallest difference of the primary metric that matters.
    #[serde(default)]
    pub min_effect: Option<f64>,
    /// Each run is repeated with each of these as `seed`.
    #[serde(default)]
    pub seeds: Option<Vec<u64>>,
    /// Variants, each with its own changes.
    #[serde(default, rename = "arm")]
    pub arms: Vec<Arm>,
    /// Dotted key → list of values; every combination is run.
    #[serde(default)]
    pub grid: Table,
}

/// An arm: one variant of the experiment.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// First part of the run's name.
    pub name: String,
    /// Why it changes more than one key.
    #[serde(default)]
    pub why: Option<String>,
    /// Keys that it changes; absent = the file as it stands.
    #[serde(default)]
    pub set: Option<Table>,
    /// Keys of the file and its bases that it takes away.
    #[serde(default)]
    pub unset: Vec<String>,
}

impl Arm {
    /// Changes of the arm, as a layer over the file.
    fn layer(&self) -> Table {
        let mut layer = self.set.clone().unwrap_or_default();
        if !self.unset.is_empty() {
            layer.insert(UNSET.into(), Value::from(self.unset.clone()));
        }
        layer
    }
}

/// One axis of the grid: a key and its values.
struct Axis {
    path: Vec<String>,
    values: Vec<Value>,
}

/// A run in the making: the parts of its name, and the keys that it sets.
#[derive(Clone, Default)]
struct Draft {
    arm: Option<String>,
    cell: Vec<String>,
    seed: Option<String>,
    /// Keys set by the arm, by the grid and by the seed, in this order.
    layers: [Table; 3],
}

/// A run of a sweep.
#[derive(Clone, Debug)]
pub struct SweepRun {
    /// Name of its folder.
    pub name: String,
    /// Name of the run without the seed, which its repetitions share; empty when nothing else varies.
    pub label: String,
    /// The label of the baseline's run in the same cell of the grid.
    pub rival: Option<String>,
    /// Keys that set it apart from the other runs: dotted key and TOML value; `unset` holds the keys that are taken away.
    pub varied: BTreeMap<String, String>,
    /// Configuration of the run.
    pub tree: Tree,
}

/// Loads the file of a sweep as [`load_tree`] does, but lets `--set unset=KEY` name a key that only an arm or the grid sets.
pub fn load(path: &Path, set: &[String]) -> Result<Tree> {
    let mut tree = load_tree(path, &[])?;
    tree.apply_loosely(&parse_set(set)?, Path::new(COMMAND_LINE))?;
    Ok(tree)
}

/// Expands the file at `path` into its runs, arms outermost and seeds innermost.
pub fn expand(path: &Path, set: &[String]) -> Result<Vec<SweepRun>> {
    let mut overrides = parse_set(set)?;
    let mut base = load_tree(path, &[])?;
    let mut absent = base.apply_loosely(&overrides, Path::new(COMMAND_LINE))?;
    SubmitConfig::take(&mut base)?;
    overrides.remove(SUBMIT);
    let (sweep, spec) = Sweep::take(&mut base)?;
    sweep.check_arms(&base, &spec)?;
    KEYS.iter().for_each(|key| drop(overrides.remove(*key)));

    let mut runs: Vec<SweepRun> = Vec::new();
    for draft in sweep.drafts(&spec)? {
        let mut tree = base.clone();
        let mut varied = BTreeMap::new();
        for layer in &draft.layers {
            tree.apply(layer, path)?;
            varied.extend(leaves(layer));
        }
        let still_absent = tree.apply_loosely(&overrides, Path::new(COMMAND_LINE))?;
        absent.retain(|key| still_absent.contains(key));
        let label = run_names::label(draft.arm.as_deref(), &draft.cell);
        let rival = sweep.baseline.as_deref().map(|name| run_names::label(Some(name), &draft.cell));
        let name = run_names::run(&label, draft.seed.as_deref());
        for earlier in &runs {
            if earlier.name.eq_ignore_ascii_case(&name) {
                let message = format!("expected distinct run names, got `{}` and `{name}`", earlier.name);
                return Err(Error::file(path, message));
            }
            if leaves(&earlier.tree.table) == leaves(&tree.table) {
                return Err(twins(path, &earlier.name, &name, ""));
            }
        }
        runs.push(SweepRun { name, label, rival, varied, tree });
    }
    match absent.first() {
        Some(key) => Err(base.not_set(key, Path::new(COMMAND_LINE))),
        None => Ok(runs),
    }
}

/// The error about two runs of the file at `path` that have the same configuration; `why` ends the sentence.
pub fn twins(path: &Path, a: &str, b: &str, why: &str) -> Error {
    Error::file(path, format!("expected runs that differ, got the same configuration for `{a}` and `{b}`{why}"))
}

impl Sweep {
    /// Takes the sweep's keys out of `tree`, leaving a run's configuration; also returns them as a tree, which knows
    /// where each was set.
    pub fn take(tree: &mut Tree) -> Result<(Sweep, Tree)> {
        let spec = tree.split_off(&KEYS);
        Ok((spec.resolve()?, spec))
    }

    fn check_arms(&self, base: &Tree, spec: &Tree) -> Result<()> {
        let before = leaves(&base.table);
        for (index, arm) in self.arms.iter().enumerate() {
            let is_safe = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
            if !arm.name.chars().all(is_safe) || !arm.name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
                let message = format!("expected a name of letters, digits and `._+-`, got `{}`", arm.name);
                return Err(spec.invalid(&format!("arm[{index}].name"), message));
            }
            if arm.set.as_ref().is_some_and(|set| set.contains_key(UNSET)) {
                let message = format!("expected `{UNSET}` beside `set`, in the arm itself, got it in `set`");
                return Err(spec.invalid(&format!("arm[{index}].set.{UNSET}"), message));
            }
            if arm.set.is_none() && arm.unset.is_empty() {
                continue;
            }
            let changed = leaves(&arm.layer()).into_iter().filter(|(key, value)| before.get(key) != Some(value));
            let changed: Vec<String> = changed.map(|(key, _)| key).filter(|key| key != UNSET).collect();
            let changed = [changed, arm.unset.clone()].concat();
            let key = format!("arm[{index}].{}", if arm.set.is_some() { "set" } else { UNSET });
            if changed.is_empty() {
                let message = format!("expected arm `{}` to change a key, got what the file already says", arm.name);
                return Err(spec.invalid(&key, message));
            }
            if changed.len() > 1 && arm.why.is_none() {
                let (name, changed) = (&arm.name, changed.join("`, `"));
                let message = format!("expected one changed key or a `why` in arm `{name}`, got `{changed}`");
                return Err(spec.invalid(&key, message));
            }
        }
        match &self.baseline {
            Some(name) if !self.arms.iter().any(|arm| arm.name == *name) => {
                let names: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
                let message = format!("expected the name of an arm ({}), got `{name}`", names.join(", "));
                Err(spec.invalid("baseline", message))
            }
            _ => Ok(()),
        }
    }

    fn drafts(&self, spec: &Tree) -> Result<Vec<Draft>> {
        let mut drafts = vec![Draft::default()];
        if !self.arms.is_empty() {
            drafts = cross(&drafts, &self.arms, |draft, arm| {
                draft.arm = Some(arm.name.clone());
                draft.layers[0] = arm.layer();
            });
        }
        let mut axes = Vec::new();
        collect_axes(&self.grid, "grid", &[], spec, &mut axes)?;
        for (i, axis) in axes.iter().enumerate() {
            let short = axis.path.last();
            let is_unique = axes.iter().filter(|other| other.path.last() == short).count() == 1;
            let key = short.filter(|_| is_unique).cloned().unwrap_or_else(|| axis.path.join("."));
            let named: Vec<(String, &Value)> =
                run_names::of_values(&axis.values).into_iter().zip(&axis.values).collect();
            // A grid over `seed` alone is a list of seeds.
            let is_seeds = self.seeds.is_none() && axis.path == ["seed"] && i + 1 == axes.len();
            drafts = cross(&drafts, &named, |draft, (name, value)| {
                let part = run_names::part(&key, name);
                if is_seeds {
                    draft.seed = Some(part)
                } else {
                    draft.cell.push(part)
                }
                overlay(&mut draft.layers[1], &nest(&axis.path, (*value).clone()));
            });
        }
        if let Some(seeds) = &self.seeds {
            if seeds.is_empty() {
                return Err(spec.invalid("seeds", "expected a list with at least one seed, got []".to_string()));
            }
            drafts = cross(&drafts, seeds, |draft, &seed| {
                draft.seed = Some(run_names::part("seed", &seed.to_string()));
                draft.layers[2] = Table::from_iter([("seed".to_string(), Value::Integer(seed as i64))]);
            });
        }
        Ok(drafts)
    }
}

/// Every combination of a draft and an item, made by `extend`.
fn cross<T>(drafts: &[Draft], items: &[T], extend: impl Fn(&mut Draft, &T)) -> Vec<Draft> {
    let pairs = drafts.iter().flat_map(|draft| items.iter().map(move |item| (draft.clone(), item)));
    pairs.map(|(mut draft, item)| (extend(&mut draft, item), draft).1).collect()
}

/// Axes in the file's order; `"budget.keep_ratio" = […]` and `budget.keep_ratio = […]` are the same.
fn collect_axes(grid: &Table, at: &str, parents: &[String], spec: &Tree, axes: &mut Vec<Axis>) -> Result<()> {
    for (name, value) in grid {
        let key = join(at, name);
        let Some(parts) = parse_key(name) else {
            return Err(spec.invalid(&key, format!("expected a dotted key, got `{name}`")));
        };
        let path = [parents, &parts].concat();
        match value {
            Value::Table(inner) if !inner.is_empty() => collect_axes(inner, &key, &path, spec, axes)?,
            Value::Array(values) if !values.is_empty() => {
                if let Some(table) = values.iter().find(|value| value.is_table()) {
                    let message = format!("expected values or lists (use [[arm]] for tables), got {table}");
                    return Err(spec.invalid(&key, message));
                }
                axes.push(Axis { path, values: values.clone() });
            }
            _ => return Err(spec.invalid(&key, format!("expected a list with at least one value, got {value}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;
