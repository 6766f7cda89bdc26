//! Words that are frequent: common words of a numbered list, and coded words whose counts fall as a power of their rank.

use crate::data::task::ruler::ruler_task::Drawn;
use crate::data::task::ruler::words::WORDS;
use crate::rng::{below, choose};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// Common words that are asked for.
const COMMON: usize = 10;
/// Length below which words are repeated less often, in tokens.
const SHORT: usize = 4096;
/// Letters of a coded word.
const LETTERS: usize = 6;
/// Tokens of text for each coded word of the vocabulary.
const TOKENS_A_WORD: usize = 50;
/// Sum of 1/k² over all k: the zeta function at 2.
const ZETA: f64 = std::f64::consts::PI * std::f64::consts::PI / 6.0;

const LIST: &str = "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n";
const LIST_QUESTION: &str = "What are the 10 most common words in the above list?";
const LIST_ANSWER: &str = "Answer: The top 10 words that appear most often in the list are:";

const CODED: &str = "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared \
                     coded words. ";
const CODED_QUESTION: &str = "Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently \
                              appeared words in the above coded text?";
const CODED_ANSWER: &str = "Answer: According to the coded text above, the three most frequently appeared words are:";

fn numbered<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.enumerate().map(|(at, word)| format!("{}. {word}", at + 1)).collect::<Vec<_>>().join(" ")
}

fn shuffled<T: Clone>(all: &[T], draws: &mut ChaCha8Rng) -> Vec<T> {
    choose(draws, all.len(), all.len()).into_iter().map(|at| all[at].clone()).collect()
}

/// A list with so many different words, each common and each other one repeated so often, and the common words.
fn list(count: usize, [common, other]: [usize; 2], draws: &mut ChaCha8Rng) -> (String, Vec<String>) {
    let drawn: Vec<&str> = choose(draws, WORDS.all.len(), count).into_iter().map(|at| WORDS.all[at].as_str()).collect();
    let (often, seldom) = drawn.split_at(COMMON.min(drawn.len()));
    let all = [often.repeat(common), seldom.repeat(other)].concat();
    (numbered(shuffled(&all, draws).into_iter()), often.iter().map(|word| word.to_string()).collect())
}

/// A list of `haystack` different words; none where the word lists have fewer, or fewer are wanted than are asked for.
pub(super) fn common_words(
    haystack: usize,
    tokens: usize,
    with_example: bool,
    draws: &mut ChaCha8Rng,
) -> Option<Drawn> {
    if !(COMMON..=WORDS.all.len()).contains(&haystack) {
        return None;
    }
    // Words of the example, how often its words are repeated, and those of the row: common ones and others.
    let (example, taught, asked) = match (with_example, tokens < SHORT) {
        (false, _) => (0, [0, 0], [3, 1]),
        (true, true) => (20, [3, 1], [6, 1]),
        (true, false) => (40, [10, 3], [30, 3]),
    };
    let after = format!("\nQuestion: {LIST_QUESTION} {LIST_ANSWER}");
    let mut before = String::new();
    if with_example {
        let (context, words) = list(example, taught, draws);
        before = format!("{LIST}{context}{after} {}\n", numbered(words.iter().map(String::as_str)));
    }
    let (context, answers) = list(haystack, asked, draws);
    Some(Drawn { before: before + LIST, context, after, query: LIST_QUESTION.into(), answers })
}

/// Coded text of about `haystack` words.
pub(super) fn coded_words(haystack: usize, tokens: usize, draws: &mut ChaCha8Rng) -> Drawn {
    let size = (tokens / TOKENS_A_WORD).max(4);
    let mut seen = BTreeSet::new();
    while seen.len() < size {
        seen.insert((0..LETTERS).map(|_| (b'a' + below(draws, 26) as u8) as char).collect::<String>());
    }
    let mut words = shuffled(&seen.into_iter().collect::<Vec<_>>(), draws);
    // The most frequent one is noise.
    words[0] = "...".into();
    let count = |rank: usize| (haystack as f64 / (rank * rank) as f64 / ZETA) as usize;
    let text: Vec<String> =
        words.iter().enumerate().flat_map(|(at, word)| std::iter::repeat_n(word.clone(), count(at + 1))).collect();
    Drawn {
        before: CODED.into(),
        context: shuffled(&text, draws).join(" "),
        after: format!("\nQuestion: {CODED_QUESTION} {CODED_ANSWER}"),
        query: CODED_QUESTION.into(),
        answers: words[1..4].to_vec(),
    }
}
