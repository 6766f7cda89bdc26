//! Inputs of a run are checked before it is gone on with, judged or compared: changed files and other programs are
//! refused, naming both sides, or accepted by one flag and recorded.

use crate::common::{
    assert_same_files, assert_says, command, copy, edit_json, fails, files, finished, finished_copy, gist, message, ok,
    run_dir, train, world,
};
use gist::run_dir::read_json;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const OTHER: &str = "0123456789abcdef0123456789abcdef01234567";
const ACCEPT: &str = "--accept-changes";

/// A world of its own with a run of it: the run's inputs may be changed.
struct Own {
    folder: tempfile::TempDir,
    run: PathBuf,
}

impl Own {
    fn new() -> Own {
        let folder = tempfile::tempdir().unwrap();
        for name in ["train.jsonl", "valid.jsonl", "test.jsonl", "tiny.toml"] {
            fs::copy(world().root.join(name), folder.path().join(name)).unwrap();
        }
        copy(&world().root.join("base"), &folder.path().join("base"));
        let run = run_dir(&folder.path().join("runs"));
        copy(finished(), &run);
        Own { folder, run }
    }

    /// Runs the program here; it must succeed.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = command(arguments).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program here; it must fail and leave the run as it was. Returns its message.
    fn refuses(&self, arguments: &[&str]) -> String {
        let before = files(&self.run);
        let output = command(arguments).current_dir(self.folder.path()).output().unwrap();
        let said = message(2, &output, &format!("{arguments:?}"));
        assert_same_files(&before, &files(&self.run), "refused");
        said
    }

    /// Adds a document to a text, which changes none of those before it.
    fn grow(&self, name: &str) {
        let path = self.folder.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap().replace("\"id\":\"", "\"id\":\"again-");
        fs::write(path, format!("{text}{first}\n")).unwrap();
    }

    fn provenance(&self) -> Value {
        read_json(&self.run.join("provenance.json")).unwrap()
    }

    /// Makes the run that of another commit.
    fn of_another_commit(&self) {
        other_commit(&self.run);
    }
}

fn other_commit(run: &Path) {
    edit_json(&run.join("provenance.json"), |record| {
        record["commit"] = OTHER.into();
        record["dirty"] = false.into();
    });
}

