//! The span reader: its answers against plain ways to get them, what it learns from, and `train` and `downstream` with the real
//! program.

use crate::common::{assert_says, command, fails, ok, rows, tiny_bert, world};
use gist::compressor::foreign::Foreign;
use gist::data::task::TaskRow;
use gist::grading::Grading;
use gist::model::encoder::{Encoder, EncoderConfig};
use gist::model::lora::Adapter;
use gist::model::row_head::RowHead;
use gist::reading::span::{SpanAnswer, SpanReader, SpanRows};
use gist::rng::{self, Stream};
use gist::run_dir::read_json;
use gist::tensor::to_vec;
use gist::train::spans::examples::{batches, examples};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

const QUESTION: &str = "a man?";
/// Longer than a row of the encoder's 32 tokens.
const TEXT: &str = "no plan of a man in a canal is a plan without end.";

fn foreign(folder: &Path) -> Foreign {
    Foreign::load(&folder.join("tokenizer.json")).unwrap()
}

/// The best span by a pass for each row and a look at every pair of places.
fn by_hand(encoder: &Encoder, head: &[Vec<f64>; 2], foreign: &Foreign, question: &str, text: &str) -> (String, f64) {
    let SpanRows { rows, bytes } = SpanRows::of(foreign, 0, question, text, encoder.config().longest).unwrap();
    let mut best = (String::new(), f64::NEG_INFINITY);
    for row in rows {
        let ids: Vec<i64> = row.ids.iter().map(|&id| i64::from(id)).collect();
        let hidden = encoder.forward(&Tensor::from_slice(&ids).view([1, -1]), &[ids.len() as i64], None).unwrap();
        let states: Vec<Vec<f64>> = hidden.squeeze_dim(0).unbind(0).iter().map(|own| to_vec(own).unwrap()).collect();
        let score = |place: usize, end: usize| -> f64 {
            states[place].iter().zip(&head[end]).map(|(state, weight)| state * weight).sum()
        };
        for first in row.counts.clone() {
            for last in first..(first + 30).min(ids.len() - 1) {
                let margin = score(first, 0) + score(last, 1) - score(0, 0) - score(0, 1);
                if margin > best.1 {
                    let [begin, end] = [first, last].map(|place| bytes[row.first + place - row.head]);
                    best = (text[begin.0..end.1].to_string(), margin);
                }
            }
        }
    }
    best
}

#[test]
fn answers_are_the_best_spans_of_all_windows() {
    let bert = tiny_bert();
    let (config, weights) = Encoder::read(bert.path()).unwrap();
    rng::seed_torch(5, Stream::Init, 0, 0);
    let adapter = Adapter::of_rows(&config, weights, RowHead::Span, Device::Cpu).unwrap();
    let _guard = tch::no_grad_guard();
    let reader = SpanReader::new(Rc::new(foreign(bert.path())), &adapter, Kind::Float).unwrap();
    let asked = [(QUESTION, TEXT), ("end?", "the end."), (QUESTION, ""), ("", "a b c")];
    let found = reader.answers(&asked).unwrap();
    assert_eq!(found[2], SpanAnswer::default(), "nothing stands in no text");

    let named: std::collections::BTreeMap<String, Tensor> = adapter.params().named().into_iter().collect();
    let head = [0, 1].map(|end| to_vec(&named["gist.span.weight"].get(end)).unwrap());
    let (encoder, _) = adapter.spans(Kind::Float).unwrap();
    for (at, (question, text)) in asked.iter().enumerate().filter(|(at, _)| *at != 2) {
        let (said, margin) = by_hand(&encoder, &head, &foreign(bert.path()), question, text);
        assert_eq!(found[at].text, said, "{question} {text}");
        assert!((found[at].margin - margin).abs() < 1e-4, "{} {margin}", found[at].margin);
        assert!(text.contains(&said) && !said.is_empty());
    }
    let rows = SpanRows::of(&foreign(bert.path()), 0, QUESTION, TEXT, config.longest).unwrap().rows;
    assert!(rows.len() > 1 && rows.iter().all(|row| row.ids.len() <= config.longest as usize));

    // Where questions may have no answer, the reader may say so.
    let doubtful = SpanAnswer { text: "x".into(), margin: -0.1 };
    assert_eq!([Grading::SquadV1, Grading::SquadV2].map(|rule| doubtful.said(rule)), ["x", ""]);
    assert_eq!(SpanAnswer { margin: 0.1, ..doubtful }.said(Grading::SquadV2), "x");
}

