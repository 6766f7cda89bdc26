//! Attributes that a generated fact may state: how it is phrased, how it is asked for, and what values it takes.
//!
//! Every attribute has several phrasings, with the value at the end, at the front and in the middle, so that no fixed string
//! marks a fact. The probe is always a cloze: the beginning of a sentence that the value completes. In training an attribute
//! of [`StatedIn::Common`] or [`StatedIn::Train`] is stated; validation and test state common ones and, as often, ones that no
//! other split has.

use crate::data::Split;
use crate::data::facts::words;
use crate::rng;
use rand_chacha::ChaCha8Rng;

/// The splits that may state an attribute.
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

/// An attribute of an entity.
pub struct Attribute {
    /// Noun phrase, as in "the KEY of the Osmond archive".
    pub key: &'static str,
    /// Kind of its values.
    pub kind: Kind,
    /// Splits that state it.
    pub group: StatedIn,
    value: fn(&mut ChaCha8Rng, Split) -> String,
}

/// Ways to state a fact: `{k}` the attribute, `{e}` the entity with its article, `{v}` the value, `{V}` with a capital.
pub const PHRASINGS: [&str; 8] = [
    "The {k} of {e} is {v}.",
    "The {k} of {e} has long been {v}.",
    "{V} is the {k} of {e}.",
    "At {e}, the {k} is {v}.",
    "According to its register, {e} gives {v} as its {k}.",
    "For {e} the {k} was recorded as {v}.",
    "{E} lists {v} as the {k}.",
    "Visitors of {e} learn that its {k} is {v}.",
];

fn pick<'a>(draw: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from[rng::below(draw, from.len())]
}

fn between(draw: &mut ChaCha8Rng, low: usize, high: usize) -> usize {
    low + rng::below(draw, high - low)
}

fn person(draw: &mut ChaCha8Rng, split: Split) -> String {
    format!("{} {}", pick(draw, words::first_names(split)), pick(draw, words::last_names(split)))
}

fn thousands(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

fn year(draw: &mut ChaCha8Rng, _: Split) -> String {
    between(draw, 1640, 1990).to_string()
}

fn day(draw: &mut ChaCha8Rng, _: Split) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    format!("{} {}", between(draw, 1, 29), pick(draw, &MONTHS))
}

fn hour(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{}:{}", between(draw, 6, 22), pick(draw, &["00", "15", "30", "45"]))
}

fn count(draw: &mut ChaCha8Rng, _: Split) -> String {
    let (low, high) = [(12, 99), (100, 999), (1_000, 9_999), (10_000, 99_999)][rng::below(draw, 4)];
    thousands(between(draw, low, high))
}

fn metres(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} metres", between(draw, 11, 480))
}

fn square_metres(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} square metres", thousands(between(draw, 120, 9_900)))
}

fn degrees(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} degrees", between(draw, 4, 96))
}

fn percent(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} percent", between(draw, 3, 98))
}

fn tonnes(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} tonnes", thousands(between(draw, 14, 4_800)))
}

fn millions(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} million {}", between(draw, 2, 99), pick(draw, &["euros", "dollars", "pounds", "francs"]))
}

fn price(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} {}", between(draw, 3, 95), pick(draw, &["euros", "dollars", "pounds", "crowns"]))
}

fn code(draw: &mut ChaCha8Rng, _: Split) -> String {
    between(draw, 10_000, 99_999).to_string()
}

fn box_number(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{}-{}", between(draw, 100, 999), pick(draw, &["A", "B", "C", "D", "E", "F"]))
}

fn plate(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{}{}", pick(draw, &["KR", "LT", "MX", "PV", "QD", "RZ", "ST", "WB"]), between(draw, 100, 9_999))
}

fn town(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(
        draw,
        &["Lisbon", "Tromso", "Graz", "Izmir", "Nantes", "Turin", "Malmo", "Cork", "Basel", "Porto", "Riga", "Split"],
    )
    .to_string()
}

fn river(draw: &mut ChaCha8Rng, _: Split) -> String {
    let names = ["Lunde", "Varra", "Ostel", "Mirne", "Kesk", "Tolva", "Brenn", "Isolde", "Quarn", "Sevel"];
    format!("the {}", pick(draw, &names))
}

fn street(draw: &mut ChaCha8Rng, _: Split) -> String {
    let names = ["Mill", "Church", "Station", "Castle", "Market", "River", "Garden", "Bridge", "Tower", "Lime"];
    format!("{} {}", between(draw, 2, 190), [pick(draw, &names), pick(draw, &["Street", "Lane", "Road"])].join(" "))
}

fn title(draw: &mut ChaCha8Rng, _: Split) -> String {
    let first =
        ["Silent", "Golden", "Broken", "Distant", "Hidden", "Winter", "Crimson", "Forgotten", "Second", "Glass"];
    let second = ["Harbour", "Garden", "Mirror", "Voyage", "Orchard", "Bridge", "Lantern", "Summer", "Letter", "Crown"];
    format!("The {} {}", pick(draw, &first), pick(draw, &second))
}

fn other(draw: &mut ChaCha8Rng, split: Split) -> String {
    format!("the {} {}", pick(draw, words::names(split)), pick(draw, words::kinds()))
}

fn animal(draw: &mut ChaCha8Rng, _: Split) -> String {
    let animals = [
        "a heron",
        "a badger",
        "an otter",
        "a falcon",
        "a lynx",
        "a tortoise",
        "a magpie",
        "a hare",
        "a stork",
        "an owl",
        "a beaver",
        "a salmon",
    ];
    pick(draw, &animals).to_string()
}

fn colour(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(draw, &["crimson", "teal", "ochre", "ivory", "violet", "emerald", "amber", "navy", "coral", "silver"])
        .to_string()
}

