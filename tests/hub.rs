//! Models by repository, from a real HTTP server that serves the Hub's routes from a folder: redirects to another path, range
//! requests, a connection that is cut, a gated repository, one that does not exist, bytes that are not what they should be.

use crate::common::{assert_says, command, finished, gist, tiny_encoder, train, world};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does to whom.
#[derive(Default)]
struct Rules {
    /// Files of each repository.
    repositories: BTreeMap<String, PathBuf>,
    /// Cuts the connection in the middle of this file, so many times.
    cut: Option<(String, usize)>,
    /// Sends this file with a byte changed.
    spoil: Option<String>,
    /// Refuses the repository `gated/model` without this token.
    token: String,
    /// Requests so far: path and range.
    seen: Vec<(String, Option<String>)>,
}

struct Hub {
    address: String,
    rules: Arc<Mutex<Rules>>,
    home: tempfile::TempDir,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Hub {
    fn start(rules: Rules) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let rules = Arc::new(Mutex::new(rules));
        let shared = rules.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let rules = shared.clone();
                std::thread::spawn(move || while answer(&stream, &rules) {});
            }
        });
        Hub { address, rules, home: tempfile::tempdir().unwrap() }
    }

    /// Runs the program with this server as the Hub, and a cache of its own.
    fn gist(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut program = command(arguments);
        program.current_dir(&world().root).env("HF_ENDPOINT", &self.address).env("HF_HOME", self.home.path());
        program.env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE").envs(variables.iter().copied());
        program.output().unwrap()
    }

    fn requests(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.rules.lock().unwrap().seen)
    }
}

/// Answers one request; false when the connection is done with.
fn answer(stream: &TcpStream, rules: &Mutex<Rules>) -> bool {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return false };
    let mut headers = BTreeMap::new();
    for line in lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        let (key, value) = line.split_once(':').unwrap();
        headers.insert(key.to_lowercase(), value.trim().to_string());
    }
    let path = first.split(' ').nth(1).unwrap().to_string();
    let range = headers.get("range").cloned();
    let mut rules = rules.lock().unwrap();
    rules.seen.push((path.clone(), range.clone()));
    let mut out = stream;
    let mut say = |status: &str, more: &str, body: &[u8], sent: usize| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        let _ = out.write_all(head.as_bytes()).and_then(|()| out.write_all(&body[..sent]));
        sent == body.len()
    };
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (repository, file) = match parts[..] {
        ["api", "models", owner, name, "revision", "main"] => (format!("{owner}/{name}"), None),
        [owner, name, "resolve", "main", file] => (format!("{owner}/{name}"), Some(file)),
        ["cdn", owner, name, file] => (format!("{owner}/{name}"), Some(file)),
        _ => return say("404 Not Found", "", b"", 0),
    };
    if repository == "gated/model" && headers.get("authorization") == Some(&"Bearer somebody".into()) {
        return say("403 Forbidden", "X-Error-Code: GatedRepo\r\n", b"", 0);
    }
    if repository == "gated/model" && headers.get("authorization") != Some(&format!("Bearer {}", rules.token)) {
        return say("401 Unauthorized", "X-Error-Code: GatedRepo\r\n", b"", 0);
    }
    let Some(folder) = rules.repositories.get(&repository).cloned() else { return say("404 Not Found", "", b"", 0) };
    let Some(file) = file else {
        let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let siblings: Vec<serde_json::Value> = names.map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return say("200 OK", "Content-Type: application/json\r\n", body.as_bytes(), body.len());
    };
    let Ok(mut bytes) = fs::read(folder.join(file)) else { return say("404 Not Found", "", b"", 0) };
    let large = file.ends_with(".safetensors");
    let etag = if large { sha256(&bytes) } else { sha256(&bytes)[..40].to_string() };
    let named = format!("x-repo-commit: {COMMIT}\r\nx-linked-etag: \"{etag}\"\r\netag: \"{etag}\"\r\n");
    if large && parts[0] != "cdn" {
        // Large files lie elsewhere.
        let to = format!("Location: http://{}/cdn/{repository}/{file}\r\n", headers["host"]);
        return say("302 Found", &(named + &to), b"", 0);
    }
    if rules.spoil.as_deref() == Some(file) {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }
    let (first, last) = match range.as_deref().and_then(|r| r.strip_prefix("bytes=")?.split_once('-')) {
        Some((first, last)) => {
            (first.parse().unwrap(), last.parse().map_or(bytes.len() - 1, |l: usize| l.min(bytes.len() - 1)))
        }
        None => (0, bytes.len() - 1),
    };
    let part = &bytes[first..=last];
    let cut = match &mut rules.cut {
        Some((name, times)) if name == file && *times > 0 && part.len() > 1 => {
            *times -= 1;
            true
        }
        _ => false,
    };
    let sent = if cut { part.len() / 2 } else { part.len() };
    let place = format!("Content-Range: bytes {first}-{last}/{}\r\n", bytes.len());
    let goes_on = say("206 Partial Content", &(named + &place), part, sent);
    if cut {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    goes_on && !cut
}

