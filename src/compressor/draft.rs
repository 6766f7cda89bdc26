//! The greedy continuation that the bare base writes after everything the compressor may see: a guess at the future in
//! place of the past. Under `condition = "local"` a policy could do the same, so it must be among its rivals.

use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::config::parts::Sampling;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::read::Stem;
use crate::model::write::{Continuation, continuations};

const ROWS_AT_ONCE: usize = 32;

/// Greedy continuation of prefix, local window and query by the bare base.
pub struct BaseDraft<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// Ids that a gist may not hold.
    pub forbidden: &'a [u32],
}

impl Compressor for BaseDraft<'_> {
    fn name(&self) -> &str {
        "draft"
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let mut all = Vec::with_capacity(requests.len());
        let positions = self.decoder.room();
        let budget = budget.min(positions / 2);
        for batch in requests.chunks(ROWS_AT_ONCE) {
            let mut seen: Vec<Vec<u32>> = batch.iter().map(|r| [r.prefix, r.local, r.query].concat()).collect();
            // Of what is too long for the base, the end.
            seen.iter_mut().for_each(|ids| drop(ids.drain(..ids.len().saturating_sub(positions - budget))));
            let mut written = vec![Compressed::default(); batch.len()];
            let rows: Vec<usize> = (0..batch.len()).filter(|&r| budget > 0 && !seen[r].is_empty()).collect();
            if !rows.is_empty() {
                let prompts: Vec<Vec<u32>> = rows.iter().map(|&r| seen[r].clone()).collect();
                let prompts = Stem::read(self.decoder, None, &prompts)?;
                let (how, forbidden) = (&Sampling::greedy(), self.forbidden);
                let wanted = Continuation { samples: 1, tokens: budget, how, forbidden };
                let ids = continuations(self.decoder, &prompts, wanted, |_, _| vec![0.0; budget])?;
                let ids: Vec<i64> = Vec::try_from(&ids.reshape([-1]).to_device(tch::Device::Cpu))?;
                for (ids, &row) in ids.chunks(budget).zip(&rows) {
                    written[row].ids = ids.iter().map(|&id| id as u32).collect();
                }
            }
            all.extend(written);
        }
        Ok(all)
    }
}
