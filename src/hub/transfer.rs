//! Downloads one file of a repository into the cache: bytes that are there are not requested again, a cut connection is
//! resumed where it broke, and the content is checked against the hash that names it.

use crate::error::{Error, Result};
use crate::hub::client::{Answer, Client, Range};
use crate::hub::failure::{Asked, Failure, Patience};
use crate::hub::http::host;
use crate::hub::storage::{Storage, unwritable};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Url;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CHUNK_BYTES: usize = 1 << 16;
/// Files from this size on have a progress bar.
const LARGE_BYTES: u64 = 1 << 20;
const PLAIN_EVERY: Duration = Duration::from_secs(30);

/// Downloads files of one commit.
pub struct Transfer<'a> {
    /// Client of the Hub.
    pub client: &'a Client,
    /// Cache of the repository.
    pub storage: &'a Storage,
    /// Repository, `owner/name`.
    pub name: &'a str,
    /// The commit.
    pub commit: &'a str,
    /// Whether progress is shown.
    pub progress: bool,
}

impl Transfer<'_> {
    /// The path of a file of the repository in the cache, brought now unless it is there.
    pub fn fetch(&self, file: &str) -> Result<PathBuf> {
        if let Some(path) = self.storage.file(self.commit, file) {
            return Ok(path);
        }
        let asked = Asked {
            name: self.name,
            revision: self.storage.revision(),
            file: Some(file),
            page: self.client.page(self.name),
            token: self.client.token_origin(),
        };
        let url = self.client.file(self.name, self.commit, file);
        self.bring(file, &url, &asked).map_err(|failure| asked.explain(failure))
    }

    fn bring(&self, file: &str, url: &Url, asked: &Asked) -> std::result::Result<PathBuf, Failure> {
        let (what, mut patience) = (asked.what(), Patience::default());
        let first = loop {
            match self.client.get(url, None) {
                Ok(answer) => break answer,
                Err(failure) => patience.wait(failure, &what)?,
            }
        };
        let host = host(first.response.url());
        if let Some(other) = first.commit.as_deref().filter(|commit| *commit != self.commit) {
            return Err(Failure::Final(format!(
                "{host}: expected the file of commit {}, got that of {other}",
                self.commit
            )));
        }
        let etag = match first.etag.as_deref() {
            Some(etag) if is_hash(etag) => etag.to_string(),
            // It may be the same for another file.
            Some(etag) if !etag.is_empty() => format!("etag-{}", hex(Sha256::digest(format!("{url} {etag}")))),
            _ => {
                let message = format!("{host}: the answer has no ETag: this is no Hub, and no mirror of it");
                return Err(Failure::Final(message));
            }
        };
        let lock =
            self.storage.lock(&etag, || eprintln!("{what}: another process is fetching this file; waiting for it"))?;
        if !self.storage.blob(&etag).is_file() {
            let (size, first) = (first.size, Some(first).filter(|_| !lock.waited));
            let part = Part::open(self.storage.partial(&etag), size, is_hash(&etag))?;
            Download { client: self.client, url, what: &what, etag: &etag, progress: self.progress, part, patience }
                .run(first)?;
            self.storage.keep(&etag)?;
        }
        Ok(self.storage.point(self.commit, file, &etag)?)
    }
}

/// The download of one file.
struct Download<'a> {
    client: &'a Client,
    url: &'a Url,
    what: &'a str,
    etag: &'a str,
    progress: bool,
    part: Part,
    patience: Patience,
}

