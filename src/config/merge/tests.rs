//! Tests of merging, overriding and unsetting.

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
        ("bases/low.toml", "name = \"low\"\n[train]\nsteps = 1\nrate = 0.1\nlayers = [1, 2]\n[train.lora]\nrank = 4\n"),
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
    let (tree, _) = load(&[low, ("top.toml", "base = \"low.toml\"\n[algo]\ntype = \"grpo\"\nx = 1\n")], &[]).unwrap();
    assert_eq!(tree.table, table("[algo]\ntype = \"grpo\"\nscale = \"std\"\nx = 1\n[algo.clip]\nhigh = 1"));
    let (tree, _) = load(&[low, ("top.toml", "base = \"low.toml\"")], &["algo.clip=0.2", "algo.type=ppo"]).unwrap();
    assert_eq!(tree.table, table("[algo]\nclip = 0.2\ntype = \"ppo\""));
}

#[test]
fn set_takes_toml_values_or_bare_strings() {
    let set = ["a.b=3", "a.c = [1, 2]", "a.d=1e-4", "e= q_proj", "f=\"7\"", "g=x=y", "a.\"x.y\"=true", "a.b=4"];
    let (tree, _) = load(&[("top.toml", "e = 1\n[a]\nz = 0\n")], &set).unwrap();
    let expected = "e = \"q_proj\"\nf = \"7\"\ng = \"x=y\"\n[a]\nz = 0\nb = 4\nc = [1, 2]\nd = 1e-4\n\"x.y\" = true\n";
    assert_eq!(tree.table, table(expected));
    assert_eq!(tree.invalid("a.b", "no".into()).to_string(), "--set: `a.b`: no");
    let fail = |text: &str| load(&[("top.toml", "")], &[text]).unwrap_err();
    assert_eq!(fail("steps"), "--set: `steps`: expected dotted.key=value");
    assert_eq!(fail("a..b=1"), "--set: `a..b=1`: expected dotted.key=value, got a malformed key");
    assert_eq!(fail("base=x.toml"), "--set: `base=x.toml`: `base` can only be set in a file");
}

#[test]
fn unset_takes_away_what_a_base_sets() {
    let low = ("low.toml", "name = \"low\"\n[lora]\nrank = 4\ndropout = 0.1\n[warm]\nfrom = \"x\"\n");
    let mid = ("mid.toml", "base = \"low.toml\"\nunset = [\"warm.from\", \"lora\"]\n[lora]\nrank = 8\n");
    let top = ("top.toml", "base = \"mid.toml\"\nunset = \"name\"\n");
    let (tree, folder) = load(&[low, mid, top], &[]).unwrap();
    assert_eq!(tree.table, table("[lora]\nrank = 8"), "neither `warm` nor `lora.dropout` is left");
    assert_eq!(shorten(&tree.invalid("warm.from", "no".into()), &folder), "mid.toml: `warm.from`: no");
    let again = ("again.toml", "base = \"mid.toml\"\n[warm]\nfrom = \"y\"\n");
    let (tree, folder) = load(&[low, mid, again, ("top.toml", "base = \"again.toml\"")], &[]).unwrap();
    assert_eq!(tree.get_str("warm.from"), Some("y"));
    assert_eq!(shorten(&tree.invalid("warm.from", "no".into()), &folder), "again.toml: `warm.from`: no");
    for set in [
        &["unset=warm.from", "unset=lora.dropout"][..],
        &["unset=[\"lora.dropout\", \"warm.from\"]"],
        &["unset=warm", "unset=lora", "lora.rank=4"],
    ] {
        let (tree, _) = load(&[low, ("top.toml", "base = \"low.toml\"")], set).unwrap();
        assert_eq!(tree.table, table("name = \"low\"\n[lora]\nrank = 4"), "{set:?}");
    }
}

#[test]
fn unset_of_what_is_not_set_is_an_error() {
    let fail =
        |text: &str, set: &[&str]| load(&[("low.toml", "[warm]\nfrom = 1\n"), ("top.toml", text)], set).unwrap_err();
    let absent = "expected keys that are set below, got";
    assert_eq!(
        fail("base = \"low.toml\"\nunset = [\"warm.form\"]", &[]),
        format!("top.toml: `unset`: {absent} `warm.form`, which is not (did you mean `warm.from`?)")
    );
    assert_eq!(fail("unset = [\"a\"]\na = 1", &[]), format!("top.toml: `unset`: {absent} `a`, which is not"));
    assert_eq!(fail("a = 1", &["unset=b.c"]), format!("--set: `unset`: {absent} `b.c`, which is not"));
    let malformed = "`unset`: expected a dotted key or a list of them, got";
    assert_eq!(fail("unset = [1]", &[]), format!("top.toml: {malformed} 1"));
    assert_eq!(fail("a = 1", &["unset=a..b"]), format!("--set: {malformed} \"a..b\""));
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
    assert_eq!(
        fail(
            &[("low.toml", "[lora]\nrank = 4\ndropout = 0.0"), ("top.toml", "base = \"low.toml\"")],
            &["unset=lora.rank"]
        ),
        "--set: `lora.rank`: missing; it has no default; `unset` takes it away here"
    );
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
