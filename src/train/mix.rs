//! Contexts of a generator update: current gists, nothing, extractive gists of any size, stale gists, so that it neither
//! forgets to read nor gets used to one dialect.

use crate::compressor::actions::Trajectory;
use crate::config::train::GeneratorConfig;
use crate::data::Window;
use crate::error::Result;
use crate::reading::reader_context;
use crate::rng::{self, Stream};
use crate::tokenizer::{Decoded, Tokenizer};
use rand::Rng;

/// Source of a context in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextSource {
    /// A gist of this step's groups.
    Current,
    /// A gist of the stale compressor.
    Stale,
    /// Tokens of the prefix.
    Extractive,
    /// An empty context.
    Empty,
}

/// Names an update's draws.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Seed of the run.
    pub run_seed: u64,
    /// Step.
    pub step: u64,
    /// Windows before these within the step.
    pub first_example: usize,
}

impl Draw {
    fn at(self, window: usize, row: usize) -> rand_chacha::ChaCha8Rng {
        rng::rng(self.run_seed, Stream::Mix, self.step, (self.first_example + window) as u64, row as u64)
    }
}

/// Settings for mixing the contexts of an update.
#[derive(Clone, Copy)]
pub struct Mix<'a> {
    /// Shares of the sources.
    pub shares: &'a GeneratorConfig,
    /// Cap of a gist, in tokens.
    pub budget: usize,
    /// V, the size of the base's vocabulary, behind which the control tokens are.
    pub vocabulary: i64,
    /// The base's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Coordinates of the update's draws.
    pub draw: Draw,
}

impl Mix<'_> {
    /// For each window, the sources of its contexts.
    pub fn plan(&self, windows: usize) -> Vec<Vec<ContextSource>> {
        let GeneratorConfig { gists_per_window, current, stale, extractive, .. } = *self.shares;
        let pick = |share: f64| match share {
            s if s < current => ContextSource::Current,
            s if s < current + stale => ContextSource::Stale,
            s if s < current + stale + extractive => ContextSource::Extractive,
            _ => ContextSource::Empty,
        };
        let row = |w| (0..gists_per_window).map(|r| pick(rng::uniform(&mut self.draw.at(w, r)))).collect();
        (0..windows).map(row).collect()
    }

    /// The contexts of a plan: (window, ids before its local window). `stale` holds a gist for every window whose plan asks
    /// for one.
    pub fn contexts(
        &self,
        windows: &[Window],
        plan: &[Vec<ContextSource>],
        groups: &[&[Trajectory]],
        stale: &[Vec<u32>],
    ) -> Result<Vec<(usize, Vec<u32>)>> {
        let make = |w: usize, row: usize, source: ContextSource| -> Result<Vec<u32>> {
            let mut rng = self.draw.at(w, row);
            let _ = rng::uniform(&mut rng); // the plan's draw
            Ok(match source {
                ContextSource::Current => groups[w][rng::below(&mut rng, groups[w].len())].ids.clone(),
                ContextSource::Stale => stale[w].clone(),
                ContextSource::Extractive => {
                    let prefix = &windows[w].prefix;
                    extractive(prefix, &self.tokenizer.read(prefix)?, self.budget, &mut rng)
                }
                ContextSource::Empty => Vec::new(),
            })
        };
        let all = plan.iter().enumerate();
        let all = all.flat_map(|(w, sources)| sources.iter().enumerate().map(move |(r, s)| (w, r, *s)));
        all.map(|(w, r, source)| Ok((w, reader_context(&make(w, r, source)?, true, self.vocabulary)))).collect()
    }
}

/// Recent tokens, or two random spans, of a random size up to the budget, less the characters that they cut.
pub fn extractive(prefix: &[u32], decoded: &Decoded, budget: usize, draw: &mut impl Rng) -> Vec<u32> {
    let size = (1 + rng::below(draw, budget)).min(prefix.len());
    if rng::uniform(draw) < 0.5 {
        return prefix[decoded.inner(&(prefix.len() - size..prefix.len()))].to_vec();
    }
    let half = size.div_ceil(2);
    let mut starts = [half, size - half].map(|len| (rng::below(draw, prefix.len() - len + 1), len));
    starts.sort_unstable();
    starts.iter().flat_map(|&(start, len)| prefix[decoded.inner(&(start..start + len))].iter().copied()).collect()
}

/// One to four spans of like length anywhere in the prefix, in its order, that fill the budget, less the characters that they
/// cut.
pub fn random_spans(prefix: &[u32], decoded: &Decoded, budget: usize, draw: &mut impl Rng) -> Vec<u32> {
    let size = budget.min(prefix.len());
    let count = (1 + rng::below(draw, MOST_SPANS)).min(size);
    // Where each span would begin if the spans before it had no length.
    let mut gaps: Vec<usize> = (0..count).map(|_| rng::below(draw, prefix.len() - size + 1)).collect();
    gaps.sort_unstable();
    let edge = |span: usize| size * span / count;
    let span = |(i, gap): (usize, &usize)| decoded.inner(&(gap + edge(i)..gap + edge(i + 1)));
    gaps.iter().enumerate().map(span).flat_map(|span| prefix[span].iter().copied()).collect()
}

const MOST_SPANS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extractive_gists_stay_within_budget_and_in_the_prefix() {
        let prefix: Vec<u32> = (0..40).collect();
        let mut draw = rng::rng(0, Stream::Mix, 0, 0, 0);
        for _ in 0..500 {
            let gist = extractive(&prefix, &Decoded::of(&["x"; 40]), 10, &mut draw);
            assert!(!gist.is_empty() && gist.len() <= 10);
            assert!(gist.iter().all(|id| prefix.contains(id)));
        }
    }

    #[test]
    fn spans_leave_out_the_characters_that_they_cut() {
        // Ten characters of three tokens each.
        let (prefix, text) = ((0..30).collect::<Vec<u32>>(), "東".repeat(10));
        let decoded = Decoded::of(&text.as_bytes().chunks(1).collect::<Vec<_>>());
        let mut draw = rng::rng(0, Stream::Mix, 0, 0, 0);
        for _ in 0..500 {
            for gist in [extractive(&prefix, &decoded, 10, &mut draw), random_spans(&prefix, &decoded, 10, &mut draw)] {
                assert!(gist.len() <= 10 && gist.chunks(3).all(|c| c[0] % 3 == 0 && c[2] == c[0] + 2), "{gist:?}");
            }
        }
    }

    #[test]
    fn random_spans_fill_the_budget_in_order() {
        let mut draw = rng::rng(0, Stream::Mix, 0, 0, 0);
        let mut jumps = [0; MOST_SPANS];
        for length in [3, 10, 11, 40] {
            let prefix: Vec<u32> = (0..length).collect();
            let decoded = Decoded::of(&vec!["x"; prefix.len()]);
            for _ in 0..500 {
                let gist = random_spans(&prefix, &decoded, 10, &mut draw);
                assert_eq!(gist.len(), prefix.len().min(10));
                assert!(gist.windows(2).all(|pair| pair[0] < pair[1]), "{gist:?}");
                jumps[gist.windows(2).filter(|pair| pair[1] != pair[0] + 1).count()] += 1;
            }
        }
        assert!(jumps.iter().all(|&n| n > 50), "{jumps:?}");
    }
}
