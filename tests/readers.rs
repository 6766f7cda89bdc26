//! Adapted readers with the real program: for whom they are trained, and that they are kept.

use crate::common::{assert_says, fails, finished_copy, ok};
use gist::eval::schema::summary::Summary;
use gist::run_dir::read_json;
use std::fs;

#[test]
fn readers_are_adapted_for_those_who_are_named_and_kept() {
    let (_runs, run) = finished_copy();
    let run_argument = run.to_str().unwrap();
    let said = fails(2, &["eval", run_argument, "--adapt-readers=recent,nobody"]);
    assert_says(&said, &["--adapt-readers: expected names among ", "recent", "gist", "got \"nobody\""], "unknown");
    let adapted = || -> Summary {
        ok(&["eval", run_argument, "--adapt-readers=recent,gist"]);
        read_json(&run.join("summary.json")).unwrap()
    };
    let first = adapted();
    let names: Vec<&str> = first.eval.readers["adapted"].keys().map(String::as_str).collect();
    assert_eq!(names, ["gist", "recent"]);
    for name in names {
        let (own, shared) = (&first.eval.readers["adapted"][name], &first.eval.compressors[name]);
        assert!(own.kl.is_finite() && own.kl != shared.kl, "{name}");
        assert_eq!(own.keep_ratio, shared.keep_ratio);
    }
    // A reader that is already there is not trained again: one that was replaced is used as it is.
    let readers = run.join("eval/step_000010/readers");
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        fs::copy(readers.join("gist").join(file), readers.join("recent").join(file)).unwrap();
    }
    let second = adapted();
    assert_eq!(second.eval.readers["adapted"]["gist"], first.eval.readers["adapted"]["gist"]);
    assert_ne!(second.eval.readers["adapted"]["recent"].kl, first.eval.readers["adapted"]["recent"].kl);
}
