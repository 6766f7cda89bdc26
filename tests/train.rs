//! A whole run with the real program, on a world small enough to do it many times: what it leaves, and that nothing but
//! seed and threads decides what that is, however often it is killed.

mod killed;
mod readers_alone;

use crate::common::{
    UPDATES, assert_same_files, assert_says, command, fails, files, finished, finished_copy, ok, results, rows,
    run_dir, timeless_summary, train, world,
};
use gist::eval::schema::summary::{Role, Summary};
use gist::eval::schema::windows::WindowExample;
use gist::eval::schema::windows::read_windows;
use gist::run_dir::{State, Status, read_json};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn metrics(run: &Path) -> usize {
    rows(&run.join("metrics.jsonl"))
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let runs = tempfile::tempdir().unwrap();
    ok(&train(runs.path(), &[]));
    assert_same_files(&results(finished()), &results(&run_dir(runs.path())), "run twice");
}

#[test]
fn another_seed_gives_other_metrics_on_the_same_windows() {
    let runs = tempfile::tempdir().unwrap();
    ok(&train(runs.path(), &["--set", "seed=1", "--set", "eval.search_windows=0"]));
    let (a, b) = (finished(), runs.path().join("tiny/seed=1"));
    assert_ne!(fs::read(a.join("metrics.jsonl")).unwrap(), fs::read(b.join("metrics.jsonl")).unwrap());
    let windows = |run: &Path| read_windows(&run.join("eval/step_000010/windows.jsonl")).unwrap();
    let kept = |run: &Path| windows(run).iter().map(|w| w.compressors["random"].kl_base).collect::<Vec<_>>();
    assert_eq!(kept(a), kept(&b));
}

const EVERY_STEP: [&str; 24] = [
    "reward/total",
    "reward/quality",
    "reward/length",
    "rollout/kl",
    "rollout/kl_empty",
    "rollout/nll",
    "rollout/keep_ratio",
    "rollout/ended_frac",
    "rollout/entropy",
    "rollout/group_std",
    "algo/zero_variance_groups",
    "algo/advantage_abs",
    "algo/lambda",
    "algo/mismatch_kl",
    "algo/kl_reference",
    "optim/compressor/grad_norm",
    "generator/kl",
    "empty_reader/kl",
    "optim/generator/grad_norm",
    "text/punctuation_density",
    "text/copied",
    "text/type_token",
    "text/function_words",
    "text/prefix_function_words",
];

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_finished_run_has_every_row() {
    let run = finished();
    let metrics = lines(&run.join("metrics.jsonl"));
    assert_eq!(metrics.len(), UPDATES);
    for (step, row) in metrics.iter().enumerate() {
        assert_eq!(row["step"], step);
        for (key, value) in row.as_object().unwrap() {
            assert!(value.is_number(), "step {step}: {key} is {value}");
        }
        let expected = if step < 4 { &["warm_start/imitation_loss", "generator/kl"][..] } else { &EVERY_STEP };
        for key in expected {
            assert!(row.get(key).is_some(), "step {step}: no {key}");
        }
        // Evaluated every 3 updates of a stage, at its end, and before the first step of co-training.
        let evaluated = row.get("eval/gap_closed").is_some();
        assert_eq!(evaluated, [2, 3, 4, 6, 9].contains(&step), "step {step}");
        let keep_ratio = row.get("rollout/keep_ratio").map_or(0.0, |value| value.as_f64().unwrap());
        assert!(keep_ratio <= 4.0 / 32.0);
        // Sampling and training agree on what the policy is (dropout is off while it samples, so not exactly).
        assert!(row.get("algo/mismatch_kl").is_none_or(|value| value.as_f64().unwrap() < 0.05), "{row}");
    }
    assert_eq!(lines(&run.join("timings.jsonl")).len(), UPDATES);
    for step in [4, 6, 8] {
        let gists = lines(&run.join(format!("rollouts/step_{step:06}.jsonl")));
        assert_eq!(gists.len(), 4 * 4);
        assert!(gists.iter().all(|row| row["tokens"].as_u64().unwrap() <= 4 && row["gist"].is_string()));
    }
    let events: Vec<_> = fs::read_dir(run.join("tensorboard")).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(events.len(), 1);
    assert!(events[0].file_name().to_str().unwrap().starts_with("events.out.tfevents."));
    assert!(events[0].metadata().unwrap().len() > 1000);
}

