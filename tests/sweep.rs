//! `sweep`: arms and seeds as processes, resumed, skipped and judged. And what `pool` refuses to take together.

use crate::common::*;
use gist::config::merge::load_tree;
use gist::config::train::TrainConfig;
use gist::eval::run::evaluated;
use gist::run_dir::{State, Status, read_json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Two arms, two seeds; written into the world beside `tiny.toml`.
fn file(name: &str, rest: &str) -> PathBuf {
    let text = format!(
        "base = \"tiny.toml\"\nname = \"{name}\"\nquestion = \"Does the compressor have to learn?\"\n{rest}\n\
         [warm_start]\nwindows = 4\n[eval]\nsearch_windows = 0\n"
    );
    let path = world().root.join(format!("{name}.toml"));
    fs::write(&path, text).unwrap();
    path
}

const ARMS: &str = "baseline = \"frozen\"\nseeds = [0, 1]\n\
    [[arm]]\nname = \"co-trained\"\n[[arm]]\nname = \"frozen\"\n[arm.set.train]\ncompressor_learns = false\n";

fn sweep<'a>(file: &'a Path, runs: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    [&["sweep", file.to_str().unwrap(), "--runs", runs.to_str().unwrap()], flags].concat()
}

fn csv(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(',').map(String::from).collect()).collect()
}

/// Names in the tables of a run; the same as its configuration gave away before.
fn compressors(run: &Path) -> BTreeSet<String> {
    let config: TrainConfig = load_tree(&run.join("config.toml"), &[]).unwrap().resolve().unwrap();
    let summary: serde_json::Value = read_json(&run.join("summary.json")).unwrap();
    let names: BTreeSet<String> = summary["eval"]["compressors"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, evaluated(&config.eval, false).into_iter().collect::<BTreeSet<_>>(), "{}", run.display());
    names
}

#[test]
fn arms_and_seeds_run_once_and_are_judged() {
    let (runs, file) = (tempfile::tempdir().unwrap(), file("sweep-all", ARMS));
    let listed = ok(&sweep(&file, runs.path(), &["--dry-run"]));
    assert_says(&listed, &["frozen__seed=1\n", "train.compressor_learns = false", "4 runs"], "dry run");
    assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 0, "a dry run writes nothing");
    assert_says(&ok(&["validate", file.to_str().unwrap()]), &["(sweep of 4 runs)"], "validate");

    let said = ok(&sweep(&file, runs.path(), &["--jobs", "2"]));
    assert_says(&said, &["4 runs, 0 of them finished before", "baseline", "co-trained"], "sweep");
    let root = runs.path().join("sweep-all");
    let table = csv(&root.join("results.csv"));
    let names: Vec<&str> = table[1..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["co-trained__seed=0", "co-trained__seed=1", "frozen__seed=0", "frozen__seed=1"]);
    let gap = table[0].iter().position(|name| name == "gap_closed").unwrap();
    for row in &table[1..] {
        assert_eq!((row.len(), row[3].as_str()), (table[0].len(), "done"), "{row:?}");
        let summary: serde_json::Value = read_json(&root.join(&row[0]).join("summary.json")).unwrap();
        let found = summary["eval"]["compressors"]["gist"]["gap_closed"].as_f64().unwrap();
        assert!((row[gap].parse::<f64>().unwrap() - found).abs() < 1e-5, "{row:?}");
        assert!(root.join("configs").join(format!("{}.toml", row[0])).exists());
    }
    let verdict: serde_json::Value = read_json(&root.join("verdict.json")).unwrap();
    assert_eq!((verdict[0]["label"].as_str(), verdict[0]["seeds"].as_u64()), (Some("co-trained"), Some(2)));
    assert_eq!(verdict[1]["verdict"].as_str(), Some("baseline"));
    assert_eq!((verdict[0]["paired"].as_u64(), verdict[1]["paired"].as_u64()), (Some(2), None));
    assert!(verdict[0]["difference"]["low"].as_f64().unwrap() <= verdict[0]["difference"]["high"].as_f64().unwrap());
    let page = fs::read_to_string(root.join("verdict.md")).unwrap();
    let n = format!("| co-trained | 2 seeds × 12 windows, {} documents |", verdict[0]["documents"]);
    assert_says(&page, &["Does the compressor have to learn?", &n], "verdict.md");
    assert_says(&said, &["2 seeds × 12 windows, "], "table");
    assert!(compressors(&root.join("frozen__seed=0")).contains("idf"));

    let before = files(&root);
    let again = ok(&sweep(&file, runs.path(), &[]));
    assert_says(&again, &["4 runs, 4 of them finished before"], "again");
    assert_same_files(&before, &files(&root), "a finished sweep run again");

    let changed = fails(1, &sweep(&file, runs.path(), &["--set", "train.steps=2"]));
    assert_says(&changed, &["--overwrite", "`train.steps` was 6, is now 2"], "changed");
    assert_same_files(&before, &files(&root), "a refused sweep");

    // Another sweep with the same baseline runs its own arm only.
    let text = "baseline = \"default\"\n[[arm]]\nname = \"default\"\n[[arm]]\nname = \"fewer-opponents\"\n\
                [arm.set.eval]\nbaselines = \"recent\"\n";
    let other = self::file("sweep-other", text);
    let said = ok(&sweep(&other, runs.path(), &[]));
    assert_says(&said, &["default: the same as", "sweep-all/co-trained__seed=0", "1 of them finished before"], "other");
    let root = runs.path().join("sweep-other");
    assert!(!root.join("default").exists() && csv(&root.join("results.csv"))[1][3] == "done");
    let few = ["empty", "gist", "recent"].map(String::from);
    assert_eq!(compressors(&root.join("fewer-opponents")), BTreeSet::from(few));
    assert_same_files(&before, &files(&runs.path().join("sweep-all")), "a sweep whose run stood in");
}