#[test]
fn the_binary_records_the_commit_that_it_was_built_from_wherever_it_is() {
    let record: Value = read_json(&finished().join("provenance.json")).unwrap();
    let built = [env!("GIST_COMMIT"), env!("GIST_DIRTY"), env!("GIST_SOURCE")];
    let recorded = [&record["commit"], &record["dirty"], &record["source"]];
    for (built, recorded) in built.iter().zip(recorded) {
        match *built {
            "unknown" => assert_eq!(recorded, &Value::Null),
            known => assert_eq!(recorded.to_string().trim_matches('"'), known),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |folder: &Path, arguments: &[&str]| {
        let git = Command::new("git").args(["-c", "safe.directory=*", "-C"]).arg(folder).args(arguments).output();
        git.ok().filter(|answer| answer.status.success()).map(|a| String::from_utf8(a.stdout).unwrap())
    };
    if root.join(".git").exists() {
        assert_eq!(git(root, &["rev-parse", "HEAD"]).unwrap().trim(), built[0]);
    }
    // In a checkout of something else it is still the same program.
    let own = Own::new();
    let elsewhere = own.folder.path().join("gist");
    fs::copy(env!("CARGO_BIN_EXE_gist"), &elsewhere).unwrap();
    let identity = ["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "x"];
    if git(own.folder.path(), &["init", "-q"]).and_then(|_| git(own.folder.path(), &identity)).is_none() {
        return; // no git here
    }
    let run = own.run.to_str().unwrap();
    let again = Command::new(&elsewhere).args(["eval", run]).current_dir(own.folder.path()).output().unwrap();
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(own.provenance()["evaluated"][0]["commit"], record["commit"]);
}

#[test]
fn a_run_goes_on_with_the_files_and_the_program_that_it_was_begun_with() {
    let own = Own::new();
    let resume = train(Path::new("runs"), &["--resume"]);
    let accepted = [&resume[..], &[ACCEPT]].concat();
    own.ok(&resume);
    assert_eq!(own.provenance()["resumed"].as_array().unwrap().len(), 1);
    assert_eq!(own.provenance()["resumed"][0].get("accepted"), None);

    own.grow("train.jsonl");
    let said = own.refuses(&resume);
    assert_says(&said, &["not resumed", "train.jsonl: sha256 ", " then, ", " now", ACCEPT], "data");
    own.ok(&accepted);
    let record = own.provenance();
    assert_says(record["resumed"][1]["accepted"][0].as_str().unwrap(), &["train.jsonl: sha256 "], "recorded");
    // From then on that is what the run was made from.
    own.ok(&resume);

    let own = Own::new();
    own.of_another_commit();
    let now = env!("GIST_COMMIT").get(..12).unwrap_or("no commit");
    assert_says(&own.refuses(&resume), &["the program: commit 0123456789ab then", now, ACCEPT], "program");
    own.ok(&accepted);
    assert_says(
        own.provenance()["resumed"][0]["accepted"][0].as_str().unwrap(),
        &["commit 0123456789ab"],
        "recorded program",
    );
}

#[test]
fn an_evaluation_is_of_the_files_that_the_run_was_trained_with() {
    let own = Own::new();
    let eval = ["eval", own.run.to_str().unwrap()];
    // Another program may judge; it is recorded. What only training needs may be gone.
    own.of_another_commit();
    own.ok(&eval);
    let record = own.provenance();
    assert_eq!(record["commit"], OTHER);
    assert_ne!(record["evaluated"][0]["commit"], OTHER);

    own.grow("test.jsonl");
    assert_says(&own.refuses(&eval), &["not evaluated", "test.jsonl: sha256 ", ACCEPT], "data");
    own.ok(&[&eval[..], &[ACCEPT]].concat());
    let accepted = own.provenance()["evaluated"][1]["accepted"].clone();
    assert_says(accepted[0].as_str().unwrap(), &["test.jsonl: sha256 "], "recorded");
    let page = fs::read_to_string(own.run.join("report.html")).unwrap();
    assert_says(&page, &["evaluated.1.accepted", "test.jsonl: sha256 "], "the page says so");

    // A base that was replaced is not the one that the run was trained over.
    let own = Own::new();
    edit_json(&own.folder.path().join("base/config.json"), |config| config["note"] = "x".into());
    let said = own.refuses(&["eval", own.run.to_str().unwrap()]);
    assert_says(&said, &["base/config.json: sha256 ", " then, ", " now"], "base");
}

#[test]
fn seeds_are_pooled_that_one_program_made_from_one_text() {
    let (runs, run) = finished_copy();
    let other = run.with_file_name("seed=1");
    copy(&run, &other);
    let json = runs.path().join("pooled.json");
    let (one, two) = (run.to_str().unwrap(), other.to_str().unwrap());
    let pool = ["pool", one, two, "--json", json.to_str().unwrap()];
    ok(&pool);
    assert_eq!(read_json::<Value>(&json).unwrap()["accepted"], json!([]));
    fs::remove_file(&json).unwrap();

    other_commit(&other);
    edit_json(&other.join("provenance.json"), |record| {
        let inputs = record["inputs"].as_array_mut().unwrap();
        let train = inputs.iter_mut().find(|input| input["path"] == "train.jsonl").unwrap();
        train["sha256"] = "0".repeat(64).into();
    });
    let said = fails(2, &pool);
    let words = ["train.jsonl: sha256 ", "for ", "seed=1", "000000000000", "commit 0123456789ab", ACCEPT];
    assert_says(&said, &words, "pool");
    assert!(!json.exists());
    ok(&[&pool[..], &[ACCEPT]].concat());
    let accepted = read_json::<Value>(&json).unwrap()["accepted"].clone();
    assert_eq!(accepted.as_array().unwrap().len(), 2, "{accepted}");
    // Another experiment may have learned from another text, not by another program.
    let said = fails(2, &["pool", one, "--against", two]);
    assert!(said.contains("commit 0123456789ab") && !said.contains("train.jsonl"), "{said}");
}

#[test]
fn a_comparison_is_of_runs_and_readers_that_this_program_made() {
    let (runs, run) = finished_copy();
    let output = runs.path().join("compared");
    let run_argument = run.to_str().unwrap();
    let compare = ["compare", "--runs", run_argument, "--compressors", "recent", "--budgets", "0.1", "--updates", "1"];
    let compare = [&compare[..], &["--readers", "shared", "--output", output.to_str().unwrap()]].concat();
    let accepting = [&compare[..], &[ACCEPT]].concat();
    other_commit(&run);
    assert_says(&fails(2, &compare), &["not compared", "commit 0123456789ab then", ACCEPT], "program");
    assert!(!output.exists());
    ok(&accepting);
    let read = || read_json::<Value>(&output.join("comparison.json")).unwrap();
    assert_says(read()["accepted"][0].as_str().unwrap(), &[run_argument, "commit 0123456789ab"], "recorded");
    assert!(read()["program"].as_str().unwrap().len() > 8);

    // A reader that another program taught, and one that was taught from another text.
    copy(finished(), &run);
    let record = output.join("readers/shared/record.json");
    edit_json(&record, |record| record["program"] = json!({"commit": OTHER, "dirty": false, "source": "x"}));
    let refused = gist(&compare);
    assert_eq!(refused.status.code(), Some(2));
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_says(&refused, &["readers/shared: a kept reader", "commit 0123456789ab then", ACCEPT], "reader");
    ok(&accepting);
    assert_says(read()["accepted"].to_string().as_str(), &["commit 0123456789ab"], "recorded reader");
    edit_json(&record, |record| record["terms"]["data.train.sha256"] = "x".into());
    let said = gist(&compare);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_says(
        &said,
        &["shared by all: trained again", "`terms.data.train.sha256` was \"x\"", "of nothing: kept"],
        "",
    );
    assert_eq!(read().get("accepted"), None);
}

#[test]
fn a_sweep_keeps_and_lends_only_what_this_program_made_from_the_files_that_are_there() {
    let own = Own::new();
    let sweep = |name: &str| {
        let steps =
            "[train]\nsteps = 1\n[warm_start]\nrounds = 0\n[eval]\nwindows = 4\nvalid_windows = 4\nsearch_windows = 0";
        let text = format!("base = \"tiny.toml\"\nname = \"{name}\"\nseeds = [0]\n{steps}\nbaselines = \"recent\"\n");
        fs::write(own.folder.path().join(format!("{name}.toml")), text).unwrap();
        vec!["sweep".to_string(), format!("{name}.toml"), "--runs".into(), "swept".into()]
    };
    let run = |arguments: &[String], flags: &[&str]| {
        let words: Vec<&str> = arguments.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        command(&words).current_dir(own.folder.path()).output().unwrap()
    };
    let ok = |arguments: &[String], flags: &[&str]| {
        let output = run(arguments, flags);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let (first, second) = (sweep("first"), sweep("second"));
    ok(&first, &[]);
    assert_says(&ok(&first, &[]), &["1 runs, 1 of them finished before"], "kept");
    assert_says(&ok(&second, &[]), &["the same as swept/first/"], "stands in");

    // Made by another program: refused, made again, or accepted and recorded.
    let made = own.folder.path().join("swept/first/seed=0");
    other_commit(&made);
    let said = message(2, &run(&first, &[]), "kept");
    assert_says(
        &said,
        &["--overwrite replaces", "swept/first/seed=0: not kept", "commit 0123456789ab", ACCEPT],
        "kept",
    );
    assert_says(&ok(&first, &[ACCEPT]), &["1 of them finished before"], "accepted");
    let verdict = fs::read_to_string(own.folder.path().join("swept/first/verdict.md")).unwrap();
    assert_says(&verdict, &["swept/first/seed=0: the program: commit 0123456789ab"], "recorded");
    let judged: Value = read_json(&own.folder.path().join("swept/first/verdict.json")).unwrap();
    assert_says(judged[0]["accepted"][0].as_str().unwrap(), &["commit 0123456789ab"], "recorded");
    fs::remove_dir_all(own.folder.path().join("swept/second")).unwrap();
    assert_says(
        &ok(&second, &[]),
        &["cannot be taken for it, because it differs", "commit 0123456789ab", "0 of them finished"],
        "twin",
    );
    assert_says(&ok(&first, &["--overwrite"]), &["0 of them finished before"], "made again");
    let record: Value = read_json(&made.join("provenance.json")).unwrap();
    assert_ne!(record["commit"], OTHER);
}
