//! `distill` with the real program: an encoder learns what labelled texts keep, is killed and resumed, and says what is
//! wrong with its files.

use crate::common::{assert_says, command, fails, fails_as_it_says, ok, rows, tiny_bert, world};
use gist::run_dir::read_json;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const DISTILL: &str = r#"
kind = "distill"
name = "marked"

[model]
path = "base"

[model.lora]
rank = 4
alpha = 8.0
dropout = 0.1

[data]
train = "marked-train.jsonl"
valid = "marked-valid.jsonl"
test = "marked-test.jsonl"

[compressor]
type = "extractive"

[compressor.unit]
type = "sentence"

[budget]
keep_ratio = 0.3

[loss]
type = "keep"

[optim]
lr = 2e-2

[train]
epochs = 6
batch = 4
micro = 2
eval_every = 8
checkpoint_every = 3

[hardware]
threads = 1
"#;

/// Eight lines a text, two of which begin with a mark and are to be kept.
fn texts(split: usize, count: usize) -> String {
    let one = |i: usize| {
        let (mut text, mut keep) = (String::new(), Vec::new());
        for line in 0..8 {
            let marked = line % 4 == (i + line / 4 * split) % 4;
            let start = text.chars().count();
            text += if marked { "## " } else { "is " };
            text += &format!("the {} of {}.\n", (i * 7 + line * 3 + split) % 10, (i + line) % 10);
            if marked {
                keep.push([start, text.chars().count() - 1]);
            }
        }
        json!({"id": format!("{split}-{i}"), "text": text, "query": "which?", "keep": keep}).to_string() + "\n"
    };
    (0..count).map(one).collect()
}

fn write_world() {
    let root = &world().root;
    for (split, name, count) in [(1, "train", 24), (2, "valid", 6), (3, "test", 12)] {
        fs::write(root.join(format!("marked-{name}.jsonl")), texts(split, count)).unwrap();
    }
    fs::write(root.join("marked.toml"), DISTILL).unwrap();
}

fn distill<'a>(runs: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    [&["distill", "marked.toml", "--runs", runs.to_str().unwrap()], flags].concat()
}