#[test]
fn a_finished_run_has_every_figure() {
    let run = finished();
    let summary: Summary = read_json(&run.join("summary.json")).unwrap();
    let raw: Value = read_json(&run.join("summary.json")).unwrap();
    for key in ["seed", "steps", "seconds", "peak_rss_mib", "device", "eval"] {
        assert!(!raw[key].is_null(), "{key}");
    }
    for key in ["n_windows", "n_documents", "budget_tokens", "context_value", "context_value_unadapted"] {
        assert!(raw["eval"][key].is_number(), "{key}");
    }
    for key in ["kl_start", "kl_warm_start"] {
        assert!(raw["eval"][key].is_number(), "{key}");
    }
    assert_eq!((summary.steps, summary.seed, summary.budget_tokens), (UPDATES, 0, 4));
    assert_eq!((summary.eval.n_windows, summary.eval.n_documents), (12, 12));
    let expected = [
        ("attention", Role::Contestant),
        ("bm25", Role::Contestant),
        ("draft", Role::Contestant),
        ("empty", Role::Reference),
        ("gist", Role::Contestant),
        ("gist_sampled", Role::Contestant),
        ("identity", Role::Reference),
        ("idf", Role::Contestant),
        ("llmlingua", Role::Contestant),
        ("lookahead", Role::Search),
        ("oracle_greedy", Role::Hindsight),
        ("other_document", Role::LeakControl),
        ("overlap", Role::Contestant),
        ("prompt_lookup", Role::Contestant),
        ("random", Role::Contestant),
        ("recent", Role::Contestant),
        ("recent_joined", Role::Contestant),
        ("self_information", Role::Contestant),
        ("shuffled", Role::LeakControl),
        ("tf_idf", Role::Contestant),
        ("truncate", Role::Contestant),
    ];
    let names: Vec<&str> = summary.eval.compressors.keys().map(String::as_str).collect();
    assert_eq!(names, expected.map(|(name, _)| name));
    for (name, role) in expected {
        for entry in [&summary.eval.compressors[name], &summary.eval.readers["base"][name]] {
            assert_eq!(summary.role(entry), role, "{name}");
            assert!(role == Role::Reference || entry.keep_ratio <= 4.0 / 32.0, "{name}");
            let searched = ["oracle_greedy", "lookahead"].contains(&name);
            assert_eq!(entry.n_windows, if searched { 4 } else { 12 });
            let [low, high] = entry.gap_closed_ci95;
            assert!(low <= entry.gap_closed && entry.gap_closed <= high, "{name}: {entry:?}");
            assert!(entry.kl >= 0.0 && entry.nll > 0.0, "{name}: {entry:?}");
        }
    }
    let base = &summary.eval.readers["base"];
    assert!(base["identity"].kl.abs() < 1e-6, "the base that reads the whole prefix is the teacher");
    assert_eq!(base["empty"].kl, summary.eval.context_value_unadapted);
    assert!(summary.eval.gist_minus_best.is_some() && summary.eval.gist_minus_warm_start.is_some());
    let windows = read_windows(&run.join("eval/step_000010/windows.jsonl")).unwrap();
    assert_eq!(windows.len(), 12);
    let examples = lines(&run.join("eval/step_000010/examples.jsonl"));
    assert_eq!(examples.len(), 4);
    for example in examples {
        let example: WindowExample = serde_json::from_value(example).unwrap();
        assert!(example.gists.contains_key("gist"));
    }
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert_says(&page, &["<svg", "gist", "recent", "truncate"], "report.html");
    assert!(!page.contains("<script src") && !page.contains("<link"), "report.html is not self-contained");
}

