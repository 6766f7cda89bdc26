//! `compare` with the real program: what it leaves, that its readers are kept and its seeds pooled, what it refuses, and
//! its page in a real browser.

use crate::common::{
    assert_says, command, copy, edit, fails, files, finished, finished_copy, gist, ok, run_dir, world,
};
use gist::eval::schema::comparison::{ComparedGist, Comparison};
use gist::eval::schema::readers::{ADAPTED, SHARED};
use gist::run_dir::read_json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A small comparison of `run`, with some flags more.
fn compare<'a>(runs: &[&'a Path], output: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["compare", "--runs"];
    arguments.extend(runs.iter().map(|run| run.to_str().unwrap()));
    arguments.extend(["--output", output.to_str().unwrap(), "--windows", "8"]);
    for (flag, value) in [("--compressors", "recent,random"), ("--budgets", "0.25,0.1"), ("--updates", "2")] {
        if !flags.contains(&flag) {
            arguments.extend([flag, value]);
        }
    }
    arguments.extend(flags);
    arguments
}

fn read(output: &Path) -> Comparison {
    read_json(&output.join("comparison.json")).unwrap()
}

/// Without what differs from sitting to sitting; as JSON, in which what is undefined is equal.
fn timeless(mut comparison: Comparison) -> serde_json::Value {
    comparison.compressors.iter_mut().for_each(|c| c.speed.clear());
    serde_json::to_value(comparison).unwrap()
}

#[test]
fn curves_tables_and_figures_are_written_and_readers_kept() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let arguments = compare(&[finished()], &output, &[]);
    let said = ok(&arguments);
    assert_says(&said, &["tiny", "recent", "random", "3 tokens: ", "8 tokens: ", "comparison.html"], "compare");
    let first = read(&output);
    assert_eq!(first.points.len(), 3 * 2 * 2);
    assert_eq!(first.budgets.iter().map(|b| b.tokens).collect::<Vec<_>>(), [3, 8]);
    assert_eq!((first.own_budget_tokens, first.n_windows, first.updates), (3, 8, 2));
    assert!(first.context_value.is_finite() && first.context_value > 0.0);
    for point in &first.points {
        assert!(point.kl.is_finite() && point.kl_ci95[0] <= point.kl && point.kl <= point.kl_ci95[1], "{point:?}");
        assert!((point.gap_closed - (1.0 - point.kl / first.context_value)).abs() < 1e-9);
        assert!(point.keep_ratio <= point.budget_tokens as f64 / 32.0 + 1e-9);
    }
    let kl = |name: &str, reader: &str| {
        let mut points = first.points.iter().filter(|p| p.compressor == name && p.reader == reader);
        points.next().unwrap().kl
    };
    assert_ne!(kl("recent", SHARED), kl("recent", ADAPTED));
    assert_eq!(first.winners.len(), 4);
    for c in &first.compressors {
        assert_eq!(c.trained(), c.name == "tiny");
        assert!(
            c.speed.len() == 2 && c.speed.iter().all(|s| s.ms_per_window > 0.0 && s.prefix_tokens_per_second > 0.0)
        );
        assert!(c.speed.iter().all(|s| s.latency_ms > 0.0));
    }
    assert!(first.slices.iter().any(|s| s.by == "context value") && !first.examples.is_empty());
    assert_eq!(first.bound, None);
    let names: Vec<PathBuf> = files(&output).into_keys().filter(|path| !path.starts_with("readers")).collect();
    let mut expected = vec!["comparison.csv".to_string(), "comparison.html".into(), "comparison.json".into()];
    for (reader, kind) in [(ADAPTED, "png"), (ADAPTED, "svg"), (SHARED, "png"), (SHARED, "svg")] {
        expected.push(format!("figures/rate-distortion-{reader}.{kind}"));
    }
    assert_eq!(names, expected.iter().map(PathBuf::from).collect::<Vec<_>>());

    // Readers that fit are used again, others are not.
    let record = output.join("readers/of/recent/record.json");
    let taught = fs::metadata(&record).unwrap().modified().unwrap();
    assert!(String::from_utf8(gist(&arguments).stderr).unwrap().matches(": kept").count() == 5);
    assert_eq!(timeless(read(&output)), timeless(first.clone()));
    assert_eq!(fs::metadata(&record).unwrap().modified().unwrap(), taught);
    let more = gist(&compare(&[finished()], &output, &["--updates", "3", "--readers", "shared"]));
    let said = String::from_utf8(more.stderr).unwrap();
    assert!(more.status.success() && !said.contains("kept"), "{said}");
    let second = read(&output);
    assert!(second.points.iter().all(|p| p.reader == SHARED) && second.points.len() == 6);
    let own = |c: &Comparison| c.points.iter().find(|p| p.compressor == "tiny" && p.reader == SHARED).unwrap().kl;
    assert_ne!(own(&second), own(&first));

    // The page is drawn again from what was kept.
    let page = fs::read(output.join("comparison.html")).unwrap();
    fs::remove_file(output.join("comparison.html")).unwrap();
    assert_says(&ok(&["report", output.to_str().unwrap()]), &["comparison.html"], "report");
    assert_eq!(fs::read(output.join("comparison.html")).unwrap(), page);
}

