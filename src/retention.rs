//! Surface content of the prefix that a gist keeps: numbers, names, identifiers, punctuation, script, copied tokens.
//!
//! Text is cut into words: runs of letters, digits and `_`, accents and other marks included; a number runs on over `.` or `,`
//! between digits (`1,024.5`); in scripts that are written without blanks, words come from a dictionary ([`crate::text`]).
//!
//! * **number**: a word that starts with a digit of any script and holds only digits, separators, hexadecimal or an exponent.
//! * **identifier**: a word that looks like code: `snake_case`, several capitals within (`camelCase`, `HTTPServer`), letters
//!   with digits (`x2`), called (`open(`), or an attribute (`self.name`); at least two characters, no common keyword.
//! * **name**: a capitalised word of at least two letters, not an identifier, seen somewhere that no sentence begins.
//!
//! "Kept" is the share of the prefix's distinct ones that the gist contains as whole words, exactly as written.

mod function_words;
mod words;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use unicode_script::{Script, UnicodeScript};
use words::{Word, characters, distinct, words};

/// Surface figures of one gist, or their means over many. `None`: undefined (nothing to keep, or an empty gist).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Share of the prefix's distinct numbers that the gist contains.
    pub numbers_kept: Option<f64>,
    /// Share of the prefix's distinct capitalised names that the gist contains.
    pub names_kept: Option<f64>,
    /// Share of the prefix's distinct identifiers that the gist contains.
    pub identifiers_kept: Option<f64>,
    /// Share of the answers of the window's probes that stand in the gist as they are written; only where probes ask, set by
    /// [`Retention::with_answers`].
    #[serde(default)]
    pub answers_kept: Option<f64>,
    /// Share of the gist's visible characters that are neither letters nor digits.
    pub punctuation_density: Option<f64>,
    /// Punctuation density of the prefix, to compare with.
    pub prefix_punctuation_density: Option<f64>,
    /// Script mix: share of the gist's letters that are not Latin.
    pub non_latin_share: Option<f64>,
    /// Share of the prefix's letters that are not Latin, to compare with.
    pub prefix_non_latin_share: Option<f64>,
    /// Share of the gist's tokens that also occur in the prefix; set by [`Retention::with_ids`].
    pub copied: Option<f64>,
    /// Distinct tokens over tokens of the gist; set by [`Retention::with_ids`].
    pub type_token: Option<f64>,
    /// Share of the gist's words that are function words of English.
    #[serde(default)]
    pub function_words: Option<f64>,
    /// Share of function words in the prefix, to compare with.
    #[serde(default)]
    pub prefix_function_words: Option<f64>,
}

/// The text figures of `gist` against `prefix`.
pub fn retention(prefix: &str, gist: &str) -> Retention {
    let (source, kept) = (words(prefix), words(gist));
    let present: BTreeSet<&str> = kept.iter().map(|word| word.text).collect();
    let share = |wanted: BTreeSet<&str>| {
        let found = wanted.iter().filter(|word| present.contains(*word)).count();
        (!wanted.is_empty()).then(|| found as f64 / wanted.len() as f64)
    };
    Retention {
        numbers_kept: share(distinct(&source, Word::is_number)),
        names_kept: share(distinct(&source, Word::is_name)),
        identifiers_kept: share(distinct(&source, Word::is_identifier)),
        answers_kept: None,
        punctuation_density: punctuation_density(gist),
        prefix_punctuation_density: punctuation_density(prefix),
        non_latin_share: non_latin_share(gist),
        prefix_non_latin_share: non_latin_share(prefix),
        copied: None,
        type_token: None,
        function_words: function_words::share(&kept),
        prefix_function_words: function_words::share(&source),
    }
}

impl Retention {
    /// Adds the two token figures.
    pub fn with_ids(self, prefix: &[u32], gist: &[u32]) -> Self {
        let source: BTreeSet<u32> = prefix.iter().copied().collect();
        let distinct: BTreeSet<u32> = gist.iter().copied().collect();
        let of_gist = |count: usize| (!gist.is_empty()).then(|| count as f64 / gist.len() as f64);
        let copied = gist.iter().filter(|id| source.contains(id)).count();
        Retention { copied: of_gist(copied), type_token: of_gist(distinct.len()), ..self }
    }

    /// Adds the share of `answers` that stand in `gist`, blanks around them and a full stop behind them apart.
    pub fn with_answers(self, answers: &[String], gist: &str) -> Self {
        let bare = |answer: &String| answer.trim().trim_end_matches('.').to_string();
        let kept = answers.iter().map(bare).filter(|answer| gist.contains(answer.as_str())).count();
        let answers_kept = (!answers.is_empty()).then(|| kept as f64 / answers.len() as f64);
        Retention { answers_kept, ..self }
    }

