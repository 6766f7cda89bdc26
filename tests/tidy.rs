//! Rules that the compiler does not know: layers, file heads and lengths, what may be tracked. Each rule is a function
//! of text, so that the tests below can show it failing.

mod syntax;

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use regex::Regex;
use syntax::Source;

/// A module may import modules of lower layers only. `main`, `lib` and `cli` put the rest together and are exempt.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["file_name", "gguf", "text_file"],
    &["grading", "hash", "hub", "metrics", "progress", "rng", "tensor", "text"],
    &["base", "parallel"],
    &["config", "run_dir"],
    &["data", "device", "endpoint", "shard"],
    &["tokenizer", "retention"],
    &["chat"],
    &["model"],
    &["compressor"],
    &["models"],
    &["condense", "reading"],
    &["rollout", "search"],
    &["reward"],
    &["algo"],
    &["train"],
    &["cost", "runs"],
    &["eval"],
    &["report", "serve"],
];
const EXEMPT: &[&str] = &["main", "lib", "cli"];

/// (module, word that its code never contains, why).
const BANNED_WORDS: &[(&str, &str, &str)] = &[
    ("reward", "Decoder", "reward never runs a model"),
    ("algo", "Decoder", "algo never runs a model"),
    ("reward", "parallel", "rewards are those of the whole step, whoever shares it"),
    ("algo", "parallel", "advantages are those of the whole step, whoever shares it"),
    ("rollout", "parallel", "a rollout is one shard's, whoever samples it"),
    ("data", "tch::", "data is text and ids only"),
    ("report", "tch::", "report works with no device"),
    ("eval", "crate::algo", "main passes evaluation to the trainer, not the other way round"),
    ("eval", "crate::train", "main passes evaluation to the trainer, not the other way round"),
];
const BANNED_CALLS: &[&str] = &["todo!(", "unimplemented!(", "dbg!(", ".unwrap()", ".expect("];

const MAX_LINES: usize = 400;
/// Tracked files and a stripped program travel together to a machine with a GPU: less than 32 MiB and 31.
const MAX_TRACKED_BYTES: u64 = 32 << 20;

