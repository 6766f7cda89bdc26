//! Qasper (Dasigi et al. 2021): token F1 by the type of the reference that fits best, and F1 of evidence paragraphs.

use crate::grading::squad;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Type of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerType {
    /// Spans of the paper.
    Extractive,
    /// An annotator's own words.
    Abstractive,
    /// Yes or no.
    Boolean,
    /// Not to be answered from the paper.
    None,
}

/// The best token F1 over the annotators, with the type of that reference; of equal ones the first. None without a reference.
pub fn answer_f1(prediction: &str, references: &[(String, AnswerType)]) -> Option<(f64, AnswerType)> {
    let mut best: Option<(f64, AnswerType)> = None;
    for (reference, kind) in references {
        let f1 = squad::f1(prediction, reference);
        if best.is_none_or(|(most, _)| f1 > most) {
            best = Some((f1, *kind));
        }
    }
    best
}

/// F1 of evidence paragraphs against those of one annotator; two empty lists have 1.
pub fn evidence_f1(prediction: &[String], reference: &[String]) -> f64 {
    if prediction.is_empty() && reference.is_empty() {
        return 1.0;
    }
    let wanted: BTreeSet<&String> = reference.iter().collect();
    let both = prediction.iter().collect::<BTreeSet<_>>().intersection(&wanted).count();
    if both == 0 {
        return 0.0;
    }
    let (precision, recall) = (both as f64 / prediction.len() as f64, both as f64 / reference.len() as f64);
    (2.0 * precision * recall) / (precision + recall)
}