    /// Every figure with its name, in a fixed order; metrics log them as `text/<name>`.
    pub fn named(&self) -> [(&'static str, Option<f64>); 12] {
        [
            ("numbers_kept", self.numbers_kept),
            ("names_kept", self.names_kept),
            ("identifiers_kept", self.identifiers_kept),
            ("answers_kept", self.answers_kept),
            ("punctuation_density", self.punctuation_density),
            ("prefix_punctuation_density", self.prefix_punctuation_density),
            ("non_latin_share", self.non_latin_share),
            ("prefix_non_latin_share", self.prefix_non_latin_share),
            ("copied", self.copied),
            ("type_token", self.type_token),
            ("function_words", self.function_words),
            ("prefix_function_words", self.prefix_function_words),
        ]
    }
}

/// Means over many pairs; each figure over the pairs for which it is defined.
pub fn mean(all: &[Retention]) -> Retention {
    let over = |figure: fn(&Retention) -> Option<f64>| {
        let defined: Vec<f64> = all.iter().filter_map(figure).collect();
        (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
    };
    Retention {
        numbers_kept: over(|r| r.numbers_kept),
        names_kept: over(|r| r.names_kept),
        identifiers_kept: over(|r| r.identifiers_kept),
        answers_kept: over(|r| r.answers_kept),
        punctuation_density: over(|r| r.punctuation_density),
        prefix_punctuation_density: over(|r| r.prefix_punctuation_density),
        non_latin_share: over(|r| r.non_latin_share),
        prefix_non_latin_share: over(|r| r.prefix_non_latin_share),
        copied: over(|r| r.copied),
        type_token: over(|r| r.type_token),
        function_words: over(|r| r.function_words),
        prefix_function_words: over(|r| r.prefix_function_words),
    }
}

/// Places of names and numbers in a text; names that follow one another make one.
pub fn names_and_numbers(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<(Range<usize>, bool)> = Vec::new();
    for word in words(text).iter().filter(|word| word.is_name() || word.is_number()) {
        let (start, is_name) = (word.before.len(), word.is_name());
        match found.last_mut() {
            Some((last, true)) if is_name && &text[last.end..start] == " " => last.end = start + word.text.len(),
            _ => found.push((start..start + word.text.len(), is_name)),
        }
    }
    found.into_iter().map(|(place, _)| place).collect()
}

fn punctuation_density(text: &str) -> Option<f64> {
    let visible = characters(text).map(|(_, c)| c).filter(|c| !c.is_whitespace() && !c.is_control());
    let (mut count, mut marks) = (0usize, 0usize);
    for c in visible {
        count += 1;
        marks += usize::from(!c.is_alphanumeric());
    }
    (count > 0).then(|| marks as f64 / count as f64)
}

fn non_latin_share(text: &str) -> Option<f64> {
    let (mut letters, mut other) = (0usize, 0usize);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        match c.script() {
            Script::Common | Script::Inherited | Script::Unknown => {}
            script => {
                letters += 1;
                other += usize::from(script != Script::Latin);
            }
        }
    }
    (letters > 0).then(|| other as f64 / letters as f64)
}

/// Agreement of the tokens kept of a text with its labelled tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Recovered {
    /// Share of the labelled tokens that were kept.
    pub recall: f64,
    /// Share of the kept tokens that are labelled; 0 when nothing was kept.
    pub precision: f64,
    /// Whether all of them were kept.
    pub whole: bool,
    /// Kept tokens over those of the text.
    pub keep_ratio: f64,
}