static CRATE_PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::(\w+|\{)").unwrap());
static MACHINE_PATH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"(?:^|[\s"'`=(\[<>:,])/(?:home|root|work|tmp|mnt|Users)/[\w.]"#).unwrap());

static RIDDLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\s*//[/!]\s+(?:What|Which|The same|Others|The word|Who|Where|How)\b").unwrap());

/// Lines at which a doc comment begins with a word that leaves open what the thing is.
fn riddles(text: &str) -> Vec<usize> {
    let is_doc = |line: &str| ["///", "//!"].iter().any(|mark| line.trim_start().starts_with(mark));
    let lines: Vec<&str> = text.lines().collect();
    let begins = |at: &usize| *at == 0 || !is_doc(lines[at - 1]);
    (0..lines.len()).filter(begins).filter(|&at| RIDDLE.is_match(lines[at])).map(|at| at + 1).collect()
}

/// The module that a file under `src` belongs to.
fn module(path: &str) -> &str {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Says what is wrong with a source file; `path` is relative to `src`, `test_file` is declared under `#[cfg(test)]`.
fn check_source(path: &str, text: &str, test_file: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut report = |line: usize, message: String| found.push(format!("src/{path}:{line}: {message}"));
    if !text.starts_with("//!") {
        report(1, "expected the file to begin with a `//!` line".into());
    }
    let count = text.lines().count();
    if count > MAX_LINES {
        report(count, format!("expected at most {MAX_LINES} lines, got {count}; split the file"));
    }
    let module = module(path);
    let own_layer = layer(module);
    if own_layer.is_none() && !EXEMPT.contains(&module) {
        report(1, format!("module `{module}` has no layer; add it to the design and to tests/tidy.rs"));
    }
    let crate_root = if path.contains('/') && !path.ends_with("/mod.rs") { "super::super::" } else { "super::" };
    for (number, line, test_item) in code_lines(text) {
        let is_test = test_file || test_item;
        if !is_test {
            for call in BANNED_CALLS.iter().filter(|call| line.contains(**call)) {
                report(number, format!("`{call}` outside tests"));
            }
        }
        for (_, word, why) in BANNED_WORDS.iter().filter(|(banned_in, word, _)| *banned_in == module && has(line, word))
        {
            report(number, format!("`{word}` in `{module}`: {why}"));
        }
        let Some(own_layer) = own_layer else { continue };
        if !is_test && line.contains(crate_root) {
            report(number, "a path through `super` leaves the module; write `crate::`".into());
        }
        for used in CRATE_PATH.captures_iter(line).map(|captures| captures.get(1).unwrap().as_str()) {
            match layer(used) {
                _ if used == module => {}
                Some(lower) if lower < own_layer => {}
                Some(_) => report(number, format!("`{module}` uses `{used}`, which is of no lower layer")),
                None => {
                    report(number, format!("`crate::{used}` names no module with a layer; import modules one by one"))
                }
            }
        }
    }
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn has(line: &str, word: &str) -> bool {
    Regex::new(&format!(r"\b{}\b", regex::escape(word))).unwrap().is_match(line)
}

/// (number, line, whether it belongs to a `#[cfg(test)]` item) of every line that is not a comment.
fn code_lines(text: &str) -> Vec<(usize, &str, bool)> {
    let (mut lines, mut test_indent, mut has_body) = (Vec::new(), None, false);
    for (index, line) in text.lines().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if code.starts_with("//") {
            continue;
        }
        if test_indent.is_none() && code.starts_with("#[cfg(test)]") {
            (test_indent, has_body) = (Some(indent), false);
        }
        lines.push((index + 1, line, test_indent.is_some()));
        if test_indent == Some(indent) && !code.starts_with('#') {
            has_body |= code.ends_with('{');
            let ended = if has_body { code == "}" } else { code.ends_with([';', '}']) };
            test_indent = test_indent.filter(|_| !ended); // rustfmt ends an item at its own indentation
        }
    }
    lines
}

/// The files of the modules that `#[cfg(test)] mod x;` declares in the file at `path`.
fn test_files(path: &str, text: &str) -> Vec<String> {
    let folder = path.trim_end_matches("mod.rs").trim_end_matches(".rs").trim_end_matches('/');
    let items = code_lines(text).into_iter().filter(|(_, _, test_item)| *test_item);
    let names = items.filter_map(|(_, line, _)| line.trim().strip_prefix("mod ")?.strip_suffix(';'));
    names.map(|name| format!("{folder}/{name}.rs")).collect()
}

fn check_tracked_text(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| MACHINE_PATH.is_match(line));
    lines.map(|(index, line)| format!("{path}:{}: a path of one machine: {}", index + 1, line.trim())).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned();
            into.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The tracked files, or nothing when this is no git checkout (an unpacked archive).
fn tracked() -> Vec<String> {
    if !root().join(".git").exists() {
        return Vec::new();
    }
    let git =
        Command::new("git").args(["-c", "safe.directory=*", "ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(git.status.success(), "git ls-files: {}", String::from_utf8_lossy(&git.stderr));
    String::from_utf8(git.stdout).unwrap().split_terminator('\0').map(str::to_string).collect()
}

#[test]
fn sources_follow_the_rules() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    assert!(files.len() > 10);
    let tests: Vec<String> = files.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    let found = files.iter().flat_map(|(path, text)| check_source(path, text, tests.contains(path)));
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{} broken rules:\n{}", found.len(), found.join("\n"));
}

/// The files under `src` that are compiled without tests.
fn product() -> Vec<(String, String)> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let tests: Vec<String> = files.iter().flat_map(|(path, text)| test_files(path, text)).collect();
    files.retain(|(path, _)| !tests.contains(path));
    files.sort();
    files
}

fn parsed() -> Vec<Source> {
    product().iter().map(|(path, text)| Source::parse(path, text)).collect()
}

#[test]
fn no_circle_of_files() {
    let sources = parsed();
    let found: Vec<String> = (syntax::circles(&sources).iter())
        .map(|circle| format!("a circle:\n  {}", syntax::edges_within(&sources, circle).join("\n  ")))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_type_name_means_one_thing() {
    let found = syntax::doubles(&parsed());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_new_choice_is_met_by_every_match() {
    let sources = parsed();
    let enums = syntax::choices(&sources);
    assert!(enums.contains("Condition") && enums.len() > 10);
    let found: Vec<String> = sources.iter().flat_map(|source| syntax::catch_alls(source, &enums)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn doc_comments_say_what_a_thing_is() {
    let mut found: Vec<String> = Vec::new();
    for (path, text) in product() {
        found.extend(riddles(&text).into_iter().map(|line| format!("src/{path}:{line}")));
    }
    assert!(found.is_empty(), "doc comments that begin with a riddle:\n{}", found.join("\n"));
}

#[test]
fn tracked_files_name_no_machine_and_stay_small() {
    let (mut total, mut found) = (0, Vec::new());
    for path in tracked() {
        let Ok(bytes) = std::fs::read(root().join(&path)) else { continue }; // deleted, not yet committed
        total += bytes.len() as u64;
        found.extend(std::str::from_utf8(&bytes).map_or(Vec::new(), |text| check_tracked_text(&path, text)));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(total <= MAX_TRACKED_BYTES, "expected at most {MAX_TRACKED_BYTES} tracked bytes, got {total}");
}

#[test]
fn each_rule_can_fail() {
    let broken = |path: &str, code: &str| check_source(path, &format!("//! x\n{code}\n"), false);
    assert_eq!(broken("data/mod.rs", "use crate::error::Error;\nuse crate::data::corpus::Document;"), [""; 0]);
    assert_eq!(broken("cli/mod.rs", "use crate::cli::anything;"), [""; 0]);
    let cases = [
        ("data/mod.rs", "use crate::model::Decoder;", "`data` uses `model`"),
        ("config/mod.rs", "fn f() { crate::run_dir::write() }", "`config` uses `run_dir`"),
        ("rng.rs", "use crate::{error, model};", "one by one"),
        ("rng.rs", "use crate::helpers::x;", "`crate::helpers` names no module"),
        ("rng.rs", "use super::model::Decoder;", "`super`"),
        ("data/windows.rs", "use super::super::model::Decoder;", "`super`"),
        ("helpers.rs", "", "`helpers` has no layer"),
        ("reward.rs", "fn f(decoder: &Decoder) {}", "never runs a model"),
        ("data/a.rs", "fn f(t: tch::Tensor) {}", "text and ids only"),
        ("eval/mod.rs", "use crate::train::Trainer;", "not the other way round"),
        ("rng.rs", "fn f() { g().unwrap(); }", "outside tests"),
        ("rng.rs", "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nfn f() { g().expect(\"\"); }", "outside tests"),
        ("rng.rs", "#[cfg(test)]\nmod tests;\nfn f() { todo!() }", "outside tests"),
    ];
    for (path, code, expected) in cases {
        let found = broken(path, code);
        assert!(found.len() == 1 && found[0].contains(expected), "{path}, {code}: {found:?}");
    }
    assert_eq!(
        broken(
            "rng.rs",
            "#[cfg(test)]\nmod tests {\n    const A: &str = \"\nb = 1\";\n    fn f() {\n        g().unwrap();\n    }\n}"
        ),
        [""; 0]
    );
    assert_eq!(broken("rng.rs", "/// See [`crate::model`], never `.unwrap()`."), [""; 0]);
    assert_eq!(test_files("report/mod.rs", "#[cfg(test)]\nmod fixture;\nmod html;"), ["report/fixture.rs"]);
    assert_eq!(test_files("rng.rs", "#[cfg(test)]\nmod tests;"), ["rng/tests.rs"]);
    assert_eq!(check_source("rng/tests.rs", "//! x\nfn f() { g().unwrap(); }\n", true), [""; 0]);
    assert_eq!(check_source("rng.rs", "use std::fs;\n", false).len(), 1);
    assert_eq!(check_source("rng.rs", &"//! x\n".repeat(MAX_LINES + 1), false).len(), 1);
    let machine = ["home", "root", "work", "tmp"].map(|folder| format!("path = \"/{folder}/someone/x\""));
    assert!(machine.iter().all(|line| check_tracked_text("a.toml", line).len() == 1));
    assert_eq!(check_tracked_text("a.md", "see https://host/home/x, runs/tmp/x and /tmp"), [""; 0]);
}

#[test]
fn each_rule_of_syntax_can_fail() {
    let parse =
        |files: &[(&str, &str)]| -> Vec<Source> { files.iter().map(|(p, text)| Source::parse(p, text)).collect() };
    let circles = |files: &[(&str, &str)]| syntax::circles(&parse(files));
    // One file uses another, which uses the first: by name, by path, through a module, through what a module passes on.
    let uses_b = ("a/one.rs", "use crate::a::two::B;\npub struct A;");
    for back in [
        "use crate::a::one::A;",
        "use super::one::A;",
        "use crate::a::{self, one::A};",
        "use crate::a::one;\nfn f() { one::g() }",
        "fn f() { crate::a::one::g() }",
        "use crate::a::*;\nuse crate::a::one::*;",
        "use crate::a::A;",
        "use crate::a;\nfn f(_: a::A) {}",
        "use crate::A as C;",
    ] {
        let back = format!("{back}\npub struct B;");
        let root = ("lib.rs", "pub mod a;\npub use a::A;");
        let found = circles(&[root, ("a/mod.rs", "mod one;\nmod two;\npub use one::A;"), uses_b, ("a/two.rs", &back)]);
        assert_eq!(found, [["a/one.rs", "a/two.rs"]], "{back}");
    }
    let none: [Vec<String>; 0] = [];
    let declares = ("a/mod.rs", "mod one;\nmod two;\npub use one::A;\npub use two::B;");
    assert_eq!(
        circles(&[declares, uses_b, ("a/two.rs", "pub struct B;\n#[cfg(test)]\nmod tests { use crate::a::A; }")]),
        none
    );
    // A module file with something of its own, and a file of the module that uses it.
    let works = ("a/mod.rs", "mod one;\nuse one::A;\npub struct C(A);");
    assert_eq!(circles(&[works, ("a/one.rs", "use super::C;\npub struct A;")]), [["a/mod.rs", "a/one.rs"]]);
    assert_eq!(circles(&[works, ("a/one.rs", "use std::fs;\npub struct A;")]), none);

    let doubles = |files: &[(&str, &str)]| syntax::doubles(&parse(files));
    let pair = [("a.rs", "pub struct Row;"), ("b.rs", "pub(crate) enum Row {}")];
    assert_eq!(doubles(&pair), ["`Row` is defined in a.rs and b.rs"]);
    assert!(doubles(&[pair[0], ("b.rs", "struct Row;\n#[cfg(test)]\npub struct Row2;")]).is_empty());

    let config = Source::parse("config/x.rs", "pub enum Kind { One, Two {} }");
    let enums = syntax::choices(std::slice::from_ref(&config));
    let found = |code: &str| syntax::catch_alls(&Source::parse("a.rs", code), &enums).len();
    for arm in ["_ => 2", "other => g(other)", "(_, _) => 2"] {
        let (scrutinee, first) =
            if arm.starts_with('(') { ("(k, 1)", "(Kind::One, 1)") } else { ("k", "&Kind::Two {}") };
        assert_eq!(
            found(&format!("fn f(k: Kind) -> u8 {{ match {scrutinee} {{ {first} => 1, {arm} }} }}")),
            1,
            "{arm}"
        );
    }
    assert_eq!(found("fn f(k: Kind) -> u8 { match k { Kind::One => 1, Kind::Two {} => 2 } }"), 0);
    assert_eq!(found("fn f(k: u8) -> u8 { match k { 1 => 1, _ => 2 } }"), 0);

    assert_eq!(riddles("/// What it is.\nstruct A;\n/// A row:\n/// What follows.\nstruct B;\n//! Others."), [1, 6]);
    assert!(riddles("// What a plain comment says\n/// Whatever is left.").is_empty());
}
