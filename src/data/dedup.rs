//! Near-duplicate documents: Jaccard similarity of 5-word shingles (Broder 1997), exact, by an inverted index rather than by
//! MinHash sketches: the texts compared against are held-out splits, small enough to index whole.

use std::hash::{DefaultHasher, Hash, Hasher};

use rayon::prelude::*;

const WORDS: usize = 5;
/// Bits of the filter for each shingle of the index: a shingle that is not in the index passes with a chance of 1 in so many.
const FILTER_BITS: usize = 16;

/// Two texts that resemble each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Index of the text.
    pub text: usize,
    /// Index of the one among those compared against.
    pub other: usize,
    /// Jaccard similarity of their shingles, in (0, 1].
    pub similarity: f64,
}

/// The pairs of a text of `texts` and one of `against` whose similarity is over `threshold`, in their order.
///
/// Words are runs of letters, digits and underscores; a text of fewer than five is one shingle, and one without any resembles
/// nothing. Memory grows with `against`: put the smaller split there.
pub fn near_duplicates(texts: &[&str], against: &[&str], threshold: f64) -> Vec<Near> {
    let index = Index::of(against);
    let search = |(text, words): (usize, &&str)| {
        let found = index.search(words, threshold);
        found.into_iter().map(|(other, similarity)| Near { text, other, similarity }).collect::<Vec<_>>()
    };
    texts.par_iter().enumerate().flat_map_iter(search).collect()
}

/// Inverted index: the texts that have a shingle.
struct Index {
    /// Distinct shingles of each text.
    sets: Vec<Vec<u64>>,
    /// Shingle and text, ascending.
    postings: Vec<(u64, u32)>,
    /// Bit `hash % bits` is set for every shingle: most that are in no text are told by one look.
    filter: Vec<u64>,
}

impl Index {
    fn of(texts: &[&str]) -> Index {
        let sets: Vec<Vec<u64>> = texts.par_iter().map(|text| distinct(shingles(text))).collect();
        let mut postings: Vec<(u64, u32)> =
            sets.iter().enumerate().flat_map(|(i, set)| set.iter().map(move |&s| (s, i as u32))).collect();
        postings.par_sort_unstable();
        let words = (postings.len() * FILTER_BITS).div_ceil(64).next_power_of_two();
        let mut index = Index { sets, postings, filter: vec![0; words] };
        for i in 0..index.postings.len() {
            let (word, bit) = index.place(index.postings[i].0);
            index.filter[word] |= bit;
        }
        index
    }

    fn place(&self, shingle: u64) -> (usize, u64) {
        (shingle as usize / 64 % self.filter.len(), 1 << (shingle % 64))
    }

    fn may_have(&self, shingle: u64) -> bool {
        let (word, bit) = self.place(shingle);
        self.filter[word] & bit != 0
    }

    /// The entries of a shingle.
    fn entries(&self, shingle: u64) -> &[(u64, u32)] {
        let from = &self.postings[self.postings.partition_point(|&(s, _)| s < shingle)..];
        &from[..from.partition_point(|&(s, _)| s == shingle)]
    }

    /// Texts whose similarity with `text` is over `threshold`, ascending, with the similarity.
    ///
    /// More than `threshold · n` of the n shingles must be common. So one of them is among any n − ⌊threshold · n⌋ shingles of
    /// `text`, and it is enough to look at the rarest so many (Bayardo et al. 2007, prefix filtering): a licence at the head
    /// of every file makes no candidates.
    fn search(&self, text: &str, threshold: f64) -> Vec<(usize, f64)> {
        let all = shingles(text);
        if !all.iter().any(|&shingle| self.may_have(shingle)) {
            return Vec::new();
        }
        let set = distinct(all);
        let known = set.iter().filter(|&&shingle| self.may_have(shingle)).map(|&shingle| self.entries(shingle));
        let mut known: Vec<&[(u64, u32)]> = known.filter(|entries| !entries.is_empty()).collect();
        let looked_at = set.len() - (threshold * set.len() as f64) as usize;
        let unknown = set.len() - known.len();
        known.sort_by_key(|entries| entries.len());
        known.truncate(looked_at.saturating_sub(unknown));
        let mut candidates: Vec<u32> = known.iter().flat_map(|entries| entries.iter().map(|&(_, i)| i)).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let similar = candidates.into_iter().filter_map(|i| {
            let other = &self.sets[i as usize];
            let common = common(&set, other);
            let union = (set.len() + other.len() - common) as f64;
            (common as f64 > threshold * union).then(|| (i as usize, common as f64 / union))
        });
        similar.collect()
    }
}

