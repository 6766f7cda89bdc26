//! Attributes that a generated fact may state: how it is phrased, how it is asked for, and what values it takes.
//!
//! There are two dozen ways to state a fact, so that no fixed string marks one. The probe is a cloze in the words of the
//! sentence that states the fact, up to the value: of a fact that is stated in other words than it is asked for
//! ("A heron, so the sign at the Osmond archive says, is its mascot." and "The mascot of the Osmond archive is") a small
//! teacher, SmolLM2-135M, knows two in five, of one that is stated as it is asked for 97 in 100. What the teacher does not
//! know no gist can tell.
//!
//! Validation and test use attributes and ways that all splits have and, as often, ones that no other split has. Training has
//! its own, and makes up a thousand more attributes, so that nothing is gained by learning them by heart.

use crate::data::Split;
use crate::data::facts::values::{self, pick};
use crate::rng;
use rand_chacha::ChaCha8Rng;

/// The splits that may use an attribute, or a way to state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatedIn {
    /// All splits.
    Common,
    /// Training only.
    Train,
    /// Validation only.
    Valid,
    /// Test only.
    Test,
}

/// The kind of value that an attribute takes; also the slice that a probe is reported in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A person's first and family name.
    Name,
    /// A count or a measure.
    Number,
    /// A year, a day or an hour.
    Date,
    /// An amount of money.
    Money,
    /// An identifier of letters and digits.
    Code,
    /// A town, river or street.
    Place,
    /// The title of a work.
    Title,
    /// Another entity.
    Relation,
    /// A common noun or an adjective.
    Thing,
}

impl Kind {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Name => "name",
            Kind::Number => "number",
            Kind::Date => "date",
            Kind::Money => "money",
            Kind::Code => "code",
            Kind::Place => "place",
            Kind::Title => "title",
            Kind::Relation => "relation",
            Kind::Thing => "thing",
        }
    }
}

/// Draws a value; people and entities are of the split.
pub type DrawValue = fn(&mut ChaCha8Rng, Split) -> String;

/// An attribute of an entity.
#[derive(Clone)]
pub struct Attribute {
    /// Noun phrase, as in "the KEY of the Osmond archive".
    pub key: String,
    /// Kind of its values.
    pub kind: Kind,
    /// Whether training states it.
    pub seen: bool,
    /// Draws a value.
    pub value: DrawValue,
}

/// An attribute of the list.
#[derive(Clone, Copy)]
struct Listed {
    key: &'static str,
    kind: Kind,
    /// Splits that state it.
    group: StatedIn,
    value: DrawValue,
}

/// Ways to state a fact, and to ask for it, with the splits that use them: the words before the value, `{k}` the attribute,
/// `{e}` the entity with its article, `{E}` with a capital. The value and a full stop follow.
const PHRASINGS: [(StatedIn, &str); 24] = [
    (StatedIn::Common, "The {k} of {e} is"),
    (StatedIn::Common, "At {e}, the {k} is"),
    (StatedIn::Common, "{E} has its own {k}, namely"),
    (StatedIn::Common, "The guide to {e} says that its {k} is"),
    (StatedIn::Train, "The {k} of {e} has long been"),
    (StatedIn::Train, "Of {e} it is told that the {k} is"),
    (StatedIn::Train, "Visitors of {e} learn that its {k} is"),
    (StatedIn::Train, "For {e} the {k} was recorded as"),
    (StatedIn::Train, "Few people know the {k} of {e}:"),
    (StatedIn::Train, "In the books of {e} the {k} is given as"),
    (StatedIn::Train, "Since that year the {k} of {e} has been"),
    (StatedIn::Train, "Today the {k} of {e} is still"),
    (StatedIn::Train, "When asked for the {k} of {e}, the council named"),
    (StatedIn::Train, "Those who work at {e} know that its {k} is"),
    (StatedIn::Train, "{E} keeps a note of its {k}, which is"),
    (StatedIn::Train, "As for the {k} of {e}, it is"),
    (StatedIn::Valid, "Letters sent by {e} mention its {k}:"),
    (StatedIn::Valid, "The records of {e} show the {k} to be"),
    (StatedIn::Valid, "Nobody disputes that at {e} the {k} is"),
    (StatedIn::Valid, "{E} lists as its {k}"),
    (StatedIn::Test, "Everyone at {e} gives the {k} as"),
    (StatedIn::Test, "The sign at {e} gives its {k} as"),
    (StatedIn::Test, "Travellers remember that the {k} of {e} was"),
    (StatedIn::Test, "Until this day {e} has as its {k}"),
];