fn row(id: &str, context: &str, query: &str, answers: &[&str]) -> TaskRow {
    TaskRow {
        id: id.into(),
        document: Some("d".into()),
        context: context.into(),
        query: query.into(),
        answers: answers.iter().map(|own| (*own).to_string()).collect(),
        ..TaskRow::default()
    }
}

#[test]
fn an_example_has_every_place_of_its_answer_and_none_where_it_has_none() {
    let bert = tiny_bert();
    let (foreign, longest) =
        (foreign(bert.path()), EncoderConfig::load(&bert.path().join("config.json")).unwrap().longest);
    let asked = [row("1", "a 4 b 4 c", "ab", &["4"]), row("2", "d 5", "d", &["5"]), row("3", "e 4 5", "e", &["4"])];
    let plain = examples(&asked, &foreign, longest, 0.0, 0).unwrap();
    // [CLS] a ##b [SEP] a 4 b 4 c [SEP]
    assert_eq!((plain.len(), &plain[0].first, &plain[0].last), (3, &vec![5, 7], &vec![5, 7]));
    let with = examples(&asked, &foreign, longest, 1.0, 0).unwrap();
    // Only the second context is without the answer of the first and the third question, the first without that of the second.
    let not_here: Vec<&Vec<u32>> = with.iter().filter(|own| own.first == [0]).map(|own| &own.row.ids).collect();
    assert_eq!((with.len(), not_here.len()), (6, 3));
    let text = |ids: &[u32]| foreign.tokenizer.decode(ids).unwrap();
    assert!(text(not_here[0]).contains("d 5") && text(not_here[1]).contains("a 4 b 4 c"), "{}", text(not_here[0]));

    // A window without the answer is one that says "not here".
    let long = [row("l", &("x ".repeat(40) + "7"), "q", &["7"])];
    let windows = examples(&long, &foreign, longest, 0.0, 0).unwrap();
    let places: Vec<usize> = windows.iter().map(|own| own.first[0]).collect();
    assert!(places.len() > 1 && places[..places.len() - 1].iter().all(|place| *place == 0), "{places:?}");
    assert_eq!(windows.last().unwrap().row.ids.len() - 2, *places.last().unwrap());

    // An epoch has every example once.
    for epoch in 0..2 {
        let all = batches(&with, 4, 0, epoch);
        let mut seen: Vec<usize> = all.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, Vec::from_iter(0..with.len()));
    }
    assert_ne!(batches(&with, 4, 0, 0), batches(&with, 4, 0, 1));
}

const EXPERIMENT: &str = r#"
kind = "span_reader"
name = "digits"

[data]
unanswerable = 0.0

[data.train]
squad = "digits-train.jsonl"

[data.valid]
squad = "digits-valid.jsonl"

[data.test]
squad = "digits-test.jsonl"

[optim]
lr = 3e-3

[train]
epochs = 6
batch = 8
micro = 4
eval_every = 20
checkpoint_every = 10

[hardware]
threads = 1
"#;

/// Paragraphs of letters with one digit, the answer.
fn paragraphs(split: usize, count: usize) -> String {
    let one = |i: usize| {
        let (digit, at) = ((i * 7 + split * 3) % 10, i % 6);
        let letter = |place: usize| char::from(b'a' + ((i * 5 + place * 3 + split) % 26) as u8).to_string();
        let words: Vec<String> =
            (0..7).map(|place| if place == at { digit.to_string() } else { letter(place) }).collect();
        let qas = json!([{"id": format!("{split}-{i}"), "question": "which?", "answers": [digit.to_string()]}]);
        let title = format!("t{split}-{}", i / 4);
        json!({"title": title, "context": words.join(" ") + &format!(" {}{}", letter(7), letter(8)), "qas": qas})
            .to_string()
            + "\n"
    };
    (0..count).map(one).collect()
}