#[test]
fn a_finished_run_says_how_it_was_made() {
    let run = finished();
    let status: Status = read_json(&run.join("status.json")).unwrap();
    assert_eq!((status.state, status.step), (State::Done, UPDATES));
    let dry = ok(&["train", "tiny.toml", "--dry-run"]);
    assert!(dry.contains("bos = false\n"), "{dry}");
    assert_eq!(fs::read_to_string(run.join("config.toml")).unwrap(), dry.replace("bos = false\n", ""));
    let provenance: Value = read_json(&run.join("provenance.json")).unwrap();
    assert_eq!(provenance["argv"][1], "train");
    assert_eq!(provenance["device"], "cpu");
    let inputs = provenance["inputs"].as_array().unwrap();
    for name in ["base/model.safetensors", "base/tokenizer.json", "train.jsonl", "valid.jsonl", "test.jsonl"] {
        let input = inputs.iter().find(|input| input["path"] == name).expect(name);
        assert_eq!(input["sha256"].as_str().unwrap().len(), 64);
    }
    for step in [8, UPDATES] {
        let checkpoint = run.join(format!("checkpoints/step_{step:06}"));
        for file in ["manifest.json", "state.json", "compressor_optimizer.safetensors"] {
            assert!(checkpoint.join(file).exists(), "{step}: {file}");
        }
        for role in ["compressor", "generator", "empty_reader", "averaged", "stale", "smoothed"] {
            for file in ["adapter_config.json", "adapter_model.safetensors"] {
                assert!(checkpoint.join(role).join(file).exists(), "{step}: {role}/{file}");
            }
        }
    }
}

#[test]
fn an_evaluation_again_finds_the_same_and_only_writes_its_own_files() {
    let (_runs, run) = finished_copy();
    let before = files(&run);
    fs::remove_dir_all(run.join("eval")).unwrap();
    let said = ok(&["eval", run.to_str().unwrap()]);
    assert_says(&said, &["gist", "recent", "report: "], "eval");
    assert!(said.lines().last().is_some_and(|line| line.starts_with("K_e/K_g ")), "{said}");
    assert_eq!(timeless_summary(&run), timeless_summary(finished()));
    let mut after = files(&run);
    for own in ["summary.json", "report.html", "provenance.json"] {
        after.insert(own.into(), before[Path::new(own)].clone());
    }
    assert_same_files(&before, &after, "eval");
}