/// Ways in which `split` states facts: the common ones and its own.
pub fn phrasings(split: Split) -> Vec<&'static str> {
    PHRASINGS.iter().filter(|(group, _)| group.of(split).is_some()).map(|(_, words)| *words).collect()
}

const fn listed(key: &'static str, kind: Kind, group: StatedIn, value: DrawValue) -> Listed {
    Listed { key, kind, group, value }
}

/// All listed attributes.
const ATTRIBUTES: [Listed; 56] = [
    listed("director", Kind::Name, StatedIn::Common, values::person),
    listed("founding year", Kind::Date, StatedIn::Common, values::year),
    listed("access code", Kind::Code, StatedIn::Common, values::code),
    listed("annual budget", Kind::Money, StatedIn::Common, values::millions),
    listed("opening hour", Kind::Date, StatedIn::Common, values::hour),
    listed("mascot", Kind::Thing, StatedIn::Common, values::animal),
    listed("floor area", Kind::Number, StatedIn::Common, values::square_metres),
    listed("postal box", Kind::Code, StatedIn::Common, values::box_number),
    listed("nearest river", Kind::Place, StatedIn::Common, values::river),
    listed("visitor count", Kind::Number, StatedIn::Common, values::count),
    listed("street address", Kind::Place, StatedIn::Common, values::street),
    listed("partner institution", Kind::Relation, StatedIn::Common, values::other),
    listed("best known painting", Kind::Title, StatedIn::Common, values::title),
    listed("main colour", Kind::Thing, StatedIn::Common, values::colour),
    listed("chief engineer", Kind::Name, StatedIn::Train, values::person),
    listed("night guard", Kind::Name, StatedIn::Train, values::person),
    listed("first owner", Kind::Name, StatedIn::Train, values::person),
    listed("resident poet", Kind::Name, StatedIn::Train, values::person),
    listed("year of the great fire", Kind::Date, StatedIn::Train, values::year),
    listed("anniversary", Kind::Date, StatedIn::Train, values::day),
    listed("closing hour", Kind::Date, StatedIn::Train, values::hour),
    listed("locker number", Kind::Code, StatedIn::Train, values::code),
    listed("licence plate", Kind::Code, StatedIn::Train, values::plate),
    listed("entrance fee", Kind::Money, StatedIn::Train, values::price),
    listed("construction cost", Kind::Money, StatedIn::Train, values::millions),
    listed("staff size", Kind::Number, StatedIn::Train, values::count),
    listed("tower height", Kind::Number, StatedIn::Train, values::metres),
    listed("yearly harvest", Kind::Number, StatedIn::Train, values::tonnes),
    listed("twin town", Kind::Place, StatedIn::Train, values::town),
    listed("delivery address", Kind::Place, StatedIn::Train, values::street),
    listed("anthem", Kind::Title, StatedIn::Train, values::title),
    listed("oldest rival", Kind::Relation, StatedIn::Train, values::other),
    listed("heraldic animal", Kind::Thing, StatedIn::Train, values::animal),
    listed("roof material", Kind::Thing, StatedIn::Train, values::material),
    listed("rest day", Kind::Thing, StatedIn::Train, values::weekday),
    listed("deputy head", Kind::Name, StatedIn::Valid, values::person),
    listed("year of renovation", Kind::Date, StatedIn::Valid, values::year),
    listed("safe combination", Kind::Code, StatedIn::Valid, values::code),
    listed("monthly rent", Kind::Money, StatedIn::Valid, values::price),
    listed("cellar depth", Kind::Number, StatedIn::Valid, values::metres),
    listed("sister institution", Kind::Relation, StatedIn::Valid, values::other),
    listed("door colour", Kind::Thing, StatedIn::Valid, values::colour),
    listed("founding document", Kind::Title, StatedIn::Valid, values::title),
    listed("head gardener", Kind::Name, StatedIn::Test, values::person),
    listed("chief patron", Kind::Name, StatedIn::Test, values::person),
    listed("year of the flood", Kind::Date, StatedIn::Test, values::year),
    listed("feast day", Kind::Date, StatedIn::Test, values::day),
    listed("inventory number", Kind::Code, StatedIn::Test, values::code),
    listed("radio call sign", Kind::Code, StatedIn::Test, values::plate),
    listed("insurance value", Kind::Money, StatedIn::Test, values::millions),
    listed("share of foreign guests", Kind::Number, StatedIn::Test, values::percent),
    listed("working temperature", Kind::Number, StatedIn::Test, values::degrees),
    listed("birthplace of the founder", Kind::Place, StatedIn::Test, values::town),
    listed("most borrowed book", Kind::Title, StatedIn::Test, values::title),
    listed("legal successor", Kind::Relation, StatedIn::Test, values::other),
    listed("second language", Kind::Thing, StatedIn::Test, values::language),
];

