//! Models by name: a local folder, or a repository of the Hugging Face Hub (`owner/name`), whose files are kept in the cache
//! that other tools use too. A repository that is whole in the cache is used as it is, without the network: what a run reads
//! does not change under it, and `model.revision` pins it for others. The variables of the environment mean what they mean to
//! Python's `huggingface_hub` (`settings`), and the cache is laid out as it lays it out (`storage`).

mod client;
pub(crate) mod failure;
pub(crate) mod http;
pub(crate) mod settings;
mod storage;
mod transfer;
mod trust;

use crate::error::{Error, Result};
use crate::text_file::read_text;
use client::Client;
pub(crate) use client::http_client;
use failure::{Asked, Failure, Patience};
use hf_hub::{Repo, RepoType};
use serde::Deserialize;
use settings::Settings;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use storage::Storage;
use transfer::Transfer;

/// Index of a model in several files.
pub const INDEX: &str = "model.safetensors.index.json";
/// A model in one.
pub const SINGLE: &str = "model.safetensors";
/// Files that every model must have beside its weights.
const NEEDED: [&str; 2] = ["config.json", "tokenizer.json"];
/// Files that are fetched if the repository has them.
const WELCOME: [&str; 5] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "1_Pooling/config.json",
];
const MAIN: &str = "main";
/// Limit of the list of a repository's files, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// Whether a path is no folder here but could name a repository.
pub fn is_repository(path: &Path) -> bool {
    let part = |text: &str| {
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        text.chars().all(safe) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    let named = path.to_str().and_then(|text| text.split_once('/')).is_some_and(|(a, b)| part(a) && part(b));
    // A GGUF file that is missing is a file.
    named && !path.exists() && path.extension().is_none_or(|end| !end.eq_ignore_ascii_case("gguf"))
}

/// The folder of a model: the path itself, or what the cache has of the repository.
pub fn folder(path: &Path, revision: Option<&str>) -> Result<PathBuf> {
    if !is_repository(path) {
        return Ok(path.to_path_buf());
    }
    let storage = storage(path, revision, &Settings::of_process())?;
    cached(&storage).map_err(|missing| {
        let (name, wanted, cache) = (path.display(), storage.revision(), storage.path().display().to_string());
        let pinned = revision.map_or(String::new(), |revision| format!(" --revision {revision}"));
        let commits = storage.commits();
        let others = match storage.commit() {
            None if !commits.is_empty() => format!("; commits that are there: {}", commits.join(", ")),
            _ => String::new(),
        };
        Error::invalid(format!(
            "{name}: no such folder, and of the repository at revision {wanted} the cache lacks {missing} ({cache}{others}); \
             `gist fetch {name}{pinned}` brings it"
        ))
    })
}

/// The folder of a model, after bringing what the cache lacks of its repository; with `offline` it must be there.
pub fn fetch(path: &Path, revision: Option<&str>, offline: bool) -> Result<PathBuf> {
    let settings = Settings::of_process();
    if !is_repository(path) || offline || settings.offline() {
        return folder(path, revision);
    }
    let storage = storage(path, revision, &settings)?;
    if let Ok(folder) = cached(&storage) {
        return Ok(folder);
    }
    let client = Client::new(&settings)?;
    Model { name: path.display().to_string(), storage, client, progress: settings.progress() }.bring()
}

fn storage(path: &Path, revision: Option<&str>, settings: &Settings) -> Result<Storage> {
    let revision = revision.unwrap_or(MAIN).to_string();
    let repo = Repo::with_revision(path.display().to_string(), RepoType::Model, revision);
    Storage::new(settings.cache()?, repo, settings.links())
}

/// The snapshot of a repository that is whole, or the first file that it lacks.
fn cached(storage: &Storage) -> std::result::Result<PathBuf, String> {
    let commit = storage.commit().ok_or(NEEDED[0])?;
    let find = |file: &str| storage.file(&commit, file).ok_or_else(|| file.to_string());
    NEEDED.iter().try_for_each(|file| find(file).map(drop))?;
    if find(SINGLE).is_err() {
        let index = find(INDEX).map_err(|_| SINGLE)?;
        for shard in shards(&index).map_err(|error| error.to_string())? {
            find(&shard)?;
        }
    }
    Ok(storage.snapshot(&commit))
}

/// Name of the file, beside the index of a model in several files, that holds each tensor.
pub fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let parsed: Index = serde_json::from_str(&read_text(index)?).map_err(|e| Error::file(index, e.to_string()))?;
    let is_beside = |file: &&String| Path::new(file.as_str()).file_name().is_some_and(|name| name == file.as_str());
    if let Some(other) = parsed.weight_map.values().find(|file| !is_beside(file)) {
        return Err(Error::file(index, format!("expected names of files beside it, got {other:?}")));
    }
    Ok(parsed.weight_map)
}

