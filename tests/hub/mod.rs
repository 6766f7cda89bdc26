//! Models by repository, from a real HTTP server that does what the Hub, its caches and its mirrors do.

mod bytes;
mod cache;
mod network;
mod proxy;
mod server;

use crate::common::{assert_says, finished, gist, tiny_encoder, train, world};
use bytes::{git_sha1, sha256};
use server::{Body, COMMIT, Cut, Etags, Hub, Rules};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

const WEIGHTS: &str = "model.safetensors";

fn with_model(name: &str) -> Rules {
    finished();
    Rules { repositories: [(name.to_string(), world().root.join("base"))].into(), ..Rules::default() }
}

fn cut(file: &'static str, times: usize, share: f64) -> Option<Cut> {
    Some(Cut { file, times, share })
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Last message of a program that ended with this exit code; it must not have panicked.
fn refused(code: i32, output: &Output) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: ") && !said.contains("panicked"), "{said}");
    last.to_string()
}

/// Fails unless this is a folder with the files of the base, byte for byte.
fn assert_whole(folder: &str, what: &str) {
    let folder = Path::new(folder.trim());
    for file in ["config.json", "tokenizer.json", WEIGHTS] {
        let expected = fs::read(world().root.join("base").join(file)).unwrap();
        assert!(fs::read(folder.join(file)).unwrap_or_default() == expected, "{what}: {file} arrived changed");
    }
}