#[test]
fn an_encoder_learns_what_labelled_texts_keep_and_goes_on_where_it_was_killed() {
    write_world();
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let said = ok(&distill(whole.path(), &[]));
    assert_says(&said, &["distilled", "bm25", "texts: test 12", "24 texts to learn from"], "distill");
    let run = whole.path().join("marked/seed=0");
    let outcome: Value = read_json(&run.join("evidence.json")).unwrap();
    let found = &outcome["data_sets"]["test"]["keep_ratio 0.3"];
    let figure = |name: &str, key: &str| found[name][key]["mean"].as_f64().unwrap();
    assert!(figure("distilled", "recall") > 0.9, "{said}");
    assert!(figure("random", "recall") < 0.6, "{said}");
    assert!(figure("random", "behind") > 0.3, "{said}");
    for (name, found) in found.as_object().unwrap() {
        assert!(found["keep_ratio"].as_f64().unwrap() <= 0.3, "{name}");
    }
    assert_eq!(outcome["rows"]["train"], json!({"read": 24, "kept": 24, "dropped": {}}));
    assert_eq!(fs::read_to_string(run.join("evidence.csv")).unwrap().lines().count(), 1 + 12 * 13);
    assert!(run.join("compressor/adapter_model.safetensors").exists());

    let other = killed.path().join("marked/seed=0");
    for updates in [1, 20] {
        let arguments = distill(killed.path(), if updates > 1 { &["--resume"] } else { &[] });
        let mut child = command(&arguments);
        let mut child = child.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while rows(&other.join("metrics.jsonl")) < updates {
            assert!(begun.elapsed() < Duration::from_secs(300), "never got there");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    ok(&distill(killed.path(), &["--resume"]));
    for name in ["metrics.jsonl", "evidence.csv", "evidence.json", "compressor/adapter_model.safetensors"] {
        assert_eq!(fs::read(run.join(name)).unwrap(), fs::read(other.join(name)).unwrap(), "{name} of a resumed run");
    }
}

#[test]
fn an_encoder_of_its_own_is_compared_with_its_embeddings_too() {
    write_world();
    let (bert, runs) = (tiny_bert(), tempfile::tempdir().unwrap());
    let path = format!("compressor.encoder.path={}", bert.path().display());
    let hints = "compressor.hints=[\"bm25\",\"embedding\"]";
    let said = ok(&distill(runs.path(), &["--set", &path, "--set", hints, "--set", "train.epochs=1"]));
    assert_says(&said, &["embedding", "tf_idf", "undistilled"], "with an encoder and hints");
}

#[test]
fn an_encoder_that_finds_evidence_is_left_in_a_folder_that_others_may_name() {
    write_world();
    let (bert, runs) = (tiny_bert(), tempfile::tempdir().unwrap());
    let path = format!("compressor.encoder.path={}", bert.path().display());
    let files = "data.train=[\"marked-train.jsonl\",\"marked-valid.jsonl\"]";
    let sets = "data.test={one=\"marked-test.jsonl\",two=\"marked-valid.jsonl\"}";
    let flags = [
        "compressor.evidence=true",
        &path,
        "loss.type=listwise",
        "keep_ratios=[0.5]",
        "train.epochs=2",
        files,
        sets,
        "data.strict_splits=false",
    ];
    let flags: Vec<&str> = flags.iter().flat_map(|text| ["--set", *text]).collect();
    let said = ok(&distill(runs.path(), &flags));
    assert_says(&said, &["embedding", "undistilled", "one, keep_ratio 0.5", "mean of the data sets"], "evidence");
    let run = runs.path().join("marked/seed=0");
    let outcome: Value = read_json(&run.join("evidence.json")).unwrap();
    let of = |budget: &str, name: &str| outcome["data_sets"]["one"][budget][name].clone();
    let (few, more) = (&of("keep_ratio 0.3", "distilled"), &of("keep_ratio 0.5", "distilled"));
    assert_eq!(of("keep_ratio 0.5", "labelled")["recall"]["mean"], 1.0, "the labelled units fit");
    let mean = &outcome["mean"]["keep_ratio 0.5"]["bm25"]["recall"]["mean"];
    let two = &outcome["data_sets"]["two"]["keep_ratio 0.5"]["bm25"]["recall"]["mean"];
    let one = &of("keep_ratio 0.5", "bm25")["recall"]["mean"];
    let [mean, one, two] = [mean, one, two].map(|value| value.as_f64().unwrap());
    assert!((mean - (one + two) / 2.0).abs() < 1e-12);
    let figure = |own: &Value, key: &str| own[key]["mean"].as_f64().unwrap();
    assert!(figure(more, "recall") >= figure(few, "recall"), "{said}");
    assert!(more["keep_ratio"].as_f64().unwrap() > 0.3 && more["keep_ratio"].as_f64().unwrap() <= 0.5);
    let (texts, trained_on) = (outcome["texts"].clone(), outcome["training_texts"].as_u64().unwrap());
    let (one, two) = (texts["one"].as_u64().unwrap(), texts["two"].as_u64().unwrap());
    assert_eq!((one, trained_on), (12, 24 + two));
    let lines = fs::read_to_string(run.join("evidence.csv")).unwrap().lines().count() as u64;
    assert_eq!(lines, 1 + (one + two) * 2 * 14);

    // The folder is a compressor over any base; without its record, or the encoder that it began from, it is none.
    let trained = run.join("compressor");
    let with = format!("evidence:{}", trained.display());
    let compress = ["compress", "--with", &with, "--base", "base", "--query", "which?", "--budget", "8", "marked.toml"];
    assert!(!ok(&compress).trim().is_empty());
    let weights = bert.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    assert_says(&fails(1, &compress), &["evidence.json: `sha256`: expected [", "got ["], "another encoder");
    fs::remove_file(trained.join("evidence.json")).unwrap();
    assert_says(&fails(1, &compress), &["compressor/tokenizer.json: No such file"], "no record");
}

#[test]
fn low_rank_weights_beside_an_encoder_are_taught_and_judged_again() {
    write_world();
    let (bert, runs) = (tiny_bert(), tempfile::tempdir().unwrap());
    let path = format!("compressor.encoder.path={}", bert.path().display());
    let flags =
        ["compressor.evidence=true", "compressor.encoder.rank=2", &path, "loss.type=listwise", "train.epochs=2"];
    let flags: Vec<&str> = flags.iter().flat_map(|text| ["--set", *text]).collect();
    ok(&distill(runs.path(), &[&flags[..], &["--set", "name=again", "--set", "train.checkpoint_every=7"]].concat()));
    ok(&distill(runs.path(), &flags));
    let (run, again) = (runs.path().join("marked/seed=0"), runs.path().join("again/seed=0"));
    let taught = run.join("compressor");
    let files: Vec<String> =
        fs::read_dir(&taught).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    let expected = ["adapter_config.json", "adapter_model.safetensors", "evidence.json"];
    assert!(files.len() == 3 && expected.iter().all(|name| files.iter().any(|file| file == name)), "{files:?}");
    let weights = |run: &Path| fs::read(run.join("compressor/adapter_model.safetensors")).unwrap();
    assert_eq!(weights(&run), weights(&again));

    let judge = |folder: &str, name: &str| {
        let name = format!("name={name}");
        let arguments = [&distill(runs.path(), &flags)[..], &["--set", &name, "--evaluate", folder]].concat();
        command(&arguments).current_dir(&world().root).output().unwrap()
    };
    let judged = judge(taught.to_str().unwrap(), "judged");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stderr));
    let figures = |run: &str| -> Value {
        let outcome: Value = read_json(&runs.path().join(run).join("seed=0/evidence.json")).unwrap();
        outcome["data_sets"].clone()
    };
    assert_eq!(figures("judged"), figures("marked"));
    let absent = judge("nowhere", "absent");
    assert_says(&String::from_utf8_lossy(&absent.stderr), &["nowhere/config.json", "No such file"], "no encoder");
    assert!(!runs.path().join("absent").exists());
}

