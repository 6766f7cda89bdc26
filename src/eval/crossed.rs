//! Intervals over seeds and clusters at once, the correction for several arms, and the smallest effect that could have been
//! seen.
//!
//! - **Crossed bootstrap**: seeds and clusters are drawn independently, each with replacement, and a cell counts as often as
//!   its seed times its cluster was drawn (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2),
//!   386-411). Of a balanced table x_sc = a_s + b_c with S seeds and C clusters the variance of the resampled mean is
//!   var(a)/S + var(b)/C, both variances with divisor S or C; with few seeds that is a factor (S − 1)/S too little. One seed
//!   says nothing of the spread between seeds: its interval is over clusters alone.
//! - **p**: two-sided, twice the smaller share of resamples on one side of 0, (count + 1) / (resamples + 1) each.
//! - **Holm's correction** over m arms: p in ascending order times m, m − 1, …, 1, each at least the one before, at most 1
//!   (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).
//! - **Smallest effect that could have been seen**, with power 80 % in a two-sided test at 5 %:
//!   (z₀.₉₇₅ + z₀.₈) · SE = 2.8016 · SE (Bloom 1995, "Minimum detectable effects", Evaluation Review 19(5), 547-556), with
//!   SE² = σ²/S + SE_clusters², σ the SD between seeds of an arm's paired difference, pooled over the arms of a sweep, and
//!   SE_clusters that of the bootstrap over clusters with the seeds as they are.

use crate::eval::stats::{Interval, percentile};
use crate::rng::{self, Stream};
use rayon::prelude::*;
use serde::Serialize;

/// z₀.₉₇₅ + z₀.₈ of the standard normal distribution.
const POWER_80: f64 = 1.959_963_985 + 0.841_621_234;

/// Numerator and denominator of a ratio of means, summed over the windows of a seed and a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// Sum of the numerator.
    pub above: f64,
    /// Sum of the denominator.
    pub below: f64,
}

/// Cells by seed and cluster; a seed without windows of a cluster has an empty one.
pub type Grid = Vec<Vec<Cell>>;

/// A statistic over seeds and clusters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Crossed {
    /// The statistic with its 95 % interval, seeds and clusters resampled.
    pub interval: Interval,
    /// Standard error over the same resamples; NaN where there are none.
    pub se: f64,
    /// Two-sided p of the statistic being 0; NaN where there are no resamples.
    pub p: f64,
}

/// 1 − Σ above / Σ below, each cell as often as its seed times its cluster is drawn.
fn gap(grid: &Grid, seeds: &[f64], clusters: &[f64]) -> f64 {
    let mut total = Cell::default();
    for (row, seed) in grid.iter().zip(seeds) {
        for (cell, cluster) in row.iter().zip(clusters) {
            total.above += seed * cluster * cell.above;
            total.below += seed * cluster * cell.below;
        }
    }
    1.0 - total.above / total.below
}

/// Counts of each of `n` in `n` draws with replacement.
fn draws(rng: &mut impl rand::Rng, n: usize) -> Vec<f64> {
    let mut counts = vec![0.0; n];
    for _ in 0..n {
        counts[rng::below(rng, n)] += 1.0;
    }
    counts
}

/// gap_closed of `grid`, less that of `other` with the same seeds and clusters where there is one. Fewer than two clusters
/// leave the bounds undefined. `over_seeds` is false for an interval with the seeds as they are.
pub fn bootstrap(grid: &Grid, other: Option<&Grid>, over_seeds: bool, resamples: usize, seed: u64) -> Crossed {
    let (s, c) = (grid.len(), grid.first().map_or(0, Vec::len));
    let statistic = |seeds: &[f64], clusters: &[f64]| {
        gap(grid, seeds, clusters) - other.map_or(0.0, |other| gap(other, seeds, clusters))
    };
    let mean = statistic(&vec![1.0; s], &vec![1.0; c]);
    if c < 2 || resamples == 0 {
        let interval = Interval { mean, low: f64::NAN, high: f64::NAN };
        return Crossed { interval, se: f64::NAN, p: f64::NAN };
    }
    let mut values: Vec<f64> = (0..resamples)
        .into_par_iter()
        .map(|resample| {
            let mut rng = rng::rng(seed, Stream::Bootstrap, 1, resample as u64, 0);
            let clusters = draws(&mut rng, c);
            let seeds = if over_seeds { draws(&mut rng, s) } else { vec![1.0; s] };
            statistic(&seeds, &clusters)
        })
        .collect();
    values.sort_by(f64::total_cmp);
    let n = values.len() as f64;
    let middle = values.iter().sum::<f64>() / n;
    let se = (values.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let share = |count: usize| (count + 1) as f64 / (n + 1.0);
    let below = values.iter().filter(|value| **value <= 0.0).count();
    let above = values.iter().filter(|value| **value >= 0.0).count();
    let interval = Interval { mean, low: percentile(&values, 0.025), high: percentile(&values, 0.975) };
    Crossed { interval, se, p: (2.0 * share(below.min(above))).min(1.0) }
}

/// Holm's correction: the adjusted value of each p, in the order given. An undefined one stays so and is not counted.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let (mut adjusted, mut least) = (vec![f64::NAN; p.len()], 0.0_f64);
    for (rank, &i) in order.iter().enumerate() {
        least = least.max(((order.len() - rank) as f64 * p[i]).min(1.0));
        adjusted[i] = least;
    }
    adjusted
}

