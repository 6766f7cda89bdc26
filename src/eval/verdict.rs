//! The verdict on an arm of a sweep: its paired difference in gap_closed to the baseline arm, over seeds and clusters at once,
//! with Holm's correction over the arms; formulas in [`crate::eval::crossed`].

use crate::config::eval::Cluster;
use crate::error::Result;
use crate::eval::crossed::{self, Crossed};
use crate::eval::pooled::Series;
use crate::eval::schema::readers::GENERATOR;
use crate::eval::schema::windows::WindowRow;
use crate::eval::stats::Interval;
use serde::Serialize;

/// Level of the tests, after the correction over arms.
const LEVEL: f64 = 0.05;
/// Bootstrap resamples.
const RESAMPLES: usize = 10_000;

/// The verdict on an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The arm that the others are compared with.
    Baseline,
    /// The difference is above 0, its p below 5 % after Holm's correction.
    Better,
    /// The difference is below 0, its p below 5 % after Holm's correction.
    Worse,
    /// The interval of the difference, over seeds and clusters, lies within ± the smallest effect that matters.
    Equivalent,
    /// None of the other verdicts holds, or the baseline arm itself closes no gap that can be told from 0.
    Inconclusive,
}

/// One arm, all seeds together.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Arm, with its place in the grid.
    pub label: String,
    /// Runs (seeds) that it pools.
    pub seeds: usize,
    /// Seeds among these that the baseline arm has finished too, from which alone the difference is made; none where there is
    /// no difference.
    pub paired: Option<usize>,
    /// Windows that each run was judged on.
    pub windows: usize,
    /// Documents that the windows come from.
    pub documents: usize,
    /// Clusters that intervals resample.
    pub clusters: usize,
    /// gap_closed with 95 % interval over clusters, the seeds as they are.
    pub gap_closed: Interval,
    /// gap_closed less the baseline arm's, with the interval over clusters, the seeds as they are; none for that arm, or where none is named.
    pub difference: Option<Interval>,
    /// gap_closed with 95 % interval over seeds and clusters.
    pub crossed: Interval,
    /// Figures of each seed, in order.
    pub by_seed: Vec<SeedFigures>,
    /// The difference with interval, standard error and p over seeds and clusters, from which the verdict is.
    pub crossed_difference: Option<Crossed>,
    /// p after Holm's correction over the arms that have a difference.
    pub holm_p: Option<f64>,
    /// The smallest difference that would be found with power 80 %; none where no arm has two paired seeds.
    pub detectable: Option<f64>,
    /// The verdict; none where there is no baseline.
    pub verdict: Option<Verdict>,
    /// Differences from what its runs were made from, in words, that were accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
}

/// One seed of an arm.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SeedFigures {
    /// The seed.
    pub seed: u64,
    /// gap_closed of this seed alone.
    pub gap_closed: f64,
    /// gap_closed less that of the baseline arm's run of this seed, where both have finished.
    pub difference: Option<f64>,
}

impl Judged {
    /// The amount of data behind it, in words: `3 seeds × 200 windows, 87 documents`, and how many seeds are paired where not
    /// all are.
    pub fn n(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (seeds, windows) = (count(self.seeds, "seed"), count(self.windows, "window"));
        let all = format!("{seeds} × {windows}, {}", count(self.documents, "document"));
        match self.paired {
            Some(paired) if paired < self.seeds => format!("{all}, {} paired", count(paired, "seed")),
            _ => all,
        }
    }
}

/// The windows of every finished run of one arm, by seed.
pub struct ArmRuns {
    /// Arm, with its place in the grid.
    pub label: String,
    /// Label of the arm to compare with.
    pub baseline: Option<String>,
    /// Each run's seed and windows, in order of seed.
    pub runs: Vec<(u64, Vec<WindowRow>)>,
}

