//! Near-duplicate documents: Jaccard similarity of 5-word shingles (Broder 1997), exact, by an inverted index rather
//! than by MinHash sketches: the set compared against is a held-out split, small enough to index whole.

use std::hash::{DefaultHasher, Hash, Hasher};

use rayon::prelude::*;

use super::Document;

const WORDS: usize = 5;

/// For each of `docs`, whether its similarity with some document of `against` is over `threshold`.
///
/// Words are runs of letters, digits and underscores; a document of fewer than five is one shingle, and one without any
/// resembles nothing. Memory grows with `against`: put the smaller split there.
pub fn near_duplicates(docs: &[Document], against: &[Document], threshold: f64) -> Vec<bool> {
    let sets: Vec<Vec<u64>> = against.par_iter().map(|d| shingles(&d.text)).collect();
    let mut index: Vec<(u64, u32)> =
        sets.iter().enumerate().flat_map(|(i, set)| set.iter().map(move |&s| (s, i as u32))).collect();
    index.par_sort_unstable();
    let search = |doc: &Document| {
        let set = shingles(&doc.text);
        let mut shared = vec![0usize; sets.len()];
        for &shingle in &set {
            let first = index.partition_point(|&(s, _)| s < shingle);
            for &(_, i) in index[first..].iter().take_while(|&&(s, _)| s == shingle) {
                shared[i as usize] += 1;
            }
        }
        let over = |(&common, other): (&usize, &Vec<u64>)| {
            common > 0 && common as f64 > threshold * (set.len() + other.len() - common) as f64
        };
        shared.iter().zip(&sets).any(over)
    };
    docs.par_iter().map(search).collect()
}

/// Sorted distinct hashes of the runs of five words.
fn shingles(text: &str) -> Vec<u64> {
    let words: Vec<u64> =
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).map(hash).collect();
    let mut set: Vec<u64> = match words.len() {
        0 => Vec::new(),
        n if n < WORDS => vec![hash(&words[..])],
        _ => words.windows(WORDS).map(hash).collect(),
    };
    set.sort_unstable();
    set.dedup();
    set
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::read_documents;
    use crate::rng::{Stream, below, rng};
    use std::collections::BTreeSet;
    use std::path::Path;

    fn document(words: &[String]) -> Document {
        Document { id: String::new(), text: words.join(" "), source: String::new() }
    }

    fn random_words(seed: u64, n: usize) -> Vec<String> {
        let mut rng = rng(seed, Stream::Synthetic, 0, 0, 0);
        (0..n).map(|_| format!("w{}", below(&mut rng, 300))).collect()
    }

    #[test]
    fn finds_an_edited_copy_and_not_another_text() {
        let original = random_words(1, 1000);
        let mut edited = original.clone();
        for i in (50..1000).step_by(100) {
            edited[i] = "changed".into();
        }
        let against = [document(&random_words(2, 800)), document(&original)];
        let docs = [document(&edited), document(&random_words(3, 1000)), document(&original[..300]), document(&[])];
        assert_eq!(near_duplicates(&docs, &against, 0.7), [true, false, false, false]);
        // 10 changed words spoil 50 of 996 shingles: 946 shared of 1046
        assert_eq!(near_duplicates(&docs[..1], &against, 0.90), [true]);
        assert_eq!(near_duplicates(&docs[..1], &against, 0.91), [false]);
    }

    #[test]
    fn punctuation_and_short_texts() {
        let text = |s: &str| Document { id: String::new(), text: s.into(), source: String::new() };
        let near = |a: &str, b: &str| near_duplicates(&[text(a)], &[text(b)], 0.99)[0];
        assert!(near("def f(a, b): return a+b", "def f ( a,b ):\n    return a + b"));
        assert!(near("one two", "one, two!"));
        assert!(!near("one two", "one three"));
        assert!(!near("...", "!!!"));
    }

    #[test]
    fn shipped_splits_do_not_overlap() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/code");
        let read = |split: &str| read_documents(&root.join(format!("{split}.jsonl.zst"))).unwrap();
        let splits = [read("train"), read("valid"), read("test")];
        assert_eq!(splits.each_ref().map(Vec::len), [1797, 101, 115]);
        let sources = splits.each_ref().map(|docs| docs.iter().map(|d| d.source.as_str()).collect::<BTreeSet<_>>());
        assert_eq!(sources.each_ref().map(BTreeSet::len), [69, 6, 9]);
        assert!(sources[0].is_disjoint(&sources[1]) && sources[0].is_disjoint(&sources[2]));
        assert!(sources[1].is_disjoint(&sources[2]));
        for (docs, against) in [(0, 1), (0, 2), (1, 2)] {
            assert!(near_duplicates(&splits[docs], &splits[against], 0.5).iter().all(|&found| !found));
        }
        assert!(near_duplicates(&splits[2], &splits[2], 0.7).iter().all(|&found| found));
    }
}