impl Download<'_> {
    /// Brings the rest of the file and checks the whole; `first` is an answer to the question for all of it.
    fn run(mut self, first: Option<Answer>) -> std::result::Result<(), Failure> {
        let mut first = first.filter(|_| self.part.bytes == 0);
        let size = self.part.size.map_or(String::new(), |size| format!(" ({})", HumanBytes(size)));
        match self.part.bytes {
            0 => eprintln!("{}{size} …", self.what),
            bytes => eprintln!("{}{size} goes on after {} …", self.what, HumanBytes(bytes)),
        }
        let mut may_begin_again = true;
        loop {
            while let Err(failure) = self.attempt(first.take()) {
                self.patience.wait(failure, self.what)?;
            }
            match check(&self.part.path, self.etag)? {
                None if self.part.checked => return Ok(()),
                None => {
                    eprintln!("{}: the server gives no hash for this file, so it is not checked", self.what);
                    return Ok(());
                }
                // Of two halves one may be from elsewhere.
                Some(_) if self.part.in_parts && may_begin_again => {
                    may_begin_again = false;
                    eprintln!(
                        "{}: the parts do not have the expected hash together; fetching it again from the beginning …",
                        self.what
                    );
                    self.part.clear()?;
                }
                Some(message) => {
                    self.part.remove()?;
                    return Err(Failure::Final(format!("{message}; it is removed")));
                }
            }
        }
    }

    /// Reads one body to its end.
    fn attempt(&mut self, first: Option<Answer>) -> std::result::Result<(), Failure> {
        let part = &mut self.part;
        if part.bytes > 0 && part.size == Some(part.bytes) {
            return Ok(());
        }
        let answer = match first {
            Some(answer) => answer,
            None => match self.client.get(self.url, part.rest().as_ref()) {
                Err(Failure::Refused(refusal)) if refusal.status == 416 && part.bytes > 0 => {
                    part.clear()?;
                    self.client.get(self.url, None)?
                }
                answer => answer?,
            },
        };
        let (host, encoded) = (host(answer.response.url()), answer.is_encoded());
        match answer.begins_at() {
            Some(0) => part.clear()?,
            Some(place) if place == part.bytes && !encoded => part.in_parts = true,
            _ => {
                part.clear()?;
                return Err(Failure::Broken(format!("{host}: sent another part of the file than was asked for")));
            }
        }
        part.etag = answer.strong_etag();
        part.size = part.size.or(answer.size);
        let bar = Bar::new(self.what, part, self.progress);
        let read = read_into(part, answer.body()?, &bar, &mut self.patience);
        match (read, part.size) {
            (Err(ReadFailure::Disk(e)), _) => Err(unwritable(&part.path, e).into()),
            (Err(ReadFailure::Network(e)), _) => {
                let said = format!("{host}: the connection broke after {}: {e}", HumanBytes(part.bytes));
                if encoded {
                    part.clear()?; // nothing says where to go on
                }
                Err(Failure::Broken(said))
            }
            (Ok(()), Some(size)) if part.bytes < size => {
                Err(Failure::Broken(format!("{host}: the body ended after {} of {size} bytes", part.bytes)))
            }
            (Ok(()), Some(size)) if part.bytes > size => {
                let message = format!("{host}: expected {size} bytes, got {}", part.bytes);
                part.remove()?;
                Err(Failure::Final(message))
            }
            (Ok(()), _) => Ok(part.file.sync_all().map_err(|e| unwritable(&part.path, e))?),
        }
    }
}

enum ReadFailure {
    Network(std::io::Error),
    Disk(std::io::Error),
}

/// Writes a body behind what is there.
fn read_into(
    part: &mut Part,
    mut body: Box<dyn Read>,
    bar: &Bar,
    patience: &mut Patience,
) -> std::result::Result<(), ReadFailure> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = match body.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(ReadFailure::Network(e)),
        };
        part.file.write_all(&chunk[..count]).map_err(ReadFailure::Disk)?;
        part.bytes += count as u64;
        if part.bytes > part.most {
            part.most = part.bytes;
            patience.renew();
        }
        bar.at(part.bytes);
    }
}

/// The part of a file that has arrived.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
    size: Option<u64>,
    /// Most bytes that were ever here: more of them is progress.
    most: u64,
    /// Whether the name is a hash of the content, so that parts of several bodies may be joined and are checked.
    checked: bool,
    /// Strong ETag of the body that the bytes are from.
    etag: Option<String>,
    /// Whether the bytes are from several bodies.
    in_parts: bool,
}

impl Part {
    fn open(path: PathBuf, size: Option<u64>, checked: bool) -> Result<Self> {
        let open = OpenOptions::new().create(true).append(true).open(&path);
        let file = open.map_err(|e| unwritable(&path, e))?;
        let bytes = file.metadata().map_err(|e| Error::io(&path, e))?.len();
        let mut part = Self { path, file, bytes, size, most: bytes, checked, etag: None, in_parts: bytes > 0 };
        if !checked || size.is_some_and(|size| bytes > size) {
            part.clear()?;
        }
        warn_of_space(&part);
        Ok(part)
    }

    /// The range that is still wanted; none where all of it is.
    fn rest(&self) -> Option<Range> {
        let of = if self.checked { None } else { self.etag.clone() };
        (self.bytes > 0 && (self.checked || of.is_some())).then_some(Range { from: self.bytes, of })
    }

