//! Intervals by bootstrap over documents: windows of one document are alike, so whole documents are resampled.
//!
//! Pooling over seeds: concatenate the windows of all seeds and keep the same document id in each, so that a document is
//! drawn together with all its seeds.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use crate::rng::{self, Stream};

/// A statistic over all windows and its 95 % interval. The bounds are NaN when fewer than two documents exist, since
/// nothing is then known about the spread between documents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The statistic on the windows as they are.
    pub mean: f64,
    /// 2.5th percentile over the resamples.
    pub low: f64,
    /// 97.5th percentile over the resamples.
    pub high: f64,
}

impl Interval {
    /// The bounds, as `summary.json` holds them.
    pub fn ci95(&self) -> [f64; 2] {
        [self.low, self.high]
    }

    /// True when the whole interval lies above 0; false when it is unknown.
    pub fn above_zero(&self) -> bool {
        self.low > 0.0
    }
}

/// Percentile bootstrap by cluster. `clusters[i]` is the document of window `i`; each resample draws as many documents as
/// there are, with replacement, and hands the indices of all their windows (with repeats) to `statistic`. Resample `r` has
/// its own seed, so the result does not depend on the number of threads.
pub fn bootstrap<F>(clusters: &[usize], resamples: usize, seed: u64, statistic: F) -> Interval
where
    F: Fn(&[usize]) -> f64 + Sync,
{
    let mut by_cluster: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (window, &cluster) in clusters.iter().enumerate() {
        by_cluster.entry(cluster).or_default().push(window);
    }
    let groups: Vec<Vec<usize>> = by_cluster.into_values().collect();
    let all: Vec<usize> = (0..clusters.len()).collect();
    let mean = statistic(&all);
    if groups.len() < 2 || resamples == 0 {
        return Interval { mean, low: f64::NAN, high: f64::NAN };
    }
    let mut values: Vec<f64> = (0..resamples)
        .into_par_iter()
        .map(|resample| {
            let mut rng = rng::rng(seed, Stream::Bootstrap, 0, resample as u64, 0);
            let mut windows = Vec::with_capacity(clusters.len());
            for _ in 0..groups.len() {
                windows.extend_from_slice(&groups[rng::below(&mut rng, groups.len())]);
            }
            statistic(&windows)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    Interval { mean, low: percentile(&values, 0.025), high: percentile(&values, 0.975) }
}

/// The number of each name's document, by first appearance.
pub fn clusters<'a>(names: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    names
        .map(|name| {
            let next = numbers.len();
            *numbers.entry(name).or_insert(next)
        })
        .collect()
}

/// The mean of `values` with its interval.
pub fn mean(values: &[f64], clusters: &[usize], resamples: usize, seed: u64) -> Interval {
    assert_eq!(values.len(), clusters.len(), "mean: one value per window");
    bootstrap(clusters, resamples, seed, |windows| mean_at(values, windows))
}

/// `gap_closed` = 1 − mean(`kl`) / mean(`kl_empty_adapted`): a ratio of means, its denominator resampled with it.
pub fn gap_closed(kl: &[f64], kl_empty_adapted: &[f64], clusters: &[usize], resamples: usize, seed: u64) -> Interval {
    assert!(kl.len() == clusters.len() && kl_empty_adapted.len() == clusters.len(), "gap_closed: one KL per window");
    bootstrap(clusters, resamples, seed, |windows| 1.0 - mean_at(kl, windows) / mean_at(kl_empty_adapted, windows))
}

/// `gap_closed(a) − gap_closed(b)` on the same windows: paired, so what the two share cancels.
pub fn gap_closed_diff(
    kl_a: &[f64],
    kl_b: &[f64],
    kl_empty_adapted: &[f64],
    clusters: &[usize],
    resamples: usize,
    seed: u64,
) -> Interval {
    assert!(kl_a.len() == clusters.len() && kl_b.len() == clusters.len(), "gap_closed_diff: one KL per window");
    assert_eq!(kl_empty_adapted.len(), clusters.len(), "gap_closed_diff: one empty KL per window");
    bootstrap(clusters, resamples, seed, |windows| {
        (mean_at(kl_b, windows) - mean_at(kl_a, windows)) / mean_at(kl_empty_adapted, windows)
    })
}

fn mean_at(values: &[f64], windows: &[usize]) -> f64 {
    windows.iter().map(|&window| values[window]).sum::<f64>() / windows.len() as f64
}

/// Percentile of sorted values, linear between neighbours.
pub(super) fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roughly normal draws: the sum of 12 uniforms less 6.
    fn normal(count: usize, seed: u64) -> Vec<f64> {
        let mut rng = rng::rng(seed, Stream::Synthetic, 0, 0, 0);
        (0..count).map(|_| (0..12).map(|_| rng::uniform(&mut rng)).sum::<f64>() - 6.0).collect()
    }

    fn moments(xs: &[f64], ys: &[f64]) -> (f64, f64, f64) {
        let n = xs.len() as f64;
        let (mx, my) = (xs.iter().sum::<f64>() / n, ys.iter().sum::<f64>() / n);
        let covariance = xs.iter().zip(ys).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / (n - 1.0);
        (mx, my, covariance)
    }

    fn close(got: f64, expected: f64, relative: f64) {
        assert!((got - expected).abs() <= relative * expected.abs(), "expected {expected}, got {got}");
    }

    #[test]
    fn independent_windows_match_the_normal_interval() {
        let values = normal(400, 1);
        let each: Vec<usize> = (0..400).collect();
        let interval = mean(&values, &each, 4000, 7);
        let (expected, _, variance) = moments(&values, &values);
        close(interval.mean, expected, 1e-12);
        close(interval.high - interval.low, 2.0 * 1.96 * (variance / 400.0).sqrt(), 0.06);
    }

    #[test]
    fn copies_within_a_document_add_no_certainty() {
        let documents = normal(60, 2);
        let values: Vec<f64> = documents.iter().flat_map(|&v| [v; 9]).collect();
        let clusters: Vec<usize> = (0..60).flat_map(|d| [d; 9]).collect();
        let naive: Vec<usize> = (0..values.len()).collect();
        let by_document = mean(&values, &clusters, 4000, 3);
        let by_window = mean(&values, &naive, 4000, 3);
        close((by_document.high - by_document.low) / (by_window.high - by_window.low), 3.0, 0.08);
        let alone = mean(&documents, &(0..60).collect::<Vec<_>>(), 4000, 3);
        close(by_document.low, alone.low, 1e-9);
        close(by_document.high, alone.high, 1e-9);
    }

    #[test]
    fn the_denominator_of_gap_closed_is_resampled() {
        let each: Vec<usize> = (0..500).collect();
        let empty: Vec<f64> = normal(500, 4).iter().map(|z| 0.2 + 0.05 * z).collect();
        let half: Vec<f64> = empty.iter().map(|kl| kl / 2.0).collect();
        let exact = gap_closed(&half, &empty, &each, 1000, 5);
        assert!((exact.low - 0.5).abs() < 1e-12 && (exact.high - 0.5).abs() < 1e-12, "{exact:?}");

        // Delta method for a ratio of means.
        let noise = normal(500, 6);
        let kl: Vec<f64> = empty.iter().zip(&noise).map(|(e, z)| 0.4 * e + 0.02 * z + 0.03).collect();
        let interval = gap_closed(&kl, &empty, &each, 4000, 5);
        let (mk, me, cross) = moments(&kl, &empty);
        let (vk, ve) = (moments(&kl, &kl).2, moments(&empty, &empty).2);
        let ratio = mk / me;
        let error = ((vk - 2.0 * ratio * cross + ratio * ratio * ve) / 500.0).sqrt() / me;
        close(interval.mean, 1.0 - ratio, 1e-12);
        close(interval.high - interval.low, 2.0 * 1.96 * error, 0.06);
    }

    #[test]
    fn a_paired_difference_cancels_what_is_shared() {
        let clusters: Vec<usize> = (0..200).map(|w| w / 4).collect();
        let empty: Vec<f64> = normal(200, 8).iter().map(|z| 0.3 + 0.05 * z).collect();
        let b: Vec<f64> = normal(200, 9).iter().map(|z| 0.2 + 0.05 * z).collect();
        let a: Vec<f64> = b.iter().zip(&empty).map(|(b, e)| b - 0.1 * e).collect();
        let diff = gap_closed_diff(&a, &b, &empty, &clusters, 500, 1);
        assert!((diff.low - 0.1).abs() < 1e-12 && (diff.high - 0.1).abs() < 1e-12 && diff.above_zero(), "{diff:?}");
        let same = gap_closed_diff(&b, &b, &empty, &clusters, 500, 1);
        assert_eq!((same.mean, same.low, same.high), (0.0, 0.0, 0.0));
        assert!(!same.above_zero());
        let separate = gap_closed(&a, &empty, &clusters, 0, 1).mean - gap_closed(&b, &empty, &clusters, 0, 1).mean;
        close(diff.mean, separate, 1e-9);
    }

    #[test]
    fn intervals_cover_the_truth_about_95_times_in_100() {
        let trials = 300;
        let covered = (0..trials)
            .filter(|&trial| {
                let shared = normal(60, 1000 + trial);
                let own = normal(240, 5000 + trial);
                let values: Vec<f64> = own.iter().enumerate().map(|(w, z)| shared[w / 4] + z).collect();
                let clusters: Vec<usize> = (0..240).map(|w| w / 4).collect();
                let interval = mean(&values, &clusters, 400, trial);
                interval.low <= 0.0 && 0.0 <= interval.high
            })
            .count();
        let share = covered as f64 / trials as f64;
        assert!((0.90..=0.98).contains(&share), "covered {share}");
    }

    #[test]
    fn seeded_and_the_same_for_any_number_of_threads() {
        let values = normal(120, 10);
        let clusters: Vec<usize> = (0..120).map(|w| w / 3).collect();
        let with_threads = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.map(|pool| pool.install(|| mean(&values, &clusters, 300, seed))).ok()
        };
        assert!(with_threads(1, 3).is_some());
        assert_eq!(with_threads(1, 3), with_threads(3, 3));
        assert_ne!(with_threads(1, 3), with_threads(1, 4));
        let renamed: Vec<usize> = clusters.iter().map(|c| c * 17 + 5).collect();
        assert_eq!(mean(&values, &clusters, 300, 3), mean(&values, &renamed, 300, 3));
    }

    #[test]
    fn one_document_or_none_gives_no_interval() {
        let one = mean(&[1.0, 3.0], &[5, 5], 100, 0);
        assert!(one.mean == 2.0 && one.low.is_nan() && one.high.is_nan() && !one.above_zero());
        assert!(mean(&[], &[], 100, 0).mean.is_nan());
    }
}
