//! Two compressors in a row, such as extraction and then a gist: the first keeps a few budgets' worth of a prefix, the second
//! compresses that to the budget.

use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::compressor::controls::check_count;
use crate::error::Result;

/// Tokens that the first may keep, in budgets.
const FIRST: usize = 4;

/// `first`, then `second` on its output.
pub struct Chain<'a> {
    name: String,
    first: Box<dyn Compressor + 'a>,
    second: Box<dyn Compressor + 'a>,
}

impl<'a> Chain<'a> {
    /// Named `first+second`.
    pub fn new(first: Box<dyn Compressor + 'a>, second: Box<dyn Compressor + 'a>) -> Self {
        Self { name: format!("{}+{}", first.name(), second.name()), first, second }
    }
}

impl Compressor for Chain<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn reads_at_once(&self, budget: usize) -> Option<usize> {
        self.first.reads_at_once(budget.saturating_mul(FIRST))
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let firsts = self.first.compress(requests, budget.saturating_mul(FIRST))?;
        check_count(self.first.name(), requests.len(), firsts.len())?;
        let shorter: Vec<Request> =
            requests.iter().zip(&firsts).map(|(request, first)| Request { prefix: &first.ids, ..*request }).collect();
        let seconds = self.second.compress(&shorter, budget)?;
        check_count(self.second.name(), requests.len(), seconds.len())?;
        // Positions in the first's output become positions in the prefix, where both extract; scores are of another text.
        let merged = seconds.into_iter().zip(firsts).map(|(second, first)| {
            let places = |kept: Vec<usize>| Some(kept.into_iter().map(|at| first.kept.as_ref()?.get(at).copied()));
            let kept = second.kept.and_then(|kept| places(kept)?.collect());
            Compressed { ids: second.ids, kept, joined: second.joined, ..Compressed::default() }
        });
        Ok(merged.collect())
    }
}
