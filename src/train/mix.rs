//! What a generator update reads: current gists, nothing, extractive gists of any size, stale gists, so that it neither
//! forgets to read nor gets used to one dialect.

use crate::compressor::gist::Gist;
use crate::config::train::GeneratorConfig;
use crate::data::Window;
use crate::rng::{self, Stream};
use crate::rollout::reader_context;
use rand::Rng;

/// Contexts for one update: `(window, ids before its local window)`.
pub fn contexts(
    windows: &[Window],
    groups: &[Vec<Gist>],
    stale: &[Vec<u32>],
    mix: &GeneratorConfig,
    budget: usize,
    v: i64,
    (run_seed, step): (u64, u64),
) -> Vec<(usize, Vec<u32>)> {
    let mut all = Vec::with_capacity(windows.len() * mix.gists_per_window);
    for (w, window) in windows.iter().enumerate() {
        for row in 0..mix.gists_per_window {
            let mut draw = rng::rng(run_seed, Stream::Mix, step, w as u64, row as u64);
            let share = rng::uniform(&mut draw);
            let gist = if share < mix.current {
                groups[w][rng::below(&mut draw, groups[w].len())].ids.clone()
            } else if share < mix.current + mix.stale && !stale.is_empty() {
                stale[w].clone()
            } else if share < mix.current + mix.stale + mix.extractive {
                extractive(&window.prefix, budget, &mut draw)
            } else {
                Vec::new()
            };
            all.push((w, reader_context(&gist, true, v)));
        }
    }
    all
}

/// Recent tokens, or two random spans, of a random size up to the budget.
pub fn extractive(prefix: &[u32], budget: usize, draw: &mut impl Rng) -> Vec<u32> {
    let size = (1 + rng::below(draw, budget)).min(prefix.len());
    if rng::uniform(draw) < 0.5 {
        return prefix[prefix.len() - size..].to_vec();
    }
    let half = size.div_ceil(2);
    let mut starts = [half, size - half].map(|len| (rng::below(draw, prefix.len() - len + 1), len));
    starts.sort_unstable();
    starts.iter().flat_map(|&(start, len)| prefix[start..start + len].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extractive_gists_stay_within_budget_and_in_the_prefix() {
        let prefix: Vec<u32> = (0..40).collect();
        let mut draw = rng::rng(0, Stream::Mix, 0, 0, 0);
        for _ in 0..500 {
            let gist = extractive(&prefix, 10, &mut draw);
            assert!(!gist.is_empty() && gist.len() <= 10);
            assert!(gist.iter().all(|id| prefix.contains(id)));
        }
    }
}