/// The figures for the tokens `kept` (positions) of a text whose labelled ones are `wanted`.
pub fn recovered(kept: &[usize], wanted: &[bool]) -> Recovered {
    let labelled = wanted.iter().filter(|wanted| **wanted).count();
    let hits = kept.iter().filter(|&&at| wanted.get(at).copied().unwrap_or(false)).count();
    let share = |count: usize, of: usize| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    Recovered {
        recall: share(hits, labelled),
        precision: share(hits, kept.len()),
        whole: hits == labelled,
        keep_ratio: share(kept.len(), wanted.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CODE: &str = "class HTTPConnection:\n    def __init__(self, host, port=8080, timeout=2.5):\n        self.host = host\n        \
                        self._maxRetries = 0x1F\n        if not is_open(host):\n            raise ValueError('port2')\n";
    const PROSE: &str = "The treaty was signed in Vienna on 9 June 1815 by Mr. Castlereagh. It cost 1,250.75 florins. \
                         \"Never again,\" said Prince Metternich. Then he left for Paris, and\nLondon was told.";

    fn found<'a>(text: &'a str, wanted: fn(&Word<'a>) -> bool) -> Vec<&'a str> {
        distinct(&words(text), wanted).into_iter().collect()
    }

    #[test]
    fn an_answer_is_kept_where_it_stands_as_it_is_written() {
        let kept = |answers: &[&str], gist: &str| {
            let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
            retention("", gist).with_answers(&answers, gist).answers_kept
        };
        assert_eq!(kept(&[" a heron.", " 4711."], "The mascot is a heron. The code is 4712."), Some(0.5));
        assert_eq!(kept(&[" Alma Vance."], "alma Vance"), Some(0.0));
        assert_eq!(kept(&[], "a heron"), None);
    }

    #[test]
    fn code_gives_identifiers_and_numbers() {
        let identifiers = found(CODE, Word::is_identifier);
        assert_eq!(
            identifiers,
            ["HTTPConnection", "ValueError", "__init__", "_maxRetries", "host", "is_open", "port2"]
        );
        assert_eq!(found(CODE, Word::is_number), ["0x1F", "2.5", "8080"]);
        assert!(found(CODE, Word::is_name).is_empty());
    }

    #[test]
    fn prose_gives_names_and_numbers() {
        assert_eq!(
            found(PROSE, Word::is_name),
            ["Castlereagh", "June", "London", "Metternich", "Mr", "Paris", "Prince", "Vienna"]
        );
        assert_eq!(found(PROSE, Word::is_number), ["1,250.75", "1815", "9"]);
        assert!(found(PROSE, Word::is_identifier).is_empty());
    }

    #[test]
    fn other_scripts_have_words_and_numbers_too() {
        assert_eq!(found("१२.५ रुपये, ２０２４年 ๒๕๖๗ Ⅷ", Word::is_number), ["१२.५", "๒๕๖๗", "Ⅷ", "２０２４"]);
        let said = |text| words(text).into_iter().map(|word| word.text).collect::<Vec<_>>();
        assert_eq!(said("क्या हिन्दी"), ["क्या", "हिन्दी"], "a word goes on over its signs");
        assert_eq!(said("東京大学2024年"), ["東京", "大学", "2024", "年"]);
        assert_eq!(
            found("In Paris, E\u{301}cole Polytechnique。Then", Word::is_name),
            ["E\u{301}cole", "Paris", "Polytechnique"]
        );
        // One emoji of several code points, one letter with its accent.
        assert_eq!(retention("", "👩\u{200d}👩\u{200d}👧 e\u{301}").punctuation_density, Some(0.5));
    }

    #[test]
    fn kept_needs_the_whole_word_as_written() {
        let r = retention(PROSE, "Vienna 1815; metternich London's 250.75 Par");
        assert_eq!(r.names_kept, Some(2.0 / 8.0));
        assert_eq!(r.numbers_kept, Some(1.0 / 3.0));
        assert_eq!(r.identifiers_kept, None);
        let r = retention(CODE, "is_open( host 8080 _max Retries");
        assert_eq!(r.identifiers_kept, Some(2.0 / 7.0));
        assert_eq!(r.numbers_kept, Some(1.0 / 3.0));
        assert_eq!(r.names_kept, None);
    }

    #[test]
    fn everything_and_nothing() {
        let all = retention(PROSE, PROSE);
        assert_eq!((all.names_kept, all.numbers_kept), (Some(1.0), Some(1.0)));
        assert_eq!(all.punctuation_density, all.prefix_punctuation_density);
        let none = retention(PROSE, "").with_ids(&[1, 2], &[]);
        assert_eq!((none.names_kept, none.numbers_kept), (Some(0.0), Some(0.0)));
        assert_eq!((none.punctuation_density, none.non_latin_share), (None, None));
        assert_eq!((none.copied, none.type_token), (None, None));
        assert_eq!(retention("", "x").numbers_kept, None);
    }

    #[test]
    fn density_and_script() {
        assert_eq!(retention("", "ab; c;;").punctuation_density, Some(3.0 / 6.0));
        assert_eq!(retention("", "port 連線 Ω 42").non_latin_share, Some(3.0 / 7.0));
        assert_eq!(retention("", "naïve Œuvre").non_latin_share, Some(0.0));
        assert_eq!(retention("", "42 ;").non_latin_share, None);
    }

    #[test]
    fn token_figures() {
        let r = Retention::default().with_ids(&[5, 6, 7, 8], &[5, 5, 9, 8]);
        assert_eq!((r.copied, r.type_token), (Some(0.75), Some(0.75)));
    }

    #[test]
    fn means_skip_the_undefined() {
        let a = Retention { numbers_kept: Some(1.0), copied: Some(0.5), ..Retention::default() };
        let b = Retention { copied: Some(1.0), ..Retention::default() };
        let m = mean(&[a, b]);
        assert_eq!((m.numbers_kept, m.copied, m.names_kept), (Some(1.0), Some(0.75), None));
        assert_eq!(mean(&[]), Retention::default());
    }

    #[test]
    fn named_lists_every_field() {
        let json = serde_json::to_value(Retention::default()).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, Retention::default().named().map(|(name, _)| name));
    }

    #[test]
    fn odd_text_does_not_panic() {
        for text in ["…", "é.", "Ünï. Ab", "1.", "1,", "_", "__", "😀.X", "漢字. Ab", "\u{301}"] {
            retention(text, text);
        }
    }
}
