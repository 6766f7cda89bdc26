//! Nouns, adjectives and verbs: the lists of wonderwords (MIT), from which RULER draws.

use std::sync::LazyLock;

/// A line a word, its kind before it.
const PACKED: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/ruler/words.txt.zst"));

/// Words by kind, in the order of the lists.
#[derive(Default)]
pub(super) struct Words {
    /// Nouns.
    pub nouns: Vec<String>,
    /// Adjectives.
    pub adjectives: Vec<String>,
    /// All words, sorted, each once.
    pub all: Vec<String>,
}

/// The lists, unpacked once.
pub(super) static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let text = zstd::decode_all(PACKED).unwrap_or_default();
    let mut words = Words::default();
    for (kind, word) in String::from_utf8_lossy(&text).lines().filter_map(|line| line.split_once('\t')) {
        match kind {
            "noun" => words.nouns.push(word.into()),
            "adjective" => words.adjectives.push(word.into()),
            _ => {}
        }
        words.all.push(word.into());
    }
    words.all.sort();
    words.all.dedup();
    words
});
