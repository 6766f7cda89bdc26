//! `gist downstream` with models behind HTTP, against a real server on this machine: three protocols, failures on the way,
//! money, answers that are there.

mod judges;
mod server;

use crate::common::{assert_says, command, finished, world};
use gist::eval::task::rows::DownstreamRow;
use serde_json::{Value, json};
use server::{Act, Server, billed, prompt};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

const KEY: &str = "sk-secret-0123456789";

/// A folder of one evaluation.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// Rows of four questions; the answer stands in each context.
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let people = ["Anna", "Boris", "Clara", "David"];
        let row = |number: usize| {
            let facts = (0..3).map(|at| format!("{} hid {} coins.", people[(number + at) % 4], 10 + number * 3 + at));
            json!({"id": format!("q{number}"), "context": facts.collect::<Vec<_>>().join(" "),
                "query": format!("How many coins did {} hide?", people[number]), "answers": [(10 + number * 3).to_string()]})
        };
        let text: String = (0..4).map(|number| format!("{}\n", row(number))).collect();
        fs::write(folder.path().join("asked.jsonl"), text).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An evaluation in this folder, with no key and no proxy but what is given.
    fn command(&self, model: &str, server: &str, more: &[&str]) -> Command {
        let base = base();
        let own =
            ["downstream", "--benchmark", "plain", "--from", "asked.jsonl", "--budgets", "0.4", "--resamples", "50"];
        let compressors =
            ["--compressors", "recent,truncate", "--base", &base, "--task-model", model, "--base-url", server];
        let output: &[&str] = if more.contains(&"--output") { &[] } else { &["--output", "out"] };
        self.alone(&[&own[..], &compressors, output, more].concat())
    }

    /// The program with these arguments in this folder.
    fn alone(&self, arguments: &[&str]) -> Command {
        let mut program = command(arguments);
        program.current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text.ends_with("_proxy") || text.ends_with("_api_key") {
                program.env_remove(name);
            }
        }
        program
    }

    fn run(&self, model: &str, server: &str, more: &[&str]) -> Output {
        self.command(model, server, more).output().unwrap()
    }

    fn rows(&self) -> Vec<DownstreamRow> {
        let text = fs::read_to_string(self.path("out/rows.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn summary(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("out/summary.json")).unwrap()).unwrap()
    }

    /// Every file that an evaluation left.
    fn left(&self) -> Vec<u8> {
        crate::common::files(&self.path("out")).into_values().flatten().collect()
    }
}

/// The base of the world, from any folder.
fn base() -> String {
    finished();
    world().root.join("base").to_str().unwrap().to_string()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The last line of a program that failed, without having panicked.
fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !said.contains("panicked"), "{said}");
    said.lines().last().unwrap().to_string()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn three_protocols_answer_and_are_billed_alike() {
    let server = Server::start();
    let cases = [
        ("openai:m", "/v1", "/v1/chat/completions", "authorization", "OPENAI_API_KEY"),
        ("anthropic:m", "", "/v1/messages", "x-api-key", "ANTHROPIC_API_KEY"),
        ("gemini:m", "/v1beta", "/v1beta/models/m:generateContent", "x-goog-api-key", "GOOGLE_API_KEY"),
    ];
    for (model, base, path, header, variable) in cases {
        let place = Place::new();
        let url = format!("{}{base}", server.address);
        let output = place.command(model, &url, &[]).env(variable, KEY).output().unwrap();
        assert_says(&printed(&output), &[&format!("price of {model} unknown")], model);
        let (calls, rows) = (server.calls(), place.rows());
        assert_eq!(rows.len(), 4 * 3, "{model}");
        // The whole and nothing once each; what two compressors kept alike, once.
        let prompts: BTreeSet<&str> = calls.iter().map(prompt).collect();
        assert_eq!(prompts.len(), calls.len(), "{model}: nothing is asked twice");
        for call in &calls {
            assert_eq!(call.path, path);
            assert!(call.headers[header].ends_with(KEY));
            let limit = [&call.body["max_tokens"], &call.body["generationConfig"]["maxOutputTokens"]];
            assert!(limit.iter().any(|own| **own == 16), "{}", call.body);
        }
        for row in &rows {
            let origin = &row.origin;
            assert_eq!((origin.task_model.as_str(), origin.endpoint.as_deref()), (model, Some(url.as_str())));
            assert_eq!((row.full_f1, row.full_output.contains('\n')), (1.0, false), "{row:?}");
            assert_eq!(row.closed_output, "I do not know.");
            let asked =
                |text: &str| calls.iter().map(prompt).find(|own| own.contains(&format!("Text: {text}\n"))).unwrap();
            assert_eq!(row.input_tokens_compressed, Some(billed(asked(&row.compressed_text))), "{row:?}");
            assert!(
                row.output_tokens_full == Some(7) && row.cost_usd_full.is_none() && row.cost_usd_compressed.is_none()
            );
            assert_eq!(row.compressor == "identity", row.compressed_text.len() > 45);
            assert!(row.compressor != "identity" || row.delta_f1 == 0.0);
        }
        assert_eq!(place.summary()["total_cost_usd"], Value::Null);
        assert!(!has(&place.left(), KEY) && !has(&output.stderr, KEY) && !has(&output.stdout, KEY), "{model}: a key");
    }
}

#[test]
fn a_price_makes_dollars_and_answers_are_paid_for_once() {
    let (server, place) = (Server::start(), Place::new());
    let price = "[[price]]\nmodel = \"openai:m\"\ninput_usd_per_million = 1000.0\noutput_usd_per_million = 2000.0\nas_of = 2026-01-31\n";
    fs::write(place.path("prices.toml"), price).unwrap();
    fs::write(place.path(".env"), format!("OPENAI_API_KEY=\"{KEY}\"\n")).unwrap();
    let url = format!("{}/v1", server.address);
    let flags = ["--prices", "prices.toml", "--answers", "paid", "--concurrency", "3"];
    server.state.lock().unwrap().delay = Duration::from_millis(30);
    let estimate = printed(&place.run("openai:m", &url, &[&flags[..], &["--estimate-only"]].concat()));
    assert_says(&estimate, &["4 examples, 16 answers", "price of openai:m as of 2026-01-31", " at most"], "estimate");
    assert!(server.calls().is_empty() && !place.path("out").exists() && !place.path("paid").exists());
    printed(&place.run("openai:m", &url, &flags));
    let calls = server.calls();
    let most = std::mem::take(&mut server.state.lock().unwrap().most_open);
    assert!((2..=3).contains(&most), "{most} at a time");
    assert!(calls.iter().all(|call| call.headers["authorization"] == format!("Bearer {KEY}")), "the key of .env");
    let usd = |row: &DownstreamRow| {
        (row.input_tokens_compressed.unwrap() as f64 * 1000.0 + row.output_tokens_compressed.unwrap() as f64 * 2000.0)
            / 1e6
    };
    let rows = place.rows();
    assert!(rows.iter().all(|row| (row.cost_usd_compressed.unwrap() - usd(row)).abs() < 1e-12));
    let summary = place.summary();
    let total = summary["total_cost_usd"].as_f64().unwrap();
    assert_eq!(summary["price"]["as_of"], "2026-01-31");
    let alone = calls.len() as f64 / 16.0;
    assert!((summary["spent_now"]["usd"].as_f64().unwrap() / total - alone).abs() < 0.2, "{summary}");
    // Again, in another folder: all answers are there, and cost nothing now.
    let out = printed(&place.run("openai:m", &url, &[&flags[..], &["--output", "second"]].concat()));
    assert_says(&out, &["0 calls", "$0.0000"], "again");
    assert!(server.calls().is_empty());
    // Whatever matters is part of the name: another model, another limit, another key of the request.
    for more in [["--answer-tokens", "17"], ["--request", "seed=1"]] {
        let out = [&flags[..], &more, &["--output", "third", "--limit", "1"]].concat();
        printed(&place.run("openai:m", &url, &out));
        let calls = server.calls();
        assert!(calls.len() >= 3 && calls.iter().all(|call| call.body["seed"] == 1 || call.body["max_tokens"] == 17));
        fs::remove_dir_all(place.path("third")).unwrap();
    }
    let null = [&flags[..], &["--request", "temperature=null", "--output", "fourth", "--limit", "1"]].concat();
    printed(&place.run("openai:m", &url, &null));
    assert!(server.calls().iter().all(|call| call.body.get("temperature").is_none()));
}

#[test]
fn no_dollar_is_spent_beyond_the_limit() {
    let (server, place) = (Server::start(), Place::new());
    let price = "[[price]]\nmodel = \"anthropic:m\"\ninput_usd_per_million = 1000.0\noutput_usd_per_million = 1000.0\nas_of = 2026-01-31\n";
    fs::write(place.path("prices.toml"), price).unwrap();
    let flags = ["--prices", "prices.toml", "--concurrency", "1"];
    let said = refused(&place.run("anthropic:m", &server.address, &[&flags[..], &["--max-cost", "0.1"]].concat()));
    assert_says(&said, &["stopped; $0.", "spent, and the next call can cost $0.", "--max-cost 0.1"], "nothing");
    let said =
        refused(&place.run("anthropic:m", &server.address, &[&flags[..], &["--max-cost", "0.9", "--resume"]].concat()));
    assert_says(&said, &["more than --max-cost 0.9"], "some");
    let first = server.calls().len();
    assert!(first > 0);
    let rows = place.path("out/rows.jsonl");
    let written = fs::read_to_string(&rows).unwrap_or_default().lines().count();
    assert!(written < 12, "{written}");
    // With more money it goes on, and what was paid for is not asked again.
    printed(&place.run("anthropic:m", &server.address, &[&flags[..], &["--max-cost", "$9", "--resume"]].concat()));
    let calls = first + server.calls().len();
    assert_eq!(place.rows().len(), 12);
    let kept = crate::common::files(&place.path("out/answers")).len();
    assert_eq!(calls, kept, "each answer was asked once");
    let said = refused(&place.run("anthropic:other", &server.address, &["--max-cost", "1", "--output", "no"]));
    assert_says(&said, &["--max-cost: expected a model with a price, got anthropic:other"], "no price");
    assert!(server.calls().is_empty());
}

#[test]
fn failures_that_pass_are_waited_for() {
    let (server, place) = (Server::start(), Place::new());
    let url = format!("{}/v1", server.address);
    let busy = Act::Status(429, "Retry-After: 0\r\n", "{\"error\": {\"message\": \"slow down\"}}");
    let storm = std::iter::repeat_n(busy, 6).chain([
        Act::Cut,
        Act::Status(503, "Retry-After: 0\r\n", "<html>busy</html>"),
        Act::Body("application/json", "{\"choices\": [{\"message\""),
        Act::Uncounted,
    ]);
    server.acts(storm);
    let output = place.run("openai:m", &url, &["--concurrency", "2"]);
    printed(&output);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_says(
        &said,
        &["answered with status 429 (slow down); again in", "status 503", "expected JSON, got"],
        "storm",
    );
    let summary = place.summary();
    assert_eq!(summary["spent_now"]["lost"], 2, "cut, and cut short within");
    assert_eq!(place.rows().len(), 12);
    assert!(place.rows().iter().all(|row| row.full_f1 == 1.0));
    // A server asks for a pause, and gets it.
    let place = Place::new();
    server.calls();
    server.acts([Act::Status(429, "Retry-After: 1\r\n", "{}")]);
    printed(&place.run("openai:m", &url, &["--limit", "1", "--concurrency", "1"]));
    let calls = server.calls();
    assert!(calls[1].at.duration_since(calls[0].at) >= Duration::from_secs(1));
    assert_eq!(calls[0].body, calls[1].body);
    // Slower than allowed, then not.
    let place = Place::new();
    server.acts([Act::Slow(Duration::from_millis(2500))]);
    let output = place.run("openai:m", &url, &["--limit", "1", "--timeout", "1"]);
    printed(&output);
    assert_says(&String::from_utf8_lossy(&output.stderr), &["does not answer"], "slow");
}

#[test]
fn failures_that_stay_say_what_helps() {
    let server = Server::start();
    let url = format!("{}/v1", server.address);
    let echo = "{\"error\": {\"message\": \"Incorrect API key provided: sk-secret-0123456789.\"}}";
    let quota = "{\"error\": {\"message\": \"You exceeded your quota\", \"code\": \"insufficient_quota\"}}";
    type Case = (Act, &'static [&'static str]);
    let cases: [Case; 7] = [
        (Act::Status(401, "", echo), &["status 401", "provided: [key]", "the key is from OPENAI_API_KEY"]),
        (
            Act::Status(400, "", "{\"error\": {\"message\": \"max_tokens is not supported\"}}"),
            &["status 400", "not supported"],
        ),
        (
            Act::Status(404, "", "<html>nginx</html>"),
            &["status 404", "is there such a model, and is --base-url right?"],
        ),
        (Act::Status(429, "", quota), &["status 429", "You exceeded your quota"]),
        (Act::Status(308, "Location: http://127.0.0.1:1/\r\n", ""), &["status 308", "redirects are not followed"]),
        (
            Act::Body("text/html", "<!DOCTYPE html><p>Log in"),
            &["expected JSON, got HTML", "<!DOCTYPE html>", "--base-url"],
        ),
        (Act::Body("application/json", "{\"object\": \"list\"}"), &["expected a reply with `choices[0]`"]),
    ];
    for (act, expected) in cases {
        let place = Place::new();
        server.acts([act.clone()]);
        let output =
            place.command("openai:m", &url, &["--concurrency", "1"]).env("OPENAI_API_KEY", KEY).output().unwrap();
        let said = refused(&output);
        assert_says(&said, &[&["openai:m, example \"q0\""], expected].concat(), &format!("{act:?}"));
        assert!(!has(&output.stderr, KEY), "{said}");
        assert_eq!(server.calls().len(), 1, "{act:?}: no further call");
    }
    let place = Place::new();
    server.acts([Act::Status(401, "", "{}")]);
    let said = refused(&place.run("anthropic:m", &server.address, &["--concurrency", "1"]));
    assert_says(&said, &["no key was sent: set ANTHROPIC_API_KEY in the environment or in .env"], "no key");
    let bad = |model: &str, url: &str, more: &[&str]| refused(&place.run(model, url, more));
    assert_says(&bad("openai:m", "localhost:8000", &[]), &["--base-url: expected an address such as"], "address");
    assert_says(&bad("openai:m", &url, &["--request", "n=2"]), &["--request: expected keys", "`n`"], "own key");
    assert_says(&bad("openai:m", &url, &["--request", "seed"]), &["--request: expected KEY=JSON"], "form");
    assert_says(
        &bad(&base(), &url, &[]),
        &["--base-url: expected --task-model openai:NAME", "got a model that runs here"],
        "local",
    );
}

/// The official clients read what the server says, so it says what real ones do.
#[test]
fn official_clients_parse_the_fixture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let python = std::env::var_os("GIST_SDK_PYTHON").map_or(root.join(".venv/bin/python"), PathBuf::from);
    let installed = python.exists()
        && Command::new(&python)
            .args(["-c", "import openai, anthropic"])
            .output()
            .is_ok_and(|own| own.status.success());
    if !installed {
        assert!(std::env::var_os("GIST_SDK_PYTHON").is_none(), "GIST_SDK_PYTHON: no openai and anthropic there");
        return;
    }
    let server = Server::start();
    let output = Command::new(&python).arg(root.join("check_endpoint.py")).arg(&server.address).output().unwrap();
    assert_eq!(printed(&output).trim(), "openai and anthropic read the server's replies");
    let calls = server.calls();
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| prompt(call).starts_with("Anna hid 12 coins.")));
}
