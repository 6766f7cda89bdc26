//! `oracle_greedy`: the gist that a search with the future in sight finds on a few windows. Headroom, not a contestant.

use crate::compressor::Compressed;
use crate::data::Window;
use crate::error::Result;
use crate::eval::files::spread;
use crate::eval::intrinsic::{Evaluated, Part};
use crate::rollout::Taught;
use crate::search::{SpanSearch, best_spans};

impl Evaluated<'_> {
    /// Searches `count` of the windows, spread evenly, with the generator as reader.
    pub fn add_oracle(&mut self, count: usize, params: SpanSearch) -> Result<()> {
        let job = self.job;
        let picked = spread(job.windows.len(), count);
        if picked.is_empty() {
            return Ok(());
        }
        let windows: Vec<Window> = picked.iter().map(|&w| job.windows[w].clone()).collect();
        let taught = Taught::new(job.decoder, &windows)?;
        let reader = job.decoder.activate(job.generator, false);
        let found = best_spans(&taught, job.decoder, Some(&reader), job.budget, params, &[])?;
        let made = found.into_iter().map(|f| Compressed { ids: f.ids, kept: f.kept, identity: false }).collect();
        self.push("oracle_greedy", Part::Hindsight, picked, made)
    }
}