fn material(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(draw, &["slate", "granite", "oak", "copper", "limestone", "brick", "marble", "cedar", "iron", "sandstone"])
        .to_string()
}

fn weekday(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(draw, &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]).to_string()
}

fn language(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(draw, &["Danish", "Basque", "Latvian", "Welsh", "Catalan", "Maltese", "Finnish", "Breton", "Sorbian", "Greek"])
        .to_string()
}

const fn attribute(
    key: &'static str,
    kind: Kind,
    group: StatedIn,
    value: fn(&mut ChaCha8Rng, Split) -> String,
) -> Attribute {
    Attribute { key, kind, group, value }
}

/// All attributes.
pub const ATTRIBUTES: [Attribute; 56] = [
    attribute("director", Kind::Name, StatedIn::Common, person),
    attribute("founding year", Kind::Date, StatedIn::Common, year),
    attribute("access code", Kind::Code, StatedIn::Common, code),
    attribute("annual budget", Kind::Money, StatedIn::Common, millions),
    attribute("opening hour", Kind::Date, StatedIn::Common, hour),
    attribute("mascot", Kind::Thing, StatedIn::Common, animal),
    attribute("floor area", Kind::Number, StatedIn::Common, square_metres),
    attribute("postal box", Kind::Code, StatedIn::Common, box_number),
    attribute("nearest river", Kind::Place, StatedIn::Common, river),
    attribute("visitor count", Kind::Number, StatedIn::Common, count),
    attribute("street address", Kind::Place, StatedIn::Common, street),
    attribute("partner institution", Kind::Relation, StatedIn::Common, other),
    attribute("best known painting", Kind::Title, StatedIn::Common, title),
    attribute("main colour", Kind::Thing, StatedIn::Common, colour),
    attribute("chief engineer", Kind::Name, StatedIn::Train, person),
    attribute("night guard", Kind::Name, StatedIn::Train, person),
    attribute("first owner", Kind::Name, StatedIn::Train, person),
    attribute("resident poet", Kind::Name, StatedIn::Train, person),
    attribute("year of the great fire", Kind::Date, StatedIn::Train, year),
    attribute("anniversary", Kind::Date, StatedIn::Train, day),
    attribute("closing hour", Kind::Date, StatedIn::Train, hour),
    attribute("locker number", Kind::Code, StatedIn::Train, code),
    attribute("licence plate", Kind::Code, StatedIn::Train, plate),
    attribute("entrance fee", Kind::Money, StatedIn::Train, price),
    attribute("construction cost", Kind::Money, StatedIn::Train, millions),
    attribute("staff size", Kind::Number, StatedIn::Train, count),
    attribute("tower height", Kind::Number, StatedIn::Train, metres),
    attribute("yearly harvest", Kind::Number, StatedIn::Train, tonnes),
    attribute("twin town", Kind::Place, StatedIn::Train, town),
    attribute("delivery address", Kind::Place, StatedIn::Train, street),
    attribute("anthem", Kind::Title, StatedIn::Train, title),
    attribute("oldest rival", Kind::Relation, StatedIn::Train, other),
    attribute("heraldic animal", Kind::Thing, StatedIn::Train, animal),
    attribute("roof material", Kind::Thing, StatedIn::Train, material),
    attribute("rest day", Kind::Thing, StatedIn::Train, weekday),
    attribute("deputy head", Kind::Name, StatedIn::Valid, person),
    attribute("year of renovation", Kind::Date, StatedIn::Valid, year),
    attribute("safe combination", Kind::Code, StatedIn::Valid, code),
    attribute("monthly rent", Kind::Money, StatedIn::Valid, price),
    attribute("cellar depth", Kind::Number, StatedIn::Valid, metres),
    attribute("sister institution", Kind::Relation, StatedIn::Valid, other),
    attribute("door colour", Kind::Thing, StatedIn::Valid, colour),
    attribute("founding document", Kind::Title, StatedIn::Valid, title),
    attribute("head gardener", Kind::Name, StatedIn::Test, person),
    attribute("chief patron", Kind::Name, StatedIn::Test, person),
    attribute("year of the flood", Kind::Date, StatedIn::Test, year),
    attribute("feast day", Kind::Date, StatedIn::Test, day),
    attribute("inventory number", Kind::Code, StatedIn::Test, code),
    attribute("radio call sign", Kind::Code, StatedIn::Test, plate),
    attribute("insurance value", Kind::Money, StatedIn::Test, millions),
    attribute("share of foreign guests", Kind::Number, StatedIn::Test, percent),
    attribute("working temperature", Kind::Number, StatedIn::Test, degrees),
    attribute("birthplace of the founder", Kind::Place, StatedIn::Test, town),
    attribute("most borrowed book", Kind::Title, StatedIn::Test, title),
    attribute("legal successor", Kind::Relation, StatedIn::Test, other),
    attribute("second language", Kind::Thing, StatedIn::Test, language),
];

impl Attribute {
    /// Draws a value; people and entities are of `split`.
    pub fn draw(&self, draw: &mut ChaCha8Rng, split: Split) -> String {
        (self.value)(draw, split)
    }

    /// Whether `split` may state it, and whether no other split does.
    fn of(&self, split: Split) -> Option<bool> {
        match (self.group, split) {
            (StatedIn::Common, _) | (StatedIn::Train, Split::Train) => Some(false),
            (StatedIn::Valid, Split::Valid) | (StatedIn::Test, Split::Test) => Some(true),
            _ => None,
        }
    }
}

/// Attributes that `split` states and training states too (`unseen = false`), or that training never states.
pub fn attributes(split: Split, unseen: bool) -> Vec<&'static Attribute> {
    ATTRIBUTES.iter().filter(|attribute| attribute.of(split) == Some(unseen)).collect()
}
