//! A stand-in for the Hugging Face Hub, with its routes, redirects, headers and errors, over a folder for each repository.
//!
//! Small files are redirected to a cache at the same server (307, a relative address), large ones to a store that may be
//! another server (302, an absolute one), with `X-Repo-Commit`, `X-Linked-ETag` and `X-Linked-Size` on the redirect. An ETag is
//! the SHA-256 of a large file and git's SHA-1 of a small one.

use super::bytes::{compressed, git_sha1, sha256};
use crate::common::{command, files, world};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Names of [`COMMIT`].
const REVISIONS: [&str; 4] = ["main", COMMIT, "0123456", "refs%2Fpr%2F1"];

/// A request that was made.
#[derive(Debug)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// How bodies are sent.
#[derive(Default)]
pub enum Body {
    /// As they are, with their length.
    #[default]
    Plain,
    /// Compressed for whom offers it, whole, without ranges, as the Hub's cache does.
    CompressedWhereOffered,
    /// Compressed so for everybody, without a length: the end of the connection ends the body.
    Compressed(&'static str),
    /// As they are, without a length.
    Endless,
}

/// How files are named.
#[derive(Default)]
pub enum Etags {
    /// Hashes in quotes.
    #[default]
    Hub,
    /// Hashes marked as weak.
    Weak,
    /// Hashes without quotes.
    Bare,
    /// One tag for every file, in quotes.
    Own,
    Missing,
}

/// Cuts the connection in a body of `file`, `times` times, after that share of it.
pub struct Cut {
    pub file: &'static str,
    pub times: usize,
    pub share: f64,
}

/// Rules by which the server answers.
#[derive(Default)]
pub struct Rules {
    /// Files of each repository.
    pub repositories: BTreeMap<String, PathBuf>,
    pub body: Body,
    pub etags: Etags,
    /// Answers every range with the whole.
    pub no_ranges: bool,
    pub cut: Option<Cut>,
    /// Sends this file with a byte changed.
    pub spoil: Option<&'static str>,
    /// Lets nobody read the files of `gated/model` without this token; `known` is somebody else's.
    pub token: &'static str,
    pub known: &'static str,
    /// Says nothing of why a request failed, as a plain mirror.
    pub mute: bool,
    /// Status and further headers of the next answers.
    pub busy: Vec<(u16, &'static str)>,
    /// Those of the answers after the next cut.
    pub busy_after_cut: Vec<(u16, &'static str)>,
    /// Server of large files, if not this one.
    pub store: Option<String>,
    /// Waits before the body of a large file.
    pub delay: Duration,
    /// Requests so far.
    pub seen: Vec<Request>,
}

/// A server, and a home of Hugging Face for the programs that ask it.
pub struct Hub {
    pub address: String,
    pub rules: Arc<Mutex<Rules>>,
    pub home: tempfile::TempDir,
}

/// The program, with none of the variables that say where the Hub is and how it is reached.
pub fn program(arguments: &[&str]) -> Command {
    let mut program = command(arguments);
    program.current_dir(&world().root);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let starts =
            ["HF_", "HUGGING", "TRANSFORMERS_", "XDG_CACHE", "SSL_CERT"].iter().any(|start| name.starts_with(start));
        if starts || name.to_lowercase().ends_with("_proxy") {
            program.env_remove(name);
        }
    }
    program
}

impl Hub {
    pub fn start(rules: Rules) -> Hub {
        Hub::serve(rules, None, "http://127.0.0.1")
    }

    /// By TLS, with this certificate and its key, under this address.
    pub fn start_tls(rules: Rules, shown: (CertificateDer<'static>, PrivateKeyDer<'static>), address: &str) -> Hub {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![shown.0], shown.1).unwrap();
        Hub::serve(rules, Some(Arc::new(config)), address)
    }

    fn serve(rules: Rules, tls: Option<Arc<ServerConfig>>, address: &str) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("{address}:{}", listener.local_addr().unwrap().port());
        let rules = Arc::new(Mutex::new(rules));
        let (shared, scheme) = (rules.clone(), if tls.is_some() { "https" } else { "http" });
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (rules, tls) = (shared.clone(), tls.clone());
                std::thread::spawn(move || {
                    let raw = stream.try_clone().unwrap();
                    let mut wire: Box<dyn Wire> = match tls {
                        Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream)),
                        None => Box::new(stream),
                    };
                    while answer(&mut *wire, &rules, scheme) {}
                    let _ = raw.shutdown(Shutdown::Both);
                });
            }
        });
        Hub { address, rules, home: tempfile::tempdir().unwrap() }
    }

    /// The program with this server as the Hub, and a cache of its own.
    pub fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut program = program(arguments);
        program.env("HF_ENDPOINT", &self.address).env("HF_HOME", self.home.path()).envs(variables.iter().copied());
        program
    }

    pub fn gist(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(arguments, variables).output().unwrap()
    }

    /// Changes the rules.
    pub fn set(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules.lock().unwrap());
    }

    /// Requests since the last call.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.rules.lock().unwrap().seen)
    }

    /// The cache that the programs have.
    pub fn cache(&self) -> PathBuf {
        self.home.path().join("hub")
    }
}

pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// The head of a request or an answer: its first line, and the rest.
pub fn head(wire: &mut dyn Wire) -> Option<(String, BTreeMap<String, String>)> {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        wire.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let text = String::from_utf8(bytes).unwrap();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap().to_string();
    let pairs = lines.filter_map(|line| line.split_once(':'));
    Some((first, pairs.map(|(key, value)| (key.to_lowercase(), value.trim().to_string())).collect()))
}

/// An answer.
struct Said {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Said {
    fn empty(status: u16, headers: impl Into<String>) -> Said {
        Said { status, headers: headers.into(), body: Vec::new() }
    }

    /// An error as the Hub says it.
    fn error(rules: &Rules, status: u16, code: &str, message: &str) -> Said {
        match rules.mute {
            true => Said::empty(404, ""),
            false => Said::empty(status, format!("X-Error-Code: {code}\r\nX-Error-Message: {message}\r\n")),
        }
    }
}

/// Answers one request; false when the connection is done with.
fn answer(wire: &mut dyn Wire, rules: &Mutex<Rules>, scheme: &str) -> bool {
    let Some((first, headers)) = head(wire) else { return false };
    let path = first.split(' ').nth(1).unwrap().to_string();
    let request = Request { path, headers };
    let is_last = request.header("connection") == Some("close");
    let (said, cut, delay) = {
        let mut rules = rules.lock().unwrap();
        let (said, cut) = match rules.busy.is_empty() {
            true => respond(&request, &mut rules, scheme),
            false => {
                let (status, headers) = rules.busy.remove(0);
                (Said::empty(status, headers), None)
            }
        };
        let delay = if request.path.starts_with("/cdn/") { rules.delay } else { Duration::ZERO };
        rules.seen.push(request);
        (said, cut, delay)
    };
    let has_length = !said.headers.contains("Connection: close");
    let length = if has_length { format!("Content-Length: {}\r\n", said.body.len()) } else { String::new() };
    let closes = if is_last { "Connection: close\r\n" } else { "" };
    let head = format!("HTTP/1.1 {} Said\r\n{length}{closes}{}\r\n", said.status, said.headers);
    let sent = cut.unwrap_or(said.body.len());
    let _ = wire.write_all(head.as_bytes());
    std::thread::sleep(delay);
    wire.write_all(&said.body[..sent]).and_then(|()| wire.flush()).is_ok() && cut.is_none() && has_length && !is_last
}

/// The answer, and after how many bytes of its body the connection is cut.
fn respond(request: &Request, rules: &mut Rules, scheme: &str) -> (Said, Option<usize>) {
    if request.path.contains("//") {
        return (Said::empty(404, ""), None); // as strict mirrors
    }
    let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    let (owner, name, revision, file) = match parts[..] {
        ["api", "models", owner, name] => (owner, name, "main", None),
        ["api", "models", owner, name, "revision", revision] => (owner, name, revision, None),
        ["api", "resolve-cache", "models", owner, name, revision, ..] => {
            (owner, name, revision, Some(parts[6..].join("/")))
        }
        ["cdn", owner, name, ..] => (owner, name, "main", Some(parts[3..].join("/"))),
        [owner, name, "resolve", revision, ..] => (owner, name, revision, Some(parts[4..].join("/"))),
        _ => return (Said::empty(404, ""), None),
    };
    let (repository, sent) =
        (format!("{owner}/{name}"), request.header("authorization").map(|sent| sent.replace("Bearer ", "")));
    let is_known = sent.as_ref().is_some_and(|sent| [rules.token, rules.known].contains(&sent.as_str()));
    if sent.is_some() && !is_known && !rules.token.is_empty() {
        return (Said::error(rules, 401, "", "Invalid credentials in Authorization header"), None);
    }
    let Some(folder) = rules.repositories.get(&repository).cloned() else {
        let said = match is_known {
            true => Said::error(rules, 404, "RepoNotFound", "Repository not found"),
            false => Said::error(rules, 401, "RepoNotFound", "Invalid username or password."),
        };
        return (said, None);
    };
    if !REVISIONS.contains(&revision) {
        return (Said::error(rules, 404, "RevisionNotFound", &format!("Invalid rev id: {revision}")), None);
    }
    let Some(file) = file else {
        let names = files(&folder).into_keys().map(|path| path.to_string_lossy().into_owned());
        let siblings: Vec<serde_json::Value> = names.map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"id": repository, "sha": COMMIT, "siblings": siblings}).to_string().into_bytes();
        return (
            send(request, rules, Said { status: 200, headers: "Content-Type: application/json\r\n".into(), body }),
            None,
        );
    };
    // The address of a store is a pass by itself.
    if parts[0] != "cdn" && repository == "gated/model" && sent.as_deref() != Some(rules.token) {
        let status = if is_known { 403 } else { 401 };
        return (Said::error(rules, status, "GatedRepo", "Access to model gated/model is restricted."), None);
    }
    let Ok(bytes) = fs::read(folder.join(&file)) else {
        return (Said::error(rules, 404, "EntryNotFound", "Entry not found"), None);
    };
    let large = file.ends_with(".safetensors");
    let hash = if large { sha256(&bytes) } else { git_sha1(&bytes) };
    let etag = match rules.etags {
        Etags::Hub => format!("\"{hash}\""),
        Etags::Weak => format!("W/\"{hash}\""),
        Etags::Bare => hash,
        Etags::Own => "\"of/today==\"".to_string(),
        Etags::Missing => String::new(),
    };
    let named = |key: &str| if etag.is_empty() { String::new() } else { format!("{key}: {etag}\r\n") };
    if parts[2] == "resolve" {
        let to = match (large, &rules.store) {
            (false, _) => format!("/api/resolve-cache/models/{repository}/{COMMIT}/{file}"),
            (true, Some(store)) => format!("{store}/cdn/{repository}/{file}"),
            (true, None) => format!("{scheme}://{}/cdn/{repository}/{file}", request.headers["host"]),
        };
        let size = bytes.len();
        let headers = format!(
            "X-Repo-Commit: {COMMIT}\r\nX-Linked-Size: {size}\r\n{}ETag: \"a page\"\r\nLocation: {to}\r\n",
            named("X-Linked-ETag")
        );
        return (Said { status: if large { 302 } else { 307 }, headers, body: b"see there".to_vec() }, None);
    }
    let own = if parts[0] == "cdn" && !matches!(rules.etags, Etags::Own | Etags::Missing) {
        "ETag: \"of the store\"\r\n".into()
    } else {
        named("ETag")
    };
    let mut said = Said { status: 200, headers: own, body: bytes };
    if rules.spoil == Some(file.as_str()) {
        *said.body.last_mut().unwrap() ^= 1;
    }
    let said = send(request, rules, said);
    let cut = rules.cut.as_mut().filter(|cut| cut.file == file && cut.times > 0 && said.body.len() > 1);
    let cut = cut.map(|cut| {
        cut.times -= 1;
        (said.body.len() as f64 * cut.share) as usize
    });
    if cut.is_some() {
        rules.busy.append(&mut rules.busy_after_cut);
    }
    (said, cut)
}

