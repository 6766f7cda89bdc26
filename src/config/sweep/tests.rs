//! Tests of expanding a sweep.

use super::*;

fn runs(text: &str, set: &[&str]) -> std::result::Result<Vec<Run>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.toml");
    std::fs::write(&path, text).unwrap();
    let set: Vec<String> = set.iter().map(|text| text.to_string()).collect();
    let shorten = |error: Error| error.to_string().replace(&format!("{}/", folder.path().display()), "");
    expand(&path, &set).map_err(shorten)
}

fn names(text: &str) -> Vec<String> {
    runs(text, &[]).unwrap().into_iter().map(|run| run.name).collect()
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
    assert_eq!(runs(SWEEP, &[]).unwrap()[3].tree.table, expected);
}

#[test]
fn set_wins_over_everything_and_reaches_the_sweep() {
    let expanded = runs(SWEEP, &["seeds=[7]", "train.steps=1", "grid.\"budget.keep_ratio\"=[0.1]"]).unwrap();
    let names: Vec<&str> = expanded.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names, ["frozen__keep_ratio=0.1__seed=7", "co-trained__keep_ratio=0.1__seed=7"]);
    assert_eq!(expanded[0].tree.get("train.steps"), Some(&Value::Integer(1)));
    assert_eq!(expanded[0].tree.get("seeds"), None);
    assert_eq!(
        runs(SWEEP, &["budget.keep_ratio=0.1"]).unwrap_err(),
        "sweep.toml: expected runs that differ, got the same configuration for `frozen__keep_ratio=0.5__seed=0` \
             and `frozen__keep_ratio=0.25__seed=0`"
    );
    let Run { tree, .. } = &runs("[algo]\ntype = \"a\"\n[grid]\nalgo.type = [\"b\", \"c\"]", &["algo.x=1"]).unwrap()[1];
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
fn labels_rivals_and_what_varies() {
    let found = runs(SWEEP, &[]).unwrap();
    let run = &found[6];
    assert_eq!(run.name, "co-trained__keep_ratio=0.25__seed=0");
    assert_eq!(
        (run.label.as_str(), run.rival.as_deref()),
        ("co-trained__keep_ratio=0.25", Some("frozen__keep_ratio=0.25"))
    );
    let varied =
        [("budget.keep_ratio", "0.25"), ("seed", "0")].map(|(key, value)| (key.to_string(), value.to_string()));
    assert_eq!(run.varied, varied.into());
    assert_eq!(found[0].varied["train.reader"], "\"frozen\"");
    let grid = runs("[grid]\nseed = [4, 5]", &[]).unwrap();
    assert_eq!((grid[1].name.as_str(), grid[1].label.as_str(), grid[1].rival.as_deref()), ("seed=5", "", None));
}

#[test]
fn values_of_any_kind_give_names_that_can_be_folders() {
    let values = format!(
        "[\"{}\", \"{}!\", \"a/b\", \"a-b\", \"A/B\", \".\", \"a\\nb\", \"é\", \"è\"]",
        "x".repeat(300),
        "x".repeat(300)
    );
    let found = names(&format!("seeds = [0]\n[grid]\n\"model.start_like\" = {values}"));
    let folded: std::collections::BTreeSet<String> = found.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(folded.len(), 9, "{found:?}");
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "._+-,=~".contains(c);
    assert!(found.iter().all(|name| name.len() < 140 && name.chars().all(is_safe)), "{found:?}");
}

#[test]
fn arms_grid_and_command_line_take_keys_away() {
    let file = "[warm]\nfrom = \"x\"\nsteps = 3\n";
    let arms = format!(
        "baseline = \"old\"\n{file}[[arm]]\nname = \"old\"\n[[arm]]\nname = \"new\"\nunset = [\"warm.from\"]\n"
    );
    let found = runs(&arms, &[]).unwrap();
    assert_eq!((found[0].tree.get_str("warm.from"), found[1].tree.get("warm.from")), (Some("x"), None));
    assert_eq!(found[1].varied, [("unset".to_string(), "[\"warm.from\"]".to_string())].into());
    let grid = format!("{file}[grid]\nunset = [[], \"warm.from\", [\"warm.from\", \"warm.steps\"]]");
    assert_eq!(names(&grid), ["unset=none", "unset=warm.from", "unset=warm.from,warm.steps"]);
    let found = runs(&grid, &[]).unwrap();
    assert_eq!(found.iter().map(|run| leaves(&run.tree.table).len()).collect::<Vec<_>>(), [2, 1, 0]);
    // Whatever an arm sets, the command line takes it away.
    let set = format!(
        "{file}[[arm]]\nname = \"a\"\n[[arm]]\nname = \"b\"\nwhy = \"both\"\n[arm.set]\nwarm.from = \"y\"\nrate = 1\n"
    );
    let found = runs(&set, &["unset=warm.from"]).unwrap();
    assert!(found.iter().all(|run| run.tree.get("warm.from").is_none()));
    assert_eq!(runs(&set, &["unset=rate"]).unwrap()[1].tree.get("rate"), None);
    assert_eq!(runs("seeds = [1, 2]", &["unset=seeds"]).unwrap()[0].name, "run");
    let fail = |text: &str, set: &[&str]| runs(text, set).unwrap_err();
    let absent = "`unset`: expected keys that are set below, got";
    assert_eq!(
        fail(&set, &["unset=warm.form"]),
        format!("--set: {absent} `warm.form`, which is not (did you mean `warm.from`?)")
    );
    assert_eq!(fail("[[arm]]\nname = \"a\"\nunset = [\"b\"]", &[]), format!("sweep.toml: {absent} `b`, which is not"));
    assert_eq!(
        fail("a = 1\nb = 2\n[[arm]]\nname = \"x\"\nunset = [\"a\", \"b\"]", &[]),
        "sweep.toml: `arm[0].unset`: expected one changed key or a `why` in arm `x`, got `a`, `b`"
    );
    assert_eq!(
        fail("a = 1\n[[arm]]\nname = \"x\"\n[arm.set]\nunset = [\"a\"]", &[]),
        "sweep.toml: `arm[0].set.unset`: expected `unset` beside `set`, in the arm itself, got it in `set`"
    );
}

#[test]
fn grid_may_change_a_variant_and_its_keys_in_any_order() {
    let text = "[algo]\ntype = \"rloo\"\nold = 1\n[grid]\n\"algo.clip\" = [0.2]\n\"algo.type\" = [\"ppo\"]";
    let Run { tree, .. } = &runs(text, &[]).unwrap()[0];
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
        "sweep.toml: `arm[0].sett`: unknown key `sett` (did you mean `set`?); expected one of `name`, `why`, `set`, `unset`"
    );
}

#[test]
fn names_must_be_distinct_and_the_baseline_an_arm() {
    let two = "[[arm]]\nname = \"x\"\n[[arm]]\nname = \"x\"\n[arm.set]\na = 1";
    assert_eq!(fail(two), "sweep.toml: expected distinct run names, got `x` and `x`");
    assert_eq!(fail("seeds = [1, 1]"), "sweep.toml: expected distinct run names, got `seed=1` and `seed=1`");
    assert_eq!(
        fail("[[arm]]\nname = \"x\"\n[[arm]]\nname = \"y\""),
        "sweep.toml: expected runs that differ, got the same configuration for `x` and `y`"
    );
    assert_eq!(
        fail("[[arm]]\nname = \"x\"\n[[arm]]\nname = \"X\"\n[arm.set]\na = 1"),
        "sweep.toml: expected distinct run names, got `x` and `X`"
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
