//! Search over spans, on a few windows: with the future in sight (`oracle_greedy`: headroom, not a contestant),
//! and on futures that the teacher imagines (`lookahead`: honest, at the cost of hundreds of readings a window; what a
//! compressor could know).

use crate::compressor::{Compressed, Compressor, Request};
use crate::data::Window;
use crate::error::{Error, Result};
use crate::eval::files::spread;
use crate::eval::table::{Evaluated, Standing};
use crate::model::decoder::Decoder;
use crate::model::lora::Adapter;
use crate::reading::{Imagined, Taught, request};
use crate::search::{SpanSearch, SpanShape};
use crate::tokenizer::Tokenizer;

/// A compressor that has a reader try spans. A request brings no future: it has the windows themselves, and a request's `key`
/// is the place of its window among them.
pub struct Searching<'a> {
    /// Name in tables.
    pub name: &'a str,
    /// The base.
    pub decoder: &'a Decoder,
    /// Tokenizer of the base.
    pub tokenizer: &'a Tokenizer,
    /// Adapter of the reader that tries the spans.
    pub reader: &'a Adapter,
    /// Windows with their futures.
    pub windows: &'a [Window],
    /// Futures that the teacher imagines in the true one's place; the true one, in hindsight, when absent.
    pub imagined: Option<Imagined>,
    /// Spans and how many of them.
    pub params: SpanShape,
}

impl Compressor for Searching<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn compress(&self, requests: &[Request], budget: usize) -> Result<Vec<Compressed>> {
        let mut windows = Vec::with_capacity(requests.len());
        for request in requests {
            let window = self.windows.get(request.key as usize).filter(|window| window.prefix == request.prefix);
            let stranger =
                || Error::invalid(format!("{}: expected a window whose future it has, got another", self.name));
            windows.push(window.ok_or_else(stranger)?.clone());
        }
        if windows.is_empty() || budget == 0 {
            return Ok(vec![Compressed { kept: Some(Vec::new()), ..Compressed::default() }; windows.len()]);
        }
        let taught = match self.imagined {
            None => Taught::new(self.decoder, &windows)?,
            Some(how) => Taught::imagined(self.decoder, &windows, how)?,
        };
        let reader = self.decoder.activate(self.reader, false)?;
        let (decoder, tokenizer, params) = (self.decoder, self.tokenizer, self.params);
        let found = SpanSearch { decoder, tokenizer, reader: Some(&reader), params }.ranked(&taught, budget, &[])?;
        let best = found.into_iter().filter_map(|gists| gists.into_iter().next());
        Ok(best.map(|f| Compressed { ids: f.ids, kept: f.kept, ..Compressed::default() }).collect())
    }
}

impl Evaluated<'_> {
    /// Adds a row `gold`: the evidence that states what the probes ask for, cut to the budget, where the data knows it of every
    /// window.
    pub fn add_gold(&mut self) -> Result<()> {
        let (windows, budget) = (self.job.windows, self.job.budget);
        if windows.iter().any(|window| window.evidence.is_empty()) {
            return Ok(());
        }
        let made = windows.iter().map(|window| window.evidence_within(budget));
        let made = made.map(|ids| Compressed { ids, ..Compressed::default() });
        self.push("gold", Standing::Hindsight, (0..windows.len()).collect(), made.collect())
    }

    /// Searches `count` of the windows, spread evenly, with the generator as reader: in hindsight (`oracle_greedy`), and by that
    /// many `imagined` futures (`lookahead`).
    pub fn add_searches(&mut self, count: usize, imagined: usize, params: SpanShape) -> Result<()> {
        self.add_oracle(count, params)?;
        self.add_lookahead("lookahead", count, imagined, params)
    }

    /// Searches `count` of the windows in hindsight; a row `oracle_greedy`.
    pub fn add_oracle(&mut self, count: usize, params: SpanShape) -> Result<()> {
        self.search("oracle_greedy", Standing::Hindsight, count, None, params)
    }

    /// Searches `count` of the windows by that many `imagined` futures; a row of this name.
    pub fn add_lookahead(&mut self, name: &str, count: usize, imagined: usize, params: SpanShape) -> Result<()> {
        let how =
            Imagined { samples: imagined, beside_true: false, run_seed: self.job.seed, step: 0, first_example: 0 };
        self.search(name, Standing::Search, count, Some(how), params)
    }

    fn search(
        &mut self,
        name: &str,
        standing: Standing,
        count: usize,
        imagined: Option<Imagined>,
        params: SpanShape,
    ) -> Result<()> {
        let job = self.job;
        let picked = spread(job.windows.len(), count);
        if picked.is_empty() {
            return Ok(());
        }
        let requests: Vec<Request> =
            picked.iter().map(|&w| request(&job.windows[w], job.condition, w as u64)).collect();
        let (decoder, tokenizer, reader, windows) = (job.decoder, job.tokenizer, job.generator, job.windows);
        let searching = Searching { name, decoder, tokenizer, reader, windows, imagined, params };
        let made = searching.compress(&requests, job.budget)?;
        self.push(name, standing, picked, made)
    }
}
