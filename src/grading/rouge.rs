//! ROUGE-L at the level of summaries, as the Python package `rouge` computes it (sentences end at full stops; words count once).

use crate::grading::squad::is_blank;
use std::collections::BTreeSet;

/// The words of each sentence. One of blanks only has one empty word, as there.
fn sentences(text: &str) -> Vec<Vec<&str>> {
    let parts = text.split('.').filter(|part| !part.is_empty());
    let words = parts.map(|part| part.split(is_blank).filter(|word| !word.is_empty()).collect::<Vec<_>>());
    words.map(|words| if words.is_empty() { vec![""] } else { words }).collect()
}

/// Words of the longest common subsequence of two sentences.
fn common<'a>(reference: &[&'a str], evaluated: &[&'a str]) -> BTreeSet<&'a str> {
    let (rows, columns) = (reference.len(), evaluated.len());
    let mut lengths = vec![vec![0usize; columns + 1]; rows + 1];
    for i in 1..=rows {
        for j in 1..=columns {
            lengths[i][j] = match reference[i - 1] == evaluated[j - 1] {
                true => lengths[i - 1][j - 1] + 1,
                false => lengths[i - 1][j].max(lengths[i][j - 1]),
            };
        }
    }
    let (mut i, mut j, mut words) = (rows, columns, BTreeSet::new());
    while i > 0 && j > 0 {
        if reference[i - 1] == evaluated[j - 1] {
            words.insert(reference[i - 1]);
            (i, j) = (i - 1, j - 1);
        } else if lengths[i - 1][j] > lengths[i][j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    words
}

/// F of ROUGE-L of a prediction for a reference; 0 where either has no words.
pub(super) fn rouge_l(prediction: &str, reference: &str) -> f64 {
    let (evaluated, wanted) = (sentences(prediction), sentences(reference));
    if evaluated.is_empty() || wanted.is_empty() {
        return 0.0;
    }
    let distinct = |all: &[Vec<&str>]| all.iter().flatten().collect::<BTreeSet<_>>().len() as f64;
    let mut union: BTreeSet<&str> = BTreeSet::new();
    for sentence in &wanted {
        evaluated.iter().for_each(|own| union.extend(common(sentence, own)));
    }
    let (recall, precision) = (union.len() as f64 / distinct(&wanted), union.len() as f64 / distinct(&evaluated));
    2.0 * ((precision * recall) / (precision + recall + 1e-8))
}