#[test]
fn bad_files_and_settings_are_named_before_anything_is_written() {
    write_world();
    let runs = tempfile::tempdir().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["data.test=absent.jsonl"], &["absent.jsonl"]),
        (&["data.test=train.jsonl"], &["train.jsonl:1", "expected a JSON object with `text` and `keep`"]),
        (&["data.test=tiny.toml"], &["tiny.toml", "expected a .jsonl file"]),
        (&["compressor.type=gist"], &["`compressor.type`", "expected \"extractive\", got \"gist\""]),
        (&["budget.keep_ratio=1.5"], &["`budget.keep_ratio`"]),
        (&["loss.type=ranking", "loss.temperature=0"], &["`loss.temperature`", "above 0"]),
        (&["train.epochs=0"], &["`train.epochs`", "at least 1"]),
        (&["compressor.blocks=9"], &["compressor.blocks", "at most the base's 2"]),
        (&["compressor.hints=[\"bm25\",\"bm25\"]"], &["`compressor.hints[1]`", "each once, got Bm25 twice"]),
        (&["compressor.hints=[\"embedding\"]"], &["`compressor.hints`", "expected compressor.encoder", "got none"]),
        (&["compressor.hints=[\"luck\"]"], &["compressor.hints", "luck", "bm25"]),
        (&["compressor.evidence=true"], &["`compressor.evidence`", "expected compressor.encoder", "got none"]),
        (
            &["compressor.evidence=true", "compressor.encoder.path=x", "compressor.aggregate=max"],
            &["`compressor.evidence`", "expected false beside", "got true"],
        ),
        (
            &["compressor.evidence=true", "compressor.encoder.path=x", "compressor.encoder.rank=0"],
            &["`compressor.encoder.rank`", "expected at least 1, got 0"],
        ),
        (
            &["compressor.encoder.path=x", "compressor.encoder.rank=4"],
            &["`compressor.encoder.rank`", "compressor.evidence = true beside it, got 4"],
        ),
        (&["data.train=[]"], &["`data.train`", "at least 1"]),
        (&["data.test=[\"a\"]"], &["`data.test", "expected a path or a table of paths by name"]),
        (&["loss.type=listwise", "loss.keep_weight=-1"], &["`loss.keep_weight`", "at least 0, got -1"]),
        (&["keep_ratios=[0.2,1.5]"], &["`keep_ratios[1]`", "got 1500000"]),
        (&["kind=train"], &["`kind`"]),
    ];
    for (set, words) in cases {
        let flags: Vec<&str> = set.iter().flat_map(|text| ["--set", *text]).collect();
        assert_says(&fails_as_it_says(&distill(runs.path(), &flags)), words, &set.join(" "));
        assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 0, "{set:?}");
    }
    let unfit = texts(1, 2)
        + "{\"text\":\"is the 3 of 4.\\n\",\"keep\":[[3,5]]}\n{\"text\":\"is the 3.\\n\",\"keep\":[[3,99]]}\n";
    fs::write(world().root.join("marked-unfit.jsonl"), unfit).unwrap();
    let arguments = distill(runs.path(), &["--set", "data.valid=marked-unfit.jsonl", "--set", "train.epochs=1"]);
    let output = command(&arguments).current_dir(&world().root).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_says(&said, &["marked-unfit.jsonl: 1 of 4 texts left out: no unit that is labelled by half"], "unfit");
    let outcome: Value = read_json(&runs.path().join("marked/seed=0/evidence.json")).unwrap();
    let dropped = json!({"no unit that is labelled by half": 1, "a range that is not in the text": 1});
    assert_eq!(outcome["rows"]["valid"], json!({"read": 4, "kept": 2, "dropped": dropped}));
}