#[test]
fn what_must_be_kept_is_kept_inside_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let flags = ["--compressors", "recent,idf", "--readers", "shared", "--budgets", "0.25", "--must-keep", "[0-9]"];
    ok(&compare(&[finished()], &output, &[&flags[..], &["--drop-consecutive"]].concat()));
    let found = read(&output);
    assert_eq!(found.terms["must_keep"], "[0-9]");
    assert_eq!(found.terms["drop_consecutive"], "true");
    let mut seen = 0;
    for example in &found.examples {
        let kept = example.gists.iter().find(|gist| gist.compressor == "recent").unwrap().kept.as_ref().unwrap();
        let has_digit = |at: &usize| example.prefix_tokens[*at].contains(|c: char| c.is_ascii_digit());
        let wanted: Vec<usize> = (0..example.prefix_tokens.len()).filter(has_digit).collect();
        assert!(wanted.len() > 8 || wanted.iter().all(|at| kept.contains(at)), "{wanted:?} in {kept:?}");
        seen += wanted.len();
    }
    assert!(seen > 0);
    assert!(found.points.iter().all(|p| p.keep_ratio <= 0.25 + 1e-9));
    let refused = gist(&compare(&[finished()], &folder.path().join("no"), &["--must-keep", "("]));
    assert_says(&String::from_utf8_lossy(&refused.stderr), &["--must-keep: expected", "unclosed group"], "no pattern");
    assert!(!refused.status.success());
}

#[test]
fn an_adaptive_length_meets_the_budget_on_average_and_follows_the_content() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let flags = ["--compressors", "idf,bm25:token,recent", "--readers", "shared", "--budgets", "0.25"];
    ok(&compare(&[finished()], &output, &[&flags[..], &["--adaptive", "--must-keep", "numbers"]].concat()));
    let found = read(&output);
    assert_eq!(found.terms["adaptive"], "true");
    assert!(fs::read_to_string(output.join("comparison.html")).unwrap().contains("meets them on average"));
    let lengths = |name: &str| -> Vec<usize> {
        let of = |gists: &[ComparedGist]| gists.iter().find(|g| g.compressor == name).unwrap().tokens.len();
        found.examples.iter().map(|example| of(&example.gists)).collect()
    };
    let idf = lengths("idf");
    assert!(idf.iter().all(|&len| len <= 16) && idf.iter().any(|&len| len != idf[0]), "{idf:?}");
    let kept = |name: &str| found.points.iter().find(|p| p.compressor == name).unwrap().keep_ratio;
    assert!(kept("idf") > 0.1 && kept("idf") < 0.45, "{}", kept("idf"));
    assert!(kept("bm25:token") < 0.5 && kept("tiny") <= 0.25);
    let message = fails(2, &compare(&[finished()], &folder.path().join("no"), &["--compressors", "bm25:page"]));
    assert_says(&message, &["--compressors: expected names among", ":sentence", "\"bm25:page\""], "unit");
}