/// Judges every arm by gap_closed of `compressor`, read by the co-trained generator. Differences pair the seeds that both
/// arms have finished.
pub fn judge(arms: &[ArmRuns], compressor: &str, cluster: Cluster, min_effect: Option<f64>) -> Result<Vec<Judged>> {
    let series = |runs: &[&(u64, Vec<WindowRow>)]| {
        let rows: Vec<Vec<WindowRow>> = runs.iter().map(|(_, rows)| rows.clone()).collect();
        Series::over(&rows, compressor, GENERATOR, cluster)
    };
    let mut judged = Vec::new();
    let mut rivals: Vec<Option<Rival>> = Vec::new();
    for arm in arms.iter().filter(|arm| !arm.runs.is_empty()) {
        let own: Vec<&(u64, Vec<WindowRow>)> = arm.runs.iter().collect();
        let own = series(&own)?;
        let mut by_seed: Vec<SeedFigures> = (arm.runs.iter().zip(own.by_run()))
            .map(|((seed, _), gap_closed)| SeedFigures { seed: *seed, gap_closed, difference: None })
            .collect();
        let (mut difference, mut paired, mut verdict, mut against) = (None, None, None, None);
        if arm.baseline.as_ref() == Some(&arm.label) {
            verdict = Some(Verdict::Baseline);
        } else if let Some(rival) = arms.iter().find(|other| Some(&other.label) == arm.baseline.as_ref()) {
            let both = |a: &ArmRuns, b: &ArmRuns| -> Vec<usize> {
                (0..a.runs.len()).filter(|&i| b.runs.iter().any(|(seed, _)| *seed == a.runs[i].0)).collect()
            };
            let shared = both(arm, rival);
            let mine: Vec<_> = shared.iter().map(|&i| &arm.runs[i]).collect();
            let theirs: Vec<_> = both(rival, arm).into_iter().map(|i| &rival.runs[i]).collect();
            if !mine.is_empty() {
                paired = Some(mine.len());
                let (mine, theirs) = (series(&mine)?, series(&theirs)?);
                difference = Some(mine.minus(&theirs, RESAMPLES, 0)?);
                for ((&i, a), b) in shared.iter().zip(mine.by_run()).zip(theirs.by_run()) {
                    by_seed[i].difference = Some(a - b);
                }
                against = Some(Rival {
                    baseline: theirs.crossed(true, RESAMPLES, 0).interval,
                    difference: mine.crossed_minus(&theirs, true, RESAMPLES, 0)?,
                    cluster_se: mine.crossed_minus(&theirs, false, RESAMPLES, 0)?.se,
                });
            }
        }
        rivals.push(against);
        judged.push(Judged {
            label: arm.label.clone(),
            seeds: arm.runs.len(),
            paired,
            windows: own.windows(),
            documents: own.documents(),
            clusters: own.n_clusters(),
            gap_closed: own.gap_closed(RESAMPLES, 0),
            difference,
            crossed: own.crossed(true, RESAMPLES, 0).interval,
            by_seed,
            crossed_difference: None,
            holm_p: None,
            detectable: None,
            verdict,
            accepted: Vec::new(),
        });
    }
    settle(&mut judged, &rivals, min_effect);
    Ok(judged)
}

/// The comparison of an arm with the baseline arm on the seeds that both have.
struct Rival {
    /// gap_closed of the baseline arm, over seeds and clusters.
    baseline: Interval,
    difference: Crossed,
    /// Standard error of the difference with the seeds as they are.
    cluster_se: f64,
}

/// Fills in what takes all arms together: Holm's correction, the spread between seeds, and the verdicts.
fn settle(judged: &mut [Judged], rivals: &[Option<Rival>], min_effect: Option<f64>) {
    let p: Vec<f64> = rivals.iter().map(|rival| rival.as_ref().map_or(f64::NAN, |r| r.difference.p)).collect();
    let by_seed: Vec<Vec<f64>> =
        judged.iter().map(|arm| arm.by_seed.iter().filter_map(|seed| seed.difference).collect()).collect();
    let sd = crossed::pooled_sd(&by_seed);
    for (((arm, rival), holm_p), seeds) in judged.iter_mut().zip(rivals).zip(crossed::holm(&p)).zip(by_seed) {
        let Some(rival) = rival else { continue };
        arm.crossed_difference = Some(rival.difference);
        arm.holm_p = Some(holm_p);
        arm.detectable = sd.map(|sd| crossed::detectable(sd, seeds.len(), rival.cluster_se));
        arm.verdict = Some(word(rival, holm_p, min_effect));
    }
}

