//! Attributes that a generated fact may state: how it is phrased, how it is asked for, and what values it takes.
//!
//! Every attribute has several phrasings, with the value at the end, at the front and in the middle, so that no fixed string
//! marks a fact. The probe is always a cloze: the beginning of a sentence that the value completes. In training an attribute
//! of [`Group::Common`] or [`Group::Train`] is stated; validation and test state common ones and, as often, ones that no
//! other split has.

use crate::data::Split;
use crate::data::facts::words;
use crate::rng;
use rand_chacha::ChaCha8Rng;

/// The splits that may state an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
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
    pub group: Group,
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
    group: Group,
    value: fn(&mut ChaCha8Rng, Split) -> String,
) -> Attribute {
    Attribute { key, kind, group, value }
}

/// All attributes.
pub const ATTRIBUTES: [Attribute; 56] = [
    attribute("director", Kind::Name, Group::Common, person),
    attribute("founding year", Kind::Date, Group::Common, year),
    attribute("access code", Kind::Code, Group::Common, code),
    attribute("annual budget", Kind::Money, Group::Common, millions),
    attribute("opening hour", Kind::Date, Group::Common, hour),
    attribute("mascot", Kind::Thing, Group::Common, animal),
    attribute("floor area", Kind::Number, Group::Common, square_metres),
    attribute("postal box", Kind::Code, Group::Common, box_number),
    attribute("nearest river", Kind::Place, Group::Common, river),
    attribute("visitor count", Kind::Number, Group::Common, count),
    attribute("street address", Kind::Place, Group::Common, street),
    attribute("partner institution", Kind::Relation, Group::Common, other),
    attribute("best known painting", Kind::Title, Group::Common, title),
    attribute("main colour", Kind::Thing, Group::Common, colour),
    attribute("chief engineer", Kind::Name, Group::Train, person),
    attribute("night guard", Kind::Name, Group::Train, person),
    attribute("first owner", Kind::Name, Group::Train, person),
    attribute("resident poet", Kind::Name, Group::Train, person),
    attribute("year of the great fire", Kind::Date, Group::Train, year),
    attribute("anniversary", Kind::Date, Group::Train, day),
    attribute("closing hour", Kind::Date, Group::Train, hour),
    attribute("locker number", Kind::Code, Group::Train, code),
    attribute("licence plate", Kind::Code, Group::Train, plate),
    attribute("entrance fee", Kind::Money, Group::Train, price),
    attribute("construction cost", Kind::Money, Group::Train, millions),
    attribute("staff size", Kind::Number, Group::Train, count),
    attribute("tower height", Kind::Number, Group::Train, metres),
    attribute("yearly harvest", Kind::Number, Group::Train, tonnes),
    attribute("twin town", Kind::Place, Group::Train, town),
    attribute("delivery address", Kind::Place, Group::Train, street),
    attribute("anthem", Kind::Title, Group::Train, title),
    attribute("oldest rival", Kind::Relation, Group::Train, other),
    attribute("heraldic animal", Kind::Thing, Group::Train, animal),
    attribute("roof material", Kind::Thing, Group::Train, material),
    attribute("rest day", Kind::Thing, Group::Train, weekday),
    attribute("deputy head", Kind::Name, Group::Valid, person),
    attribute("year of renovation", Kind::Date, Group::Valid, year),
    attribute("safe combination", Kind::Code, Group::Valid, code),
    attribute("monthly rent", Kind::Money, Group::Valid, price),
    attribute("cellar depth", Kind::Number, Group::Valid, metres),
    attribute("sister institution", Kind::Relation, Group::Valid, other),
    attribute("door colour", Kind::Thing, Group::Valid, colour),
    attribute("founding document", Kind::Title, Group::Valid, title),
    attribute("head gardener", Kind::Name, Group::Test, person),
    attribute("chief patron", Kind::Name, Group::Test, person),
    attribute("year of the flood", Kind::Date, Group::Test, year),
    attribute("feast day", Kind::Date, Group::Test, day),
    attribute("inventory number", Kind::Code, Group::Test, code),
    attribute("radio call sign", Kind::Code, Group::Test, plate),
    attribute("insurance value", Kind::Money, Group::Test, millions),
    attribute("share of foreign guests", Kind::Number, Group::Test, percent),
    attribute("working temperature", Kind::Number, Group::Test, degrees),
    attribute("birthplace of the founder", Kind::Place, Group::Test, town),
    attribute("most borrowed book", Kind::Title, Group::Test, title),
    attribute("legal successor", Kind::Relation, Group::Test, other),
    attribute("second language", Kind::Thing, Group::Test, language),
];

impl Attribute {
    /// Draws a value; people and entities are of `split`.
    pub fn draw(&self, draw: &mut ChaCha8Rng, split: Split) -> String {
        (self.value)(draw, split)
    }

    /// Whether `split` may state it, and whether no other split does.
    fn of(&self, split: Split) -> Option<bool> {
        match (self.group, split) {
            (Group::Common, _) | (Group::Train, Split::Train) => Some(false),
            (Group::Valid, Split::Valid) | (Group::Test, Split::Test) => Some(true),
            _ => None,
        }
    }
}

/// Attributes that `split` states and training states too (`unseen = false`), or that training never states.
pub fn attributes(split: Split, unseen: bool) -> Vec<&'static Attribute> {
    ATTRIBUTES.iter().filter(|attribute| attribute.of(split) == Some(unseen)).collect()
}
