//! Generated documents of known information content: facts hidden among filler, and a future that lists them.
//!
//! ```text
//! prefix   f f note a b v f f f f note c d w f ... f note e g x f     f: filler, a b: entity, v: its attribute
//! local    recall c d                                                 an entity of the prefix
//! future   w e g x a b v                                              its attribute, then the other facts
//! gist     a b v c d w e g x                                          the smallest that suffices
//! ```
//!
//! All words but `note` and `recall` come from one inventory. In a prefix each is drawn without replacement, whatever
//! its role, so no word occurs twice and every role has the same frequencies, in a document and in the corpus: only the
//! place, after `note`, tells a fact from filler. An entity is a pair of words. The pairs are shared out between the
//! splits by their difference on a shuffled ring, so that each split uses every word equally often in either place: a
//! test entity is made of trained words and was never an entity in training (as filler its two words may meet by
//! chance). Facts are listed in a random order that nothing in the prefix tells, and the entity named in the local
//! window is as random, so a gist made without seeing it needs all three words of every fact, and needs no more: given
//! them, the future is as uncertain as given the whole prefix.
//!
//! The texts begin with a space and hold lower-case words between single spaces, so that a tokenizer in which each word
//! is one token gives the same tokens for the parts as for the whole.

use crate::error::{Error, Result};
use crate::rng::{self, Stream};

use super::WindowShape;

/// Consonants that begin a word, vowels, and consonants that end it.
const LETTERS: [&str; 3] = ["bdklmnprtvz", "aeiou", "lmnr"];
/// Largest inventory.
const MOST_WORDS: usize = 220;
/// Announces a fact.
const NOTE: &str = "note";
/// Announces a list of facts.
const RECALL: &str = "recall";
/// Tenths of the entities for training; validation and test have one each.
const TRAIN_TENTHS: usize = 8;

/// Split of a document, which says the entities that it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Eight tenths of the entities.
    Train,
    /// One tenth of the entities, never in a training document.
    Valid,
    /// One tenth of the entities, never in a training or validation document.
    Test,
}

/// Sizes of the documents, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecallConfig {
    /// Inventory: a multiple of 10, at most 220, no less than a prefix holds and six for each fact.
    pub words: usize,
    /// Length of the prefix.
    pub prefix: usize,
    /// Facts in the prefix, of four words each with the marker.
    pub facts: usize,
    /// Times that the facts are listed; above 1 for pretraining, where each list is one more lesson in recall.
    pub rounds: usize,
}

impl Default for RecallConfig {
    fn default() -> Self {
        RecallConfig { words: 120, prefix: 64, facts: 3, rounds: 1 }
    }
}

impl RecallConfig {
    /// Says which size is impossible; the other functions want a configuration that passes.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str, expected: String, got: usize| {
            Err(Error::invalid(format!("recall documents: {what}: expected {expected}, got {got}")))
        };
        if self.facts == 0 {
            return wrong("facts", "at least 1".into(), 0);
        }
        if self.rounds == 0 {
            return wrong("rounds", "at least 1".into(), 0);
        }
        if self.prefix < 4 * self.facts {
            return wrong("prefix", format!("at least {} for {} facts", 4 * self.facts, self.facts), self.prefix);
        }
        // with over half of the ring unused, every split finds a pair
        let least = (self.prefix - self.facts).max(6 * self.facts).max(20);
        if !self.words.is_multiple_of(10) || self.words > MOST_WORDS || self.words < least {
            return wrong("words", format!("a multiple of 10 from {least} to {MOST_WORDS}"), self.words);
        }
        Ok(())
    }

    /// Lengths of prefix, local window and future.
    pub fn shape(&self) -> WindowShape {
        let list = 3 * self.facts;
        WindowShape { prefix: self.prefix, local: 3, future: list - 2 + (self.rounds - 1) * (1 + list) }
    }
}

/// One generated document, in three parts that together are its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallDocument {
    /// Facts among filler.
    pub prefix: String,
    /// `recall` and one of the entities.
    pub local: String,
    /// The attribute of that entity, then the other facts.
    pub future: String,
    /// The facts in the order of the prefix, unmarked.
    pub sufficient_gist: String,
}

impl RecallDocument {
    /// The whole document.
    pub fn text(&self) -> String {
        [self.prefix.as_str(), &self.local, &self.future].concat()
    }
}

