//! HotpotQA (Yang et al. 2018): answers with the yes/no rule, supporting facts, and both together.

use crate::grading::squad::{self, WordOverlap, words};
use std::collections::BTreeSet;

/// Answers that are right or wrong as a whole.
const CLOSED: [&str; 3] = ["yes", "no", "noanswer"];

/// WordOverlap of two answers. Where one is yes, no or noanswer and the other is another, it is 0.
pub fn overlap(prediction: &str, reference: &str) -> WordOverlap {
    let (predicted, wanted) = (words(prediction), words(reference));
    let is_closed = |own: &[String]| CLOSED.contains(&own.join(" ").as_str());
    if (is_closed(&predicted) || is_closed(&wanted)) && predicted != wanted {
        return WordOverlap::default();
    }
    squad::overlap(&predicted, &wanted)
}

/// A sentence of a paragraph: its title, and its number from 0.
pub type SupportingFact = (String, usize);

/// Exact match, F1, precision and recall of an example.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FactGrade {
    /// 1 where both sets are the same.
    pub exact_match: f64,
    /// WordOverlap of the two.
    pub overlap: WordOverlap,
}

/// Supporting facts that were named against those that are wanted.
pub fn supporting_facts(prediction: &[SupportingFact], reference: &[SupportingFact]) -> FactGrade {
    let (predicted, wanted): (BTreeSet<&SupportingFact>, BTreeSet<&SupportingFact>) =
        (prediction.iter().collect(), reference.iter().collect());
    let both = predicted.intersection(&wanted).count() as f64;
    let share = |of: usize| if of > 0 { both / of as f64 } else { 0.0 };
    let (precision, recall) = (share(predicted.len()), share(wanted.len()));
    let exact_match = f64::from(u8::from(predicted == wanted));
    FactGrade { exact_match, overlap: WordOverlap { f1: harmonic(precision, recall), precision, recall } }
}

/// Answer and supporting facts together: products of exact match, precision and recall.
pub fn joint(prediction: &str, reference: &str, facts: FactGrade) -> FactGrade {
    let answer = overlap(prediction, reference);
    let (precision, recall) = (answer.precision * facts.overlap.precision, answer.recall * facts.overlap.recall);
    let exact_match = squad::exact_match(prediction, reference) * facts.exact_match;
    FactGrade { exact_match, overlap: WordOverlap { f1: harmonic(precision, recall), precision, recall } }
}

fn harmonic(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 }
}
