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

/// Figures of every compressor; `rows` holds one entry a text, in the same order for all, and `learned` is among its keys.
pub fn recovery(
    rows: &BTreeMap<String, Vec<Recovered>>,
    learned: &str,
    resamples: usize,
) -> Result<BTreeMap<String, Recovery>> {
    let none = || Error::invalid(format!("expected figures of `{learned}`, got none"));
    let own = rows.get(learned).ok_or_else(none)?;
    let texts: Vec<usize> = (0..own.len()).collect();
    let mut all = BTreeMap::new();
    for (name, found) in rows {
        if found.len() != own.len() {
            return Err(Error::shape(name.clone(), format!("{} texts", own.len()), found.len()));
        }
        let of = |value: fn(&Recovered) -> f64| {
            stats::mean(&found.iter().map(value).collect::<Vec<_>>(), &texts, resamples, 0)
        };
        let behind: Vec<f64> = own.iter().zip(found).map(|(own, other)| own.recall - other.recall).collect();
        let figures = Recovery {
            recall: of(|f| f.recall),
            whole: of(|f| f64::from(f.whole)),
            precision: of(|f| f.precision),
            keep_ratio: of(|f| f.keep_ratio).mean,
            behind: (name != learned).then(|| stats::mean(&behind, &texts, resamples, 0)),
        };
        all.insert(name.clone(), figures);
    }
    Ok(all)
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
        let figures = recovery(&all, "learned", 200).unwrap();
        let (learned, first) = (&figures["learned"], &figures["first"]);
        assert!((learned.recall.mean - 2.5 / 3.0).abs() < 1e-12 && (learned.whole.mean - 2.0 / 3.0).abs() < 1e-12);
        assert!((learned.precision.mean - 2.5 / 3.0).abs() < 1e-12 && (learned.keep_ratio - 0.5).abs() < 1e-12);
        assert!((first.recall.mean - 1.0 / 3.0).abs() < 1e-12 && (first.precision.mean - 2.0 / 3.0).abs() < 1e-12);
        // Every text has the learned one ahead by a half.
        assert_eq!(first.behind.map(|d| (d.mean, d.low, d.high)), Some((0.5, 0.5, 0.5)));
        assert!(learned.behind.is_none());
        assert!(recovery(&all, "another", 200).is_err());
        assert_eq!(recovered(&[], &[]), Recovered { recall: 0.0, precision: 0.0, whole: true, keep_ratio: 0.0 });
    }
}
