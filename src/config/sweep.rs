//! A sweep: one experiment file that stands for arms × grid × seeds, expanded into named runs. Pure; runs nothing.
//!
//! Precedence: base < file < arm < grid < seed < `--set`. Run names follow from what varies, such as
//! `no-kl__keep_ratio=0.25__seed=1`; what does not vary is left out.

use crate::config::keys::{join, leaves, nest, parse_key};
use crate::config::merge::{COMMAND_LINE, Tree, load_tree, overlay, parse_set};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::Path;
use toml::{Table, Value};

/// Top-level keys that describe the sweep and are no part of a run's configuration.
pub const KEYS: [&str; 7] = ["question", "primary_metric", "baseline", "min_effect", "seeds", "arm", "grid"];

/// What varies, and what the comparison is about. A file that sets none of these is a sweep of one run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// What the experiment is to answer.
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

/// One variant.
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
}

/// One dimension of the grid.
struct Axis {
    path: Vec<String>,
    values: Vec<Value>,
}

/// A run in the making: parts of its name, and the keys that it sets.
#[derive(Clone, Default)]
struct Draft {
    name: Vec<String>,
    layers: [Table; 3],
}

/// Expands the file at `path` into its runs, arms outermost and seeds innermost: name and merged tree of each.
pub fn expand(path: &Path, set: &[String]) -> Result<Vec<(String, Tree)>> {
    let mut base = load_tree(path, set)?;
    let (sweep, spec) = Sweep::take(&mut base)?;
    sweep.check_arms(&base, &spec)?;
    let mut overrides = parse_set(set)?;
    KEYS.iter().for_each(|key| drop(overrides.remove(*key)));

    let mut runs: Vec<(String, Tree)> = Vec::new();
    for draft in sweep.drafts(&spec)? {
        let name = if draft.name.is_empty() { "run".to_string() } else { draft.name.join("__") };
        let mut tree = base.clone();
        draft.layers.iter().for_each(|layer| tree.apply(layer, path));
        tree.apply(&overrides, Path::new(COMMAND_LINE));
        for (other, earlier) in &runs {
            if *other == name {
                return Err(Error::file(path, format!("expected distinct run names, got `{name}` twice")));
            }
            if leaves(&earlier.table) == leaves(&tree.table) {
                return Err(twins(path, other, &name, ""));
            }
        }
        runs.push((name, tree));
    }
    Ok(runs)
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
            let Some(set) = &arm.set else { continue };
            let changed: Vec<String> = leaves(set)
                .into_iter()
                .filter(|(key, value)| before.get(key) != Some(value))
                .map(|(key, _)| key)
                .collect();
            let key = format!("arm[{index}].set");
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
                draft.name.push(arm.name.clone());
                draft.layers[0] = arm.set.clone().unwrap_or_default();
            });
        }
        let mut axes = Vec::new();
        collect_axes(&self.grid, "grid", &[], spec, &mut axes)?;
        for axis in &axes {
            let short = axis.path.last();
            let is_unique = axes.iter().filter(|other| other.path.last() == short).count() == 1;
            let label = short.filter(|_| is_unique).cloned().unwrap_or_else(|| axis.path.join("."));
            drafts = cross(&drafts, &axis.values, |draft, value| {
                draft.name.push(format!("{label}={}", name_part(value)));
                overlay(&mut draft.layers[1], &nest(&axis.path, value.clone()));
            });
        }
        if let Some(seeds) = &self.seeds {
            if seeds.is_empty() {
                return Err(spec.invalid("seeds", "expected a list with at least one seed, got []".to_string()));
            }
            drafts = cross(&drafts, seeds, |draft, &seed| {
                draft.name.push(format!("seed={seed}"));
                draft.layers[2] = Table::from_iter([("seed".to_string(), Value::Integer(seed as i64))]);
            });
        }
        Ok(drafts)
    }
}

/// Every draft with every item.
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