#[test]
fn every_variant_runs() {
    // Every estimator, reader, signal, price, credit and condition at least once.
    let cases: &[&[&str]] = &[
        &["algo.estimator.type=rloo", "reward.reader.type=current", "condition=none", "reward.length.type=fixed"],
        &[
            "algo.estimator.type=grpo",
            "reward.reader.type=frozen",
            "reward.signal=logprob",
            "algo.token_credit=leave_one_out",
        ],
        &["algo.estimator.type=ppo", "algo.token_credit=leave_one_out", "condition=none", "warm_start.rounds=1"],
        &["rollout.group_size=1", "reward.signal=logprob", "algo.reference_kl_coef=0"],
        &["train.compressor_learns=false", "algo.estimator.type=rloo", "algo.recent_coef=1"],
        &["model.copy_lengths=3", "algo.recent_coef=1", "algo.token_credit=leave_one_out"],
        &["train.generator_learns=false", "train.schedule.type=cosine", "model.lora.target_modules=[\"q_proj\"]"],
        &["train.steps=0", "warm_start.copy_updates=2", "warm_start.rounds=2", "warm_start.samples=2"],
    ];
    for (seed, case) in cases.iter().enumerate() {
        let runs = tempfile::tempdir().unwrap();
        let seed = format!("seed={seed}");
        let mut overrides =
            vec!["train.steps=2", "warm_start.rounds=0", "warm_start.windows=4", "eval.windows=4", &seed];
        overrides.extend(["eval.search_windows=0", "eval.valid_windows=4"]);
        if case.contains(&"reward.length.type=fixed") {
            overrides.push("reward.length.lambda=0.1");
        }
        overrides.extend(case.iter());
        let flags: Vec<&str> = overrides.iter().flat_map(|text| ["--set", text]).collect();
        ok(&train(runs.path(), &flags));
        let run = runs.path().join("tiny").join(&seed);
        let what = format!("{case:?}");
        let metrics = lines(&run.join("metrics.jsonl"));
        for (key, value) in metrics.iter().flat_map(|row| row.as_object().unwrap()) {
            assert!(value.is_number(), "{what}: {key} is {value}");
        }
        let steps = if case.contains(&"train.steps=0") { 0 } else { 2 };
        let rows: Vec<&Value> = metrics.iter().filter(|row| row.get("reward/total").is_some()).collect();
        assert_eq!(rows.len(), steps, "{what}");
        for row in &rows {
            assert_step(row, case);
        }
        assert_moved(&run, case, steps);
        let summary: Summary = read_json(&run.join("summary.json")).unwrap();
        let gist = &summary.eval.compressors["gist"];
        assert!(gist.kl > 0.0 && gist.keep_ratio <= 4.0 / 32.0, "{what}: {gist:?}");
        let closed = 1.0 - gist.kl / summary.eval.context_value;
        assert!((gist.gap_closed - closed).abs() < 1e-9, "{what}: {} is not {closed}", gist.gap_closed);
    }
}

/// Checks that hold of the figures of a step, whatever the variant.
fn assert_step(row: &Value, case: &[&str]) {
    let figure = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{case:?}: no {key}"));
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs());
    let total = figure("reward/quality") + figure("reward/length");
    assert!(close(figure("reward/total"), total), "{case:?}: {row}");
    assert!(close(figure("reward/length"), -figure("algo/lambda") * figure("rollout/keep_ratio")), "{case:?}: {row}");
    let kept = figure("rollout/keep_ratio");
    assert!((0.0..=4.0 / 32.0).contains(&kept), "{case:?}: a budget of 4 of 32 tokens, kept {kept}");
    assert!(figure("rollout/kl") > 0.0 && figure("rollout/kl_empty") > 0.0, "{case:?}: {row}");
    // Of 300 tokens and the end none is likelier than all together.
    assert!((0.0..=301f64.ln()).contains(&figure("rollout/entropy")), "{case:?}: {row}");
    assert!((0.0..=1.0).contains(&figure("rollout/ended_frac")), "{case:?}: {row}");
    let learns = !case.contains(&"train.compressor_learns=false");
    assert_eq!(row.get("algo/policy_loss").is_some(), learns, "{case:?}: {row}");
    if learns {
        assert!(figure("optim/compressor/grad_norm") > 0.0, "{case:?}: {row}");
        // What was sampled has the log-probability that training gives it, before the first update of a rollout.
        assert!(figure("algo/mismatch_kl").abs() < 1e-3, "{case:?}: {row}");
    }
    assert_eq!(row.get("generator/kl").is_some(), !case.contains(&"train.generator_learns=false"), "{case:?}: {row}");
}

/// Fails unless exactly the roles that learn have left their warm-started weights.
fn assert_moved(run: &Path, case: &[&str], steps: usize) {
    if steps == 0 {
        return;
    }
    let last = fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let weights = |folder: &Path, role: &str| {
        gist::model::weights::read(&folder.join(role).join("adapter_model.safetensors")).unwrap()
    };
    let frozen = |role: &str| match role {
        "compressor" => case.contains(&"train.compressor_learns=false"),
        _ => case.contains(&"train.generator_learns=false"),
    };
    for role in ["compressor", "generator", "empty_reader"] {
        let (before, after) = (weights(&run.join("warm_start"), role), weights(&last, role));
        let same = before.iter().all(|(name, tensor)| tensor.equal(&after[name]));
        assert_eq!(same, frozen(role), "{case:?}: {role}");
    }
}