/// SD between seeds of paired differences, pooled over arms: the root of the mean variance, weighted by degrees of freedom.
/// None where no arm has two seeds.
pub fn pooled_sd(arms: &[Vec<f64>]) -> Option<f64> {
    let (mut squares, mut freedom) = (0.0, 0);
    for values in arms.iter().filter(|values| values.len() > 1) {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        squares += values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        freedom += values.len() - 1;
    }
    (freedom > 0).then(|| (squares / freedom as f64).sqrt())
}

/// The smallest difference that would be found in 80 of 100 repetitions; see the formula above.
pub fn detectable(seed_sd: f64, seeds: usize, cluster_se: f64) -> f64 {
    POWER_80 * (seed_sd.powi(2) / seeds as f64 + cluster_se.powi(2)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Additive table of KL with a context value of 1 everywhere.
    fn table(seeds: &[f64], clusters: &[f64]) -> Grid {
        seeds.iter().map(|a| clusters.iter().map(|b| Cell { above: a + b, below: 1.0 }).collect()).collect()
    }

    fn variance(values: &[f64]) -> f64 {
        let (n, mean) = (values.len() as f64, values.iter().sum::<f64>() / values.len() as f64);
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n
    }

    #[test]
    fn the_variance_of_an_additive_table_is_that_of_its_two_parts() {
        let seeds = [0.10, -0.05, 0.02, 0.07];
        let clusters: Vec<f64> = (0..40).map(|i| 0.3 + 0.05 * ((i * 7) % 13) as f64).collect();
        let grid = table(&seeds, &clusters);
        let expected = (variance(&seeds) / 4.0 + variance(&clusters) / 40.0).sqrt();
        let found = bootstrap(&grid, None, true, 20_000, 0);
        assert!((found.se / expected - 1.0).abs() < 0.03, "{} {expected}", found.se);
        let fixed = bootstrap(&grid, None, false, 20_000, 0);
        let expected = (variance(&clusters) / 40.0).sqrt();
        assert!((fixed.se / expected - 1.0).abs() < 0.03, "{} {expected}", fixed.se);
        assert!(fixed.interval.low > found.interval.low && fixed.interval.high < found.interval.high);
        // What two share in every cluster cancels: only the seeds are left.
        let other = table(&[0.0; 4], &clusters);
        let difference = bootstrap(&grid, Some(&other), true, 20_000, 0);
        let expected = (variance(&seeds) / 4.0).sqrt();
        assert!((difference.se / expected - 1.0).abs() < 0.03, "{} {expected}", difference.se);
        assert!((difference.interval.mean + 0.035).abs() < 1e-9);
    }

    #[test]
    fn p_tells_a_certain_difference_from_none() {
        let (a, b) = (table(&[0.0, 0.1], &[0.5, 0.6, 0.7]), table(&[0.2, 0.3], &[0.5, 0.6, 0.7]));
        assert!((bootstrap(&a, Some(&b), true, 999, 0).p - 2.0 / 1000.0).abs() < 1e-12);
        assert_eq!(bootstrap(&a, Some(&a), true, 999, 0).p, 1.0);
        let one = bootstrap(&table(&[0.1, 0.2], &[0.5]), None, true, 999, 0);
        assert!(one.p.is_nan() && one.interval.low.is_nan() && (one.interval.mean - 0.35).abs() < 1e-12);
    }

    /// p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") of R: 0.03 0.06 0.06 0.02.
    #[test]
    fn holm_as_r_has_it() {
        let close = |got: &[f64], expected: &[f64]| {
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
        };
        close(&holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02]);
        close(&holm(&[0.5, 0.6]), &[1.0, 1.0]);
        let with_unknown = holm(&[0.02, f64::NAN, 0.03]);
        close(&[with_unknown[0], with_unknown[2]], &[0.04, 0.04]);
        assert!(with_unknown[1].is_nan());
    }

    /// Of the audit: a residual SD of 2.26 points for arm and seed, √2 times that for a difference, three seeds.
    #[test]
    fn the_smallest_effect() {
        let sd = pooled_sd(&[vec![1.0, 3.0], vec![5.0], vec![2.0, 4.0, 6.0]]);
        assert!(sd.is_some_and(|sd| (sd - (10.0_f64 / 3.0).sqrt()).abs() < 1e-12), "{sd:?}");
        assert_eq!(pooled_sd(&[vec![1.0]]), None);
        assert!((detectable(2.26 * 2.0_f64.sqrt(), 3, 0.0) - 5.170).abs() < 1e-3);
        assert!((detectable(3.0, 1, 4.0) - 14.008).abs() < 1e-3);
    }
}
