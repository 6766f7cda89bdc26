//! Models by name: a local folder, or a repository of the Hugging Face Hub (`owner/name`), whose files are kept in the cache
//! that other tools use too (`HF_HOME`). A repository that is whole in the cache is used as it is, without the network: what
//! a run reads does not change under it, and `model.revision` pins it for others. `HF_ENDPOINT`, `HF_TOKEN` (or the token
//! that `hf auth login` left) and `HF_HUB_OFFLINE` mean what they mean elsewhere.

use crate::error::{Error, Result};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Index of a model in several files.
pub const INDEX: &str = "model.safetensors.index.json";
/// A model in one.
pub const SINGLE: &str = "model.safetensors";
/// What every model must have beside its weights.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// What is taken along where it is.
const WELCOME: [&str; 5] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "1_Pooling/config.json",
];
const RETRIES: usize = 3;
const MAIN: &str = "main";

/// Whether a path is no folder here but could name a repository.
pub fn is_repository(path: &Path) -> bool {
    let part = |text: &str| {
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        text.chars().all(safe) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    let named = path.to_str().and_then(|text| text.split_once('/')).is_some_and(|(a, b)| part(a) && part(b));
    named && !path.exists() && path.extension().is_none_or(|end| !end.eq_ignore_ascii_case("gguf"))
}

/// The folder of a model: the path itself, or what the cache has of the repository.
pub fn folder(path: &Path, revision: Option<&str>) -> Result<PathBuf> {
    if !is_repository(path) {
        return Ok(path.to_path_buf());
    }
    let repo = repo(path, revision);
    cached(&Cache::from_env(), &repo).map_err(|missing| {
        let (name, revision) = (path.display(), repo.revision().to_string());
        Error::invalid(format!(
            "{name}: no such folder, and of the repository at revision {revision} the cache lacks {missing}; \
             `gist fetch {name}` brings it"
        ))
    })
}

/// The same, after bringing what the cache lacks; with `offline` it must be there.
pub fn fetch(path: &Path, revision: Option<&str>, offline: bool) -> Result<PathBuf> {
    let set = |value: String| !["", "0", "false", "no", "off"].contains(&value.to_lowercase().as_str());
    if !is_repository(path) || offline || std::env::var("HF_HUB_OFFLINE").is_ok_and(set) {
        return folder(path, revision);
    }
    let (repo, cache) = (repo(path, revision), Cache::from_env());
    if let Ok(folder) = cached(&cache, &repo) {
        return Ok(folder);
    }
    let name = path.display().to_string();
    let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty());
    let token = token.map(|token| token.trim().to_string()).or(cache.token());
    let api = ApiBuilder::from_env()
        .with_token(token)
        .with_retries(RETRIES)
        .with_progress(std::io::stderr().is_terminal())
        .with_user_agent("gist", env!("CARGO_PKG_VERSION"))
        .build()
        .map_err(|error| said(&name, &repo, "", &error))?;
    Download { name, repo, cache, api }.run()
}

fn repo(path: &Path, revision: Option<&str>) -> Repo {
    Repo::with_revision(path.display().to_string(), RepoType::Model, revision.unwrap_or(MAIN).to_string())
}

/// The snapshot of a repository that is whole, or the first file that it lacks.
fn cached(cache: &Cache, repo: &Repo) -> std::result::Result<PathBuf, String> {
    let files = cache.repo(repo.clone());
    let find = |file: &str| files.get(file).ok_or_else(|| file.to_string());
    let config = find(NEEDED[0])?;
    NEEDED.iter().try_for_each(|file| find(file).map(drop))?;
    if files.get(SINGLE).is_none() {
        let index = files.get(INDEX).ok_or(SINGLE)?;
        for shard in shards(&index).map_err(|error| error.to_string())? {
            find(&shard)?;
        }
    }
    config.parent().map(Path::to_path_buf).ok_or_else(|| NEEDED[0].to_string())
}

/// From the index of a model in several files: which file, beside it, holds each tensor.
pub fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(|e| Error::io(index, e))?;
    let parsed: Index = serde_json::from_str(&text).map_err(|e| Error::file(index, e.to_string()))?;
    let is_beside = |file: &&String| Path::new(file.as_str()).file_name().is_some_and(|name| name == file.as_str());
    if let Some(other) = parsed.weight_map.values().find(|file| !is_beside(file)) {
        return Err(Error::file(index, format!("expected names of files beside it, got {other:?}")));
    }
    Ok(parsed.weight_map)
}