/// The document of this index: a function of its arguments.
pub fn recall_document(cfg: &RecallConfig, split: Split, seed: u64, index: u64) -> RecallDocument {
    let mut rng = rng::rng(seed, Stream::Synthetic, split as u64, index, 0);
    let mut unused: Vec<usize> = rng::choose(&mut rng, cfg.words, cfg.words);
    let ring = ring(cfg.words);
    let mut facts: Vec<[usize; 3]> = Vec::with_capacity(cfg.facts);
    while facts.len() < cfg.facts {
        // the next three of a shuffled inventory; put back when the pair belongs to another split
        let [attribute, second, first] = std::array::from_fn(|i| unused[unused.len() - 1 - i]);
        if entity_split(&ring, first, second) == split {
            facts.push([first, second, attribute]);
            unused.truncate(unused.len() - 3);
        } else {
            unused = rng::choose(&mut rng, unused.len(), unused.len()).into_iter().map(|i| unused[i]).collect();
        }
    }
    let units = cfg.prefix - 3 * cfg.facts;
    let mut places = rng::choose(&mut rng, units, cfg.facts);
    places.sort_unstable();
    let mut prefix = WordText::default();
    let mut filler = unused.iter();
    for unit in 0..units {
        match places.binary_search(&unit) {
            Ok(fact) => prefix.marker(NOTE).words(&facts[fact]),
            Err(_) => prefix.words(filler.next().map_or(&[], std::slice::from_ref)),
        };
    }
    let (mut local, mut future) = (WordText::default(), WordText::default());
    for round in 0..cfg.rounds {
        for (place, fact) in rng::choose(&mut rng, cfg.facts, cfg.facts).into_iter().enumerate() {
            match (round, place) {
                (0, 0) => {
                    local.marker(RECALL).words(&facts[fact][..2]);
                    future.words(&facts[fact][2..]);
                }
                (_, 0) => _ = future.marker(RECALL).words(&facts[fact]),
                _ => _ = future.words(&facts[fact]),
            }
        }
    }
    let mut gist = WordText::default();
    gist.words(&facts.concat());
    RecallDocument { prefix: prefix.0, local: local.0, future: future.0, sufficient_gist: gist.0 }
}

#[derive(Default)]
struct WordText(String);

impl WordText {
    fn marker(&mut self, marker: &str) -> &mut Self {
        self.0.push(' ');
        self.0.push_str(marker);
        self
    }

    fn words(&mut self, words: &[usize]) -> &mut Self {
        for &w in words {
            self.marker(&word(w));
        }
        self
    }
}

/// Consonant, vowel, consonant: a different one for each index under 220.
fn word(index: usize) -> String {
    let [first, vowel, last] = LETTERS.map(str::as_bytes);
    let (i, rest) = (index % first.len(), index / first.len());
    let (j, k) = (rest % vowel.len(), rest / vowel.len());
    [first[i], vowel[j], last[k % last.len()]].map(char::from).iter().collect()
}

/// The place of each word on a shuffled ring; the same whatever the seed of the documents.
fn ring(words: usize) -> Vec<usize> {
    rng::choose(&mut rng::rng(0, Stream::Split, words as u64, 0, 0), words, words)
}

fn entity_split(ring: &[usize], first: usize, second: usize) -> Split {
    match (ring[second] + ring.len() - ring[first]) % 10 {
        TRAIN_TENTHS => Split::Valid,
        tenth if tenth > TRAIN_TENTHS => Split::Test,
        _ => Split::Train,
    }
}