    fn clear(&mut self) -> Result<()> {
        if self.bytes > 0 {
            self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(|e| unwritable(&self.path, e))?;
        }
        (self.bytes, self.in_parts, self.etag) = (0, false, None);
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|e| unwritable(&self.path, e))
    }
}

fn warn_of_space(part: &Part) {
    let Ok(disk) = rustix::fs::fstatvfs(&part.file) else { return };
    let (free, wanted) =
        (disk.f_bavail.saturating_mul(disk.f_frsize), part.size.map_or(0, |size| size - part.bytes.min(size)));
    if free < wanted {
        let (free, wanted) = (HumanBytes(free), HumanBytes(wanted));
        eprintln!(
            "warning: {}: {wanted} are still to be fetched, but only {free} are free on this disk",
            part.path.display()
        );
    }
}

/// Whether an ETag is the SHA-256 of a large file, or the SHA-1 that git gives a small one.
fn is_hash(etag: &str) -> bool {
    matches!(etag.len(), 40 | 64) && etag.chars().all(|c| c.is_ascii_hexdigit())
}

/// Compares a file with the hash that names it, and says what differs. Git takes the hash of a small file with its length
/// before it; mirrors are met that take it of the content alone.
fn check(path: &Path, etag: &str) -> Result<Option<String>> {
    if !is_hash(etag) {
        return Ok(None);
    }
    let failed = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(failed)?;
    let expected = etag.to_lowercase();
    if etag.len() == 64 {
        let found = hash(Sha256::new(), &mut file).map_err(failed)?;
        return Ok((found != expected).then(|| format!("expected SHA-256 {expected}, got {found}")));
    }
    let length = file.metadata().map_err(failed)?.len();
    let found = hash(Sha1::new().chain_update(format!("blob {length}\0")), &mut file).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let fits = found == expected || hash(Sha1::new(), &mut file).map_err(failed)? == expected;
    Ok((!fits).then(|| format!("expected SHA-1 {expected} (of git's blob), got {found}")))
}

fn hash<D: Digest>(mut digest: D, content: &mut impl Read) -> std::io::Result<String> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match content.read(&mut chunk)? {
            0 => return Ok(hex(digest.finalize())),
            count => digest.update(&chunk[..count]),
        }
    }
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Progress of a large file: a bar with speed and time to come on a terminal, a line now and then elsewhere.
struct Bar {
    bar: ProgressBar,
    plain: Option<(String, std::cell::Cell<Instant>)>,
}

impl Bar {
    fn new(what: &str, part: &Part, wanted: bool) -> Self {
        let is_shown = wanted && part.size.is_none_or(|size| size >= LARGE_BYTES);
        let is_drawn = is_shown && std::io::stderr().is_terminal();
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(part.size, target);
        let template = match part.size {
            Some(_) => "{bar:30} {bytes}/{total_bytes} [{elapsed_precise} · {bytes_per_sec} · ETA {eta_precise}]",
            None => "{spinner} {bytes} [{elapsed_precise} · {bytes_per_sec}]",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_position(part.bytes);
        bar.reset_eta();
        let plain = (is_shown && !is_drawn).then(|| (what.to_string(), std::cell::Cell::new(Instant::now())));
        Self { bar, plain }
    }

    fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
        if let Some((what, printed)) = self.plain.as_ref().filter(|(_, printed)| printed.get().elapsed() > PLAIN_EVERY)
        {
            printed.set(Instant::now());
            let (eta, of) = (self.bar.eta().as_secs(), self.bar.length().map(HumanBytes));
            let of = of.map_or(String::new(), |size| format!(" of {size}, ETA {}:{:02}", eta / 60, eta % 60));
            eprintln!("{what}: {}{of}", HumanBytes(bytes));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hashes by `printf hello | sha256sum`, `| git hash-object --stdin` and `| sha1sum`.
    #[test]
    fn a_file_is_checked_by_the_hash_that_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello").unwrap();
        let wrong = |etag: &str| check(file.path(), etag).unwrap();
        assert_eq!(wrong("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"), None);
        assert_eq!(wrong("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"), None);
        assert_eq!(wrong("aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"), None);
        assert!(wrong(&"0".repeat(64)).is_some_and(|said| said.starts_with("expected SHA-256 0000")));
        assert!(wrong(&"0".repeat(40)).is_some_and(|said| said.contains("got b6fc4c620b67")));
        assert_eq!(wrong("5f3-62ab"), None);
    }
}