/// Words that training puts before a [`HEADS`] to have attributes that nobody can learn by heart.
const MODIFIERS: [&str; 24] = [
    "official",
    "former",
    "second",
    "third",
    "present",
    "usual",
    "lost",
    "new",
    "old",
    "summer",
    "winter",
    "northern",
    "southern",
    "inner",
    "outer",
    "spare",
    "future",
    "honorary",
    "temporary",
    "favourite",
    "royal",
    "local",
    "common",
    "secret",
];
/// Nouns of attributes that training makes up, with the kind and the draw of their values.
const HEADS: [(&str, Kind, DrawValue); 40] = [
    ("curator", Kind::Name, values::person),
    ("treasurer", Kind::Name, values::person),
    ("caretaker", Kind::Name, values::person),
    ("architect", Kind::Name, values::person),
    ("sponsor", Kind::Name, values::person),
    ("inspector", Kind::Name, values::person),
    ("clerk", Kind::Name, values::person),
    ("opening year", Kind::Date, values::year),
    ("year of closure", Kind::Date, values::year),
    ("holiday", Kind::Date, values::day),
    ("day of payment", Kind::Date, values::day),
    ("tea time", Kind::Date, values::hour),
    ("departure time", Kind::Date, values::hour),
    ("gate code", Kind::Code, values::code),
    ("serial number", Kind::Code, values::code),
    ("shelf mark", Kind::Code, values::box_number),
    ("file number", Kind::Code, values::box_number),
    ("van", Kind::Code, values::plate),
    ("ship mark", Kind::Code, values::plate),
    ("subsidy", Kind::Money, values::millions),
    ("debt", Kind::Money, values::millions),
    ("fine", Kind::Money, values::price),
    ("wage", Kind::Money, values::price),
    ("page count", Kind::Number, values::count),
    ("number of lamps", Kind::Number, values::count),
    ("wall length", Kind::Number, values::metres),
    ("yard size", Kind::Number, values::square_metres),
    ("bell weight", Kind::Number, values::tonnes),
    ("port", Kind::Place, values::town),
    ("canal", Kind::Place, values::river),
    ("entrance", Kind::Place, values::street),
    ("hymn", Kind::Title, values::title),
    ("play", Kind::Title, values::title),
    ("landlord", Kind::Relation, values::other),
    ("neighbour", Kind::Relation, values::other),
    ("pet", Kind::Thing, values::animal),
    ("flag colour", Kind::Thing, values::colour),
    ("floor material", Kind::Thing, values::material),
    ("market day", Kind::Thing, values::weekday),
    ("ticket colour", Kind::Thing, values::colour),
];

impl StatedIn {
    /// Whether `split` is one of them, and whether training is not.
    fn of(self, split: Split) -> Option<bool> {
        match (self, split) {
            (StatedIn::Common, _) | (StatedIn::Train, Split::Train) => Some(false),
            (StatedIn::Valid, Split::Valid) | (StatedIn::Test, Split::Test) => Some(true),
            _ => None,
        }
    }
}

/// A random attribute of a fact of `split`: in validation and test as often one that no other split states as a common one,
/// in training as often a made-up one as a listed one.
pub fn attribute(draw: &mut ChaCha8Rng, split: Split) -> Attribute {
    let of =
        |unseen: bool| -> Vec<&Listed> { ATTRIBUTES.iter().filter(|a| a.group.of(split) == Some(unseen)).collect() };
    let fresh = rng::below(draw, 2) == 1;
    if fresh && split == Split::Train {
        let (noun, kind, value) = HEADS[rng::below(draw, HEADS.len())];
        return Attribute { key: format!("{} {noun}", pick(draw, &MODIFIERS)), kind, seen: true, value };
    }
    let from = of(fresh);
    let Listed { key, kind, value, .. } = *from[rng::below(draw, from.len())];
    Attribute { key: key.to_string(), kind, seen: !fresh, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_attribute_that_training_makes_up_is_stated_by_another_split() {
        let others = || ATTRIBUTES.iter().filter(|listed| matches!(listed.group, StatedIn::Valid | StatedIn::Test));
        for (noun, _, _) in HEADS {
            for modifier in MODIFIERS {
                let key = format!("{modifier} {noun}");
                assert!(others().all(|listed| listed.key != key && listed.key != noun), "{key}");
            }
        }
    }
}