fn shards(index: &Path) -> Result<BTreeSet<String>> {
    Ok(weight_map(index)?.into_values().collect())
}

struct Download {
    name: String,
    repo: Repo,
    cache: Cache,
    api: Api,
}

impl Download {
    fn run(&self) -> Result<PathBuf> {
        let source = self.api.repo(self.repo.clone());
        let info = source.info().map_err(|error| said(&self.name, &self.repo, "", &error))?;
        let there: BTreeSet<String> = info.siblings.into_iter().map(|file| file.rfilename).collect();
        let mut files: Vec<String> = NEEDED.map(String::from).to_vec();
        files.extend(WELCOME.iter().filter(|file| there.contains(**file)).map(|file| file.to_string()));
        if there.contains(SINGLE) {
            files.push(SINGLE.into());
        } else if there.contains(INDEX) {
            files.extend(shards(&self.get(&source, INDEX)?)?);
        } else {
            let message = format!("expected {SINGLE} or {INDEX}, got a repository without safetensors");
            return Err(Error::invalid(format!("{}: {message}", self.name)));
        }
        for file in &files {
            self.get(&source, file)?;
        }
        cached(&self.cache, &self.repo)
            .map_err(|missing| Error::invalid(format!("{}: {missing} did not arrive in the cache", self.name)))
    }

    /// One file, from the cache or brought now and checked.
    fn get(&self, source: &ApiRepo, file: &str) -> Result<PathBuf> {
        if let Some(path) = self.cache.repo(self.repo.clone()).get(file) {
            return Ok(path);
        }
        eprintln!("{}: {file} …", self.name);
        let path = source.download(file).map_err(|error| said(&self.name, &self.repo, file, &error))?;
        let blob = std::fs::canonicalize(&path).map_err(|e| Error::io(&path, e))?;
        // Large files are named by their SHA-256.
        let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit()) {
            let mut digest = Sha256::new();
            let mut content = std::fs::File::open(&blob).map_err(|e| Error::io(&blob, e))?;
            std::io::copy(&mut content, &mut Writer(&mut digest)).map_err(|e| Error::io(&blob, e))?;
            let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            if found != name.to_lowercase() {
                for broken in [&path, &blob] {
                    std::fs::remove_file(broken).map_err(|e| Error::io(broken, e))?;
                }
                let message = format!("{}: {file}: expected SHA-256 {name}, got {found}; it is removed", self.name);
                return Err(Error::invalid(message));
            }
        }
        Ok(path)
    }
}

/// Feeds a digest.
struct Writer<'a>(&'a mut Sha256);

impl std::io::Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What went wrong, and what helps.
fn said(name: &str, repo: &Repo, file: &str, error: &ApiError) -> Error {
    let what = if file.is_empty() { name.to_string() } else { format!("{name}: {file}") };
    let revision = repo.revision();
    let status = match error {
        ApiError::RequestError(error) => status(error),
        ApiError::TooManyRetries(inner) => match inner.as_ref() {
            ApiError::RequestError(error) => status(error),
            _ => None,
        },
        _ => None,
    };
    let message = match status {
        Some(code @ (401 | 403)) => {
            let page = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".into());
            format!(
                "no access (status {code}): a gated or private repository wants its licence accepted at {page}/{name}, and a \
                 token of who accepted it in HF_TOKEN"
            )
        }
        Some(404) if file.is_empty() => {
            format!("neither a folder here nor a repository of the Hub at revision {revision}")
        }
        Some(404) => format!("the repository has no such file at revision {revision}"),
        Some(code) => format!("the Hub answered with status {code}"),
        None => format!(
            "{error}; without a network only what is in the cache can be used (--offline), and what has arrived of a file \
             is kept: the same command goes on"
        ),
    };
    Error::invalid(format!("{what}: {message}"))
}

fn status(error: &ureq::Error) -> Option<u16> {
    match error {
        ureq::Error::StatusCode(code) => Some(*code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_has_an_owner_and_a_name_and_is_no_folder() {
        let is = |text: &str| is_repository(Path::new(text));
        assert!(is("Qwen/Qwen3-0.6B") && is("HuggingFaceTB/SmolLM2-135M"));
        assert!(!is("src/model") && !is("./model") && !is("model") && !is("/a/b") && !is("a/b/c") && !is("../x"));
        assert!(folder(Path::new("src/model"), None).is_ok_and(|path| path == Path::new("src/model")));
    }
}