fn write_world() {
    let root = &world().root;
    for (split, name, count) in [(1, "train", 120), (2, "valid", 8), (3, "test", 24)] {
        fs::write(root.join(format!("digits-{name}.jsonl")), paragraphs(split, count)).unwrap();
    }
    fs::write(root.join("digits.toml"), EXPERIMENT).unwrap();
}

fn train<'a>(runs: &'a Path, encoder: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    [&["train", "digits.toml", "--runs", runs.to_str().unwrap(), "--set", encoder], flags].concat()
}

#[test]
fn a_reader_learns_to_point_goes_on_where_it_was_killed_and_answers_for_compressors() {
    write_world();
    let (bert, whole, killed) = (tiny_bert(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let encoder = format!("encoder={{path=\"{}\",lr_factor=1.0}}", bert.path().display());
    let said = ok(&train(whole.path(), &encoder, &[]));
    assert_says(&said, &["squad", "24", "95 % intervals", "reader:"], "train");
    let run = whole.path().join("digits/seed=0");
    let outcome: Value = read_json(&run.join("answers.json")).unwrap();
    assert_eq!((&outcome["training_questions"], &outcome["updates"]), (&json!(120), &json!(90)));
    let found = &outcome["benchmarks"]["squad"];
    assert!(found["exact_match"]["mean"].as_f64().unwrap() > 0.9, "{said}");
    assert_eq!(found["questions"], json!(24));

    let other = killed.path().join("digits/seed=0");
    let mut child = command(&train(killed.path(), &encoder, &[]));
    let mut child = child.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while rows(&other.join("metrics.jsonl")) < 25 {
        assert!(begun.elapsed() < Duration::from_secs(300), "never got there");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    ok(&train(killed.path(), &encoder, &["--resume"]));
    for name in ["metrics.jsonl", "answers.json", "reader/model.safetensors"] {
        assert_eq!(fs::read(run.join(name)).unwrap(), fs::read(other.join(name)).unwrap(), "{name} of a resumed run");
    }

    let reader = format!("span:{}", run.join("reader").display());
    let output = whole.path().join("asked");
    let ask = |task_model: &str| {
        let own = ["downstream", "--benchmark", "squad", "--from", "digits-test.jsonl", "--base", "base", "--budgets"];
        let more = ["0.3,0.6", "--resamples", "100", "--compressors", "recent", "--task-model", task_model, "--output"];
        [&own[..], &more, &[output.to_str().unwrap()]].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let asked = ask(&reader);
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    assert_says(&ok(&[&asked[..], &["--estimate-only"]].concat()), &["24 examples, 96 answers", "$0"], "estimate");
    ok(&asked);
    let summary: Value = read_json(&output.join("summary.json")).unwrap();
    assert_eq!(summary["origin"]["task_model"], json!(reader));
    assert_eq!(summary["origin"]["task_model_sha256"].as_str().unwrap().len(), 64);
    let text = fs::read_to_string(output.join("rows.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 24 * 3);
    let exact = |rows: &[Value], key: &str| rows.iter().map(|row| row[key].as_f64().unwrap()).sum::<f64>();
    let whole: Vec<Value> = rows.iter().filter(|row| row["compressor"] == "identity").cloned().collect();
    let figure = found["exact_match"]["mean"].as_f64().unwrap();
    assert!((exact(&whole, "full_exact_match") / 24.0 - figure).abs() < 1e-9, "the figures of training");
    assert_eq!(exact(&whole, "closed_exact_match"), 0.0);
    let kept = |row: &Value| row["answer_kept"].as_bool().unwrap();
    assert!(rows.iter().all(|row| kept(row) || row["compressed_exact_match"] == 0.0));
    assert!(rows.iter().any(|row| !kept(row)));
}

#[test]
fn low_rank_weights_of_a_reader_stand_beside_an_encoder_that_stays() {
    write_world();
    let (bert, runs) = (tiny_bert(), tempfile::tempdir().unwrap());
    let encoder = format!("encoder={{path=\"{}\",rank=4}}", bert.path().display());
    ok(&train(runs.path(), &encoder, &["--set", "train.epochs=1", "--set", "data.unanswerable=1.0"]));
    let reader = runs.path().join("digits/seed=0/reader");
    let mut files: Vec<String> =
        fs::read_dir(&reader).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, ["adapter_config.json", "adapter_model.safetensors", "reader.json"]);
    assert!(SpanReader::load(&reader, Device::Cpu).is_ok());

    // Cut to its own rank it is what it was, cut to a lower one the nearest of that rank.
    let whole = Adapter::load_rows(&reader, RowHead::Span, bert.path(), Device::Cpu).unwrap();
    let query = "base_model.model.encoder.layer.0.attention.self.query.lora_";
    let product = |adapter: &Adapter| {
        let named: std::collections::BTreeMap<String, Tensor> = adapter.params().named().into_iter().collect();
        let [down, up] = ["A", "B"].map(|end| named[&format!("{query}{end}.weight")].shallow_clone());
        (up.matmul(&down) * 2.0, down.size()[0])
    };
    let (all, same) = (product(&whole), product(&whole.reduced(4).unwrap()));
    assert!((&all.0 - &same.0).abs().max().double_value(&[]) < 1e-5 && same.1 == 4);
    let (lower, rank) = product(&whole.reduced(2).unwrap());
    let values = to_vec(&all.0.svd(true, false).1).unwrap();
    let missing = (all.0 - lower).square().sum(Kind::Float).double_value(&[]);
    assert!((missing - values[2..].iter().map(|value| value * value).sum::<f64>()).abs() < 1e-6 && rank == 2);
    assert!(whole.reduced(5).is_err());
    let cut = ["--set", "train.epochs=1", "--set", "final_rank=2", "--set", "name=cut"];
    ok(&train(runs.path(), &encoder, &cut));
    let config: Value = read_json(&runs.path().join("cut/seed=0/reader/adapter_config.json")).unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(2), &json!(4.0)));
    let evidence = Adapter::load_rows(&reader, RowHead::Evidence, bert.path(), Device::Cpu).err().unwrap().to_string();
    assert_says(&evidence, &["adapter_model.safetensors", "gist.evidence."], "another head");

    let ask = |task_model: &str| {
        let own = ["downstream", "--benchmark", "squad", "--from", "digits-test.jsonl", "--base", "base"];
        let more = ["--compressors", "recent", "--task-model", task_model, "--output", "span-refused"];
        fails(1, &[&own[..], &more].concat())
    };
    assert_says(
        &ask("span:base"),
        &["base", "expected the folder of a span reader with reader.json in it"],
        "no reader",
    );
    let weights = bert.path().join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    assert_says(
        &ask(&format!("span:{}", reader.display())),
        &["reader.json: `sha256`: expected [", "got ["],
        "another encoder",
    );
}

#[test]
fn what_is_wrong_with_an_experiment_is_said() {
    write_world();
    let (bert, runs) = (tiny_bert(), tempfile::tempdir().unwrap());
    let encoder = format!("encoder={{path=\"{}\"}}", bert.path().display());
    let cases: [(&[&str], &[&str]); 7] = [
        (&["--set", "data.unanswerable=1.5"], &["`data.unanswerable`: expected 0 to 1, got 1.5"]),
        (&["--set", "encoder.rank=0"], &["`encoder.rank`: expected at least 1, got 0"]),
        (&["--set", "final_rank=2"], &["`final_rank`: expected 1 to encoder.rank, which is none, got 2"]),
        (&["--set", "train.batch=0"], &["`train.batch`: expected at least 1, got 0"]),
        (
            &["--set", "data.test={trivia=\"digits-test.jsonl\"}"],
            &["data.test", "expected a benchmark among", "\"trivia\""],
        ),
        (&["--set", "data.train={squad=\"none.jsonl\"}"], &["none.jsonl"]),
        (&["--ranks", "2"], &["--ranks: expected an experiment with a compressor, got a span reader"]),
    ];
    for (flags, expected) in cases {
        let output = command(&train(runs.path(), &encoder, flags)).current_dir(&world().root).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert_says(&said, expected, &format!("{flags:?}"));
    }
    assert!(!runs.path().join("digits").exists(), "nothing was written");
}
