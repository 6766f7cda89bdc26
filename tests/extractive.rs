//! Whole runs of an extractive compressor with the real program: labels, distillation, policy gradient, and being killed.

use crate::common::{
    assert_same_files, assert_says, command, fails, fails_as_it_says, files, finished, ok, results, rows, tiny_bert,
    tiny_encoder, train, world,
};
use crate::export::record_encoder;
use gist::eval::schema::summary::Summary;
use gist::model::encoder::Encoder;
use gist::run_dir::read_json;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const EXTRACTIVE: &[&str] = &[
    "compressor.type=extractive",
    "compressor.unit.type=span",
    "compressor.unit.tokens=2",
    "compressor.unit.stride=2",
    "warm_start.rounds=0",
    "distill.windows=8",
    "distill.epochs=2",
    "distill.batch=4",
    "eval.search_windows=0",
    "name=extractive",
];

fn flags<'a>(more: &[&'a str]) -> Vec<&'a str> {
    EXTRACTIVE.iter().chain(more).flat_map(|text| ["--set", *text]).collect()
}

fn rows_of(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Labels that a run learned from, and those that it left out.
fn labels_of(metrics: &[Value]) -> (f64, f64) {
    let figure = |key: &str| metrics[0][key].as_f64().unwrap();
    (figure("distill/labels"), figure("distill/labels_dropped"))
}

#[test]
fn a_run_is_distilled_then_co_trained_and_goes_on_where_it_was_killed() {
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ok(&train(whole.path(), &flags(&[])));
    let run = whole.path().join("extractive/seed=0");
    let metrics = rows_of(&run);
    assert_eq!(metrics.len(), 4 + 6);
    assert!(metrics[..4].iter().all(|row| row["distill/loss"].is_number()));
    assert_eq!(labels_of(&metrics), (8.0, 0.0));
    assert!(metrics[1..].iter().all(|row| row["distill/labels"].is_null()));
    assert!(metrics[4..].iter().all(|row| row["algo/mismatch_kl"].as_f64().unwrap().abs() < 1e-3));
    let summary: Summary = read_json(&run.join("summary.json")).unwrap();
    assert!(summary.eval.compressors["gist"].keep_ratio <= 4.0 / 32.0);

    let other = killed.path().join("extractive/seed=0");
    for updates in [0, 2, 7] {
        let mut arguments = train(killed.path(), &[]);
        arguments.extend(flags(&[]));
        if updates > 0 {
            arguments.push("--resume");
        }
        let mut child = command(&arguments);
        let mut child = child.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while rows(&other.join("metrics.jsonl")) < updates || !other.join("labels/manifest.json").exists() {
            assert!(begun.elapsed() < Duration::from_secs(300), "never got there");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut arguments = train(killed.path(), &["--resume"]);
    arguments.extend(flags(&[]));
    ok(&arguments);
    assert_same_files(&results(&run), &results(&other), "killed and resumed");
}

#[test]
fn a_student_of_fewer_blocks_learns_from_a_trained_compressor() {
    let (teacher, student) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let small = ["train.steps=0", "eval.windows=4"];
    ok(&train(teacher.path(), &flags(&small)));
    let folder = teacher.path().join("extractive/seed=0/checkpoints/step_000004/compressor");
    let from = format!("distill.teacher={}", folder.display());
    let learns = ["distill.label=teacher", "distill.loss.type=ranking", "distill.loss.temperature=1", &from];
    let all = [&small[..], &learns, &["compressor.blocks=1"]].concat();
    ok(&train(student.path(), &flags(&all)));
    let label: Value = read_json::<Value>(&student.path().join("extractive/seed=0/labels/labels_0000.json")).unwrap();
    assert!(label[0]["worth"].as_array().unwrap().len() == 16);
    let provenance = fs::read_to_string(student.path().join("extractive/seed=0/provenance.json")).unwrap();
    assert_says(&provenance, &[folder.join("adapter_model.safetensors").to_str().unwrap()], "provenance");
    let gist = format!("distill.teacher={}", finished().join("warm_start/compressor").display());
    let other = [&small[..], &learns[..3], &[&gist]].concat();
    let runs = tempfile::tempdir().unwrap();
    let said = fails(
        1,
        &["label", "tiny.toml", "--output", runs.path().to_str().unwrap()]
            .iter()
            .copied()
            .chain(flags(&other))
            .collect::<Vec<_>>(),
    );
    assert_says(&said, &["expected an extractive compressor over the base"], "a gist compressor as teacher");
    let deep = [EXTRACTIVE, &["compressor.blocks=3"]].concat();
    let said = fails(2, &train(runs.path(), &deep.iter().flat_map(|text| ["--set", *text]).collect::<Vec<_>>()));
    assert_says(&said, &["compressor.blocks: expected at most the base's 2, got 3"], "more blocks than there are");
    let none = [EXTRACTIVE, &["distill.label=teacher"]].concat();
    let said = fails(2, &train(runs.path(), &none.iter().flat_map(|text| ["--set", *text]).collect::<Vec<_>>()));
    assert_says(&said, &["`distill.teacher`: expected a folder when label is \"teacher\"", "got none"], "no teacher");
}

#[test]
fn a_teacher_with_a_hint_labels_for_a_student_without_and_what_it_saw_is_compared() {
    let runs = tempfile::tempdir().unwrap();
    let small = ["train.steps=0", "eval.windows=4"];
    ok(&train(runs.path(), &flags(&[&small[..], &["compressor.hints=[\"bm25\"]"]].concat())));
    let teacher = runs.path().join("extractive/seed=0/checkpoints/step_000004/compressor");
    let (teacher, labels) = (format!("distill.teacher={}", teacher.display()), runs.path().join("labels"));
    let unnamed = ["distill.label=teacher", &teacher];
    let said =
        fails(1, &[&["label", "tiny.toml", "--output", labels.to_str().unwrap()][..], &flags(&unnamed)].concat());
    assert_says(&said, &["step_000004/compressor: expected ", "(distill.teacher_hints = [])"], "hints not named");
    let taught = ["distill.label=teacher", &teacher, "distill.teacher_hints=[\"bm25\"]"];
    ok(&[&["label", "tiny.toml", "--output", labels.to_str().unwrap()][..], &flags(&taught)].concat());
    let rows: Vec<Value> = read_json(&labels.join("labels_0000.json")).unwrap();
    assert_eq!((rows.len(), rows[0]["worth"].as_array().unwrap().len()), (8, 16));

    // What a teacher says depends on what it may see, not on how many tokens are kept.
    let from = format!("distill.labels_from={}", labels.display());
    let student = |more: &'static str| [&small[..], &taught, &[&from, "name=student", more]].concat();
    let said = fails(1, &train(runs.path(), &flags(&student("condition=none"))));
    assert_says(&said, &["manifest.json: ", "`condition`: expected \"none\", got \"local\""], "another condition");
    ok(&train(runs.path(), &flags(&student("budget.tokens=1"))));
}

#[test]
fn every_unit_label_loss_and_estimator_runs() {
    let cases: &[&[&str]] = &[
        &["compressor.unit.type=token", "distill.label=without", "algo.estimator.type=rloo", "algo.recent_coef=1"],
        &["compressor.unit.type=word", "distill.loss.type=keep", "algo.estimator.type=ppo"],
        &["compressor.unit.type=sentence", "condition=none", "train.average_decay=0", "algo.estimator.type=grpo"],
        &["train.compressor_learns=false", "distill.loss.type=ranking", "distill.loss.temperature=0.1"],
    ];
    for case in cases {
        let runs = tempfile::tempdir().unwrap();
        // A unit of another type has no length.
        let other = case.iter().any(|flag| flag.starts_with("compressor.unit"));
        let own = EXTRACTIVE.iter().filter(|flag| !(other && flag.starts_with("compressor.unit")));
        let small = ["train.steps=2", "eval.windows=4", "eval.valid_windows=4"];
        let all = own.chain(&small).chain(*case).flat_map(|flag| ["--set", *flag]).collect::<Vec<_>>();
        ok(&train(runs.path(), &all));
        let run = runs.path().join("extractive/seed=0");
        for (key, value) in rows_of(&run).iter().flat_map(|row| row.as_object().unwrap()) {
            assert!(value.is_number(), "{case:?}: {key} is {value}");
        }
    }
}

#[test]
fn an_encoder_with_a_tokenizer_of_its_own_learns_and_is_saved_as_a_folder_of_its_kind() {
    let (bert, runs) = (tiny_bert(), tempfile::tempdir().unwrap());
    let path = format!("compressor.encoder.path={}", bert.path().display());
    let all = flags(&["train.steps=3", "eval.windows=4", "train.average_decay=0.5", &path]);
    ok(&train(runs.path(), &all));
    let run = runs.path().join("extractive/seed=0");
    assert!(rows_of(&run).iter().flat_map(|row| row.as_object().unwrap()).all(|(_, value)| value.is_number()));
    let before = fs::read(run.join("summary.json")).unwrap();
    ok(&["eval", run.to_str().unwrap()]);
    // The same figures, and the time and memory of the run, not of this evaluation.
    let summary = |bytes: &[u8]| serde_json::from_slice::<Summary>(bytes).unwrap();
    assert_eq!(summary(&before), summary(&fs::read(run.join("summary.json")).unwrap()));
    assert_moved(bert.path(), &run);
    fs::remove_file(bert.path().join("tokenizer.json")).unwrap();
    let gone = tempfile::tempdir().unwrap();
    assert_says(&fails(1, &train(gone.path(), &all)), &["tokenizer.json: No such file"], "no tokenizer");
}

/// The encoder's weights moved, less than the heads, and load as an encoder again, with every key of its configuration.
fn assert_moved(encoder: &Path, run: &Path) {
    let trained = run.join("checkpoints/step_000007/compressor");
    let (_, was) = Encoder::read(encoder).unwrap();
    let (_, is) = Encoder::read(&trained).unwrap();
    let moved = was.iter().map(|(name, was)| (was - &is[name]).abs().max().double_value(&[])).fold(0.0, f64::max);
    assert!(moved > 1e-6 && moved < 1e-3, "{moved}");
    let json = |folder: &Path| read_json::<serde_json::Map<String, Value>>(&folder.join("config.json")).unwrap();
    let (mut before, mut after) = (json(encoder), json(&trained));
    assert_eq!((after.remove("dtype").unwrap(), before.remove("dtype").is_some()), ("float32".into(), true));
    let class = after.remove("architectures").unwrap()[0].as_str().unwrap().to_string();
    let whole = before.remove("architectures").unwrap()[0].as_str().unwrap().to_string();
    assert!(class.ends_with("Model") && whole.starts_with(class.trim_end_matches("Model")), "{class} of {whole}");
    assert_eq!(before, after);
}

#[test]
fn other_families_learn_too_and_are_exported_for_others_to_load() {
    for name in ["bert", "roberta", "modernbert"] {
        let (encoder, runs) = (tiny_encoder(name), tempfile::tempdir().unwrap());
        let path = format!("compressor.encoder.path={}", encoder.path().display());
        ok(&train(runs.path(), &flags(&["train.steps=3", "eval.windows=4", "train.average_decay=0", &path])));
        let run = runs.path().join("extractive/seed=0");
        assert!(rows_of(&run).iter().flat_map(|row| row.as_object().unwrap()).all(|(_, value)| value.is_number()));
        assert_moved(encoder.path(), &run);
        let exported = runs.path().join("exported");
        ok(&["export", run.to_str().unwrap(), "--role", "compressor", "--output", exported.to_str().unwrap()]);
        let trained = run.join("checkpoints/step_000007/compressor");
        for file in ["config.json", "model.safetensors"] {
            assert_eq!(fs::read(exported.join(file)).unwrap(), fs::read(trained.join(file)).unwrap(), "{name}: {file}");
        }
        let tokenizer = |folder: &Path| fs::read(folder.join("tokenizer.json")).unwrap();
        assert_eq!(tokenizer(&exported), tokenizer(encoder.path()));
        record_encoder(&exported, name);
    }
}

#[test]
fn labels_are_made_once_and_what_does_not_fit_is_counted_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("labels");
    let at = labels.to_str().unwrap();
    let mut arguments = vec!["label", "tiny.toml", "--output", at];
    arguments.extend(flags(&[]));
    assert_says(&ok(&arguments), &["8 windows, 128 units", "labels: "], "label");
    let made = files(&labels);
    ok(&arguments);
    assert_same_files(&made, &files(&labels), "made again");

    // The run that labels for itself makes the same labels, and learns the same from these.
    let (own, given) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let none = ["train.steps=0", "eval.windows=4"];
    ok(&train(own.path(), &flags(&none)));
    let own = own.path().join("extractive/seed=0");
    assert_same_files(&made, &files(&own.join("labels")), "labels of the run");
    let from = format!("distill.labels_from={at}");
    ok(&train(given.path(), &flags(&[&none[..], &[&from]].concat())));
    let given = given.path().join("extractive/seed=0");
    assert_eq!(fs::read(own.join("metrics.jsonl")).unwrap(), fs::read(given.join("metrics.jsonl")).unwrap());
    let provenance = fs::read_to_string(given.join("provenance.json")).unwrap();
    assert_says(&provenance, &["labels/manifest.json", "labels/labels_0000.json"], "provenance");

    // Another run of the same folder of runs takes them over, whatever they are; with another seed it makes its own.
    let first = own.join("labels/labels_0000.json");
    let mut rows: Vec<Value> = read_json(&first).unwrap();
    rows[0]["worth"][0] = 0.125.into();
    fs::write(&first, serde_json::to_string(&rows).unwrap()).unwrap();
    let runs = own.ancestors().nth(2).unwrap();
    let made_by = |name: &str, seed: &str| {
        ok(&train(runs, &flags(&[&none[..], &[name, seed]].concat())));
        let run = format!("{}/{}", name.trim_start_matches("name="), seed);
        read_json::<Vec<Value>>(&runs.join(run).join("labels/labels_0000.json")).unwrap()
    };
    assert_eq!(made_by("name=again", "seed=0"), rows);
    assert_ne!(made_by("name=other", "seed=1")[0]["prefix"], rows[0]["prefix"]);

    let other = fails(1, &[&["label", "tiny.toml", "--output", at][..], &flags(&["seed=1"])].concat());
    assert_says(&other, &["manifest.json: expected labels of the same experiment", "\"seed\""], "another seed");

    let path = labels.join("labels_0000.json");
    let mut rows: Vec<Value> = read_json(&path).unwrap();
    rows[0]["prefix"][3] = 7.into();
    rows[1]["document"] = 999.into();
    rows[2]["worth"].as_array_mut().unwrap().pop();
    fs::write(&path, serde_json::to_string(&rows).unwrap()).unwrap();
    let runs = tempfile::tempdir().unwrap();
    let output = command(&train(runs.path(), &flags(&[&none[..], &[&from]].concat())))
        .current_dir(&world().root)
        .output()
        .unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_says(&said, &["labels: 3 of 8 windows were made from other text"], "labels that do not fit");
    assert_eq!(labels_of(&rows_of(&runs.path().join("extractive/seed=0"))), (5.0, 3.0));
}

#[test]
fn labels_of_another_experiment_are_taken_only_if_they_mean_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, runs) = (folder.path().join("labels"), folder.path().join("runs"));
    ok(&[&["label", "tiny.toml", "--output", labels.to_str().unwrap()][..], &flags(&[])].concat());
    let from = format!("distill.labels_from={}", labels.display());
    let given =
        |more: &[&'static str]| flags(&[&["train.steps=0", "eval.windows=4", from.as_str()][..], more].concat());

    // The same text under another name; of a reading neither the seed nor what the student sees and reads with decides.
    fs::copy(world().root.join("train.jsonl"), world().root.join("train-again.jsonl")).unwrap();
    let same = ["data.train=train-again.jsonl", "seed=1", "condition=none", "compressor.blocks=1", "budget.tokens=3"];
    ok(&train(&runs, &given(&[&same[..], &["distill.windows=4"]].concat())));
    assert_eq!(labels_of(&rows_of(&runs.join("extractive/seed=1"))), (4.0, 0.0));

    for (set, words) in [
        ("distill.label=without", "`distill.label`: expected \"without\", got \"alone\""),
        ("budget.tokens=1", "`budget`: expected 1, got 2"),
        ("train.imagined_futures=1", "`train.imagined_futures`: expected 1, got 0"),
        ("data.future_tokens=4", "`data.future_tokens`: expected 4, got 8"),
        ("data.train=valid.jsonl", "`data.train`: expected \""),
        ("compressor.unit.tokens=4", "`compressor.unit`: expected {"),
    ] {
        let said = fails(1, &train(&runs, &given(&[set])));
        assert_says(&said, &["manifest.json: expected labels that mean the same; ", words], set);
    }
    fs::write(labels.join("labels_0000.json"), "[]").unwrap();
    let said = fails(1, &train(&runs, &given(&[])));
    assert_says(&said, &["labels: expected 8 labelled windows, got 0; `gist label` makes the rest"], "unfinished");
}

#[test]
fn what_one_kind_of_compressor_has_the_other_refuses() {
    let runs = tempfile::tempdir().unwrap();
    let refused = |set: &[&str], words: &[&str]| {
        let all: Vec<&str> = set.iter().flat_map(|text| ["--set", *text]).collect();
        assert_says(&fails_as_it_says(&train(runs.path(), &all)), words, &format!("{set:?}"));
        assert!(fs::read_dir(runs.path()).unwrap().next().is_none(), "{set:?}: left a run directory");
    };
    let extractive = |more: &'static str| [EXTRACTIVE, &[more]].concat();
    refused(&["distill.windows=8"], &["`distill.windows`: expected 0", "got 8"]);
    refused(&extractive("warm_start.rounds=1"), &["`warm_start.rounds`: expected 0", "got 1"]);
    refused(&extractive("warm_start.copy_updates=3"), &["`warm_start.copy_updates`: expected 0", "got 3"]);
    refused(&extractive("algo.token_credit=leave_one_out"), &["`algo.token_credit`: expected \"uniform\""]);
    refused(
        &extractive("warm_start.fresh_compressor=true"),
        &["`warm_start.fresh_compressor`: expected warm_start.from"],
    );
    refused(&extractive("compressor.unit.tokens=0"), &["`compressor.unit.tokens`: expected at least 1, got 0"]);
    let evidence = [EXTRACTIVE, &["compressor.evidence=true", "compressor.encoder.path=x"]].concat();
    refused(&evidence, &["`compressor.evidence`: expected false", "`gist distill` teaches", "got true"]);
    refused(&extractive("compressor.unit.stride=0"), &["`compressor.unit.stride`: expected at least 1, got 0"]);
    refused(&extractive("compressor.unit.words=1"), &["compressor.unit", "words"]);
    let cold = [EXTRACTIVE, &["distill.loss.type=ranking", "distill.loss.temperature=0"]].concat();
    refused(&cold, &["`distill.loss.temperature`: expected a finite number above 0, got 0"]);
    refused(&extractive("distill.epochs=0"), &["`distill.epochs`: expected at least 1, got 0"]);
    refused(&extractive("compressor.type=summary"), &["compressor", "summary"]);
    let gist = format!("warm_start.from={}", finished().join("warm_start").display());
    let all = [EXTRACTIVE, &[gist.as_str()]].concat();
    refused(&all, &["compressor: expected the adapter of an extractive compressor, got that of a gist one"]);
    let bert = tiny_bert();
    let path = bert.path().join("tokenizer.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("[CLS]", "[BEGIN]")).unwrap();
    let encoder = format!("compressor.encoder.path={}", bert.path().display());
    let words = ["tokenizer.json: expected tokens around a text", "[CLS] and [SEP]", "got none"];
    refused(&[EXTRACTIVE, &[encoder.as_str()]].concat(), &words);
    let gone = extractive("distill.labels_from=gone");
    let said: Vec<&str> = gone.iter().flat_map(|text| ["--set", *text]).collect();
    let said = fails(1, &train(runs.path(), &said));
    assert_says(&said, &["gone/manifest.json: No such file"], "labels");
    let said = fails(2, &["label", "tiny.toml"]);
    assert_says(&said, &["tiny.toml: distill.windows: expected a count above 0"], "label without distillation");
}
