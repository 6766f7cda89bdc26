//! Facts set into running text, and the probes that ask for them: contexts of which it is known what will be asked.
//!
//! ```text
//! context   … sentence. At the Osmond archive, the mascot is a heron. sentence. sentence. The access code of … is 4711. …
//! local     At the Osmond archive, the mascot is           one probe a fact, behind a blank line
//! future    " a heron."
//! ```
//!
//! A fact is an attribute of an entity with a value ([`templates`]). Its sentence stands between two sentences of the text,
//! at a random place. Entities and people of one split are named in no other ([`words`]); half of the attributes that
//! validation and test state, and half of the ways in which they state them, are in no other split.
//!
//! A compressor that learns that facts are asked for gives up the rest; probes that ask for names and numbers of the text round
//! the facts ([`FactsDocument::unasked`]) say how much.

mod templates;
mod unasked;
mod values;
mod words;

pub use templates::Kind;

use crate::data::Split;
use crate::error::{Error, Result};
use crate::rng::{self, Stream};
use crate::text::sentences;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use templates::{Attribute, attribute, phrasings};

/// Seed of all generated facts: they are a data set, the same for every run.
const SEED: u64 = 0;

/// Sizes of the contexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactsShape {
    /// Most tokens of a context, its facts included.
    pub tokens: usize,
    /// Facts in a context, each with one probe.
    pub facts: usize,
}

/// A fact of a context, and the probe that asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The sentence that states it.
    pub sentence: String,
    /// Its place in the context, bytes.
    pub place: Range<usize>,
    /// Its attribute.
    pub attribute: String,
    /// Its entity, without article.
    pub entity: String,
    /// The value.
    pub value: String,
    /// Kind of the value.
    pub kind: Kind,
    /// Whether training states this attribute.
    pub seen: bool,
    /// Text that asks for it: the beginning of a sentence.
    pub local: String,
    /// The answer: a space, the value and a full stop.
    pub future: String,
}

impl Fact {
    /// The fact as a plain sentence, the same way for all.
    pub fn stated(&self) -> String {
        format!("The {} of the {} is {}.", self.attribute, self.entity, self.value)
    }

    /// The fact in as few words as a reader can use: entity, attribute, value.
    pub fn noted(&self) -> String {
        format!("{} {}: {};", self.entity, self.attribute, self.value)
    }
}

/// A text with facts set into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsDocument {
    /// Index of the text.
    pub source: usize,
    /// The text.
    pub context: String,
    /// The facts in the order of the text.
    pub facts: Vec<Fact>,
}

impl FactsDocument {
    /// The facts in at most `most` tokens: what a compressor that knew them would write. As plain sentences, as far as they
    /// fit; of more, the last ones as notes.
    pub fn stated(&self, most: usize, tokens: &dyn Fn(&str) -> Result<usize>) -> Result<String> {
        let mut text = String::new();
        for sentences in (0..=self.facts.len()).rev() {
            let (stated, noted) = self.facts.split_at(sentences);
            let parts = stated.iter().map(Fact::stated).chain(noted.iter().map(Fact::noted));
            text = parts.collect::<Vec<_>>().join(" ");
            if tokens(&text)? <= most {
                break;
            }
        }
        Ok(text)
    }
}

/// The context of this index: consecutive sentences of one of `texts` with facts between them, as long as `shape.tokens`
/// allows. A function of its arguments. `tokens` counts the tokens of a text.
///
/// # Errors
/// No text is long enough, or `tokens` fails.
pub fn facts_document(
    texts: &[&str],
    shape: FactsShape,
    split: Split,
    index: u64,
    tokens: &dyn Fn(&str) -> Result<usize>,
) -> Result<FactsDocument> {
    let mut draw = rng::rng(SEED, Stream::Synthetic, 10 + split as u64, index, 0);
    let mut facts = draw_facts(&mut draw, shape.facts, split);
    let mut left = shape.tokens;
    for fact in &facts {
        left = left.saturating_sub(tokens(&format!(" {}", fact.sentence))?);
    }
    let (source, sentences) = haystack(&mut draw, texts, left, tokens)?;
    // Never before the first sentence: a fact would stand out by its place.
    let mut places: Vec<usize> = (0..facts.len()).map(|_| 1 + rng::below(&mut draw, sentences.len())).collect();
    places.sort_unstable();
    let (mut context, mut next) = (String::new(), 0);
    for (i, sentence) in sentences.iter().enumerate() {
        context.push_str(sentence);
        while places.get(next) == Some(&(i + 1)) {
            let blank = if context.ends_with(char::is_whitespace) { "" } else { " " };
            context.push_str(blank);
            let start = context.len();
            context.push_str(&facts[next].sentence);
            facts[next].place = start..context.len();
            if i + 1 < sentences.len() || next + 1 < facts.len() {
                context.push(' ');
            }
            next += 1;
        }
    }
    Ok(FactsDocument { source, context, facts })
}

