//! What a search over spans reaches on a few windows: with the future in sight (`oracle_greedy`: headroom, not a contestant),
//! and on futures that the teacher imagines (`lookahead`: honest, at the cost of hundreds of readings a window; what a
//! compressor could know).

use crate::compressor::Compressed;
use crate::data::Window;
use crate::error::Result;
use crate::eval::files::spread;
use crate::eval::intrinsic::{Evaluated, Part};
use crate::rollout::{Imagined, Taught};
use crate::search::{SpanSearch, ranked};

impl Evaluated<'_> {
    /// Searches `count` of the windows, spread evenly, with the generator as reader and that many `imagined` futures.
    pub fn add_searches(&mut self, count: usize, imagined: usize, params: SpanSearch) -> Result<()> {
        let job = self.job;
        let picked = spread(job.windows.len(), count);
        if picked.is_empty() {
            return Ok(());
        }
        let windows: Vec<Window> = picked.iter().map(|&w| job.windows[w].clone()).collect();
        let reader = job.decoder.activate(job.generator, false);
        let search = |taught: &Taught| -> Result<Vec<Compressed>> {
            let found = ranked(taught, job.decoder, Some(&reader), job.budget, params, &[])?;
            let best = found.into_iter().filter_map(|gists| gists.into_iter().next());
            Ok(best.map(|f| Compressed { ids: f.ids, kept: f.kept, ..Compressed::default() }).collect())
        };
        let how = Imagined { samples: imagined, beside_true: false, run_seed: job.seed, step: 0 };
        let seen = search(&Taught::new(job.decoder, &windows)?)?;
        let imagined = search(&Taught::imagined(job.decoder, &windows, how)?)?;
        self.push("oracle_greedy", Part::Hindsight, picked.clone(), seen)?;
        self.push("lookahead", Part::Search, picked, imagined)
    }
}
