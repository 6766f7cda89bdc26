//! Every random number comes from here: a seed is a function of (run seed, stream, step, example, sample), so any draw
//! can be repeated without saving a generator's state. The only file that may call `tch::manual_seed`.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Purpose of a random number; streams never share draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Initial weights.
    Init = 1,
    /// Choice of the documents and windows that a step reads.
    Data = 2,
    /// Sampling gists.
    Rollout = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Mixing gists for the generator.
    Mix = 5,
    /// Random baselines.
    Baseline = 6,
    /// Bootstrap resampling.
    Bootstrap = 7,
    /// Generated documents.
    Synthetic = 8,
    /// Train / validation / test assignment.
    Split = 9,
    /// Futures that the teacher imagines.
    Imagined = 11,
}

/// The seed for one draw site; SplitMix64 finaliser over the five coordinates.
pub fn seed(run: u64, stream: Stream, step: u64, example: u64, sample: u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for word in [run, stream as u64, step, example, sample] {
        state = mix(state.wrapping_add(word.wrapping_mul(0xbf58_476d_1ce4_e5b9)).wrapping_add(0x9e37_79b9_7f4a_7c15));
    }
    state
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A generator for one draw site.
pub fn rng(run: u64, stream: Stream, step: u64, example: u64, sample: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed(run, stream, step, example, sample))
}

/// One uniform in [0, 1) from `rng`.
pub fn uniform(rng: &mut impl Rng) -> f64 {
    rng.random::<f64>()
}

/// A uniform integer in `0..n` (`n > 0`).
pub fn below(rng: &mut impl Rng, n: usize) -> usize {
    rng.random_range(0..n)
}

/// `k` distinct integers of `0..n` in random order (all of them when `k >= n`).
pub fn choose(rng: &mut impl Rng, n: usize, k: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    for i in 0..k.min(n) {
        let j = i + below(rng, n - i);
        all.swap(i, j);
    }
    all.truncate(k);
    all
}

/// Seeds libtorch's own generator (dropout, initial weights) for one draw site.
#[allow(clippy::disallowed_methods)] // the one place
pub fn seed_torch(run: u64, stream: Stream, step: u64, example: u64) {
    tch::manual_seed((seed(run, stream, step, example, 0) >> 1) as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_independent() {
        let mut seen = std::collections::BTreeSet::new();
        for run in 0..3 {
            for step in 0..3 {
                for example in 0..3 {
                    for sample in 0..3 {
                        for stream in [Stream::Data, Stream::Rollout] {
                            assert!(seen.insert(seed(run, stream, step, example, sample)));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn choose_is_distinct_and_seeded() {
        let draw = || choose(&mut rng(1, Stream::Data, 2, 3, 4), 10, 6);
        let picked = draw();
        assert_eq!(picked, draw());
        let distinct: std::collections::BTreeSet<_> = picked.iter().collect();
        assert_eq!(distinct.len(), 6);
        assert!(picked.iter().all(|&i| i < 10));
    }
}
