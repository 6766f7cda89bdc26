//! The verdict on an arm of a sweep: its paired difference in gap_closed to the baseline arm, pooled over seeds.

use crate::error::Result;
use crate::eval::pooled::Series;
use crate::eval::schema::readers::GENERATOR;
use crate::eval::schema::windows::WindowRow;
use crate::eval::stats::Interval;
use serde::Serialize;

/// Bootstrap resamples.
const RESAMPLES: usize = 10_000;

/// The verdict on an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The arm that the others are compared with.
    Baseline,
    /// The interval of the difference lies above 0.
    Better,
    /// The interval of the difference lies below 0.
    Worse,
    /// The interval of the difference lies within ± the smallest effect that matters.
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
    /// Documents that the windows come from; intervals resample these.
    pub documents: usize,
    /// gap_closed with 95 % interval.
    pub gap_closed: Interval,
    /// gap_closed less the baseline arm's; none for that arm, or where none is named.
    pub difference: Option<Interval>,
    /// The verdict; none where there is no baseline.
    pub verdict: Option<Verdict>,
    /// Differences from what its runs were made from, in words, that were accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
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
pub fn judge(arms: &[ArmRuns], compressor: &str, min_effect: Option<f64>) -> Result<Vec<Judged>> {
    let series = |runs: &[&(u64, Vec<WindowRow>)]| {
        let rows: Vec<Vec<WindowRow>> = runs.iter().map(|(_, rows)| rows.clone()).collect();
        Series::new(&rows, compressor, GENERATOR)
    };
    let mut judged = Vec::new();
    for arm in arms.iter().filter(|arm| !arm.runs.is_empty()) {
        let own: Vec<&(u64, Vec<WindowRow>)> = arm.runs.iter().collect();
        let own = series(&own)?;
        let (mut difference, mut paired, mut verdict) = (None, None, None);
        if arm.baseline.as_ref() == Some(&arm.label) {
            verdict = Some(Verdict::Baseline);
        } else if let Some(rival) = arms.iter().find(|other| Some(&other.label) == arm.baseline.as_ref()) {
            let both = |a: &ArmRuns, b: &ArmRuns| -> Vec<usize> {
                (0..a.runs.len()).filter(|&i| b.runs.iter().any(|(seed, _)| *seed == a.runs[i].0)).collect()
            };
            let mine: Vec<_> = both(arm, rival).into_iter().map(|i| &arm.runs[i]).collect();
            let theirs: Vec<_> = both(rival, arm).into_iter().map(|i| &rival.runs[i]).collect();
            if !mine.is_empty() {
                paired = Some(mine.len());
                let (mine, theirs) = (series(&mine)?, series(&theirs)?);
                let found = mine.minus(&theirs, RESAMPLES, 0)?;
                verdict = Some(word(theirs.gap_closed(RESAMPLES, 0), found, min_effect));
                difference = Some(found);
            }
        }
        judged.push(Judged {
            label: arm.label.clone(),
            seeds: arm.runs.len(),
            paired,
            windows: own.windows(),
            documents: own.documents(),
            gap_closed: own.gap_closed(RESAMPLES, 0),
            difference,
            verdict,
            accepted: Vec::new(),
        });
    }
    Ok(judged)
}

fn word(baseline: Interval, difference: Interval, min_effect: Option<f64>) -> Verdict {
    let within = |effect: f64| difference.low >= -effect && difference.high <= effect;
    match difference {
        _ if !baseline.above_zero() => Verdict::Inconclusive,
        _ if min_effect.is_some_and(within) => Verdict::Equivalent,
        d if d.low > 0.0 => Verdict::Better,
        d if d.high < 0.0 => Verdict::Worse,
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
            context_value_kl: 1.0,
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
        let judged = judge(&arms, "gist", Some(0.01)).unwrap();
        let words: Vec<(&str, Option<Verdict>)> = judged.iter().map(|j| (j.label.as_str(), j.verdict)).collect();
        use Verdict::*;
        assert_eq!(words[..3], [("plain", Some(Baseline)), ("good", Some(Better)), ("bad", Some(Worse))]);
        assert_eq!(words[3..], [("same", Some(Equivalent)), ("late", Some(Better)), ("apart", None)]);
        assert!((judged[1].difference.unwrap().mean - 0.1).abs() < 1e-9, "seed 1 against seed 1");
        assert!((judged[2].difference.unwrap().mean + 0.1).abs() < 1e-9);
        assert!((judged[4].difference.unwrap().mean - 0.1).abs() < 1e-9, "seed 2 has no partner");
        let paired: Vec<Option<usize>> = judged.iter().map(|j| j.paired).collect();
        assert_eq!(paired, [None, Some(1), Some(2), Some(2), Some(1), None]);
        assert_eq!(judged[0].n(), "2 seeds × 12 windows, 6 documents");
        assert_eq!(judged[1].n(), "1 seed × 12 windows, 6 documents");
        assert_eq!(judged[4].n(), "2 seeds × 12 windows, 6 documents, 1 seed paired");
    }

    #[test]
    fn a_baseline_that_closes_no_gap_settles_nothing() {
        let arms = [arm("plain", &[(0, 1.2)]), arm("good", &[(0, 0.5)])];
        assert_eq!(judge(&arms, "gist", None).unwrap()[1].verdict, Some(Verdict::Inconclusive));
    }

    #[test]
    fn without_a_baseline_there_is_no_verdict() {
        let mut alone = arm("x", &[(0, 0.5)]);
        alone.baseline = None;
        let judged = judge(&[alone], "gist", None).unwrap();
        assert!(judged[0].verdict.is_none() && judged[0].difference.is_none());
        assert!(judge(&[arm("x", &[(0, 0.5)])], "nobody", None).is_err());
    }
}