#[test]
fn chains_compete_too_and_a_runs_compressor_may_be_part_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let flags = ["--compressors", "recent,attention+tiny,recent+truncate", "--readers", "shared", "--budgets", "0.1"];
    let other = another_seed(folder.path());
    ok(&compare(&[finished(), &other], &output, &flags));
    let found = read(&output);
    let seeds = |name: &str| found.compressors.iter().find(|c| c.name == name).unwrap().seeds.clone();
    assert_eq!((seeds("attention+tiny"), seeds("recent+truncate")), (vec![0, 1], vec![]));
    let at = |name: &str| found.points.iter().find(|p| p.compressor == name).unwrap();
    assert!(at("recent+truncate").keep_ratio <= 3.0 / 32.0 && at("recent+truncate").kl != at("recent").kl);
    for (names, said) in [
        ("recent+nobody", "expected a run's experiment or a baseline"),
        ("recent+idf+random", "expected two names around one `+`"),
        ("recent+idf,recent+idf", "recent+idf"),
    ] {
        let message = fails(2, &compare(&[finished()], &folder.path().join("no"), &["--compressors", names]));
        assert_says(&message, &[said], names);
    }
}

/// The finished run again, as if of another seed.
fn another_seed(folder: &Path) -> PathBuf {
    let run = folder.join("seed=1");
    copy(finished(), &run);
    edit(&run.join("config.toml"), "seed = 0", "seed = 1");
    run
}

#[test]
fn seeds_of_an_experiment_are_one_entrant() {
    let folder = tempfile::tempdir().unwrap();
    let other = another_seed(folder.path());
    let both = folder.path().join("both");
    ok(&compare(&[finished(), &other], &both, &["--compressors", "recent", "--readers", "adapted"]));
    let found = read(&both);
    assert_eq!(found.compressors[0].seeds, [0, 1]);
    assert_eq!((found.name.as_str(), found.runs.len(), found.compressors.len()), ("tiny", 2, 2));
    let alone = folder.path().join("alone");
    ok(&compare(&[finished()], &alone, &["--compressors", "recent", "--readers", "adapted"]));
    // The other seed has the same weights here, so its figures, and the mean, are the same.
    for (a, b) in found.points.iter().zip(&read(&alone).points) {
        assert!((a.kl - b.kl).abs() < 1e-9 && (a.kl_ci95[0] - b.kl_ci95[0]).abs() < 1e-9, "{a:?} {b:?}");
        assert_eq!((&a.compressor, a.keep_ratio), (&b.compressor, b.keep_ratio));
    }
}

#[test]
#[allow(unsafe_code)]
fn an_interrupted_comparison_goes_on_from_its_readers() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let arguments = compare(&[finished()], &output, &["--updates", "20"]);
    let mut child = command(&arguments);
    let mut child = child.current_dir(&world().root).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !output.join("readers/empty/record.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(300) && child.try_wait().unwrap().is_none(), "never got there");
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: `kill` only sends a signal, to a child that has not been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(75), "{said}");
    assert_says(&said, &["error: stopped; run the same command again to go on"], "interrupted");
    assert!(!output.join("comparison.json").exists() && !output.join("comparison.html").exists());
    let resumed = gist(&arguments);
    let said = String::from_utf8(resumed.stderr).unwrap();
    assert!(resumed.status.success(), "{said}");
    assert_says(&said, &["of nothing: kept"], "resumed");
    assert_eq!(read(&output).points.len(), 12);
}

