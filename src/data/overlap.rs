//! One document in two splits: what is evaluated on was learned from. Found word for word, and nearly so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dedup::near_duplicates;
use crate::error::{Error, Result};

/// Jaccard similarity of 5-word shingles above which two texts count as one document.
pub(super) const NEARLY: f64 = 0.5;
/// Pairs that an [`SplitOverlap`] names.
const NAMED: usize = 3;

/// The texts of a split, with the key that names it and the names of the texts.
pub struct SplitTexts<'a> {
    /// Key of the configuration, such as `data.test`.
    pub key: &'a str,
    /// Name and text of each document.
    pub documents: Vec<(&'a str, &'a str)>,
}

/// Documents that two splits share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitOverlap {
    /// Key of the split that is learned from first, such as `data.train`.
    pub split: String,
    /// Key of the other split, such as `data.test`.
    pub held_out: String,
    /// Documents of the other split.
    pub documents: usize,
    /// Documents of the other split that are in the first word for word.
    pub same: usize,
    /// Documents of the other split that are nearly in the first: more than half of all runs of five words are common.
    pub near: usize,
    /// Some of the pairs of such documents, the most alike first.
    pub pairs: Vec<SharedPair>,
}

/// A document of one split and its like in another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedPair {
    /// Name of the document in the first split.
    pub document: String,
    /// Name of the document in the other split.
    pub held_out: String,
    /// Jaccard similarity of their runs of five words, 1 when they are equal.
    pub similarity: f64,
}

impl fmt::Display for SplitOverlap {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let SplitOverlap { split, held_out, documents, same, near, pairs } = self;
        write!(f, "{held_out}: {} of {documents} documents are in {split} too", same + near)?;
        write!(f, " ({same} word for word, {near} nearly): ")?;
        let named = pairs.iter().map(|pair| format!("`{}` (there: `{}`)", pair.held_out, pair.document));
        write!(f, "{}", named.collect::<Vec<_>>().join(", "))?;
        if same + near > pairs.len() { write!(f, ", …") } else { Ok(()) }
    }
}

/// Documents that each two of these splits share, in their order; splits that share nothing are left out.
pub fn overlaps(splits: &[SplitTexts]) -> Vec<SplitOverlap> {
    let mut found = Vec::new();
    for (i, split) in splits.iter().enumerate() {
        let others: Vec<(usize, usize)> =
            (i + 1..splits.len()).flat_map(|o| (0..splits[o].documents.len()).map(move |d| (o, d))).collect();
        let held_out: Vec<&str> = others.iter().map(|&(o, d)| splits[o].documents[d].1).collect();
        let own: Vec<&str> = split.documents.iter().map(|(_, text)| *text).collect();
        let mut likest = BTreeMap::new();
        for (text, other, similarity) in pairs(&own, &held_out) {
            let best = likest.entry(others[other]).or_insert((text, similarity));
            if similarity > best.1 {
                *best = (text, similarity);
            }
        }
        for (o, other) in splits.iter().enumerate().skip(i + 1) {
            let shared: Vec<(usize, usize, f64)> = likest
                .range((o, 0)..(o + 1, 0))
                .map(|(&(_, document), &(text, similarity))| (text, document, similarity))
                .collect();
            found.extend(overlap(split, other, shared));
        }
    }
    found
}

/// Pairs of a text and one of the others that are equal or nearly so: both indices, and how alike they are.
fn pairs(texts: &[&str], others: &[&str]) -> Vec<(usize, usize, f64)> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    others.iter().enumerate().for_each(|(i, other)| places.entry(other.trim()).or_default().push(i));
    let equal: Vec<(usize, usize, f64)> = (texts.par_iter().enumerate())
        .flat_map_iter(|(i, text)| places.get(text.trim()).into_iter().flatten().map(move |&other| (i, other, 1.0)))
        .collect();
    // What is found word for word is not looked for again: a document that is there many times makes many pairs.
    let done: BTreeSet<usize> = equal.iter().map(|&(_, other, _)| other).collect();
    let left: Vec<usize> = (0..others.len()).filter(|other| !done.contains(other)).collect();
    let rest: Vec<&str> = left.iter().map(|&other| others[other]).collect();
    let near = near_duplicates(texts, &rest, NEARLY);
    equal.into_iter().chain(near.into_iter().map(|near| (near.text, left[near.other], near.similarity))).collect()
}

