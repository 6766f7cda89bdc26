//! Rows of benchmarks: each project's own format, rows of RULER, bad input, and `gist benchmark`.

use crate::common::{assert_says, fails, ok, world};
use gist::data::task::ruler::{RulerSize, RulerTask, generate};
use gist::data::task::{TaskRow, TaskRows, benchmark, read_task};
use gist::grading::Grading;
use gist::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file of the shipped rows.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/tasks/{name}.jsonl.zst"))
}

pub fn read(name: &str, path: &Path) -> TaskRows {
    read_task(benchmark(name).unwrap(), path).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = String::from_utf8(zstd::decode_all(&std::fs::read(path).unwrap()[..]).unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rows_that_ship_have_what_they_say() {
    for (name, rows, documents, absent) in
        [("squad", 479, 30, 0), ("squad_v2", 170, 20, 0), ("hotpotqa", 320, 320, 40), ("qasper", 20, 8, 40)]
    {
        let found = read(name, &shipped(name));
        assert!(found.rows.len() >= rows && found.empty == 0, "{name}: {} rows", found.rows.len());
        assert!(found.rows.iter().map(|row| &row.document).collect::<BTreeSet<_>>().len() >= documents, "{name}");
        assert!(found.not_in_context <= absent, "{name}: of {} no reference is in the context", found.not_in_context);
    }
    let unanswerable =
        read("squad_v2", &shipped("squad_v2")).rows.into_iter().filter(|row| row.answers.is_empty()).count();
    assert!(unanswerable >= 100);
    // As SQuAD 1.1 they cannot be graded, and are counted.
    assert_eq!(read("squad", &shipped("squad_v2")).without_answer, unanswerable);
    let row = &read("hotpotqa", &shipped("hotpotqa")).rows[0];
    assert_eq!(row.context.split("\n\n").count(), 10);
    assert!(row.evidence.len() >= 2 && row.evidence.iter().all(|sentence| row.context.contains(sentence)));
}

/// One row, written in the layout of each benchmark's own file.
#[test]
fn the_format_of_each_project_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, value: &Value| std::fs::write(at(name), value.to_string()).unwrap();
    let references = |qas: &Value| {
        let text = |answer: &Value| json!({"text": answer, "answer_start": 0});
        let one = |asked: &Value| {
            let answers: Vec<Value> = asked["answers"].as_array().unwrap().iter().map(text).collect();
            json!({"id": asked["id"], "question": asked["question"], "answers": answers, "is_impossible": answers.is_empty()})
        };
        qas.as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    let paragraphs = lines(&shipped("squad_v2"));
    let article = |row: &Value| json!({"title": row["title"], "paragraphs": [{"context": row["context"], "qas": references(&row["qas"])}]});
    write("squad.json", &json!({"version": "v2.0", "data": paragraphs.iter().map(article).collect::<Vec<_>>()}));
    assert_eq!(read("squad_v2", &at("squad.json")), read("squad_v2", &shipped("squad_v2")));
    let asked = &paragraphs[0]["qas"][0];
    let row = json!({"id": asked["id"], "title": paragraphs[0]["title"], "context": paragraphs[0]["context"],
        "question": asked["question"], "answers": {"text": asked["answers"], "answer_start": [0]}});
    std::fs::write(at("hub.jsonl"), row.to_string()).unwrap();
    assert_eq!(read("squad_v2", &at("hub.jsonl")).rows[0], read("squad_v2", &shipped("squad_v2")).rows[0]);

    let mut rows = lines(&shipped("hotpotqa"));
    for row in &mut rows {
        let id = row.as_object_mut().unwrap().remove("id").unwrap();
        row["_id"] = id;
    }
    write("hotpot_dev_distractor_v1.json", &rows.into());
    assert_eq!(read("hotpotqa", &at("hotpot_dev_distractor_v1.json")), read("hotpotqa", &shipped("hotpotqa")));

    let mut papers = serde_json::Map::new();
    for paper in lines(&shipped("qasper")) {
        let sections = paper["sections"].as_array().unwrap().iter();
        let full: Vec<Value> =
            sections.map(|own| json!({"section_name": own["name"], "paragraphs": own["paragraphs"]})).collect();
        let qas = paper["qas"].as_array().unwrap().iter().map(|asked| {
            let answers: Vec<Value> =
                asked["answers"].as_array().unwrap().iter().map(|own| json!({"answer": own})).collect();
            json!({"question": asked["question"], "question_id": asked["id"], "answers": answers})
        });
        let qas: Vec<Value> = qas.collect();
        let own = json!({"title": paper["title"], "abstract": paper["abstract"], "full_text": full, "qas": qas});
        papers.insert(paper["id"].as_str().unwrap().into(), own);
    }
    write("qasper.json", &papers.into());
    let (mut own, mut theirs) = (read("qasper", &at("qasper.json")).rows, read("qasper", &shipped("qasper")).rows);
    for rows in [&mut own, &mut theirs] {
        rows.sort_by(|a, b| a.id.cmp(&b.id));
    }
    assert_eq!(own, theirs);
    let kinds: BTreeSet<_> = own.iter().filter_map(|row| row.slice.clone()).collect();
    assert!(kinds.contains("extractive") && kinds.contains("abstractive"), "{kinds:?}");
}

/// Rows of LongBench are made up here: none of its rows ship.
#[test]
fn longbench_rows_have_the_rule_of_their_task() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("longbench.jsonl");
    let row = |number: usize, dataset: &str, input: &str| {
        json!({"_id": format!("{number}"), "input": input, "context": "made up", "answers": ["made"], "length": 2,
            "dataset": dataset, "language": "en", "all_classes": ["made", "up"]})
        .to_string()
    };
    let tasks = [
        ("hotpotqa", Grading::LongbenchQa),
        ("gov_report", Grading::LongbenchRouge),
        ("trec", Grading::LongbenchClassification),
        ("passage_count", Grading::LongbenchCount),
        ("lcc_e", Grading::LongbenchCode),
    ];
    let text: Vec<String> = tasks
        .iter()
        .enumerate()
        .map(|(at, (dataset, _))| row(at, dataset, if at == 1 { "" } else { "what?" }))
        .collect();
    std::fs::write(&path, text.join("\n")).unwrap();
    let rows = read("longbench", &path).rows;
    assert_eq!(rows.iter().map(|row| row.grading).collect::<Vec<_>>(), tasks.map(|(_, rule)| rule));
    assert_eq!((rows[1].query.as_str(), rows[4].domain.as_str()), ("Write a one-page summary.", "code"));
    std::fs::write(&path, row(0, "dureader", "x")).unwrap();
    let said = read_task(benchmark("longbench").unwrap(), &path).unwrap_err().to_string();
    assert_says(
        &said,
        &["longbench.jsonl:1: `dataset`: expected an English or code task of LongBench, got \"dureader\""],
        "Chinese",
    );
}

#[test]
fn rows_of_ruler_fit_their_length_and_hold_their_answers() {
    let tokenizer =
        Tokenizer::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoints/code-4m/tokenizer.json")).unwrap();
    let count = |text: &str| Ok(tokenizer.encode(text)?.len());
    let questions = ["squad", "hotpotqa"].map(|name| read(name, &shipped(name)).rows);
    for task in RulerTask::ALL {
        let asked: &[TaskRow] = match task {
            RulerTask::Qa1 => &questions[0],
            RulerTask::Qa2 => &questions[1],
            _ => &[],
        };
        // Ten paragraphs of HotpotQA have more than 1,024 tokens of this vocabulary.
        let lengths = match task {
            RulerTask::Qa1 => [900, 1500],
            RulerTask::Qa2 => [4096, 6000],
            _ => [512, 1500],
        };
        for tokens in lengths {
            let size = RulerSize { tokens, rows: 4, seed: 1 };
            let rows = generate(task, size, asked, &count).unwrap();
            assert_eq!(rows.len(), 4, "{task:?} {tokens}");
            for row in &rows {
                let prompt = row.prompt.as_ref().unwrap();
                let whole = [prompt.before.as_str(), &row.context, &prompt.after].concat();
                let used = count(&whole).unwrap() + prompt.answer_tokens;
                // Questions have as many paragraphs as the first one has room for.
                let least = if task.questions().is_some() { 3 } else { 6 };
                assert!(used <= tokens && used > tokens * least / 10, "{task:?}: {used} of {tokens}");
                assert!(prompt.after.contains(&row.query) && !row.answers.is_empty());
                let answers = &row.answers;
                assert!(
                    answers.iter().all(|answer| row.context.contains(answer)) || task == RulerTask::Qa2,
                    "{task:?} {answers:?}"
                );
            }
            assert_eq!(rows, generate(task, size, asked, &count).unwrap(), "the same draws");
            assert_ne!(
                rows[0].context,
                generate(task, RulerSize { seed: 2, ..size }, asked, &count).unwrap()[0].context
            );
        }
    }
    // What is asked for can be counted in the text.
    let made = |task, tokens| generate(task, RulerSize { tokens, rows: 1, seed: 0 }, &[], &count).unwrap().remove(0);
    let row = made(RulerTask::Fwe, 4096);
    let often = |word: &str| row.context.split(' ').filter(|own| *own == word).count();
    let least = row.answers.iter().map(|word| often(word)).min().unwrap();
    let others = row.context.split(' ').filter(|word| *word != "..." && !row.answers.iter().any(|own| own == word));
    assert!(others.map(often).max().unwrap() < least);
    let row = made(RulerTask::Cwe, 4096);
    let often = |word: &str| row.context.matches(&format!(". {word} ")).count();
    assert!(row.answers.len() == 10 && row.answers.iter().all(|word| (29..=30).contains(&often(word))));
    let row = made(RulerTask::Vt, 1500);
    assert!(
        row.answers.len() == 5 && row.context.contains(&format!("VAR {} = VAR {}", row.answers[4], row.answers[3]))
    );
    assert!(row.prompt.unwrap().before.matches("Question: Find all variables").count() == 1, "a worked example");
    assert_eq!(row.context.matches(&row.answers[0]).count(), 2);
    let row = made(RulerTask::NiahMultikey3, 1500);
    assert!(
        row.query.contains("special magic uuid for ") && row.answers[0].len() == 36 && &row.answers[0][14..15] == "4"
    );
    assert_eq!(row.context.matches(&row.answers[0]).count(), 1);
    for (task, tokens) in [(RulerTask::Vt, 500), (RulerTask::Qa2, 600)] {
        // The first question has ten paragraphs.
        let asked = if task == RulerTask::Qa2 { &questions[1][..1] } else { &[] };
        let said = generate(task, RulerSize { tokens, rows: 1, seed: 0 }, asked, &count).unwrap_err().to_string();
        assert_says(&said, &[task.name(), "expected a length", &tokens.to_string()], "too short");
    }
}

/// Rows made up in the layouts of files of which none ships.
#[test]
fn made_up_rows_in_further_layouts_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let problem = |number: usize| {
        let answer =
            format!("It is {number} and {number}, <<{number}+{number}={}>>so.\n#### {}", 2 * number, 2 * number);
        json!({"question": format!("How much is twice {number}?"), "answer": answer})
    };
    let problems = |count: usize| (0..count).map(|number| format!("{}\n", problem(number))).collect::<String>();
    let rows = read("gsm8k", &file("gsm8k.jsonl", problems(11))).rows;
    assert_eq!((rows.len(), rows[0].id.as_str(), rows[2].query.as_str()), (3, "line-9", "How much is twice 10?"));
    // What is to be compressed is the worked problems, and no row's own answer.
    assert!(rows.iter().all(|row| row.context == rows[0].context && !row.context.contains(&row.query)));
    assert_eq!(rows[0].context.matches("#### ").count(), 8);
    let graded = |row: &TaskRow, text: &str| row.grading.grade(text, &row.answers, &row.classes).f1;
    assert_eq!((graded(&rows[0], "8 + 8 = 16."), graded(&rows[0], "It is 8.")), (1.0, 0.0));
    let said = read_task(benchmark("gsm8k").unwrap(), &file("few.jsonl", problems(8))).unwrap_err().to_string();
    assert_says(&said, &["few.jsonl: expected more than the 8 problems", "got 8"], "few");

    let question = json!({"_id": "a", "domain": "x", "sub_domain": "y", "difficulty": "easy", "length": "short",
        "question": "Who built it?", "choice_A": "Ida", "choice_B": "Olva", "choice_C": "Marn", "choice_D": "Brandt",
        "answer": "A", "context": "Ida built the mill."});
    for (name, text) in [("data.json", json!([question]).to_string()), ("data.jsonl", question.to_string())] {
        let rows = read("longbench_v2", &file(name, text)).rows;
        let after = &rows[0].prompt.as_ref().unwrap().after;
        assert!(
            after.contains("Who built it?\nChoices:\n(A) Ida\n(B) Olva") && !rows[0].query.contains("answer"),
            "{after}"
        );
        assert_eq!(rows[0].slice.as_deref(), Some("short/easy"));
        let right = ["The correct answer is (A)", "**The correct answer is A**"].map(|text| graded(&rows[0], text));
        assert_eq!((right, graded(&rows[0], "The correct answer is (B)")), ([1.0, 1.0], 0.0));
    }
    let path = file("bad.json", json!([question]).to_string().replace("\"A\"", "\"E\""));
    let said = read_task(benchmark("longbench_v2").unwrap(), &path).unwrap_err().to_string();
    assert_says(&said, &["bad.json: a: `answer`: expected a letter from A to D, got \"E\""], "letter");

    let meeting = json!({"idx": 7, "prompt": "The motion carried, 7 to 2.", "gpt4_summary": "It carried.",
        "QA_pairs": [{"question": "Did it carry?", "answer": "Yes"}, {"question": "How?", "answer": "7 to 2"}]});
    for (name, value) in [("list.json", json!([meeting])), ("numbered.json", json!({"7": meeting}))] {
        let rows = read("meetingbank", &file(name, value.to_string())).rows;
        assert_eq!(rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["7-0", "7-1"]);
        assert!(rows.iter().all(|row| row.document.as_deref() == Some("7") && row.prompt.is_some()));
        assert_eq!((graded(&rows[1], "It was 7 to 2, with..."), graded(&rows[1], "It was\n7 to 2")), (1.0, 0.0));
    }
}