/// Number of elements that two ascending lists share.
fn common(a: &[u64], b: &[u64]) -> usize {
    let (mut i, mut j, mut count) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        count += usize::from(a[i] == b[j]);
        let (x, y) = (a[i], b[j]);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    count
}

fn distinct(mut shingles: Vec<u64>) -> Vec<u64> {
    shingles.sort_unstable();
    shingles.dedup();
    shingles
}

/// Hashes of the runs of five words, in their order.
fn shingles(text: &str) -> Vec<u64> {
    let words: Vec<u64> =
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty()).map(hash).collect();
    match words.len() {
        0 => Vec::new(),
        n if n < WORDS => vec![hash(&words[..])],
        _ => words.windows(WORDS).map(hash).collect(),
    }
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

    fn random_words(seed: u64, n: usize) -> Vec<String> {
        let mut rng = rng(seed, Stream::Synthetic, 0, 0, 0);
        (0..n).map(|_| format!("w{}", below(&mut rng, 300))).collect()
    }

    fn pairs(texts: &[String], against: &[String], threshold: f64) -> Vec<(usize, usize)> {
        let [texts, against] = [texts, against].map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
        near_duplicates(&texts, &against, threshold).iter().map(|near| (near.text, near.other)).collect()
    }

    #[test]
    fn finds_an_edited_copy_and_not_another_text() {
        let original = random_words(1, 1000);
        let mut edited = original.clone();
        for i in (50..1000).step_by(100) {
            edited[i] = "changed".into();
        }
        let join = |words: &[String]| words.join(" ");
        let against = [join(&random_words(2, 800)), join(&original)];
        let texts = [join(&edited), join(&random_words(3, 1000)), join(&original[..300]), String::new()];
        assert_eq!(pairs(&texts, &against, 0.7), [(0, 1)]);
        // 10 changed words spoil 50 of 996 shingles: 946 shared of 1046
        assert_eq!(pairs(&texts[..1], &against, 0.90), [(0, 1)]);
        assert_eq!(pairs(&texts[..1], &against, 0.91), []);
        let near = near_duplicates(&[&texts[0]], &[&against[0], &against[1]], 0.5);
        assert_eq!(near, [Near { text: 0, other: 1, similarity: 946.0 / 1046.0 }]);
    }

    #[test]
    fn the_index_finds_what_comparing_every_pair_finds() {
        // Texts that share a long head, and parts of one another.
        let head = random_words(9, 60);
        let make = |seed: u64| -> String {
            let mut rng = rng(seed, Stream::Synthetic, 1, 0, 0);
            let mut words = head[..below(&mut rng, 60)].to_vec();
            for _ in 0..1 + below(&mut rng, 3) {
                let source = random_words(below(&mut rng, 4) as u64, 100);
                let from = below(&mut rng, 60);
                words.extend_from_slice(&source[from..from + 10 + below(&mut rng, 30)]);
            }
            words.join(" ")
        };
        let texts: Vec<String> = (0..60).map(make).collect();
        let against: Vec<String> = (100..140).map(make).collect();
        let sets =
            |all: &[String]| -> Vec<BTreeSet<u64>> { all.iter().map(|t| shingles(t).into_iter().collect()).collect() };
        let (left, right) = (sets(&texts), sets(&against));
        for threshold in [0.1, 0.3, 0.5, 0.8] {
            let mut expected = Vec::new();
            for (i, a) in left.iter().enumerate() {
                for (j, b) in right.iter().enumerate() {
                    if a.intersection(b).count() as f64 > threshold * a.union(b).count() as f64 {
                        expected.push((i, j));
                    }
                }
            }
            assert_eq!(pairs(&texts, &against, threshold), expected, "{threshold}");
            assert!(threshold > 0.3 || expected.len() > 20);
        }
    }

    #[test]
    fn punctuation_and_short_texts() {
        let near = |a: &str, b: &str| !near_duplicates(&[a], &[b], 0.99).is_empty();
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
        let texts = splits.each_ref().map(|docs| docs.iter().map(|d| d.text.as_str()).collect::<Vec<_>>());
        for (docs, against) in [(0, 1), (0, 2), (1, 2)] {
            assert_eq!(near_duplicates(&texts[docs], &texts[against], 0.5), []);
        }
        assert_eq!(near_duplicates(&texts[2], &texts[2], 0.7).len(), 115);
    }
}
