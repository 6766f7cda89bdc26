//! Rules that a shorter form must keep, after the sanitising step of compression-layer (`scripts/data_sanitization.py`, rules A
//! to D). Where these differ: `n't` is found inside a word, of which theirs finds none, and what counts as code is
//! [`Domain::of`].

use crate::condense::pairs::rows::PairRow;
use crate::data::pairs::Domain;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// Symbols of dense notation, which join what stands on both sides of them.
const SYMBOLS: [char; 5] = ['→', '|', '@', '∵', ':'];
/// Symbols that negate.
const NOT: [char; 3] = ['¬', '~', '!'];
const NEGATIONS: [&str; 11] =
    ["not", "no", "never", "neither", "nor", "without", "none", "nothing", "nobody", "nowhere", "cannot"];
const PLACES: [&str; 14] = [
    "located in",
    "located at",
    "based in",
    "situated in",
    "found in",
    "positioned at",
    "positioned in",
    "place is",
    "place was",
    "city of",
    "town of",
    "on the shores of",
    "near the",
    "by the",
];
const CAUSES: [&str; 14] = [
    "because of",
    "due to",
    "caused by",
    "as a result of",
    "leads to",
    "results in",
    "led to",
    "resulted in",
    "owing to",
    "on account of",
    "thanks to",
    "consequently",
    "therefore",
    "thus",
];

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A: not more tokens than the text.
    Length,
    /// B: no symbol at the beginning or the end or beside another, `:` at the end, `::`, and a decorator's `@` in code excepted.
    Symbols,
    /// C: prose that denies something is made shorter by a text that denies something.
    Negation,
    /// D: prose that says where has an `@`, prose that says why a `∵`. For pairs in that notation only.
    Notation,
}

impl Rule {
    /// All rules, in the order in which they are looked at.
    pub const ALL: [Self; 4] = [Self::Length, Self::Symbols, Self::Negation, Self::Notation];

    /// Name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Symbols => "symbols",
            Self::Negation => "negation",
            Self::Notation => "notation",
        }
    }

    /// Fault of a pair by this rule, in words; none where it keeps it.
    pub fn broken(self, pair: &PairRow, tokenizer: &Tokenizer) -> Result<Option<String>> {
        let PairRow { verbose, compressed, domain, .. } = pair;
        let is_code = *domain == Domain::Code;
        Ok(match self {
            Self::Length => {
                let ratio = pair.token_ratio(tokenizer)?;
                (ratio > 1.0).then(|| format!("{ratio:.2} times the tokens of the text"))
            }
            Self::Symbols => loose_symbol(compressed.trim(), is_code),
            Self::Negation if !is_code && denies(verbose) && !denies(compressed) && !compressed.contains(NOT) => {
                Some("the text denies something, its shorter form does not".into())
            }
            Self::Notation if !is_code => {
                let lower = verbose.to_lowercase();
                let lacks = |words: &[&str], symbol: char| {
                    words.iter().any(|word| lower.contains(word)) && !compressed.contains(symbol)
                };
                let missing = [("where", &PLACES, '@'), ("why", &CAUSES, '∵')];
                let missing = missing.into_iter().find(|(_, words, symbol)| lacks(*words, *symbol));
                missing.map(|(what, _, symbol)| format!("the text says {what}, its shorter form has no {symbol:?}"))
            }
            Self::Negation | Self::Notation => None,
        })
    }
}

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|rule| rule.name() == name).ok_or(format!("expected one of {names}, got {name:?}"))
    }
}

/// Whether a text has a word that denies.
fn denies(text: &str) -> bool {
    let lower = text.to_lowercase().replace('’', "'");
    let mut words = lower.split(|c: char| !c.is_alphanumeric() && c != '\'');
    words.any(|word| NEGATIONS.contains(&word) || word.ends_with("n't"))
}

/// The first fault of the symbols of a text.
fn loose_symbol(text: &str, is_code: bool) -> Option<String> {
    let is_symbol = |c: &char| SYMBOLS.contains(c);
    if let Some(first) = text.chars().next().filter(is_symbol)
        && !(is_code && first == '@')
    {
        return Some(format!("begins with {first:?}"));
    }
    if let Some(last) = text.chars().last().filter(is_symbol)
        && last != ':'
    {
        return Some(format!("ends with {last:?}"));
    }
    let beside = |(a, b): &(char, char)| is_symbol(a) && is_symbol(b) && (*a, *b) != (':', ':');
    text.chars().zip(text.chars().skip(1)).find(beside).map(|(a, b)| format!("has {a:?} beside {b:?}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::condense::pairs::rows::tests::{pair, row};

    fn broken(rule: Rule, verbose: &str, compressed: &str) -> Option<String> {
        let tokenizer = Tokenizer::train(["the sky is blue"].into_iter(), 280).unwrap();
        rule.broken(&pair(verbose, compressed), &tokenizer).unwrap()
    }

    #[test]
    fn a_shorter_form_is_not_longer() {
        assert_eq!(broken(Rule::Length, "the sky is blue", "sky blue"), None);
        assert!(broken(Rule::Length, "the sky", "the sky is blue").unwrap().contains("times the tokens"));
    }

    #[test]
    fn symbols_join_two_things() {
        let symbols = |text| broken(Rule::Symbols, "some prose of a few words", text);
        for good in ["a → b | c", "std::vec", "result:", "x@y", ""] {
            assert_eq!(symbols(good), None, "{good}");
        }
        for (bad, expected) in [("→ b", "begins with '→'"), ("a |", "ends with '|'"), ("a |@ b", "has '|' beside '@'")]
        {
            assert_eq!(symbols(bad).unwrap(), expected);
        }
        let code = r#"{"verbose": "@property\ndef f(self):\n    return 1", "compressed": "@property def f: 1", "domain": "code"}"#;
        let tokenizer = Tokenizer::train(["code"].into_iter(), 260).unwrap();
        assert_eq!(Rule::Symbols.broken(&row(code).unwrap(), &tokenizer).unwrap(), None, "a decorator");
    }

    #[test]
    fn what_is_denied_stays_denied() {
        let negation = |verbose, compressed| broken(Rule::Negation, verbose, compressed).is_some();
        assert!(negation("It does not rain.", "It rains."));
        assert!(negation("It doesn't rain.", "It rains.") && negation("It doesn’t rain.", "rain"));
        assert!(!negation("It does not rain.", "¬rain") && !negation("It doesn't rain.", "no rain"));
        assert!(!negation("Notes on nobility.", "Notes: nobility"), "words that only begin so");
        assert!(negation("None came.", "Notes"));
    }

    #[test]
    fn notation_is_asked_for_in_prose() {
        assert!(broken(Rule::Notation, "It is located in Rome.", "it: Rome").unwrap().contains("where"));
        assert!(broken(Rule::Notation, "It fell due to rain.", "fell: rain").unwrap().contains("why"));
        assert_eq!(broken(Rule::Notation, "It fell due to rain.", "fell ∵ rain"), None);
        assert_eq!("notation".parse(), Ok(Rule::Notation));
        assert!("word".parse::<Rule>().unwrap_err().contains("length, symbols, negation, notation"));
    }
}