fn with_model(name: &str) -> Rules {
    finished();
    Rules { repositories: [(name.to_string(), world().root.join("base"))].into(), ..Rules::default() }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_run_trains_on_a_model_of_the_hub_and_needs_it_once() {
    let (hub, lingua) = (Hub::start(with_model("tiny/base")), tiny_encoder("xlm-roberta"));
    hub.rules.lock().unwrap().repositories.insert("tiny/lingua".into(), lingua.path().to_path_buf());
    let runs = tempfile::tempdir().unwrap();
    let other = "eval.encoders=[\"encoder:tiny/lingua\"]";
    let flags = ["--set", "model.path=tiny/base", "--set", "train.steps=1", "--set", "eval.search_windows=0"];
    let flags = [&flags[..], &["--set", other]].concat();
    stdout(&hub.gist(&train(runs.path(), &flags), &[]));
    let run = runs.path().join("tiny/seed=0");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let named = ["path = \"tiny/base\"", "encoders = [\"encoder:tiny/lingua\"]"];
    assert_says(&config, &named, "the run's configuration names the repositories");
    assert_says(&fs::read_to_string(run.join("summary.json")).unwrap(), &["\"encoder:tiny/lingua\""], "summary");
    let provenance = fs::read_to_string(run.join("provenance.json")).unwrap();
    assert_says(&provenance, &[COMMIT, "model.safetensors"], "provenance");
    let asked = hub.requests();
    assert!(asked.iter().any(|(path, _)| path == "/tiny/base/resolve/main/config.json"));
    assert!(asked.iter().any(|(path, _)| path == "/cdn/tiny/base/model.safetensors"), "redirected");
    // The same model again: no request.
    let again = stdout(&hub.gist(&["fetch", "tiny/base"], &[]));
    assert!(Path::new(again.trim()).join("model.safetensors").exists() && again.contains(COMMIT), "{again}");
    stdout(&hub.gist(&["fetch", "tiny/base", "--offline"], &[]));
    assert!(hub.requests().is_empty());
    // Evaluation finds it in the cache.
    stdout(&hub.gist(&["eval", run.to_str().unwrap()], &[]));
    assert!(hub.requests().is_empty());
}

#[test]
fn a_cut_connection_goes_on_where_it_broke() {
    let rules = Rules { cut: Some(("model.safetensors".into(), 2)), ..with_model("tiny/base") };
    let hub = Hub::start(rules);
    let folder = stdout(&hub.gist(&["fetch", "tiny/base"], &[]));
    let fetched = fs::read(Path::new(folder.trim()).join("model.safetensors")).unwrap();
    assert!(fetched == fs::read(world().root.join("base/model.safetensors")).unwrap());
    let half = format!("bytes={}-", fetched.len() / 2);
    assert!(hub.requests().iter().any(|(_, range)| range.as_deref() == Some(&half)), "asked for the rest only");

    // Cut for good: what arrived is kept, and the same command goes on.
    let rules = Rules { cut: Some(("model.safetensors".into(), 100)), ..with_model("tiny/base") };
    let hub = Hub::start(rules);
    let said = refused(&hub.gist(&["fetch", "tiny/base"], &[]));
    assert_says(&said, &["tiny/base: model.safetensors", "the same command goes on"], "cut for good");
    hub.rules.lock().unwrap().cut = None;
    hub.requests();
    let folder = stdout(&hub.gist(&["fetch", "tiny/base"], &[]));
    assert!(fs::read(Path::new(folder.trim()).join("model.safetensors")).unwrap() == fetched);
    let asked = hub.requests();
    assert!(asked.iter().all(|(path, _)| !path.ends_with("config.json")), "{asked:?}");
    assert!(asked.iter().all(|(_, range)| range.as_deref() != Some("bytes=0-")), "{asked:?}");
}

#[test]
fn shards_are_brought_with_their_index() {
    let sharded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders/qwen3");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&sharded).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let hub = Hub::start(with_model("tiny/base"));
    hub.rules.lock().unwrap().repositories.insert("tiny/shards".into(), folder.path().to_path_buf());
    let said = refused(&hub.gist(&["fetch", "tiny/shards"], &[]));
    assert_says(
        &said,
        &["tiny/shards: tokenizer.json: the repository has no such file at revision main"],
        "no tokenizer",
    );
    fs::copy(world().root.join("base/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let fetched = stdout(&hub.gist(&["fetch", "tiny/shards"], &[]));
    let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!(names(Path::new(fetched.trim())), names(folder.path()));
    // One that broke off is not taken for whole, and the same command brings the rest.
    let cut = Hub::start(Rules { cut: Some(("model-00002-of-00003.safetensors".into(), 100)), ..Rules::default() });
    cut.rules.lock().unwrap().repositories.insert("tiny/shards".into(), folder.path().to_path_buf());
    let said = refused(&cut.gist(&["fetch", "tiny/shards"], &[]));
    assert_says(&said, &["tiny/shards: model-00002-of-00003.safetensors", "the same command goes on"], "half a shard");
    let said = refused(&cut.gist(&["fetch", "tiny/shards", "--offline"], &[]));
    assert_says(&said, &["the cache lacks model-00002-of-00003.safetensors"], "half a shard");
    cut.rules.lock().unwrap().cut = None;
    let whole = stdout(&cut.gist(&["fetch", "tiny/shards"], &[]));
    for file in ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"] {
        assert!(fs::read(Path::new(whole.trim()).join(file)).unwrap() == fs::read(folder.path().join(file)).unwrap());
    }
    // A shard that is gone from the cache is missed.
    fs::remove_file(Path::new(fetched.trim()).join("model-00002-of-00003.safetensors")).unwrap();
    let said = refused(&hub.gist(&["fetch", "tiny/shards", "--offline"], &[]));
    assert_says(&said, &["the cache lacks model-00002-of-00003.safetensors", "gist fetch tiny/shards"], "a shard");
}

#[test]
fn what_cannot_be_had_is_said_and_the_cache_stays_sound() {
    let hub = Hub::start(Rules { token: "secret".into(), ..with_model("gated/model") });
    let nobody = refused(&hub.gist(&["fetch", "no/body"], &[]));
    assert_says(&nobody, &["no/body: neither a folder here nor a repository of the Hub at revision main"], "404");
    let gated = refused(&hub.gist(&["fetch", "gated/model"], &[]));
    let page = format!("its licence accepted at {}/gated/model", hub.address);
    assert_says(&gated, &["gated/model: no access (status 401)", &page, "in HF_TOKEN"], "401");
    let gated = refused(&hub.gist(&["fetch", "gated/model"], &[("HF_TOKEN", "somebody")]));
    assert_says(&gated, &["gated/model: no access (status 403)", &page, "in HF_TOKEN"], "403");
    assert!(!hub.home.path().join("hub/models--gated--model/snapshots").exists(), "nothing of it in the cache");
    stdout(&hub.gist(&["fetch", "gated/model"], &[("HF_TOKEN", "secret")]));

    let hub = Hub::start(Rules { spoil: Some("model.safetensors".into()), ..with_model("tiny/base") });
    let spoilt = refused(&hub.gist(&["fetch", "tiny/base"], &[]));
    assert_says(&spoilt, &["model.safetensors: expected SHA-256", "it is removed"], "changed bytes");
    hub.rules.lock().unwrap().spoil = None;
    stdout(&hub.gist(&["fetch", "tiny/base"], &[]));

    let empty = Hub::start(Rules::default());
    for (arguments, variables) in
        [(&["fetch", "tiny/base"][..], &[("HF_HUB_OFFLINE", "1")][..]), (&["fetch", "tiny/base", "--offline"], &[])]
    {
        let said = refused(&empty.gist(arguments, variables));
        assert_says(&said, &["tiny/base", "the cache lacks config.json"], "offline");
    }
    assert!(empty.requests().is_empty());
    let unreachable = empty.gist(&["fetch", "tiny/base"], &[("HF_ENDPOINT", "http://127.0.0.1:9")]);
    assert_says(&refused(&unreachable), &["tiny/base", "without a network", "--offline"], "no network");
    let runs = tempfile::tempdir().unwrap();
    let flags = ["--set", "model.path=no/body", "--offline"];
    assert_says(&refused(&empty.gist(&train(runs.path(), &flags), &[])), &["no/body"], "a run");
    assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 0);
    assert!(gist(&["fetch", "--help"]).status.success());
}