/// Rows of co-training of a run of the experiment with these overrides, without a warm start.
fn cotrained(overrides: &[&str]) -> Vec<Value> {
    let runs = tempfile::tempdir().unwrap();
    let small = ["warm_start.rounds=0", "eval.windows=2", "eval.search_windows=0", "eval.valid_windows=2"];
    let flags: Vec<&str> = small.iter().chain(overrides).flat_map(|flag| ["--set", *flag]).collect();
    ok(&train(runs.path(), &flags));
    lines(&run_dir(runs.path()).join("metrics.jsonl"))
}

/// How the compressor learns, of a row.
fn of_compressor(row: &Value) -> Vec<f64> {
    let keys = ["reward/total", "algo/advantage_abs", "algo/policy_loss", "optim/compressor/grad_norm"];
    keys.iter().map(|key| row[key].as_f64().unwrap()).collect()
}

#[test]
fn where_a_frozen_reader_is_paid_no_other_reader_touches_the_compressor() {
    // Two generators that learn differently, neither of which is paid: token credit reads as the reward does.
    let run = |lr: &str| {
        cotrained(&[
            "train.steps=3",
            "train.generator_learns=true",
            "reward.reader.type=frozen",
            "algo.token_credit=leave_one_out",
            "algo.estimator.type=rloo",
            lr,
        ])
    };
    let (slow, fast) = (run("optim.generator.lr=1e-4"), run("optim.generator.lr=5e-2"));
    assert_ne!(slow[2]["generator/kl"], fast[2]["generator/kl"]);
    for (slow, fast) in slow.iter().zip(&fast) {
        assert_eq!(of_compressor(slow), of_compressor(fast), "step {}", slow["step"]);
    }
}

#[test]
fn under_ppo_mismatch_is_measured_before_the_first_update_and_drift_before_the_last() {
    let ppo = ["algo.estimator.type=ppo", "algo.estimator.epochs=4", "train.steps=2"];
    let rows = cotrained(&[&ppo[..], &["model.lora.dropout=0", "optim.compressor.lr=2e-2"]].concat());
    for row in rows {
        let [mismatch, drift] = ["algo/mismatch_kl", "algo/approx_kl"].map(|key| row[key].as_f64().unwrap());
        assert!(mismatch < 1e-3, "what was sampled is what is trained on: {row}");
        assert!(drift > 1e-3, "three updates move the policy: {row}");
    }
}

#[test]
fn a_step_that_is_not_finite_stops_the_run_and_saves_its_batch() {
    let runs = tempfile::tempdir().unwrap();
    let output = command(&train(runs.path(), &["--set", "optim.imitation.lr=1e38", "--set", "warm_start.windows=8"]))
        .current_dir(&world().root)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_says(&said, &["error: ", "is not finite at step 1; the batch is in ", "non_finite_step_000001.json"], "lr");
    let run = run_dir(runs.path());
    let batch: Value = read_json(&run.join("non_finite_step_000001.json")).unwrap();
    assert_eq!(batch.as_array().unwrap().len(), 4);
    let status: Status = read_json(&run.join("status.json")).unwrap();
    assert_eq!(status.state, State::Failed);
    assert_eq!(metrics(&run), 1);
}

#[test]
fn runs_lie_where_their_seed_says_and_are_pooled() {
    let (_runs, run) = finished_copy();
    let json = run.join("pooled.json");
    let said =
        ok(&["pool", run.to_str().unwrap(), "--against", run.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    assert_says(&said, &["reader: generator", "strongest honest baseline"], "pool");
    let pooled: Value = read_json(&json).unwrap();
    assert_eq!(pooled["against"]["gap_closed_diff"]["pooled"]["mean"], 0.0);
    let refused = fails(2, &["pool", run.to_str().unwrap(), "--against", run.to_str().unwrap(), run.to_str().unwrap()]);
    assert_says(&refused, &["--against: expected 1 runs"], "pool");
}
