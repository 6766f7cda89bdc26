//! `gist collect`: the index says what the files say, follows them, and refuses what is no index.

use crate::common::*;
use gist::eval::schema::summary::Summary;
use gist::run_dir::read_json;
use rusqlite::Connection;
use std::fs;
use std::path::Path;

fn number(index: &Path, query: &str) -> f64 {
    let connection = Connection::open(index).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{query}: {e}"))
}

#[test]
fn the_index_says_what_the_files_say_and_follows_them() {
    let (runs, run) = finished_copy();
    let other = runs.path().join("deep/in/seed=7");
    copy(&run, &other);
    let (index, place) = (runs.path().join("out/results.sqlite"), runs.path().to_str().unwrap());
    let collect = ["collect", place, "--out", index.to_str().unwrap()];
    assert_says(&ok(&collect), &["2 runs: 2 read, 0 as before, 0 gone"], "first");
    let summary: Summary = read_json(&run.join("summary.json")).unwrap();
    let connection = Connection::open(&index).unwrap();
    let mut rows = connection
        .prepare("SELECT compressor, reader, kl, gap_closed, kl_high FROM figures JOIN runs ON run = id WHERE name = 'seed=0'")
        .unwrap();
    let found = rows
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, [row.get(2)?, row.get(3)?, row.get::<_, f64>(4)?]))
        })
        .unwrap();
    let mut count = 0;
    for (name, reader, figures) in found.map(Result::unwrap) {
        let entry = &summary.eval.readers[&reader][&name];
        assert_eq!(figures, [entry.kl, entry.gap_closed, entry.kl_ci95[1]], "{name} read by {reader}");
        count += 1;
    }
    assert_eq!(count, summary.eval.readers.values().map(|entries| entries.len()).sum::<usize>());
    assert!(count > 20);
    assert_eq!(
        number(
            &index,
            "SELECT CAST(value AS REAL) FROM settings JOIN runs ON run = id WHERE key = 'train.steps' LIMIT 1"
        ) as i64,
        6
    );
    assert_eq!(number(&index, "SELECT context_value FROM runs WHERE name = 'seed=7'"), summary.eval.context_value);

    // Nothing changed; one changed; one gone.
    assert_says(&ok(&collect), &["2 runs: 0 read, 2 as before, 0 gone"], "second");
    edit_json(&other.join("summary.json"), |summary| summary["eval"]["context_value"] = 0.5.into());
    assert_says(&ok(&collect), &["2 runs: 1 read, 1 as before, 0 gone"], "changed");
    assert_eq!(number(&index, "SELECT context_value FROM runs WHERE name = 'seed=7'"), 0.5);
    fs::remove_dir_all(&other).unwrap();
    assert_says(&ok(&collect), &["1 runs: 0 read, 1 as before, 1 gone"], "gone");
    assert_eq!(number(&index, "SELECT count(*) FROM runs") as i64, 1);
    assert_eq!(number(&index, "SELECT count(*) FROM figures WHERE run NOT IN (SELECT id FROM runs)") as i64, 0);

    // A file that cannot be read is named, and the rest of the run is there.
    cut(&run.join("summary.json"), 0.5);
    let output = gist(&collect);
    assert_eq!(output.status.code(), Some(1));
    assert_says(
        &String::from_utf8_lossy(&output.stderr),
        &["1 runs cannot be read as a whole", "summary.json"],
        "torn",
    );
    assert_eq!(number(&index, "SELECT seed FROM runs WHERE state = 'done' AND problem IS NOT NULL") as i64, 0);
}

#[test]
fn what_is_no_index_is_left_alone() {
    let (runs, _) = finished_copy();
    let out = runs.path().join("precious");
    let collect = ["collect", runs.path().to_str().unwrap(), "--out", out.to_str().unwrap()];
    fs::write(&out, "a thesis, and long enough to be taken for more than nothing".repeat(30)).unwrap();
    let said = fails(1, &collect);
    assert_says(
        &said,
        &["precious: expected an index that `gist collect` made, or no file, got a file of another kind"],
        "text",
    );
    assert!(fs::read_to_string(&out).unwrap().starts_with("a thesis"));
    fs::remove_file(&out).unwrap();
    Connection::open(&out).unwrap().execute_batch("CREATE TABLE runs (x); INSERT INTO runs VALUES (1)").unwrap();
    assert_says(&fails(1, &collect), &["precious: expected an index", "got another database"], "database");
    assert_eq!(number(&out, "SELECT x FROM runs") as i64, 1);
    // An index of an older version is made anew.
    fs::remove_file(&out).unwrap();
    ok(&collect);
    Connection::open(&out).unwrap().execute_batch("PRAGMA user_version = 0").unwrap();
    assert_says(&ok(&collect), &["1 runs: 1 read"], "older");
    let absent = ["collect", "absent", "--out", out.to_str().unwrap()];
    assert_says(&fails(1, &absent), &["absent: expected a run directory or a folder that holds some"], "absent");
}