/// `count` facts about different entities, half of them on average of attributes that training never states (none in
/// training). In training one fact in four states the attribute of the first: two values of one attribute are what a
/// compressor mixes up, and few of its many attributes meet by chance.
fn draw_facts(draw: &mut ChaCha8Rng, count: usize, split: Split) -> Vec<Fact> {
    let (entities, phrasings, mut first) = (words::entities(draw, split, count), phrasings(split), None);
    let fact = |entity: String| {
        let drawn = attribute(draw, split);
        let repeated = split == Split::Train && rng::below(draw, 4) == 0;
        let Attribute { key, kind, seen, value } = first.clone().filter(|_| repeated).unwrap_or(drawn);
        first.get_or_insert_with(|| Attribute { key: key.clone(), kind, seen, value });
        let value = value(draw, split);
        let local = asked(phrasings[rng::below(draw, phrasings.len())], &key, &entity);
        Fact {
            sentence: format!("{local} {value}."),
            place: 0..0,
            kind,
            seen,
            local,
            attribute: key,
            future: format!(" {value}."),
            entity,
            value,
        }
    };
    entities.into_iter().map(fact).collect()
}

/// The words of a phrasing before the value.
fn asked(phrasing: &str, attribute: &str, entity: &str) -> String {
    let places = [("{k}", attribute), ("{e}", &format!("the {entity}")), ("{E}", &format!("The {entity}"))];
    places.iter().fold(phrasing.to_string(), |text, (place, with)| text.replace(place, with))
}