fn shards(index: &Path) -> Result<BTreeSet<String>> {
    Ok(weight_map(index)?.into_values().collect())
}

/// A model that is brought from the Hub.
struct Model {
    name: String,
    storage: Storage,
    client: Client,
    progress: bool,
}

/// The Hub's list of a revision's files.
#[derive(Deserialize)]
struct List {
    sha: String,
    siblings: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    rfilename: String,
}

impl Model {
    fn bring(&self) -> Result<PathBuf> {
        let list = self.list()?;
        self.storage.prepare(&list.sha)?;
        let there: BTreeSet<&str> = list.siblings.iter().map(|file| file.rfilename.as_str()).collect();
        let (name, storage) = (self.name.as_str(), &self.storage);
        let transfer = Transfer { client: &self.client, storage, name, commit: &list.sha, progress: self.progress };
        let is_there = |file: &&&str| there.contains(**file);
        // Weights come last: where they are, the rest is.
        for file in NEEDED.iter().chain(WELCOME.iter().filter(is_there)) {
            transfer.fetch(file)?;
        }
        if there.contains(SINGLE) {
            transfer.fetch(SINGLE)?;
        } else if there.contains(INDEX) {
            for shard in shards(&transfer.fetch(INDEX)?)? {
                transfer.fetch(&shard)?;
            }
        } else {
            let message = format!("expected {SINGLE} or {INDEX}, got a repository without safetensors");
            return Err(Error::invalid(format!("{name}: {message}")));
        }
        cached(storage).map_err(|missing| Error::invalid(format!("{name}: fetched, but the cache has no {missing}")))
    }

    fn list(&self) -> Result<List> {
        let (name, revision) = (self.name.as_str(), self.storage.revision());
        let (page, token) = (self.client.page(name), self.client.token_origin());
        let asked = Asked { name, revision, file: None, page, token };
        let parts = || ["api", "models"].into_iter().chain(name.split('/'));
        let mut patience = Patience::default();
        loop {
            let failure = match self.listed(parts().chain(["revision", revision])) {
                Ok(list) => return Ok(list),
                Err(failure) => failure,
            };
            // Servers that do not say so: is it the revision that is not there, or the repository?
            let is_vague =
                matches!(&failure, Failure::Refused(refusal) if refusal.status == 404 && refusal.code.is_none());
            if is_vague && self.listed(parts()).is_ok() {
                return Err(Error::invalid(format!("{name}: the repository has no revision {revision}")));
            }
            patience.wait(failure, name).map_err(|failure| asked.explain(failure))?;
        }
    }

    fn listed<'a>(&self, parts: impl Iterator<Item = &'a str>) -> std::result::Result<List, Failure> {
        let url = self.client.address(parts);
        let (mut text, host) = (Vec::new(), http::host(&url));
        let body = self.client.get(&url, None)?.body()?;
        body.take(MAX_LIST_BYTES).read_to_end(&mut text).map_err(|e| Failure::Broken(format!("{host}: {e}")))?;
        let list: List = serde_json::from_slice(&text)
            .map_err(|e| Failure::Final(format!("{host}: the answer is no list of a repository's files: {e}")))?;
        if !storage::is_commit(&list.sha) {
            return Err(Failure::Final(format!("{host}: expected the name of a commit, got {:?}", list.sha)));
        }
        Ok(list)
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