#[test]
fn values_that_cannot_be_names_are_runs_like_others() {
    let (runs, long) = (tempfile::tempdir().unwrap(), "Keep what matters. ".repeat(3));
    let values =
        [format!("{long}{{prefix}}"), format!("{long}{{prefix}}!"), "A/b {prefix}".into(), "a-b;{prefix}".into()];
    let rest = format!(
        "[compressor]\ntype = \"gist\"\ninstruction = \"{{prefix}}\"\n[grid]\n\"compressor.instruction\" = {values:?}"
    );
    let file = file("sweep-names", &rest);
    let short = ["--set", "train.steps=0", "--set", "warm_start.rounds=0", "--set", "eval.baselines=recent"];
    let listed = ok(&sweep(&file, runs.path(), &[&short[..], &["--dry-run"]].concat()));
    let names: Vec<&str> = listed.lines().filter(|line| line.starts_with("instruction=")).collect();
    assert_eq!(names.len(), 4, "{listed}");
    ok(&sweep(&file, runs.path(), &short));
    let root = runs.path().join("sweep-names");
    let table = csv(&root.join("results.csv"));
    assert!(table[1..].iter().all(|row| row.iter().any(|cell| cell == "done")), "{table:?}");
    let stood_for: serde_json::Value = read_json(&root.join("runs.json")).unwrap();
    for (i, name) in names.iter().enumerate() {
        assert!(root.join(name).join("summary.json").exists(), "{name}");
        assert_eq!(stood_for[i]["run"].as_str(), Some(*name));
        let value: toml::Value = stood_for[i]["set"]["compressor.instruction"].as_str().unwrap().parse().unwrap();
        assert_eq!(value.as_str(), Some(values[i].as_str()));
    }
}

