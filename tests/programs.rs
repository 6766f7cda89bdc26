//! Questions that are answered by programs: their rows, and what passes.

use crate::common::assert_says;
use crate::tasks::{read, shipped};
use gist::data::task::{benchmark, read_task};
use gist::grading::python::{self, Ended};
use serde_json::json;

/// Rows of HumanEval and MBPP that ship: their references pass, other answers do not, and nothing of the tests is shown.
#[test]
fn programs_that_ship_pass_with_their_references_alone() {
    for (name, count) in [("humaneval", 30), ("mbpp", 30)] {
        let rows = read(name, &shipped(name)).rows;
        assert_eq!(rows.len(), count, "{name}");
        for row in &rows {
            let program = row.program.as_ref().unwrap();
            let shown = row.prompt.as_ref().map(|own| [&own.before[..], &row.context, &own.after].concat()).unwrap();
            assert!(!shown.contains(row.answers[0].trim()) && !shown.contains(program.hidden().trim()), "{}", row.id);
            assert_eq!(
                python::run(&program.with(&row.answers[0]), program.seconds).unwrap(),
                Ended::Passed,
                "{}",
                row.id
            );
        }
        for row in rows.iter().take(3) {
            let program = row.program.as_ref().unwrap();
            for wrong in ["", "    return None", "def unknown(): pass"] {
                let ended = python::run(&program.with(wrong), program.seconds).unwrap();
                assert!(matches!(ended, Ended::Failed(_)), "{} {wrong:?}: {ended:?}", row.id);
            }
        }
    }
    let rows = read("mbpp", &shipped("mbpp")).rows;
    assert!(rows[0].query.contains("The function is called ") && rows.iter().all(|row| row.context == rows[0].context));
}

/// The rows of DS-1000 here are made up.
#[test]
fn programs_of_ds1000_are_tested_by_their_context_which_is_shown_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ds1000.jsonl");
    let context = "def test_execution(code):\n    space = {'a': [3, 1, 2]}\n    exec(code, space)\n    assert space['result'] == [1, 2, 3]\n\
        def test_string(code):\n    assert 'for' not in code\n";
    let problem = |prompt: &str| {
        json!({"prompt": prompt, "reference_code": "result = sorted(a)  # ascending", "code_context": context,
            "metadata": {"problem_id": 7, "library": "Numpy"}})
    };
    std::fs::write(&path, problem("Sort a.\nA:\n<code>\nBEGIN SOLUTION").to_string()).unwrap();
    let row = &read("ds1000", &path).rows[0];
    assert_eq!((row.id.as_str(), row.slice.as_deref()), ("7", Some("Numpy")));
    let program = row.program.as_ref().unwrap();
    let ended = |answer: &str| python::run(&program.with(answer), 20).unwrap();
    assert_eq!(ended("result = sorted(a)\n</code>\nThat is all."), Ended::Passed);
    assert_eq!(ended("```python\nresult = sorted(a)\n```"), Ended::Passed);
    assert!(matches!(ended("result = [x for x in sorted(a)]"), Ended::Failed(said) if said.contains("AssertionError")));
    assert!(matches!(ended("result = a"), Ended::Failed(_)));
    for telling in ["Sort a: result = sorted(a)  # ascending", context] {
        std::fs::write(&path, problem(telling).to_string()).unwrap();
        let said = read_task(benchmark("ds1000").unwrap(), &path).unwrap_err().to_string();
        assert_says(&said, &["ds1000.jsonl: \"7\": expected a context without its reference and tests"], "a leak");
    }
}