/// The split that an entity belongs to.
#[cfg(test)]
pub(super) fn valid_pair(words: usize, first: usize, second: usize) -> Split {
    entity_split(&ring(words), first, second)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    impl RecallConfig {
        /// Length of the sufficient gist.
        fn sufficient(&self) -> usize {
            3 * self.facts
        }

        /// Every word that a document may hold, markers last.
        fn inventory(&self) -> Vec<String> {
            let markers = [NOTE, RECALL].map(String::from);
            (0..self.words).map(word).chain(markers).collect()
        }
    }

    const SPLITS: [Split; 3] = [Split::Train, Split::Valid, Split::Test];

    fn split_words(text: &str) -> Vec<&str> {
        text.split(' ').skip(1).collect()
    }

    fn facts(gist: &str) -> Vec<Vec<&str>> {
        split_words(gist).chunks(3).map(<[&str]>::to_vec).collect()
    }

    #[test]
    fn parts_have_the_sizes_that_the_configuration_says() {
        let configurations = [
            RecallConfig::default(),
            RecallConfig { rounds: 4, ..RecallConfig::default() },
            RecallConfig { words: 20, prefix: 12, facts: 3, rounds: 1 },
            RecallConfig { words: 220, prefix: 200, facts: 8, rounds: 2 },
        ];
        for cfg in configurations {
            cfg.check().unwrap();
            for (i, split) in (0..60).zip(SPLITS.into_iter().cycle()) {
                let d = recall_document(&cfg, split, 1, i);
                let count = |text: &str| split_words(text).len();
                assert_eq!([&d.prefix, &d.local, &d.future].map(|t| count(t)), {
                    let shape = cfg.shape();
                    [shape.prefix, shape.local, shape.future]
                });
                assert_eq!(count(&d.sufficient_gist), cfg.sufficient());
                assert_eq!(count(&d.text()), cfg.shape().total());
                assert_eq!(d, recall_document(&cfg, split, 1, i));
                assert_ne!(d, recall_document(&cfg, split, 2, i));
            }
        }
        let cfg = RecallConfig::default();
        assert!(cfg.sufficient() as f64 <= 0.16 * cfg.prefix as f64);
    }

    #[test]
    fn impossible_sizes_are_named() {
        let message = |cfg: RecallConfig| cfg.check().unwrap_err().to_string();
        let cfg = RecallConfig::default();
        assert!(
            message(RecallConfig { words: 125, ..cfg }).contains("words: expected a multiple of 10 from 61 to 220")
        );
        assert!(message(RecallConfig { words: 60, ..cfg }).contains("got 60"));
        assert!(message(RecallConfig { words: 230, ..cfg }).contains("got 230"));
        assert!(
            message(RecallConfig { prefix: 11, ..cfg }).contains("prefix: expected at least 12 for 3 facts, got 11")
        );
        assert!(message(RecallConfig { facts: 0, ..cfg }).contains("facts"));
        assert!(message(RecallConfig { rounds: 0, ..cfg }).contains("rounds"));
    }

    #[test]
    fn future_is_a_function_of_the_sufficient_gist_and_the_order() {
        let cfg = RecallConfig { rounds: 3, ..RecallConfig::default() };
        let mut orders = BTreeMap::new();
        for i in 0..600 {
            let d = recall_document(&cfg, Split::Train, 3, i);
            let known = facts(&d.sufficient_gist);
            let listed = [&split_words(&d.local)[..], &split_words(&d.future)].concat();
            for (round, list) in listed.chunks(1 + cfg.sufficient()).enumerate() {
                assert_eq!(list[0], RECALL);
                let order: Vec<usize> =
                    list[1..].chunks(3).map(|fact| known.iter().position(|k| k == fact).unwrap()).collect();
                assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), cfg.facts);
                *orders.entry((round, order)).or_insert(0usize) += 1;
            }
        }
        assert_eq!(orders.len(), 3 * 6);
        assert!(orders.values().all(|n| n.abs_diff(100) < 45), "{orders:?}");
    }

    #[test]
    fn facts_stand_after_markers_and_no_word_occurs_twice() {
        let cfg = RecallConfig::default();
        for i in 0..200 {
            let d = recall_document(&cfg, Split::Test, 4, i);
            let prefix = split_words(&d.prefix);
            let marked =
                prefix.iter().enumerate().filter(|(_, w)| **w == NOTE).map(|(i, _)| prefix[i + 1..i + 4].to_vec());
            assert_eq!(marked.collect::<Vec<_>>(), facts(&d.sufficient_gist));
            let others: Vec<_> = prefix.iter().filter(|w| **w != NOTE).collect();
            assert_eq!(others.len(), others.iter().collect::<BTreeSet<_>>().len());
        }
    }

    #[test]
    fn every_role_uses_every_word_equally_often_in_every_split() {
        let cfg = RecallConfig::default();
        for split in SPLITS {
            let mut counts = BTreeMap::new(); // (role, word): entity's first, second, attribute, filler
            for i in 0..3000 {
                let d = recall_document(&cfg, split, 5, i);
                let known = facts(&d.sufficient_gist).concat();
                for word in split_words(&d.prefix) {
                    let role = known.iter().position(|k| *k == word).map_or(3, |p| p % 3);
                    *counts.entry((role, word.to_string())).or_insert(0u32) += 1;
                }
            }
            for role in 0..4 {
                let of_role: Vec<f64> =
                    counts.iter().filter(|((r, w), _)| *r == role && w != NOTE).map(|(_, n)| f64::from(*n)).collect();
                assert_eq!(of_role.len(), cfg.words);
                let mean = of_role.iter().sum::<f64>() / cfg.words as f64;
                // multinomial or narrower: chi-square of 119 degrees of freedom, mean 119, standard deviation 15.4
                let chi_square = of_role.iter().map(|n| (n - mean).powi(2) / mean).sum::<f64>();
                assert!(chi_square < 119.0 + 5.0 * 15.4, "{split:?} role {role}: {chi_square}");
            }
        }
    }

    #[test]
    fn entities_of_the_splits_are_disjoint() {
        let cfg = RecallConfig::default();
        let mut seen = SPLITS.map(|_| BTreeSet::new());
        for (split, seen) in SPLITS.into_iter().zip(&mut seen) {
            for i in 0..8000 {
                let d = recall_document(&cfg, split, i, i);
                seen.extend(facts(&d.sufficient_gist).iter().map(|fact| fact[..2].join(" ")));
            }
        }
        assert!(seen[0].is_disjoint(&seen[1]) && seen[0].is_disjoint(&seen[2]) && seen[1].is_disjoint(&seen[2]));
        // 120 words: 12 partners for each in validation and in test, 96 less itself in training
        assert_eq!([seen[1].len(), seen[2].len()], [1440, 1440]);
        assert!(seen[0].len() > 7000 && seen[0].len() <= 120 * 95);
    }

    #[test]
    fn words_are_distinct_and_no_marker() {
        let cfg = RecallConfig { words: MOST_WORDS, ..RecallConfig::default() };
        let inventory = cfg.inventory();
        assert_eq!(inventory.iter().collect::<BTreeSet<_>>().len(), MOST_WORDS + 2);
        for i in 0..50 {
            let d = recall_document(&RecallConfig::default(), Split::Train, 6, i);
            let words = RecallConfig::default().inventory();
            assert!(split_words(&d.text()).iter().all(|w| words.iter().any(|known| known == w)));
        }
    }
}
