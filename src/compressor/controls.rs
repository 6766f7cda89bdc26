//! Leak controls, made from another compressor: the share of the gap that they close was not carried by the right gist. And
//! a memory, so that controls need not compress again.

use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::data::Window;
use crate::error::{Error, Result};
use crate::rng::{self, Stream};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Remembers the result of the inner compressor for each request.
pub struct Memory<'a> {
    inner: &'a dyn Compressor,
    made: RefCell<BTreeMap<Key, Compressed>>,
}

type Key = (u64, usize, [Vec<u32>; 3]);

fn key(request: &Request, budget: usize) -> Key {
    (request.key, budget, [request.prefix, request.local, request.query].map(<[u32]>::to_vec))
}

impl<'a> Memory<'a> {
    /// Remembers nothing yet.
    pub fn new(inner: &'a dyn Compressor) -> Self {
        Self { inner, made: RefCell::default() }
    }
}

impl Compressor for Memory<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let missing: Vec<Request> =
            requests.iter().filter(|r| !self.made.borrow().contains_key(&key(r, budget))).copied().collect();
        if !missing.is_empty() {
            let made = self.inner.compress(&missing, budget)?;
            check_count(self.inner.name(), missing.len(), made.len())?;
            self.made.borrow_mut().extend(missing.iter().map(|r| key(r, budget)).zip(made));
        }
        let made = self.made.borrow();
        Ok(requests.iter().filter_map(|r| made.get(&key(r, budget)).cloned()).collect())
    }
}

/// Fails unless a compressor gave one result a request.
pub fn check_count(name: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::shape(format!("results of compressor `{name}`"), expected, got))
}

/// Gives each window the gist of a window of another document.
pub struct OtherDocument<'a> {
    inner: &'a dyn Compressor,
    donors: Vec<usize>,
}

impl<'a> OtherDocument<'a> {
    /// `donors[i]` is the index of the request whose gist request `i` gets; see [`donors`].
    pub fn new(inner: &'a dyn Compressor, donors: Vec<usize>) -> Self {
        Self { inner, donors }
    }
}

impl Compressor for OtherDocument<'_> {
    fn name(&self) -> &str {
        "other_document"
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        if requests.len() != self.donors.len() {
            return Err(Error::shape("requests of `other_document`", self.donors.len(), requests.len()));
        }
        let made = self.inner.compress(requests, budget)?;
        check_count(self.inner.name(), requests.len(), made.len())?;
        let take = |&donor: &usize| {
            made.get(donor).map(|c| Compressed { kept: None, ..c.clone() }).ok_or_else(|| {
                Error::shape("donor of `other_document`", format!("an index below {}", made.len()), donor)
            })
        };
        self.donors.iter().map(take).collect()
    }
}

/// A permutation of the windows that gives each a donor of another document; an error when one document holds more than
/// half of the windows.
pub fn donors(windows: &[Window], seed: u64) -> Result<Vec<usize>> {
    let n = windows.len();
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for window in windows {
        *sizes.entry(window.document).or_default() += 1;
    }
    let largest = sizes.values().copied().max().unwrap_or(0);
    if 2 * largest > n {
        let expected = format!("at most half of the {n} windows in one document");
        return Err(Error::shape("windows for `other_document`", expected, largest));
    }
    let mut draw = rng::rng(seed, Stream::Baseline, 2, 0, 0);
    let mut order = rng::choose(&mut draw, n, n);
    order.sort_by_key(|&w| windows[w].document);
    // Blocks of one document are at most `largest` long, so that far ahead lies another document.
    let mut donors = vec![0; n];
    for (i, &window) in order.iter().enumerate() {
        donors[window] = order[(i + largest) % n];
    }
    Ok(donors)
}

/// The inner compressor's tokens in random order.
pub struct Shuffled<'a> {
    /// Compressor whose tokens are shuffled.
    pub inner: &'a dyn Compressor,
    /// Seed of the order; each window has its own.
    pub seed: u64,
}

impl Compressor for Shuffled<'_> {
    fn name(&self) -> &str {
        "shuffled"
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let made = self.inner.compress(requests, budget)?;
        let mix = |(request, c): (&Request, Compressed)| {
            let mut draw = rng::rng(self.seed, Stream::Baseline, 1, request.key, 0);
            let order = rng::choose(&mut draw, c.ids.len(), c.ids.len());
            let ids = order.into_iter().map(|i| c.ids[i]).collect();
            Compressed { ids, identity: c.identity, joined: c.joined, ..Compressed::default() }
        };
        Ok(requests.iter().zip(made).map(mix).collect())
    }
}