/// Index of a random text and consecutive sentences of it from a random place on, at least two, together at most `most` tokens.
fn haystack<'t>(
    draw: &mut ChaCha8Rng,
    texts: &[&'t str],
    most: usize,
    tokens: &dyn Fn(&str) -> Result<usize>,
) -> Result<(usize, Vec<&'t str>)> {
    for source in rng::choose(draw, texts.len(), texts.len()) {
        let text = texts[source];
        let all: Vec<&str> = sentences(text).into_iter().map(|place| &text[place]).collect();
        let sizes = all.iter().map(|sentence| tokens(sentence)).collect::<Result<Vec<usize>>>()?;
        // A text that ends before the context is full is as unusable as one that begins with too long a sentence.
        let taken = |first: usize| {
            let mut used = 0;
            let fits = sizes[first..].iter().take_while(|size| {
                used += **size;
                used <= most
            });
            Some(fits.count()).filter(|taken| *taken >= 2 && first + taken < all.len())
        };
        let places: Vec<(usize, usize)> = (0..all.len()).filter_map(|first| Some((first, taken(first)?))).collect();
        if !places.is_empty() {
            let (first, taken) = places[rng::below(draw, places.len())];
            return Ok((source, all[first..first + taken].to_vec()));
        }
    }
    Err(Error::invalid(format!("facts: expected a text of which some sentences fill {most} tokens, got none")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const TEXT: &str = "One fish swims. Two birds fly over the old town. A third thing happens here. Nobody knows why it is so. \
        The year ended well. People went home again. It rained for days. The river rose. Then it fell. All was quiet again.\n";

    fn words(text: &str) -> Result<usize> {
        Ok(text.split_whitespace().count())
    }

    fn documents(split: Split) -> Vec<FactsDocument> {
        let text = TEXT.repeat(8);
        let shape = FactsShape { tokens: 96, facts: 3 };
        (0..200).map(|i| facts_document(&[&text], shape, split, i, &words).unwrap()).collect()
    }

    #[test]
    fn every_fact_stands_where_it_says_and_is_asked_for() {
        for document in documents(Split::Test) {
            assert!(words(&document.context).unwrap() <= 96, "{}", document.context);
            assert_eq!(document.facts.len(), 3);
            for fact in &document.facts {
                assert_eq!(&document.context[fact.place.clone()], fact.sentence);
                assert!(fact.sentence.to_lowercase().contains(&fact.value.to_lowercase()), "{fact:?}");
                assert!(!fact.sentence.contains(['{', '}']));
                assert_eq!(format!("{}{}", fact.local, fact.future), fact.sentence);
                assert_eq!(fact.future, format!(" {}.", fact.value));
            }
            let rest =
                document.facts.iter().fold(document.context.clone(), |text, fact| text.replace(&fact.sentence, ""));
            let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(squeezed(&TEXT.repeat(9)).contains(&squeezed(&rest)), "the text between the facts is untouched");
        }
    }

    #[test]
    fn entities_of_a_split_and_half_of_its_attributes_are_in_no_other() {
        let facts = |split| documents(split).into_iter().flat_map(|document| document.facts).collect::<Vec<_>>();
        let (train, test) = (facts(Split::Train), facts(Split::Test));
        let named = |facts: &[Fact]| -> BTreeSet<String> {
            facts.iter().filter_map(|fact| Some(fact.entity.split_once(' ')?.0.to_string())).collect()
        };
        assert!(named(&train).is_disjoint(&named(&test)));
        let unseen = test.iter().filter(|fact| !fact.seen).count();
        assert!((240..360).contains(&unseen), "{unseen} of 600");
        assert!(train.iter().all(|fact| fact.seen));
    }

    #[test]
    fn facts_of_a_training_context_are_more_alike_than_chance_would_have_them() {
        let share = |split, same: fn(&Fact, &Fact) -> bool| {
            let documents = documents(split);
            let alike = documents.iter().filter(|d| d.facts[1..].iter().any(|fact| same(fact, &d.facts[0]))).count();
            alike as f64 / documents.len() as f64
        };
        fn name(fact: &Fact) -> Option<&str> {
            Some(fact.entity.split_once(' ')?.0)
        }
        assert!(share(Split::Train, |a, b| a.attribute == b.attribute) > 0.35);
        assert!(share(Split::Test, |a, b| a.attribute == b.attribute) < 0.2);
        assert!(share(Split::Train, |a, b| name(a) == name(b)) > 0.15, "coined names hardly meet by chance");
        for document in documents(Split::Train) {
            let entities: BTreeSet<&str> = document.facts.iter().map(|fact| fact.entity.as_str()).collect();
            assert_eq!(entities.len(), 3, "{entities:?}");
        }
    }

    #[test]
    fn half_of_the_ways_to_state_a_fact_are_in_no_other_split() {
        for split in [Split::Valid, Split::Test] {
            let (own, trained) = (phrasings(split), phrasings(Split::Train));
            assert_eq!(own.iter().filter(|one| !trained.contains(one)).count(), 4);
            assert_eq!(own.len(), 8);
        }
    }

    #[test]
    fn facts_are_stated_in_as_many_tokens_as_there_are() {
        let document = &documents(Split::Test)[0];
        let whole = document.stated(1000, &words).unwrap();
        assert_eq!(whole, document.facts.iter().map(Fact::stated).collect::<Vec<_>>().join(" "));
        let mixed = document.stated(words(&whole).unwrap() - 1, &words).unwrap();
        assert!(mixed.ends_with(&document.facts[2].noted()));
        assert!(mixed.starts_with(&format!("{} {}", document.facts[0].stated(), document.facts[1].stated())));
        let least = document.stated(1, &words).unwrap();
        assert_eq!(least, document.facts.iter().map(Fact::noted).collect::<Vec<_>>().join(" "));
        assert!(document.facts.iter().all(|fact| least.contains(&fact.value)));
    }

    #[test]
    fn a_document_is_a_function_of_its_index_and_none_is_like_another() {
        let all: BTreeSet<String> = documents(Split::Train).into_iter().map(|document| document.context).collect();
        assert_eq!(all.len(), 200);
        assert_eq!(documents(Split::Train), documents(Split::Train));
    }

    #[test]
    fn too_short_a_text_is_said() {
        let shape = FactsShape { tokens: 96, facts: 3 };
        let message = facts_document(&["Short."], shape, Split::Train, 0, &words).unwrap_err().to_string();
        assert!(message.contains("facts: expected a text"), "{message}");
    }
}
