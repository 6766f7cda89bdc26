//! Needle in a haystack: a key with a value, in repeated sentences or among needles of other keys.

use crate::data::task::ruler::ruler_task::{Drawn, RulerTask};
use crate::data::task::ruler::words::WORDS;
use crate::rng::{below, choose};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Sentences of the haystack without needles.
pub(super) const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

fn word(draws: &mut ChaCha8Rng) -> String {
    let (adjectives, nouns) = (&WORDS.adjectives, &WORDS.nouns);
    format!("{}-{}", adjectives[below(draws, adjectives.len())], nouns[below(draws, nouns.len())])
}

/// Seven digits.
fn number(draws: &mut ChaCha8Rng) -> String {
    (1_000_000 + below(draws, 9_000_000)).to_string()
}

/// A random UUID, version 4.
fn uuid(draws: &mut ChaCha8Rng) -> String {
    let bits = u128::from(draws.next_u64()) << 64 | u128::from(draws.next_u64());
    let marked = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{marked:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A row with `haystack` sentences.
pub(super) fn draw(task: RulerTask, haystack: usize, draws: &mut ChaCha8Rng) -> Drawn {
    let by_uuid = task == RulerTask::NiahMultikey3;
    let (kind, kinds) = if by_uuid { ("uuid", "uuids") } else { ("number", "numbers") };
    let key = |draws: &mut ChaCha8Rng| if by_uuid { uuid(draws) } else { word(draws) };
    let value = |draws: &mut ChaCha8Rng| if by_uuid { uuid(draws) } else { number(draws) };
    let said = |key: &str, value: &str| format!("One of the special magic {kinds} for {key} is: {value}.");
    let (wanted, answer) = (key(draws), value(draws));
    let place = below(draws, haystack.max(1));
    let mut sentences: Vec<String> = (0..haystack)
        .map(|_| match task == RulerTask::NiahSingle1 {
            true => NOISE.to_string(),
            false => said(&key(draws), &value(draws)),
        })
        .collect();
    sentences.insert(place.min(sentences.len()), said(&wanted, &answer));
    let question = format!("What is the special magic {kind} for {wanted} mentioned in the provided text?");
    let begun = format!("The special magic {kind} for {wanted} mentioned in the provided text is");
    Drawn {
        before: format!(
            "A special magic {kind} is hidden within the following text. Make sure to memorize it. I will quiz you about the \
             {kind} afterwards.\n"
        ),
        context: sentences.join("\n"),
        after: format!("\n{question} {begun}"),
        query: question,
        answers: vec![answer],
    }
}

/// `count` different places among `haystack`, ascending.
pub(super) fn places(haystack: usize, count: usize, draws: &mut ChaCha8Rng) -> Vec<usize> {
    let mut places = choose(draws, haystack.max(count), count);
    places.sort_unstable();
    places
}