#[test]
fn a_failed_run_does_not_stop_the_others() {
    let arms = "baseline = \"good\"\n[[arm]]\nname = \"broken\"\n[arm.set.optim.imitation]\nlr = 1e38\n\
                [[arm]]\nname = \"good\"\n";
    let (runs, file) = (tempfile::tempdir().unwrap(), file("sweep-broken", arms));
    let output = gist(&sweep(&file, runs.path(), &["--set", "train.steps=1"]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_says(&stderr, &["1 of 2 runs are not finished", "broken: failed"], "stderr");
    let table = csv(&runs.path().join("sweep-broken/results.csv"));
    assert_eq!((table[1][3].as_str(), table[2][3].as_str()), ("failed", "done"));
    let log = fs::read_to_string(runs.path().join("sweep-broken/logs/broken.log")).unwrap();
    assert_says(&log, &["error: "], "log");
}

#[test]
fn an_interrupted_sweep_goes_on_where_it_stopped() {
    let (runs, file) = (tempfile::tempdir().unwrap(), file("sweep-cut", ARMS));
    let mut child: Child = command(&sweep(&file, runs.path(), &[]))
        .current_dir(&world().root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let root = runs.path().join("sweep-cut");
    let metrics = root.join("co-trained__seed=1/metrics.jsonl");
    let begun = std::time::Instant::now();
    while rows(&metrics) < 1 {
        assert!(begun.elapsed().as_secs() < 120 && child.try_wait().unwrap().is_none(), "never got there");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let state = |run: &str| read_json::<Status>(&root.join(run).join("status.json")).map(|status| status.state).ok();
    assert_eq!(state("co-trained__seed=0"), Some(State::Done));
    assert_eq!(state("frozen__seed=0"), None, "nothing starts after Ctrl-C");
    let said = ok(&sweep(&file, runs.path(), &[]));
    assert_says(&said, &[" of them finished before"], "resumed");
    assert!(csv(&root.join("results.csv"))[1..].iter().all(|row| row[3] == "done"));
}

#[test]
fn impossible_sweeps_are_refused_before_anything_is_written() {
    let runs = tempfile::tempdir().unwrap();
    for (name, rest, expected) in [
        (
            "sweep-metric",
            "primary_metric = \"eval.loss\"\nseeds = [0, 1]",
            "`primary_metric`: expected eval.compressors.<name>.gap_closed",
        ),
        ("sweep-key", "[[arm]]\nname = \"x\"\n[arm.set.train]\nstepz = 3", "unknown key `stepz`"),
        ("sweep-axis", "[grid]\n\"train.steps\" = []", "expected a list with at least one value, got []"),
        ("sweep-scalar", "[grid]\n\"train.steps\" = 4", "expected a list with at least one value, got 4"),
        (
            "sweep-nobody",
            "primary_metric = \"eval.compressors.nobody.gap_closed\"\nseeds = [0, 1]",
            "`primary_metric`: expected a compressor that run `seed=0` evaluates (gist, empty, truncate, ",
        ),
        (
            "sweep-few",
            "primary_metric = \"eval.compressors.idf.gap_closed\"\n[[arm]]\nname = \"all\"\n\
             [[arm]]\nname = \"few\"\n[arm.set.eval]\nbaselines = \"recent\"",
            "expected a compressor that run `few` evaluates (gist, empty, recent), got `idf`",
        ),
        (
            "sweep-default",
            "[[arm]]\nname = \"x\"\n[[arm]]\nname = \"y\"\n[arm.set.algo]\nrecent_coef = 0.0",
            "expected runs that differ, got the same configuration for `x` and `y`: once defaults are filled in",
        ),
        (
            "sweep-renamed",
            "[[arm]]\nname = \"x\"\n[[arm]]\nname = \"y\"\n[arm.set]\nname = \"other\"",
            "got the same configuration for `x` and `y`",
        ),
        (
            "sweep-windows",
            "baseline = \"x\"\nseeds = [0, 1]\n[[arm]]\nname = \"x\"\n\
             [[arm]]\nname = \"y\"\n[arm.set.eval]\nwindows = 6",
            "`baseline`: arm `y` cannot be compared with `x`: `eval.windows`: expected 12, got 6; without `baseline`",
        ),
        ("sweep-same", "[[arm]]\nname = \"x\"\n[arm.set.train]\nsteps = 6", "to change a key"),
    ] {
        let file = file(name, rest);
        assert_says(&fails_as_it_says(&sweep(&file, runs.path(), &[])), &[expected, name], name);
        assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn only_what_is_paired_must_be_judged_by_the_same() {
    let runs = tempfile::tempdir().unwrap();
    let arms = "[[arm]]\nname = \"x\"\n[[arm]]\nname = \"y\"\n[arm.set.eval]\nwindows = 6";
    let grid = "baseline = \"x\"\n[[arm]]\nname = \"x\"\n[[arm]]\nname = \"y\"\n[arm.set.train]\nsteps = 2\n\
                [grid]\n\"eval.windows\" = [6, 8]";
    for (name, rest, count) in [("sweep-no-baseline", arms, "2 runs"), ("sweep-cells", grid, "4 runs")] {
        let file = file(name, rest);
        assert_says(&ok(&sweep(&file, runs.path(), &["--dry-run"])), &[count], name);
    }
}

#[test]
fn runs_that_are_judged_by_other_things_are_not_pooled() {
    let (_runs, run) = finished_copy();
    let other = run.with_file_name("seed=1");
    copy(&run, &other);
    let (config, record) = (other.join("config.toml"), other.join("provenance.json"));
    let forge = |file: &str| {
        let mut made: serde_json::Value = read_json(&record).unwrap();
        let inputs = made["inputs"].as_array_mut().unwrap();
        let input = inputs.iter_mut().find(|input| input["path"].as_str().unwrap().ends_with(file)).unwrap();
        input["sha256"] = "0".repeat(64).into();
        fs::write(&record, made.to_string()).unwrap();
    };
    let pair = ["pool", run.to_str().unwrap(), "--against", other.to_str().unwrap()];

    // What a run sees and learns from may differ.
    edit(&config, "condition = \"local\"", "condition = \"none\"");
    forge("train.jsonl");
    ok(&pair);

    // Its seed may not: pairs are of one seed.
    let summary = other.join("summary.json");
    edit(&summary, "\"seed\": 0", "\"seed\": 1");
    assert_says(&fails(2, &pair), &["--against: expected the seeds [0], in this order, got [1]"], "seeds");
    edit(&summary, "\"seed\": 1", "\"seed\": 0");

    edit(&config, "prefix_tokens = 32", "prefix_tokens = 30");
    forge("test.jsonl");
    let words = [
        "seed=1: cannot be compared with ",
        "seed=0: ",
        "`data.prefix_tokens`: expected 32, got 30",
        "`data.test.sha256`: expected ",
        "got 000000",
    ];
    assert_says(&fails(1, &pair), &words, "against");
    assert_says(&fails(1, &["pool", pair[1], pair[3]]), &words, "seeds");
    fs::remove_file(&record).unwrap();
    assert_says(&fails(1, &pair), &["provenance.json: "], "no record");
}

/// Rows that were exported are pooled like the runs that they are from, to five digits, and are small.
#[test]
fn exported_rows_stand_in_for_their_runs() {
    let (runs, run) = finished_copy();
    let other = run.with_file_name("seed=1");
    copy(&run, &other);
    let edit = |path: &Path| {
        let mut summary: serde_json::Value = read_json(path).unwrap();
        summary["seed"] = 1.into();
        fs::write(path, summary.to_string()).unwrap();
    };
    edit(&other.join("summary.json"));
    let at = |name: &str| runs.path().join(name).to_str().unwrap().to_string();
    let (from_runs, from_rows, folder) = (at("runs.json"), at("rows.json"), at("shipped"));
    let pair = [run.to_str().unwrap(), other.to_str().unwrap()];
    let said = ok(&["pool", pair[0], pair[1], "--export", &folder, "--json", &from_runs]);
    assert_says(&said, &["K_e/K_g", "K_e: adapted reader, nothing", "over seeds and clusters"], "pool");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2);
    assert!(files[0].to_str().unwrap().ends_with("-seed0.windows.jsonl.zst"), "{files:?}");
    let rows: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    ok(&["pool", rows[0], rows[1], "--json", &from_rows]);
    let read = |path: &str| -> serde_json::Value { read_json(Path::new(path)).unwrap() };
    let (a, b) = (read(&from_runs), read(&from_rows));
    for key in ["/ledger/ke_over_kg/mean", "/ledger/nll_gap_closed/mean", "/ledger/k_g/nll"] {
        let of = |json: &serde_json::Value| json.pointer(key).and_then(serde_json::Value::as_f64).unwrap();
        assert!((of(&a) - of(&b)).abs() < 1e-3 * of(&a).abs().max(1.0), "{key}: {} {}", of(&a), of(&b));
    }
    for key in ["mean", "ci95/0", "ci95/1"] {
        let of = |json: &serde_json::Value| {
            json.pointer(&format!("/generator/compressors/recent/gap_closed/{key}")).unwrap().as_f64().unwrap()
        };
        assert!((of(&a) - of(&b)).abs() < 1e-3, "{key}");
    }
    assert_eq!((a["seeds"].clone(), a["split"].as_str()), (b["seeds"].clone(), Some("test")));
    assert_eq!(a["cluster"], "document");
    assert_eq!(a["ke_over_kg"], a["ledger"]["ke_over_kg"]["mean"]);
    assert_eq!(a["n_contexts"], summary(&run)["eval"]["n_windows"]);
    let command = a["made_by"][1]["commands"][0].as_str().unwrap();
    assert!(command.starts_with("gist train "), "{command}");
    assert_eq!(b["made_by"], a["made_by"], "rows say what made them");
    ok(&["pool", pair[0], pair[1], "--cluster", "source", "--json", &from_rows]);
    let by_source = read(&from_rows);
    assert_eq!(by_source["cluster"], "source");
    let gap = "/generator/compressors/recent/gap_closed/mean";
    assert_eq!(by_source.pointer(gap), a.pointer(gap), "the figure itself does not change");
    let said = fails(2, &["pool", pair[0], "--export", &folder, "--export-compressors", "gist,nobody"]);
    assert_says(&said, &["--export-compressors", "`nobody`"], "unknown compressor");
}

/// The final split is another file, each reading of it is counted, and figures of two splits are not pooled together.
#[test]
fn readings_of_the_final_split_are_counted() {
    let (_runs, run) = finished_copy();
    let path = run.to_str().unwrap();
    let before = summary(&run);
    let said = fails(2, &["eval", path, "--split", "final"]);
    assert_says(&said, &["`data.final`", "expected a path (eval.split is \"final\"), got none"], "no final split");
    assert_eq!(summary(&run), before);
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    fs::write(run.join("config.toml"), config.replacen("[data]\n", "[data]\nfinal = \"valid.jsonl\"\n", 1)).unwrap();
    for times in [1, 2] {
        let output = command(&["eval", path, "--split", "final"]).current_dir(&world().root).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_says(&said, &[&format!("the final split is read, reading {times} by this run")], "stderr");
        let found = summary(&run);
        assert_eq!((found["split"].as_str(), found["final_reads"].as_u64()), (Some("final"), Some(times)));
        assert_ne!(found["eval"]["context_value"], before["eval"]["context_value"]);
    }
    let provenance: serde_json::Value = read_json(&run.join("provenance.json")).unwrap();
    assert_eq!(provenance["final_reads"], 2);
    let on_final = summary(&run)["eval"]["context_value"].clone();
    // The file that `final` names here is that of the validation split: by either name the figures are the same.
    ok(&["eval", path, "--split", "valid"]);
    let found = summary(&run);
    assert_eq!((&found["eval"]["context_value"], found["split"].as_str()), (&on_final, Some("valid")));
    assert_eq!(found["final_reads"], 2);
    let said = fails(1, &["pool", path, "--against", finished().to_str().unwrap()]);
    assert_says(&said, &["`eval.split`: expected valid, got nothing"], "two splits");
}

fn summary(run: &Path) -> serde_json::Value {
    read_json(&run.join("summary.json")).unwrap()
}