fn word(rival: &Rival, holm_p: f64, min_effect: Option<f64>) -> Verdict {
    let difference = rival.difference.interval;
    let within = |effect: f64| difference.low >= -effect && difference.high <= effect;
    match difference.mean {
        _ if !rival.baseline.above_zero() => Verdict::Inconclusive,
        _ if min_effect.is_some_and(within) => Verdict::Equivalent,
        mean if mean > 0.0 && holm_p < LEVEL => Verdict::Better,
        mean if mean < 0.0 && holm_p < LEVEL => Verdict::Worse,
        _ => Verdict::Inconclusive,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::eval::schema::windows::WindowFigures;

    fn windows(kl: f64) -> Vec<WindowRow> {
        let figures = |kl: f64| WindowFigures { tokens: 3, kl, nll: 1.0, kl_base: kl, kl_adapted: None };
        let row = |window: usize| WindowRow {
            window,
            document: format!("d{}", window / 2),
            source: Some(format!("s{}", window / 4)),
            context_value_kl: 1.0,
            levels: None,
            compressors: [("gist".to_string(), figures(kl + 0.001 * window as f64))].into(),
        };
        (0..12).map(row).collect()
    }

    fn arm(label: &str, kls: &[(u64, f64)]) -> ArmRuns {
        let runs = kls.iter().map(|&(seed, kl)| (seed, windows(kl))).collect();
        ArmRuns { label: label.into(), baseline: Some("plain".into()), runs }
    }

    #[test]
    fn arms_are_paired_by_the_seeds_that_both_have() {
        let arms = [
            arm("plain", &[(0, 0.8), (1, 0.7)]),
            arm("good", &[(1, 0.6)]),
            arm("bad", &[(0, 0.9), (1, 0.8)]),
            arm("same", &[(0, 0.8), (1, 0.7)]),
            arm("cut", &[]),
            arm("late", &[(1, 0.6), (2, 0.1)]),
            arm("apart", &[(2, 0.1)]),
        ];
        let judged = judge(&arms, "gist", Cluster::Document, Some(0.01)).unwrap();
        let words: Vec<(&str, Option<Verdict>)> = judged.iter().map(|j| (j.label.as_str(), j.verdict)).collect();
        use Verdict::*;
        assert_eq!(words[..3], [("plain", Some(Baseline)), ("good", Some(Better)), ("bad", Some(Worse))]);
        assert_eq!(words[3..], [("same", Some(Equivalent)), ("late", Some(Better)), ("apart", None)]);
        assert!((judged[1].difference.unwrap().mean - 0.1).abs() < 1e-9, "seed 1 against seed 1");
        assert!((judged[2].difference.unwrap().mean + 0.1).abs() < 1e-9);
        assert!((judged[4].difference.unwrap().mean - 0.1).abs() < 1e-9, "seed 2 has no partner");
        let paired: Vec<Option<usize>> = judged.iter().map(|j| j.paired).collect();
        assert_eq!(paired, [None, Some(1), Some(2), Some(2), Some(1), None]);
        // Three arms with p = 2/10,001 and `same` with 1: the least is multiplied by the 4 arms that have a difference.
        assert_eq!(judged[3].crossed_difference.map(|found| found.p), Some(1.0));
        let least = 2.0 / 10_001.0;
        assert!((judged[1].crossed_difference.unwrap().p - least).abs() < 1e-12);
        assert!((judged[1].holm_p.unwrap() - 4.0 * least).abs() < 1e-12 && judged[3].holm_p == Some(1.0));
        assert!(judged[5].holm_p.is_none() && judged[5].detectable.is_none());
        let by_seed: Vec<(u64, Option<f64>)> = judged[4].by_seed.iter().map(|s| (s.seed, s.difference)).collect();
        assert!(by_seed[0].0 == 1 && (by_seed[0].1.unwrap() - 0.1).abs() < 1e-9 && by_seed[1] == (2, None));
        // Differences are alike in all seeds and documents, so any effect could have been seen.
        assert!(judged[2].detectable.is_some_and(|effect| effect.abs() < 1e-9));
        assert_eq!(judged[0].n(), "2 seeds × 12 windows, 6 documents");
        assert_eq!(judged[1].n(), "1 seed × 12 windows, 6 documents");
        assert_eq!(judged[4].n(), "2 seeds × 12 windows, 6 documents, 1 seed paired");
    }

    #[test]
    fn a_baseline_that_closes_no_gap_settles_nothing() {
        let arms = [arm("plain", &[(0, 1.2)]), arm("good", &[(0, 0.5)])];
        assert_eq!(judge(&arms, "gist", Cluster::Document, None).unwrap()[1].verdict, Some(Verdict::Inconclusive));
    }

    #[test]
    fn without_a_baseline_there_is_no_verdict() {
        let mut alone = arm("x", &[(0, 0.5)]);
        alone.baseline = None;
        let judged = judge(&[alone], "gist", Cluster::Document, None).unwrap();
        assert!(judged[0].verdict.is_none() && judged[0].difference.is_none());
        assert!(judge(&[arm("x", &[(0, 0.5)])], "nobody", Cluster::Document, None).is_err());
    }
}
