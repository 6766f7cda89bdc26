//! Recall and precision of the tokens that should be kept: figures of compressors on the same labelled texts, with paired
//! intervals by bootstrap over texts.

use crate::error::{Error, Result};
use crate::eval::stats::{self, Interval};
use crate::retention::Recovered;
use serde::Serialize;
use std::collections::BTreeMap;

/// One compressor's figures, means over the texts.
#[derive(Clone, Debug, Serialize)]
pub struct Recovery {
    /// Share of the labelled tokens that it keeps.
    pub recall: Interval,
    /// Share of the texts of which it keeps every labelled token.
    pub whole: Interval,
    /// Share of what it keeps that is labelled.
    pub precision: Interval,
    /// Kept tokens over those of the text.
    pub keep_ratio: f64,
    /// Recall of the compressor that learned, less this one's.
    pub behind: Option<Interval>,
}

/// Recall of one compressor as the mean over several data sets, each of which counts alike.
#[derive(Clone, Debug, Serialize)]
pub struct MeanRecall {
    /// Mean recall.
    pub recall: Interval,
    /// Recall of the compressor that learned, less this one's.
    pub behind: Option<Interval>,
}

/// Rows of a data set, and what is resampled together.
pub struct JudgedSet<'a> {
    /// For each text, the number of its document.
    pub clusters: Vec<usize>,
    /// For each compressor, one entry a text, in the same order for all.
    pub rows: &'a BTreeMap<String, Vec<Recovered>>,
}

fn learned_rows<'a>(rows: &'a BTreeMap<String, Vec<Recovered>>, learned: &str) -> Result<&'a [Recovered]> {
    let none = || Error::invalid(format!("expected figures of `{learned}`, got none"));
    let own = rows.get(learned).ok_or_else(none)?;
    match rows.iter().find(|(_, found)| found.len() != own.len()) {
        Some((name, found)) => Err(Error::shape(name.clone(), format!("{} texts", own.len()), found.len())),
        None => Ok(own),
    }
}

/// Figures of every compressor; `rows` holds one entry a text, in the same order for all, and `learned` is among its keys.
/// Texts of one cluster are resampled together.
pub fn recovery(
    rows: &BTreeMap<String, Vec<Recovered>>,
    clusters: &[usize],
    learned: &str,
    resamples: usize,
) -> Result<BTreeMap<String, Recovery>> {
    let own = learned_rows(rows, learned)?;
    let figures = |(name, found): (&String, &Vec<Recovered>)| {
        let of = |value: fn(&Recovered) -> f64| {
            stats::mean(&found.iter().map(value).collect::<Vec<_>>(), clusters, resamples, 0)
        };
        let behind: Vec<f64> = own.iter().zip(found).map(|(own, other)| own.recall - other.recall).collect();
        let figures = Recovery {
            recall: of(|f| f.recall),
            whole: of(|f| f64::from(f.whole)),
            precision: of(|f| f.precision),
            keep_ratio: of(|f| f.keep_ratio).mean,
            behind: (name != learned).then(|| stats::mean(&behind, clusters, resamples, 0)),
        };
        (name.clone(), figures)
    };
    Ok(rows.iter().map(figures).collect())
}

/// Recall of every compressor as the mean over the data sets; documents are resampled within the lot.
pub fn mean_recall(sets: &[JudgedSet], learned: &str, resamples: usize) -> Result<BTreeMap<String, MeanRecall>> {
    let mut clusters: Vec<usize> = Vec::new();
    let mut set_of = Vec::new(); // the data set of each text
    for (s, set) in sets.iter().enumerate() {
        learned_rows(set.rows, learned)?;
        let first = clusters.iter().max().map_or(0, |last| last + 1);
        clusters.extend(set.clusters.iter().map(|cluster| first + cluster));
        set_of.extend(vec![s; set.clusters.len()]);
    }
    let mean = |values: &[f64]| {
        stats::bootstrap(&clusters, resamples, 0, |texts| {
            let mut sums = vec![(0.0, 0usize); sets.len()];
            for &text in texts {
                let (sum, count) = &mut sums[set_of[text]];
                (*sum, *count) = (*sum + values[text], *count + 1);
            }
            let means: Vec<f64> =
                sums.iter().filter(|(_, count)| *count > 0).map(|(sum, count)| sum / *count as f64).collect();
            crate::tensor::mean(&means)
        })
    };
    let recalls = |name: &str| -> Vec<f64> {
        sets.iter().flat_map(|set| set.rows.get(name).into_iter().flatten().map(|found| found.recall)).collect()
    };
    let own = recalls(learned);
    let names = sets.first().map(|set| set.rows.keys()).into_iter().flatten();
    let one = |name: &String| -> Result<(String, MeanRecall)> {
        let values = recalls(name);
        if values.len() != own.len() {
            return Err(Error::shape(name.clone(), format!("{} texts", own.len()), values.len()));
        }
        let behind: Vec<f64> = own.iter().zip(&values).map(|(own, other)| own - other).collect();
        let behind = (name != learned).then(|| mean(&behind));
        Ok((name.clone(), MeanRecall { recall: mean(&values), behind }))
    };
    names.map(one).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::retention::recovered;

    #[test]
    fn means_and_paired_differences() {
        let wanted = [true, true, false, false];
        let rows = |kept: &[&[usize]]| kept.iter().map(|kept| recovered(kept, &wanted)).collect::<Vec<_>>();
        let all: BTreeMap<String, Vec<Recovered>> = [
            ("learned".to_string(), rows(&[&[0, 1], &[0, 3], &[0, 1]])),
            ("first".to_string(), rows(&[&[0], &[], &[0]])),
        ]
        .into();
        let figures = recovery(&all, &[0, 1, 2], "learned", 200).unwrap();
        let (learned, first) = (&figures["learned"], &figures["first"]);
        assert!((learned.recall.mean - 2.5 / 3.0).abs() < 1e-12 && (learned.whole.mean - 2.0 / 3.0).abs() < 1e-12);
        assert!((learned.precision.mean - 2.5 / 3.0).abs() < 1e-12 && (learned.keep_ratio - 0.5).abs() < 1e-12);
        assert!((first.recall.mean - 1.0 / 3.0).abs() < 1e-12 && (first.precision.mean - 2.0 / 3.0).abs() < 1e-12);
        // Every text has the learned one ahead by a half.
        assert_eq!(first.behind.map(|d| (d.mean, d.low, d.high)), Some((0.5, 0.5, 0.5)));
        assert!(learned.behind.is_none());
        assert!(recovery(&all, &[0, 1, 2], "another", 200).is_err());
        // Texts of one document are drawn together: a single document has no interval.
        let one = &recovery(&all, &[0, 0, 0], "learned", 200).unwrap()["learned"];
        assert!(one.recall.low.is_nan() && one.recall.high.is_nan(), "{:?}", one.recall);
        // A data set of one text counts as much as one of three.
        let single = [("learned".to_string(), rows(&[&[]])), ("first".to_string(), rows(&[&[0, 1]]))].into();
        let sets = [JudgedSet { clusters: vec![0, 1, 2], rows: &all }, JudgedSet { clusters: vec![0], rows: &single }];
        let mean = mean_recall(&sets, "learned", 200).unwrap();
        assert!((mean["learned"].recall.mean - 2.5 / 6.0).abs() < 1e-12);
        assert!((mean["first"].behind.unwrap().mean - (0.5 - 1.0) / 2.0).abs() < 1e-12);
        assert_eq!(recovered(&[], &[]), Recovered { recall: 0.0, precision: 0.0, whole: true, keep_ratio: 0.0 });
    }
}