/// The shared documents of two splits, each with its likest, as one finding; nothing when there are none.
fn overlap(split: &SplitTexts, held_out: &SplitTexts, mut shared: Vec<(usize, usize, f64)>) -> Option<SplitOverlap> {
    let is_same = |&&(text, document, _): &&(usize, usize, f64)| {
        split.documents[text].1.trim() == held_out.documents[document].1.trim()
    };
    let same = shared.iter().filter(is_same).count();
    let near = shared.len() - same;
    shared.sort_by(|a, b| b.2.total_cmp(&a.2));
    let named = shared.iter().take(NAMED).map(|&(text, document, similarity)| SharedPair {
        document: split.documents[text].0.to_string(),
        held_out: held_out.documents[document].0.to_string(),
        similarity,
    });
    (!shared.is_empty()).then(|| SplitOverlap {
        split: split.key.into(),
        held_out: held_out.key.into(),
        documents: held_out.documents.len(),
        same,
        near,
        pairs: named.collect(),
    })
}

/// Warns of what splits share, on stderr; an error when `strict`.
pub fn report(overlaps: &[SplitOverlap], strict: bool) -> Result<()> {
    if strict && !overlaps.is_empty() {
        let all: Vec<String> = overlaps.iter().map(SplitOverlap::to_string).collect();
        let expected = "data.strict_splits: expected splits without common documents, got";
        return Err(Error::invalid(format!("{expected} {}", all.join("; "))));
    }
    overlaps.iter().for_each(|overlap| eprintln!("warning: {overlap}; data.strict_splits = true refuses that"));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(seed: usize) -> String {
        (0..40).map(|i| format!("word{} ", (seed * 7919 + i * i * 31) % 1009)).collect()
    }

    fn split<'a>(key: &'a str, documents: &[(&'a str, &'a str)]) -> SplitTexts<'a> {
        SplitTexts { key, documents: documents.to_vec() }
    }

    #[test]
    fn what_splits_share_is_counted_and_named() {
        let texts: Vec<String> = (1..7).map(text).collect();
        let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|i| texts[i].as_str());
        let edited = a.replacen("word", "other", 1);
        let framed = format!("\n{b}\n");
        let splits = [
            split("data.train", &[("a", a), ("b", b), ("b2", b), ("c", c), ("!", "!?")]),
            split("data.valid", &[("v1", d), ("v2", &framed), ("v3", "!?")]),
            split("data.test", &[("t1", e), ("t2", f), ("t3", &edited)]),
        ];
        let found = overlaps(&splits);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].held_out.as_str(), found[0].documents, found[0].same, found[0].near),
            ("data.valid", 3, 2, 0)
        );
        assert_eq!(
            (found[1].held_out.as_str(), found[1].documents, found[1].same, found[1].near),
            ("data.test", 3, 0, 1)
        );
        assert_eq!((found[1].pairs[0].document.as_str(), found[1].pairs[0].held_out.as_str()), ("a", "t3"));
        // One changed word at the beginning spoils one of 36 runs: 35 of 37.
        assert!((found[1].pairs[0].similarity - 35.0 / 37.0).abs() < 1e-12);
        assert_eq!(
            found[0].to_string(),
            "data.valid: 2 of 3 documents are in data.train too (2 word for word, 0 nearly): `v2` (there: `b`), `v3` (there: `!`)"
        );
        let error = report(&found, true).unwrap_err().to_string();
        assert!(
            error.starts_with("data.strict_splits: expected splits without common documents, got data.valid: 2 of")
        );
        assert!(error.ends_with("(0 word for word, 1 nearly): `t3` (there: `a`)"), "{error}");
        assert!(report(&found, false).is_ok() && report(&[], true).is_ok());
        assert_eq!(overlaps(&splits[..1]), []);
    }

    #[test]
    fn held_out_splits_are_compared_too() {
        let (a, b) = (text(1), text(2));
        let splits =
            [split("data.train", &[]), split("data.valid", &[("v", &a)]), split("data.test", &[("t", &a), ("u", &b)])];
        let found = overlaps(&splits);
        assert_eq!((found.len(), found[0].split.as_str(), found[0].same), (1, "data.valid", 1));
    }
}
