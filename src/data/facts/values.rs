//! Values of generated facts, drawn; people and entities are of the split.

use crate::data::Split;
use crate::data::facts::words::{self, listed_or_coined};
use crate::rng;
use rand_chacha::ChaCha8Rng;

/// One of these.
pub fn pick<'a>(draw: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from[rng::below(draw, from.len())]
}

fn between(draw: &mut ChaCha8Rng, low: usize, high: usize) -> usize {
    low + rng::below(draw, high - low)
}

/// A person.
pub fn person(draw: &mut ChaCha8Rng, split: Split) -> String {
    let last = |draw: &mut ChaCha8Rng| listed_or_coined(draw, split, words::last_names(split));
    format!("{} {}", pick(draw, words::first_names(split)), last(draw))
}

fn thousands(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

/// A year.
pub fn year(draw: &mut ChaCha8Rng, _: Split) -> String {
    between(draw, 1640, 1990).to_string()
}

/// A day of a month.
pub fn day(draw: &mut ChaCha8Rng, _: Split) -> String {
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

/// A time of day.
pub fn hour(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{}:{}", between(draw, 6, 22), pick(draw, &["00", "15", "30", "45"]))
}

/// A count of two to five digits.
pub fn count(draw: &mut ChaCha8Rng, _: Split) -> String {
    let (low, high) = [(12, 99), (100, 999), (1_000, 9_999), (10_000, 99_999)][rng::below(draw, 4)];
    thousands(between(draw, low, high))
}

/// A length.
pub fn metres(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} metres", between(draw, 11, 480))
}

/// An area.
pub fn square_metres(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} square metres", thousands(between(draw, 120, 9_900)))
}

/// A temperature.
pub fn degrees(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} degrees", between(draw, 4, 96))
}

/// A share.
pub fn percent(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} percent", between(draw, 3, 98))
}

/// A weight.
pub fn tonnes(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} tonnes", thousands(between(draw, 14, 4_800)))
}

/// A large amount of money.
pub fn millions(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} million {}", between(draw, 2, 99), pick(draw, &["euros", "dollars", "pounds", "francs"]))
}

/// A small amount of money.
pub fn price(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{} {}", between(draw, 3, 95), pick(draw, &["euros", "dollars", "pounds", "crowns"]))
}

/// Five digits.
pub fn code(draw: &mut ChaCha8Rng, _: Split) -> String {
    between(draw, 10_000, 99_999).to_string()
}

/// Three digits and a letter.
pub fn box_number(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{}-{}", between(draw, 100, 999), pick(draw, &["A", "B", "C", "D", "E", "F"]))
}

/// Two letters and digits.
pub fn plate(draw: &mut ChaCha8Rng, _: Split) -> String {
    format!("{}{}", pick(draw, &["KR", "LT", "MX", "PV", "QD", "RZ", "ST", "WB"]), between(draw, 100, 9_999))
}

/// A town.
pub fn town(draw: &mut ChaCha8Rng, split: Split) -> String {
    listed_or_coined(
        draw,
        split,
        &["Lisbon", "Tromso", "Graz", "Izmir", "Nantes", "Turin", "Malmo", "Cork", "Basel", "Porto", "Riga", "Split"],
    )
}

/// A river.
pub fn river(draw: &mut ChaCha8Rng, split: Split) -> String {
    let names = ["Lunde", "Varra", "Ostel", "Mirne", "Kesk", "Tolva", "Brenn", "Isolde", "Quarn", "Sevel"];
    format!("the {}", listed_or_coined(draw, split, &names))
}

/// A street with a number.
pub fn street(draw: &mut ChaCha8Rng, split: Split) -> String {
    let names = ["Mill", "Church", "Station", "Castle", "Market", "River", "Garden", "Bridge", "Tower", "Lime"];
    let number = between(draw, 2, 190);
    format!("{number} {} {}", listed_or_coined(draw, split, &names), pick(draw, &["Street", "Lane", "Road"]))
}

/// The title of a work.
pub fn title(draw: &mut ChaCha8Rng, _: Split) -> String {
    let first =
        ["Silent", "Golden", "Broken", "Distant", "Hidden", "Winter", "Crimson", "Forgotten", "Second", "Glass"];
    let second = ["Harbour", "Garden", "Mirror", "Voyage", "Orchard", "Bridge", "Lantern", "Summer", "Letter", "Crown"];
    format!("The {} {}", pick(draw, &first), pick(draw, &second))
}

/// Another entity.
pub fn other(draw: &mut ChaCha8Rng, split: Split) -> String {
    format!("the {} {}", listed_or_coined(draw, split, words::names(split)), pick(draw, words::kinds()))
}

/// An animal.
pub fn animal(draw: &mut ChaCha8Rng, _: Split) -> String {
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

/// A colour.
pub fn colour(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(draw, &["crimson", "teal", "ochre", "ivory", "violet", "emerald", "amber", "navy", "coral", "silver"])
        .to_string()
}

/// A material.
pub fn material(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(draw, &["slate", "granite", "oak", "copper", "limestone", "brick", "marble", "cedar", "iron", "sandstone"])
        .to_string()
}

/// A day of the week.
pub fn weekday(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(draw, &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]).to_string()
}

/// A language.
pub fn language(draw: &mut ChaCha8Rng, _: Split) -> String {
    pick(draw, &["Danish", "Basque", "Latvian", "Welsh", "Catalan", "Maltese", "Finnish", "Breton", "Sorbian", "Greek"])
        .to_string()
}
