//! Probes that ask for the text round the facts.

use crate::data::facts::FactsDocument;
use crate::text::sentences;
use std::ops::Range;

/// Words of a sentence that a cloze shows at least.
const LEAST_WORDS: usize = 4;

impl FactsDocument {
    /// Clozes of the text round the facts, with their answers, in its order: of each sentence up to the first of its `places`,
    /// which are those of names and numbers, behind a few words. Sentences without one have none.
    pub fn unasked(&self, places: &dyn Fn(&str) -> Vec<Range<usize>>) -> Vec<(String, String)> {
        let is_fact = |start: usize, end: usize| self.facts.iter().any(|f| f.place.start < end && start < f.place.end);
        let text = sentences(&self.context).into_iter().filter(|place| !is_fact(place.start, place.end));
        text.filter_map(|place| cloze(self.context[place].trim(), places)).collect()
    }
}

fn cloze(sentence: &str, places: &dyn Fn(&str) -> Vec<Range<usize>>) -> Option<(String, String)> {
    let behind = |start: usize| sentence[..start].split_whitespace().count() >= LEAST_WORDS;
    let place =
        places(sentence).into_iter().find(|place| behind(place.start) && sentence[..place.start].ends_with(' '))?;
    Some((sentence[..place.start].trim_end().to_string(), format!(" {}", &sentence[place])))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Places of the names and numbers of these sentences.
    fn names_and_numbers(text: &str) -> Vec<Range<usize>> {
        let known = ["New York", "1869", "1,024", "Rome", "Paris", "Osmond", "4711", "1900"];
        let mut places: Vec<Range<usize>> =
            known.iter().flat_map(|word| text.match_indices(word).map(|(at, _)| at..at + word.len())).collect();
        places.sort_by_key(|place| place.start);
        places
    }

    #[test]
    fn a_cloze_ends_before_a_name_or_a_number() {
        let asked =
            |sentence: &str| cloze(sentence, &names_and_numbers).map(|(local, future)| format!("{local}|{future}"));
        assert_eq!(asked("He was born in New York in 1869.").unwrap(), "He was born in| New York");
        assert_eq!(asked("It was taken again in 1,024 days.").unwrap(), "It was taken again in| 1,024");
        assert_eq!(asked("In Rome it rained."), None, "too few words before it");
        assert_eq!(asked("nobody ever knew why it was so"), None);
    }

    #[test]
    fn facts_are_not_asked_for() {
        let context =
            "At the end of it all came Paris. The code of the Osmond archive is 4711. So it was in the year 1900.";
        let fact = "The code of the Osmond archive is 4711.";
        let start = context.find(fact).unwrap();
        let mut document = FactsDocument { source: 0, context: context.into(), facts: Vec::new() };
        assert_eq!(document.unasked(&names_and_numbers).len(), 3);
        document.facts.push(crate::data::facts::Fact {
            sentence: fact.into(),
            place: start..start + fact.len(),
            attribute: "code".into(),
            entity: "Osmond archive".into(),
            value: "4711".into(),
            kind: crate::data::facts::Kind::Code,
            seen: true,
            local: "The code of the Osmond archive is".into(),
            future: " 4711.".into(),
        });
        let asked = document.unasked(&names_and_numbers);
        assert_eq!(asked[0], ("At the end of it all came".to_string(), " Paris".to_string()));
        assert_eq!(asked[1], ("So it was in the year".to_string(), " 1900".to_string()));
        assert_eq!(asked.len(), 2);
    }
}