#[test]
fn what_cannot_be_compared_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let run = finished();
    let output = dir.join("out");
    let cases: &[(&[&str], &[&str])] = &[
        (&["--compressors", "recent,best"], &["--compressors: expected names among ", "idf", "got \"best\""]),
        (&["--compressors", "identity"], &["got \"identity\""]),
        (&["--compressors", "recent,recent"], &["--compressors: expected each name once, got \"recent\" twice"]),
        (&["--budgets", "0.1,0.1"], &["--budgets: expected each share once, got 0.1 twice"]),
        (&["--budgets", "0.1,0.11"], &["--budgets: ", "0.1 and 0.11, both 3 of 32 tokens"]),
        (&["--budgets", "0.01"], &["--budgets: expected at least 1 of the prefix's 32 tokens, got 0.01"]),
        (&["--budgets", "1.5"], &["--budgets: expected shares of the prefix between 0 and 1, got \"1.5\""]),
        (&["--budgets", ""], &["--budgets: ", "got \"\""]),
        (&["--readers", "mine"], &["--readers: expected names among shared, adapted, got \"mine\""]),
        (&["--windows", "500"], &["--windows: expected 1 to 12, got 500"]),
    ];
    for (flags, words) in cases {
        let mut arguments = compare(&[run], &output, flags);
        if flags[0] == "--windows" {
            let at = arguments.iter().position(|a| *a == "--windows").unwrap();
            arguments.drain(at..at + 2);
        }
        assert_says(&fails(2, &arguments), words, flags[1]);
        assert!(!output.exists(), "{flags:?}");
    }

    // Runs that do not fit together: the keys are named.
    let changed = |name: &str, change: &dyn Fn(&Path)| {
        let other = dir.join(name);
        copy(run, &other);
        change(&other);
        other
    };
    let renamed = |other: &Path| edit(&other.join("config.toml"), "name = \"tiny\"", "name = \"other\"");
    let hash = |other: &Path, file: &str| {
        let path = other.join("provenance.json");
        let mut record: serde_json::Value = read_json(&path).unwrap();
        let inputs = record["inputs"].as_array_mut().unwrap();
        let input = inputs.iter_mut().find(|i| i["path"].as_str().unwrap().ends_with(file)).unwrap();
        input["sha256"] = "0".repeat(64).into();
        fs::write(path, record.to_string()).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let mismatches: [(&str, Change, i32, &[&str]); 6] = [
        (
            "condition",
            &|r| (renamed(r), edit(&r.join("config.toml"), "condition = \"local\"", "condition = \"none\"")).0,
            1,
            &["`condition`: expected local, got none"],
        ),
        (
            "windows",
            &|r| (renamed(r), edit(&r.join("config.toml"), "windows = 12", "windows = 10")).0,
            1,
            &["`eval.windows`: expected 12, got 10"],
        ),
        (
            "prefix",
            &|r| (renamed(r), edit(&r.join("config.toml"), "prefix_tokens = 32", "prefix_tokens = 30")).0,
            1,
            &["`data.prefix_tokens`: expected 32, got 30"],
        ),
        (
            "base",
            &|r| (renamed(r), hash(r, "model.safetensors")).0,
            2,
            &["base/model.safetensors: sha256 000000", " then, ", " now", "--accept-changes"],
        ),
        (
            "tokenizer and data",
            &|r| (renamed(r), hash(r, "tokenizer.json"), hash(r, "test.jsonl")).0,
            2,
            &["base/tokenizer.json: sha256 000000", "test.jsonl: sha256 000000"],
        ),
        (
            "seeds",
            &|r| {
                (
                    edit(&r.join("config.toml"), "seed = 0", "seed = 3"),
                    edit(&r.join("config.toml"), "steps = 6", "steps = 5"),
                )
                    .0
            },
            2,
            &["--runs: ", "differ in their seed only", "`train.steps`"],
        ),
    ];
    for (name, change, code, words) in mismatches {
        let other = changed(name, change);
        assert_says(&fails(code, &compare(&[run, &other], &output, &[])), words, name);
        assert!(!output.exists(), "{name}");
    }
    assert_says(&fails(2, &compare(&[run, run], &output, &[])), &["--runs: expected each run once", "twice"], "twice");
    let unknown = Path::new("a b=gone");
    assert_says(&fails(1, &compare(&[unknown], &output, &[])), &["a b=gone"], "no name");
    let named = changed("named", &|r| edit(&r.join("config.toml"), "name = \"tiny\"", "name = \"recent\""));
    assert_says(
        &fails(2, &compare(&[&named], &output, &[])),
        &["`recent` is also the name of a run's experiment"],
        "name",
    );

    // What is refused as seeds of one experiment are two entrants under names of their own.
    let arm = changed("arm", &|r| edit(&r.join("config.toml"), "steps = 6", "steps = 5"));
    assert_says(&fails(2, &compare(&[run, &arm], &output, &[])), &["expected each run once"], "two arms");
    let called = [format!("long={}", run.display()), format!("short={}", arm.display())];
    let both = dir.join("both");
    ok(&compare(&[Path::new(&called[0]), Path::new(&called[1])], &both, &["--readers", "shared"]));
    let found = read(&both);
    assert_eq!((found.name.as_str(), found.compressors.len()), ("long+short", 4));
    assert_eq!((found.compressors[0].name.as_str(), found.compressors[1].name.as_str()), ("long", "short"));
    let cut = changed("cut", &|r| edit(&r.join("status.json"), "\"done\"", "\"interrupted\""));
    assert_says(
        &fails(1, &compare(&[&cut], &output, &[])),
        &["status.json: expected a finished run", "interrupted"],
        "cut",
    );
    assert_says(&fails(1, &compare(&[&dir.join("gone")], &output, &[])), &["gone"], "gone");
    assert!(!output.exists());

    // A folder with other things in it is left alone.
    fs::create_dir(&output).unwrap();
    fs::write(output.join("thesis"), "precious").unwrap();
    assert_says(&fails(2, &compare(&[run], &output, &[])), &["--output: ", "with other files in it"], "output");
    assert_eq!(files(&output).len(), 1);
    let file = output.join("thesis");
    assert_says(&fails(2, &compare(&[run], &file, &[])), &["--output: ", "got a file"], "output");
}