/// A value as part of a folder's name.
fn name_part(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(name_part).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_ascii_alphanumeric() || "._+-,".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn runs(text: &str, set: &[&str]) -> std::result::Result<Vec<(String, Tree)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sweep.toml");
        std::fs::write(&path, text).unwrap();
        let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
        let shorten = |error: Error| error.to_string().replace(&format!("{}/", folder.path().display()), "");
        expand(&path, &set).map_err(shorten)
    }

    fn names(text: &str) -> Vec<String> {
        runs(text, &[]).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn fail(text: &str) -> String {
        runs(text, &[]).unwrap_err()
    }

    const SWEEP: &str = r#"
name = "budget-sweep"
question = "Does co-training help?"
primary_metric = "eval.compressors.gist.gap_closed"
baseline = "frozen"
min_effect = 0.01
seeds = [0, 3]
seed = 9
[train]
reader = "current"
steps = 5
[[arm]]
name = "frozen"
[arm.set.train]
reader = "frozen"
[[arm]]
name = "co-trained"
[grid]
"budget.keep_ratio" = [0.5, 0.25]
"#;

    #[test]
    fn arms_times_grid_times_seeds() {
        assert_eq!(
            names(SWEEP),
            [
                "frozen__keep_ratio=0.5__seed=0",
                "frozen__keep_ratio=0.5__seed=3",
                "frozen__keep_ratio=0.25__seed=0",
                "frozen__keep_ratio=0.25__seed=3",
                "co-trained__keep_ratio=0.5__seed=0",
                "co-trained__keep_ratio=0.5__seed=3",
                "co-trained__keep_ratio=0.25__seed=0",
                "co-trained__keep_ratio=0.25__seed=3",
            ]
        );
        let expected: Table = toml::from_str(
            "name = \"budget-sweep\"\nseed = 3\n[train]\nreader = \"frozen\"\nsteps = 5\n[budget]\nkeep_ratio = 0.25\n",
        )
        .unwrap();
        assert_eq!(runs(SWEEP, &[]).unwrap()[3].1.table, expected);
    }

    #[test]
    fn set_wins_over_everything_and_reaches_the_sweep() {
        let expanded = runs(SWEEP, &["seeds=[7]", "train.steps=1", "grid.\"budget.keep_ratio\"=[0.1]"]).unwrap();
        let names: Vec<&String> = expanded.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["frozen__keep_ratio=0.1__seed=7", "co-trained__keep_ratio=0.1__seed=7"]);
        assert_eq!(expanded[0].1.get("train.steps"), Some(&Value::Integer(1)));
        assert_eq!(expanded[0].1.get("seeds"), None);
        assert_eq!(
            runs(SWEEP, &["budget.keep_ratio=0.1"]).unwrap_err(),
            "sweep.toml: expected runs that differ, got the same configuration for `frozen__keep_ratio=0.5__seed=0` \
             and `frozen__keep_ratio=0.25__seed=0`"
        );
        let (_, tree) = &runs("[algo]\ntype = \"a\"\n[grid]\nalgo.type = [\"b\", \"c\"]", &["algo.x=1"]).unwrap()[1];
        assert_eq!(tree.table, toml::from_str("[algo]\ntype = \"c\"\nx = 1").unwrap());
    }

    #[test]
    fn names_hold_only_what_varies_and_are_safe() {
        assert_eq!(names("steps = 1"), ["run"]);
        assert_eq!(names("seeds = [4]"), ["seed=4"]);
        assert_eq!(names("[grid]\nmodel.path = [\"a/b c\"]\nlayers = [[1, -2]]"), ["path=a-b-c__layers=1,-2"]);
        assert_eq!(names("[grid]\n\"a.lr\" = [1e-4]\nb.lr = [0.1]"), ["a.lr=0.0001__b.lr=0.1"]);
    }

    #[test]
    fn grid_may_change_a_variant_and_its_keys_in_any_order() {
        let text = "[algo]\ntype = \"rloo\"\nold = 1\n[grid]\n\"algo.clip\" = [0.2]\n\"algo.type\" = [\"ppo\"]";
        let (_, tree) = &runs(text, &[]).unwrap()[0];
        assert_eq!(tree.table, toml::from_str("[algo]\nclip = 0.2\ntype = \"ppo\"").unwrap());
    }

    #[test]
    fn axes_must_be_lists_with_values() {
        let expected =
            |got: &str| format!("sweep.toml: `grid.\"a.b\"`: expected a list with at least one value, got {got}");
        assert_eq!(fail("[grid]\n\"a.b\" = []"), expected("[]"));
        assert_eq!(fail("[grid]\n\"a.b\" = 0.5"), expected("0.5"));
        assert_eq!(fail("[grid]\n\"a..b\" = [1]"), "sweep.toml: `grid.\"a..b\"`: expected a dotted key, got `a..b`");
        assert_eq!(
            fail("[grid]\nalgo = [{ type = \"ppo\" }]"),
            "sweep.toml: `grid.algo`: expected values or lists (use [[arm]] for tables), got { type = \"ppo\" }"
        );
        assert_eq!(fail("seeds = []"), "sweep.toml: `seeds`: expected a list with at least one seed, got []");
        assert_eq!(fail("seeds = 3"), "sweep.toml: `seeds`: expected a list, got integer `3`");
    }

    #[test]
    fn arms_must_change_something_and_say_why_when_much() {
        let arm = |set: &str| format!("a = 1\nb = 2\nbaseline = \"x\"\n[[arm]]\nname = \"x\"\n{set}");
        let nothing = "sweep.toml: `arm[0].set`: expected arm `x` to change a key, got what the file already says";
        assert_eq!(fail(&arm("[arm.set]\na = 1")), nothing);
        assert_eq!(fail(&arm("[arm.set]")), nothing);
        assert_eq!(
            fail(&arm("[arm.set]\na = 2\nb = 3")),
            "sweep.toml: `arm[0].set`: expected one changed key or a `why` in arm `x`, got `a`, `b`"
        );
        assert_eq!(names(&arm("why = \"they go together\"\n[arm.set]\na = 2\nb = 3")), ["x"]);
        assert_eq!(
            fail(&arm("sett = 1")),
            "sweep.toml: `arm[0].sett`: unknown key `sett` (did you mean `set`?); expected one of `name`, `why`, `set`"
        );
    }

    #[test]
    fn names_must_be_distinct_and_the_baseline_an_arm() {
        let two = "[[arm]]\nname = \"x\"\n[[arm]]\nname = \"x\"\n[arm.set]\na = 1";
        assert_eq!(fail(two), "sweep.toml: expected distinct run names, got `x` twice");
        assert_eq!(fail("seeds = [1, 1]"), "sweep.toml: expected distinct run names, got `seed=1` twice");
        assert_eq!(
            fail("[[arm]]\nname = \"x\"\n[[arm]]\nname = \"y\""),
            "sweep.toml: expected runs that differ, got the same configuration for `x` and `y`"
        );
        assert_eq!(
            fail("baseline = \"z\"\n[[arm]]\nname = \"x\""),
            "sweep.toml: `baseline`: expected the name of an arm (x), got `z`"
        );
        assert_eq!(
            fail("[[arm]]\nname = \"../x\""),
            "sweep.toml: `arm[0].name`: expected a name of letters, digits and `._+-`, got `../x`"
        );
    }
}
