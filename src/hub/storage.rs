//! The cache of one repository, laid out as Python's `huggingface_hub` lays it out, so that each finds what the other left:
//!
//! ```text
//! CACHE/models--OWNER--NAME/blobs/ETAG                 the content of a file
//!                          /snapshots/COMMIT/FILE      a link to it
//!                          /refs/REVISION              the commit that a branch or tag stood for
//! CACHE/.locks/models--OWNER--NAME/ETAG.lock           held while a blob is brought
//! ```

use crate::error::{Error, Result};
use hf_hub::{Cache, CacheRepo, Repo};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

/// Contents of `CACHEDIR.TAG`, by which programs that make backups know a cache.
const CACHE_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
     # This file is a cache directory tag: see https://bford.info/cachedir/\n";

/// The cache of one repository.
pub struct Storage {
    root: PathBuf,
    repo: Repo,
    entry: CacheRepo,
    links: bool,
}

/// Lock on a blob while it is downloaded; other processes, the Python client among them, wait for it.
pub struct BlobLock {
    /// Whether another process had it first.
    pub waited: bool,
    _file: Option<File>,
}

impl Storage {
    /// The cache of `repo` under `root`; `links` says whether files of a snapshot may be links.
    pub fn new(root: PathBuf, repo: Repo, links: bool) -> Result<Self> {
        let revision = repo.revision();
        let plain = |part: Component| matches!(part, Component::Normal(_));
        let control = |c: char| c.is_control() || c == '\\';
        if revision.is_empty() || !Path::new(revision).components().all(plain) || revision.contains(control) {
            return Err(Error::invalid(format!("revision: expected a branch, a tag or a commit, got {revision:?}")));
        }
        let entry = Cache::new(root.clone()).repo(repo.clone());
        Ok(Self { root, repo, entry, links })
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.repo.revision()
    }

    /// Folder of the repository.
    pub fn path(&self) -> PathBuf {
        self.root.join(self.repo.folder_name())
    }

    /// The commit of the revision: itself where it is one, or what its ref says.
    pub fn commit(&self) -> Option<String> {
        let revision = self.revision();
        if revision.len() == 40 && revision.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
            return Some(revision.to_string());
        }
        let commit = fs::read_to_string(self.path().join("refs").join(revision)).ok()?;
        is_commit(commit.trim()).then(|| commit.trim().to_string())
    }

    /// Commits of which there is a snapshot.
    pub fn commits(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path().join("snapshots")).into_iter().flatten().filter_map(|entry| entry.ok());
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The snapshot of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.entry.pointer_path(commit)
    }

    /// A file of a snapshot, if it is there.
    pub fn file(&self, commit: &str, file: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit).join(file)).filter(|path| path.is_file())
    }

    /// Makes the folders, and writes the ref of a branch or tag.
    pub fn prepare(&self, commit: &str) -> Result<()> {
        for folder in [self.path().join("blobs"), self.snapshot(commit), self.locks()] {
            fs::create_dir_all(&folder).map_err(|e| unwritable(&folder, e))?;
        }
        let tag = self.root.join("CACHEDIR.TAG");
        if !tag.exists() {
            let _ = fs::write(&tag, CACHE_TAG); // a courtesy
        }
        if commit == self.revision() || self.commit().as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.path().join("refs").join(self.revision());
        let folder = path.parent().unwrap_or(&path);
        // Renamed into place: nobody reads half a commit.
        let written = fs::create_dir_all(folder).and_then(|()| {
            let mut file = tempfile::Builder::new().permissions(plain_permissions()).tempfile_in(folder)?;
            file.write_all(commit.as_bytes())?;
            file.persist(&path).map_err(|error| error.error)
        });
        written.map(drop).map_err(|e| unwritable(&path, e))
    }

    fn locks(&self) -> PathBuf {
        self.root.join(".locks").join(self.repo.folder_name())
    }

    /// Path of the content named `etag`.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.path().join("blobs").join(etag)
    }

    /// Path of the part of it that has arrived so far.
    pub fn partial(&self, etag: &str) -> PathBuf {
        self.path().join("blobs").join(format!("{etag}.incomplete"))
    }

    /// Keeps other processes from bringing the content named `etag`; `waiting` is called where one does already.
    pub fn lock(&self, etag: &str, waiting: impl FnOnce()) -> Result<BlobLock> {
        let path = self.locks().join(format!("{etag}.lock"));
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        // One that somebody else made can still be locked.
        let file = open.or_else(|e| File::open(&path).map_err(|_| e)).map_err(|e| unwritable(&path, e))?;
        let waited = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock().map_err(|e| Error::io(&path, e))?;
                true
            }
            // A file system without locks: what arrives is checked all the same.
            Err(TryLockError::Error(_)) => return Ok(BlobLock { waited: false, _file: None }),
        };
        Ok(BlobLock { waited, _file: Some(file) })
    }

    /// Moves a complete download to its path as a blob.
    pub fn keep(&self, etag: &str) -> Result<()> {
        let blob = self.blob(etag);
        fs::rename(self.partial(etag), &blob).map_err(|e| unwritable(&blob, e))
    }

    /// Makes the content named `etag` a file of a snapshot.
    pub fn point(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(file);
        let folder = path.parent().unwrap_or(&path);
        if path.is_file() {
            return Ok(path); // made by another just now
        }
        let made = fs::create_dir_all(folder).and_then(|()| {
            if path.symlink_metadata().is_ok() {
                fs::remove_file(&path)?; // a link to nothing
            }
            self.link(&path, file, etag)
        });
        match made {
            Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_file() => Ok(path),
            made => made.map(|()| path.clone()).map_err(|e| unwritable(&path, e)),
        }
    }

    fn link(&self, path: &Path, file: &str, etag: &str) -> std::io::Result<()> {
        if self.links {
            let up = "../".repeat(2 + file.matches('/').count());
            match std::os::unix::fs::symlink(format!("{up}blobs/{etag}"), path) {
                Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => {}
                made => return made,
            }
        }
        // No links by name here: a second name for the blob, or the blob itself.
        fs::hard_link(self.blob(etag), path).or_else(|_| fs::rename(self.blob(etag), path))
    }
}

fn plain_permissions() -> fs::Permissions {
    // What the process's mask leaves of it, as for any other file.
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

/// Whether this can be the name of a commit.
pub fn is_commit(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// A folder or file of the cache that could not be written, and what helps.
pub fn unwritable(path: &Path, error: std::io::Error) -> Error {
    let help = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "what has arrived is kept: make room, and the same command goes on"
        }
        _ => "the cache of the Hub must be a folder that can be written: HF_HOME or HF_HUB_CACHE puts it elsewhere",
    };
    Error::file(path, format!("{error}; {help}"))
}
