//! Variable tracking: a chain of assignments in repeated sentences; all variables of the chain are asked for.

use crate::data::task::ruler::needles::{NOISE, places};
use crate::data::task::ruler::ruler_task::Drawn;
use crate::rng::below;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// Assignments behind the first.
const HOPS: usize = 4;
/// Letters of a variable, and of one of the worked example.
const LETTERS: [usize; 2] = [5, 3];
/// Sentences of the worked example, whose prompt has less than 500 tokens.
const EXAMPLE: usize = 5;

const BEFORE: &str = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n";

/// Different variables of a chain.
fn variables(letters: usize, draws: &mut ChaCha8Rng) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    while all.len() < HOPS + 1 {
        let name: String = (0..letters).map(|_| (b'A' + below(draws, 26) as u8) as char).collect();
        if seen.insert(name.clone()) {
            all.push(name);
        }
    }
    all
}

fn chain(haystack: usize, letters: usize, draws: &mut ChaCha8Rng) -> Drawn {
    let variables = variables(letters, draws);
    let value = 10_000 + below(draws, 89_999);
    let mut said = vec![format!("VAR {} = {value}", variables[0])];
    said.extend(variables.windows(2).map(|pair| format!("VAR {} = VAR {} ", pair[1], pair[0])));
    let mut sentences = vec![NOISE.to_string(); haystack];
    for (at, (place, assignment)) in places(haystack, said.len(), draws).into_iter().zip(said).enumerate() {
        sentences.insert((place + at).min(sentences.len()), assignment);
    }
    let query = format!("Find all variables that are assigned the value {value} in the text above.");
    let begun = format!(
        "Answer: According to the chain(s) of variable assignment in the text above, {} variables are assigned the value {value}, \
         they are: ",
        HOPS + 1
    );
    Drawn {
        before: BEFORE.into(),
        context: sentences.join("\n").replace(". \n", ".\n"),
        after: format!("\nQuestion: {query} {begun}"),
        query,
        answers: variables,
    }
}

/// A row with `haystack` sentences, behind a worked example or not.
pub(super) fn draw(haystack: usize, with_example: bool, draws: &mut ChaCha8Rng) -> Drawn {
    let mut own = chain(haystack, LETTERS[0], draws);
    if with_example {
        let example = chain(EXAMPLE, LETTERS[1], draws);
        own.before = format!("{} {}\n\n{BEFORE}", example.text(), example.answers.join(" "));
    }
    own
}
