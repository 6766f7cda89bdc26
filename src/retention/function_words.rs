//! Function words of English: articles, prepositions, conjunctions, pronouns, auxiliaries. They tie a sentence together and tell
//! little; notes leave them out.

use super::words::Word;

const FUNCTION_WORDS: [&str; 98] = [
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "before", "being",
    "both", "but", "by", "can", "could", "did", "do", "does", "each", "for", "from", "had", "has", "have", "he", "her",
    "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "may", "me", "might", "more", "most",
    "must", "my", "no", "nor", "not", "of", "on", "or", "our", "out", "over", "shall", "she", "should", "so", "some",
    "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to",
    "under", "up", "us", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "whose",
    "will", "with", "would", "you", "your", "yours",
];

/// Share of function words among the words of a text; none of a text without words.
pub(super) fn share(words: &[Word]) -> Option<f64> {
    let is_one = |word: &&Word| FUNCTION_WORDS.binary_search(&word.text.to_lowercase().as_str()).is_ok();
    (!words.is_empty()).then(|| words.iter().filter(is_one).count() as f64 / words.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::retention;
    use super::*;

    #[test]
    fn the_list_is_sorted() {
        assert!(FUNCTION_WORDS.is_sorted());
    }

    #[test]
    fn notes_have_fewer_than_sentences() {
        let sentence = retention("", "The mascot of the Osmond archive is a heron.");
        let notes = retention("A note of it.", "Osmond archive mascot: heron;");
        assert_eq!((sentence.function_words, notes.function_words), (Some(5.0 / 9.0), Some(0.0)));
        assert_eq!(notes.prefix_function_words, Some(3.0 / 4.0));
        assert_eq!(retention("", "").function_words, None);
    }
}
