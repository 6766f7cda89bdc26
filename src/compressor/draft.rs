//! The greedy continuation that the bare base writes after everything the compressor may see: a guess at the future in
//! place of the past. Under `condition = "local"` a policy could do the same, so it must be among its rivals.

use crate::compressor::contract::{Compressed, Compressor, Request};
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::write::greedy;

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
        let positions = self.decoder.room();
        let budget = budget.min(positions / 2);
        let (mut rows, mut prompts) = (Vec::new(), Vec::new());
        for (row, request) in requests.iter().enumerate() {
            let mut seen = [request.prefix, request.local, request.query].concat();
            // Of what is too long for the base, the end.
            seen.drain(..seen.len().saturating_sub(positions - budget));
            if !seen.is_empty() {
                rows.push(row);
                prompts.push(seen);
            }
        }
        let mut written = vec![Compressed::default(); requests.len()];
        for (row, ids) in rows.into_iter().zip(greedy(self.decoder, &prompts, budget, self.forbidden)?) {
            written[row].ids = ids;
        }
        Ok(written)
    }
}