/// The shards of a small model, with a tokenizer and a file in a folder.
fn sharded() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders/qwen3");
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::copy(world().root.join("base/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    fs::write(folder.path().join("1_Pooling/config.json"), "{}").unwrap();
    folder
}

#[test]
fn a_run_trains_on_a_model_of_the_hub_and_needs_it_once() {
    let (hub, lingua) = (Hub::start(with_model("tiny/base")), tiny_encoder("xlm-roberta"));
    hub.set(|rules| _ = rules.repositories.insert("tiny/lingua".into(), lingua.path().to_path_buf()));
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
    assert_says(&provenance, &[COMMIT, WEIGHTS], "provenance");
    // Files are asked for by the commit that the list was of: a push in between mixes nothing.
    let asked = hub.requests();
    let (small, large) = (format!("/tiny/base/resolve/{COMMIT}/config.json"), format!("/cdn/tiny/base/{WEIGHTS}"));
    assert!(asked.iter().any(|request| request.path == small) && asked.iter().any(|request| request.path == large));
    // The model again: no request.
    let again = stdout(&hub.gist(&["fetch", "tiny/base"], &[]));
    assert!(again.contains(COMMIT), "{again}");
    assert_whole(&again, "again");
    stdout(&hub.gist(&["fetch", "tiny/base", "--offline"], &[]));
    assert!(hub.requests().is_empty());
    // Evaluation finds it in the cache.
    stdout(&hub.gist(&["eval", run.to_str().unwrap()], &[]));
    assert!(hub.requests().is_empty());
}

#[test]
fn files_arrive_however_a_server_sends_and_names_them() {
    type Change = fn(&mut Rules);
    let ways: [(&str, Change); 14] = [
        ("compressed where offered", |rules| rules.body = Body::CompressedWhereOffered),
        ("gzip, no length", |rules| rules.body = Body::Compressed("gzip")),
        ("x-gzip, no length", |rules| rules.body = Body::Compressed("x-gzip")),
        ("deflate, no length", |rules| rules.body = Body::Compressed("deflate")),
        ("deflate without zlib's head", |rules| rules.body = Body::Compressed("raw deflate")),
        ("zstd, no length", |rules| rules.body = Body::Compressed("zstd")),
        ("identity said", |rules| rules.body = Body::Compressed("identity")),
        ("no length", |rules| rules.body = Body::Endless),
        ("no ranges", |rules| rules.no_ranges = true),
        ("weak ETags", |rules| rules.etags = Etags::Weak),
        ("ETags without quotes", |rules| rules.etags = Etags::Bare),
        ("ETags that are no hashes", |rules| rules.etags = Etags::Own),
        ("no ranges, cut", |rules| (rules.no_ranges, rules.cut) = (true, cut(WEIGHTS, 2, 0.5))),
        ("compressed, cut", |rules| {
            (rules.body, rules.cut) = (Body::Compressed("gzip"), cut("tokenizer.json", 2, 0.5))
        }),
    ];
    for (what, change) in ways {
        let hub = Hub::start(with_model("tiny/base"));
        hub.set(change);
        let output = hub.gist(&["fetch", "tiny/base"], &[]);
        assert!(output.status.success(), "{what}: {}", stderr(&output));
        assert_whole(&stdout(&output), what);
        let asked = hub.requests();
        assert!(asked.iter().all(|request| request.header("accept-encoding") == Some("identity")), "{what}: {asked:?}");
    }
    for (change, expected) in [
        ((|rules| rules.body = Body::Compressed("br")) as Change, "encoded as \"br\", which was not asked for"),
        (|rules| rules.etags = Etags::Missing, "the answer has no ETag"),
    ] {
        let hub = Hub::start(with_model("tiny/base"));
        hub.set(change);
        assert_says(&refused(2, &hub.gist(&["fetch", "tiny/base"], &[])), &["tiny/base", expected], expected);
    }
}

#[test]
fn a_cut_connection_goes_on_where_it_broke() {
    let hub = Hub::start(Rules { cut: cut(WEIGHTS, 2, 0.5), ..with_model("tiny/base") });
    let folder = stdout(&hub.gist(&["fetch", "tiny/base"], &[]));
    assert_whole(&folder, "cut twice");
    let size = fs::read(Path::new(folder.trim()).join(WEIGHTS)).unwrap().len();
    let half = format!("bytes={}-", size / 2);
    assert!(hub.requests().iter().any(|request| request.header("range") == Some(&half)), "asked for the rest only");

    // Cut for good: what arrived is kept, and the same command goes on.
    let hub = Hub::start(Rules { cut: cut(WEIGHTS, 1, 0.5), ..with_model("tiny/base") });
    hub.set(|rules| rules.busy_after_cut = vec![(503, "Retry-After: 4000\r\n")]);
    let said = refused(1, &hub.gist(&["fetch", "tiny/base"], &[]));
    assert_says(&said, &[&format!("tiny/base: {WEIGHTS}"), "answered with status 503"], "cut for good");
    hub.requests();
    let again = hub.gist(&["fetch", "tiny/base"], &[]);
    assert_whole(&stdout(&again), "taken up");
    assert_says(&stderr(&again), &["goes on after"], "taken up");
    let asked = hub.requests();
    assert!(asked.iter().all(|request| !request.path.ends_with("config.json")), "{asked:?}");
    assert!(asked.iter().any(|request| request.header("range") == Some(&half)), "{asked:?}");
}

#[test]
fn parts_of_different_files_are_not_joined() {
    let hub = Hub::start(with_model("tiny/base"));
    let bytes = fs::read(world().root.join("base").join(WEIGHTS)).unwrap();
    let blobs = hub.cache().join("models--tiny--base/blobs");
    fs::create_dir_all(&blobs).unwrap();
    // Half of another file under the name of this one; a whole one that is too long; one that is all there.
    let partial = blobs.join(format!("{}.incomplete", sha256(&bytes)));
    for (content, ranges) in
        [(vec![7; bytes.len() / 2], 1), (vec![7; bytes.len() + 1], 0), (vec![7; bytes.len()], 0), (bytes.clone(), 0)]
    {
        fs::write(&partial, &content).unwrap();
        let output = hub.gist(&["fetch", "tiny/base"], &[]);
        assert_whole(&stdout(&output), "begun anew");
        let asked = hub.requests();
        // A redirect and its target each.
        assert_eq!(asked.iter().filter(|request| request.header("range").is_some()).count(), 2 * ranges, "{asked:?}");
        fs::remove_dir_all(hub.cache().join("models--tiny--base/snapshots")).unwrap();
        fs::remove_file(blobs.join(sha256(&bytes))).unwrap();
        assert!(!partial.exists());
    }
    // Where no hash says that two parts fit, the server is asked to (If-Range), or all is brought again.
    let hub = Hub::start(Rules { etags: Etags::Own, cut: cut(WEIGHTS, 1, 0.5), ..with_model("tiny/base") });
    assert_whole(&stdout(&hub.gist(&["fetch", "tiny/base"], &[])), "no hash");
    let asked = hub.requests();
    assert!(asked.iter().any(|request| request.header("if-range") == Some("\"of/today==\"")), "{asked:?}");
    assert!(asked.iter().all(|request| request.header("range").is_some() == request.header("if-range").is_some()));
}

#[test]
fn shards_are_brought_with_their_index() {
    let folder = sharded();
    let hub = Hub::start(with_model("tiny/base"));
    hub.set(|rules| _ = rules.repositories.insert("tiny/shards".into(), folder.path().to_path_buf()));
    fs::rename(folder.path().join("tokenizer.json"), folder.path().join("kept")).unwrap();
    let said = refused(2, &hub.gist(&["fetch", "tiny/shards"], &[]));
    let expected = "tiny/shards: tokenizer.json: the repository has no such file at revision main";
    assert_says(&said, &[expected], "no tokenizer");
    fs::rename(folder.path().join("kept"), folder.path().join("tokenizer.json")).unwrap();
    let fetched = stdout(&hub.gist(&["fetch", "tiny/shards"], &[]));
    let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!(names(Path::new(fetched.trim())), names(folder.path()));
    // One that broke off is not taken for whole, and the same command brings the rest.
    let (first, second) = ("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors");
    let cut = Hub::start(Rules { spoil: Some(second), ..Rules::default() });
    cut.set(|rules| _ = rules.repositories.insert("tiny/shards".into(), folder.path().to_path_buf()));
    let said = refused(2, &cut.gist(&["fetch", "tiny/shards"], &[]));
    assert_says(&said, &[&format!("tiny/shards: {second}")], "half the shards");
    let said = refused(2, &cut.gist(&["fetch", "tiny/shards", "--offline"], &[]));
    assert_says(&said, &[&format!("the cache lacks {second}")], "half the shards");
    cut.set(|rules| rules.spoil = None);
    let whole = stdout(&cut.gist(&["fetch", "tiny/shards"], &[]));
    for file in [first, second, "1_Pooling/config.json"] {
        assert!(fs::read(Path::new(whole.trim()).join(file)).unwrap() == fs::read(folder.path().join(file)).unwrap());
    }
    // A shard that is gone from the cache is missed.
    fs::remove_file(Path::new(fetched.trim()).join(second)).unwrap();
    let said = refused(2, &hub.gist(&["fetch", "tiny/shards", "--offline"], &[]));
    assert_says(&said, &[&format!("the cache lacks {second}"), "gist fetch tiny/shards"], "a shard");
}

#[test]
fn changed_bytes_are_found_and_the_cache_stays_sound() {
    let base = world().root.join("base");
    for (file, named) in [
        (WEIGHTS, format!("expected SHA-256 {}", sha256(&fs::read(base.join(WEIGHTS)).unwrap()))),
        ("config.json", format!("expected SHA-1 {}", git_sha1(&fs::read(base.join("config.json")).unwrap()))),
    ] {
        let hub = Hub::start(Rules { spoil: Some(file), ..with_model("tiny/base") });
        let spoilt = refused(2, &hub.gist(&["fetch", "tiny/base"], &[]));
        assert_says(&spoilt, &[&format!("tiny/base: {file}"), &named, "it is removed"], "changed bytes");
        hub.set(|rules| rules.spoil = None);
        assert_whole(&stdout(&hub.gist(&["fetch", "tiny/base"], &[])), "after changed bytes");
    }
}

#[test]
fn what_is_not_there_or_not_allowed_is_told_apart() {
    let hub = Hub::start(Rules { token: "secret", known: "somebody", ..with_model("gated/model") });
    let fetch = |arguments: &[&str], variables: &[(&str, &str)]| {
        let arguments = [&["fetch"], arguments].concat();
        refused(2, &hub.gist(&arguments, variables))
    };
    let (page, somebody) = (format!("{}/gated/model", hub.address), [("HF_TOKEN", "somebody")]);
    let said = fetch(&["no/body"], &[]);
    assert_says(
        &said,
        &["no/body: no access (status 401)", "no repository of this name", "no token was sent"],
        "nobody",
    );
    assert_says(
        &fetch(&["no/body"], &somebody),
        &["no/body: neither a folder here nor a repository of the Hub"],
        "404",
    );
    let said = fetch(&["gated/model"], &[]);
    let restricted = "the Hub says: Access to model gated/model is restricted.";
    assert_says(&said, &["(status 401)", "gated", &page, "no token was sent", restricted], "gated, nobody");
    let said = fetch(&["gated/model"], &somebody);
    assert_says(
        &said,
        &["(status 403)", "gated", &page, "the token from HF_TOKEN was sent", restricted],
        "gated, somebody",
    );
    let said = fetch(&["gated/model"], &[("HF_TOKEN", "mistyped")]);
    assert_says(&said, &["(status 401): the Hub does not know the token from HF_TOKEN"], "an unknown token");
    let said = fetch(&["gated/model", "--revision", "nope"], &somebody);
    assert_says(&said, &["gated/model: the repository has no revision nope"], "no revision");
    assert!(!hub.cache().join("models--gated--model/snapshots").join(COMMIT).join("config.json").exists());
    stdout(&hub.gist(&["fetch", "gated/model"], &[("HF_TOKEN", "secret")]));

    // Mirrors that say 404 and no more.
    hub.set(|rules| (rules.mute, rules.token) = (true, ""));
    assert_says(&fetch(&["no/body"], &[]), &["no/body: neither a folder here nor a repository"], "mute");
    let said = fetch(&["gated/model", "--revision", "nope"], &[]);
    assert_says(&said, &["gated/model: the repository has no revision nope"], "mute");
    for revision in ["../../../x", "", "/x", "a/../b"] {
        assert_says(&fetch(&["gated/model", "--revision", revision], &[]), &["revision: expected a branch"], revision);
    }
    // What is no Hub at all.
    let text = tempfile::tempdir().unwrap();
    fs::write(text.path().join("README.md"), "").unwrap();
    hub.set(|rules| _ = rules.repositories.insert("no/weights".into(), text.path().to_path_buf()));
    assert_says(
        &fetch(&["no/weights"], &[]),
        &["no/weights: config.json: the repository has no such file"],
        "no model",
    );
    hub.set(|rules| rules.busy = vec![(200, "Content-Type: text/html\r\n")]);
    assert_says(&fetch(&["no/list"], &[]), &["the answer is no list of a repository's files"], "a portal");

    let runs = tempfile::tempdir().unwrap();
    let flags = ["--set", "model.path=no/body", "--offline"];
    assert_says(&refused(2, &hub.gist(&train(runs.path(), &flags), &[])), &["no/body"], "a run");
    assert_eq!(fs::read_dir(runs.path()).unwrap().count(), 0);
    assert_says(&stdout(&gist(&["fetch", "--help"])), &["HF_HUB_CACHE", "HF_TOKEN", "SSL_CERT_FILE"], "help");
    assert_says(&fetch(&["gpt2"], &[]), &["gpt2: expected a repository, owner/name, or a folder"], "no owner");
}

#[test]
fn a_busy_server_is_asked_again_when_it_says_so() {
    let now = "Retry-After: 0\r\n";
    let hub = Hub::start(with_model("tiny/base"));
    hub.set(|rules| rules.busy = vec![(503, now), (429, now), (500, now), (502, "Retry-After: 1\r\n")]);
    let begun = std::time::Instant::now();
    let output = hub.gist(&["fetch", "tiny/base"], &[]);
    assert_whole(&stdout(&output), "busy");
    assert!(begun.elapsed() > Duration::from_secs(1));
    assert_says(
        &stderr(&output),
        &["answered with status 503; again in 0.0 s (1 of 5)", "status 502; again in 1.0 s"],
        "busy",
    );
    // For good, and for longer than anybody waits.
    let hub = Hub::start(with_model("tiny/base"));
    hub.set(|rules| rules.busy = vec![(504, now); 9]);
    assert_says(&refused(1, &hub.gist(&["fetch", "tiny/base"], &[])), &["answered with status 504"], "busy for good");
    assert_eq!(hub.requests().len(), 6);
    hub.set(|rules| rules.busy = vec![(429, "RateLimit: \"api\";r=0;t=4000\r\n")]);
    let said = refused(1, &hub.gist(&["fetch", "tiny/base"], &[]));
    assert_says(&said, &["answered with status 429; it asks to wait 4000 s"], "an hour");
}

#[test]
fn two_processes_bring_a_file_once() {
    let hub = Hub::start(Rules { delay: Duration::from_secs(1), ..with_model("tiny/base") });
    let both =
        [0, 1].map(|_| hub.command(&["fetch", "tiny/base"], &[]).stdout(std::process::Stdio::piped()).spawn().unwrap());
    for process in both {
        assert_whole(&stdout(&process.wait_with_output().unwrap()), "two at once");
    }
    let blobs = hub.cache().join("models--tiny--base/blobs");
    let left: Vec<PathBuf> = fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().is_none()), "{left:?}");
}