#[test]
fn benchmarks_are_listed_prepared_and_shown() {
    let listed = ok(&["benchmark", "list"]);
    assert_says(
        &listed,
        &[
            "hotpotqa",
            "longbench",
            "plain",
            "qasper",
            "squad_v2",
            "ruler/niah_multikey_3",
            "ruler/qa_2",
            "CC BY-SA 4.0",
        ],
        "list",
    );
    let from = shipped("squad");
    let from = from.to_str().unwrap();
    assert_says(
        &ok(&["benchmark", "show", "squad", "--from", from, "--limit", "1"]),
        &["rows of", "\"grading\": \"squad_v1\""],
        "show",
    );
    ok(&["benchmark", "prepare", "squad", "--from", from, "--limit", "7", "--output", "rows.jsonl"]);
    // Prepared rows are rows in the common form.
    let rows = read("plain", &world().root.join("rows.jsonl")).rows;
    assert!(rows.len() == 7 && rows.iter().all(|row| row.benchmark == "squad" && row.document.is_some()));
    ok(&[
        "benchmark",
        "prepare",
        "ruler/niah_single_1",
        "--tokens",
        "600",
        "--limit",
        "3",
        "--base",
        "base",
        "--output",
        "niah.jsonl",
    ]);
    let rows = read("plain", &world().root.join("niah.jsonl")).rows;
    assert!(
        rows.len() == 3
            && rows.iter().all(|row| row.grading == Grading::RulerAll && row.context.contains(&row.answers[0]))
    );
    let bad = |name: &str, text: &str| {
        std::fs::write(world().root.join(name), text).unwrap();
        fails(1, &["benchmark", "show", "plain", "--from", name])
    };
    let row = |id: &str| format!("{{\"id\": \"{id}\", \"context\": \"c\", \"query\": \"q\", \"answers\": [\"c\"]}}");
    for (text, said) in [
        (format!("{}\n{}", row("a"), row("a")), "twice.jsonl: `id`: expected each id once, got \"a\" in rows 1 and 2"),
        (format!("{}\n{{\"id\": 1}}", row("a")), "twice.jsonl:2: "),
        (row("a").replace("[\"c\"]", "\"c\""), "twice.jsonl:1: `answers`: expected"),
        (row("a").replace("[\"c\"]", "[]"), "twice.jsonl: expected rows of plain, got none that can be asked"),
    ] {
        assert_says(&bad("twice.jsonl", &text), &[said], &text);
    }
    let prepare = |name: &str, more: &[&str]| {
        fails(2, &[&["benchmark", "prepare", name, "--output", "x.jsonl", "--base", "base"], more].concat())
    };
    for (name, more, said) in [
        (
            "triviaqa",
            &[][..],
            "expected a benchmark among ds1000, gsm8k, hotpotqa, humaneval, longbench, longbench_v2, mbpp, meetingbank, plain, qasper, squad, squad_v2, got \"triviaqa\"",
        ),
        ("ruler/niah_single_2", &[], "expected a task of RULER among niah_single_1, "),
        ("squad", &[], "--from: expected a file of squad, got none"),
        ("ruler/qa_1", &[], "--from: expected a file of squad for ruler/qa_1, got none"),
        ("ruler/vt", &["--tokens", "100"], "vt: expected a length of at least 512 tokens, got 100"),
    ] {
        assert_says(&prepare(name, more), &[said], name);
    }
    assert!(!world().root.join("x.jsonl").exists());
}