/// A body as the rules and the request have it: compressed, or the range that is wanted, or the whole.
fn send(request: &Request, rules: &Rules, mut said: Said) -> Said {
    let offered = request.header("accept-encoding").unwrap_or_default();
    let coding = match rules.body {
        Body::CompressedWhereOffered => ["gzip", "deflate"].into_iter().find(|coding| offered.contains(coding)),
        Body::Compressed(coding) => Some(coding),
        Body::Plain => None,
        Body::Endless => {
            said.headers += "Connection: close\r\n";
            return said;
        }
    };
    if let Some(coding) = coding {
        said.body = compressed(coding, &said.body);
        said.headers += &format!("Content-Encoding: {}\r\n", coding.trim_start_matches("raw "));
        if matches!(rules.body, Body::Compressed(_)) {
            said.headers += "Connection: close\r\n";
        }
        return said;
    }
    let wanted = request.header("range").filter(|_| !rules.no_ranges).map(|range| range.trim_start_matches("bytes="));
    let stale = request.header("if-range").is_some_and(|tag| !said.headers.contains(tag));
    let Some(from) = wanted.filter(|_| !stale).map(|range| range.trim_end_matches('-').parse::<usize>().unwrap())
    else {
        return said;
    };
    let size = said.body.len();
    if from >= size {
        return Said::empty(416, format!("Content-Range: bytes */{size}\r\n"));
    }
    said.headers += &format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
    Said { status: 206, headers: said.headers, body: said.body[from..].to_vec() }
}