/// The browser, or none, which is an error where GIST_NEEDS_CHROMIUM says so.
fn chromium() -> Option<&'static str> {
    let works = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(works);
    if found.is_none() {
        assert!(
            std::env::var_os("GIST_NEEDS_CHROMIUM").is_none(),
            "GIST_NEEDS_CHROMIUM is set, but there is no Chromium"
        );
        eprintln!("skipped: no Chromium");
    }
    found
}

#[test]
fn the_page_works_in_a_browser_and_asks_for_nothing() {
    let (_runs, run) = finished_copy();
    let output = run_dir(&run).join("out");
    ok(&compare(&[&run], &output, &[]));
    let page = output.join("comparison.html");
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"));
    let Some(browser) = chromium() else { return };
    let profile = tempfile::tempdir().unwrap();
    let flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
                 --disable-component-update --disable-sync --disable-dev-shm-usage --dump-dom";
    let shown = Command::new(browser)
        .args(flags.split_whitespace())
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    // The script ran to its end, found every point and row, and the page had asked for nothing.
    let words = ["data-ready=\"yes\"", "data-points=\"12\"", "data-rows=\"12\"", "data-requests=\"0\""];
    assert_says(&dom[dom.find("<body").unwrap()..], &words, "in the browser");
    assert_says(
        &dom,
        &["<svg ", "<table id=\"points\"", "class=\"token kept\"", "aria-pressed=\"true\""],
        "in the browser",
    );
    // It took the titles of the points over: left are those that the browser shows by itself.
    assert_eq!(dom.matches("class=\"point\"").count(), 12);
    assert!(!dom.contains("<title>tiny: ") && text.contains("<title>tiny: "), "the script did not take the titles");
}
