//! The names and things that generated facts are made of, shared out between the splits so that no entity of one split is
//! ever named in another.
//!
//! Training coins most of its names from syllables: a compressor that reads the same few names again and again learns the
//! names and mixes them up, instead of learning to copy.

use crate::data::Split;
use crate::rng;
use rand_chacha::ChaCha8Rng;

/// Proper names that an entity is called by.
const NAMES: [&str; 60] = [
    "Harlow", "Quentin", "Brisk", "Osmond", "Tarley", "Winslow", "Mercer", "Dunmore", "Calder", "Ashby", "Rowan",
    "Felton", "Gresham", "Kirby", "Landon", "Moreau", "Nadir", "Orrin", "Pavel", "Rusk", "Sable", "Thorne", "Umber",
    "Vesper", "Wexler", "Yarrow", "Zeller", "Alder", "Birch", "Cobalt", "Dorset", "Ember", "Farrow", "Garnet",
    "Hollis", "Ivory", "Juniper", "Kestrel", "Lyndon", "Marlow", "Norwood", "Oakley", "Pembroke", "Quarry", "Redfern",
    "Selwyn", "Tilden", "Upton", "Verity", "Whitlow", "Ansel", "Barlow", "Corwin", "Denby", "Elston", "Fenwick",
    "Galloway", "Hartwell", "Ingram", "Jarvis",
];
/// Kinds of places and institutions.
const KINDS: [&str; 24] = [
    "archive",
    "observatory",
    "depot",
    "museum",
    "library",
    "harbour",
    "clinic",
    "foundry",
    "chapel",
    "laboratory",
    "theatre",
    "vineyard",
    "quarry",
    "bakery",
    "aqueduct",
    "academy",
    "brewery",
    "lighthouse",
    "orchard",
    "tannery",
    "printworks",
    "arboretum",
    "conservatory",
    "shipyard",
];
/// First names of people.
const FIRST: [&str; 40] = [
    "Alma", "Bruno", "Celia", "Dario", "Edith", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Karla", "Leo", "Mona",
    "Nils", "Olga", "Piet", "Rosa", "Silas", "Tessa", "Ulrich", "Vera", "Walter", "Xenia", "Yusuf", "Zora", "Anton",
    "Beate", "Carlo", "Doris", "Emil", "Frida", "Gustav", "Hanna", "Ivan", "Judith", "Kaspar", "Lydia", "Marek",
    "Nora", "Oscar",
];
/// Family names of people.
const LAST: [&str; 40] = [
    "Vance", "Holt", "Pryor", "Stroud", "Lindell", "Marsh", "Okafor", "Petrov", "Quist", "Ramos", "Sandoval", "Tembo",
    "Ueda", "Voss", "Wirth", "Yilmaz", "Zamora", "Arden", "Bellamy", "Castel", "Drummond", "Eklund", "Ferrar",
    "Grieve", "Haas", "Iverson", "Jansen", "Kovac", "Lorca", "Meade", "Novak", "Osei", "Pohl", "Rinaldi", "Soto",
    "Thiele", "Unger", "Varga", "Weller", "Zubiri",
];

/// Syllables of coined names.
const STARTS: [&str; 40] = [
    "Bel", "Cran", "Dov", "Eth", "Far", "Gil", "Hest", "Ilm", "Jor", "Kel", "Lom", "Mar", "Nev", "Ost", "Pell", "Quil",
    "Rav", "Sol", "Tam", "Ulv", "Var", "Wen", "Yar", "Zel", "Bran", "Clov", "Drum", "Esk", "Fin", "Grim", "Hol",
    "Ivel", "Kirs", "Lind", "Mor", "Nol", "Pren", "Rund", "Stav", "Thal",
];
const MIDDLES: [&str; 12] = ["a", "e", "i", "o", "u", "en", "ar", "il", "or", "un", "ely", "ind"];
const ENDS: [&str; 24] = [
    "mere", "ska", "dor", "nix", "bury", "thwaite", "lo", "gard", "stone", "vik", "ra", "wick", "tov", "lund", "mond",
    "sey", "by", "croft", "ley", "na", "rell", "holm", "zin", "quet",
];

/// A name that is on no list.
pub fn coined(draw: &mut ChaCha8Rng) -> String {
    let part = |draw: &mut ChaCha8Rng, from: &[&'static str]| from[rng::below(draw, from.len())];
    [part(draw, &STARTS), part(draw, &MIDDLES), part(draw, &ENDS)].concat()
}

/// One of the names `listed` for a split; in training as often a coined one.
pub fn listed_or_coined(draw: &mut ChaCha8Rng, split: Split, listed: &[&str]) -> String {
    if split == Split::Train && rng::below(draw, 2) == 0 {
        return coined(draw);
    }
    listed[rng::below(draw, listed.len())].to_string()
}

/// `count` different entities, as "Osmond archive". In training three of four have a coined name, else one of the split's, and
/// one in four takes the name or the kind of the first: "Osmond archive", "Osmond depot".
pub fn entities(draw: &mut ChaCha8Rng, split: Split, count: usize) -> Vec<String> {
    let names = names(split);
    let chosen = rng::choose(draw, names.len() * KINDS.len(), count);
    let mut entities: Vec<(String, &str)> = Vec::with_capacity(count);
    for index in chosen {
        let coins = split == Split::Train && rng::below(draw, 4) > 0;
        let name = if coins { coined(draw) } else { names[index % names.len()].to_string() };
        let kind = KINDS[index / names.len()];
        let first = entities.first().filter(|_| split == Split::Train);
        let alike = first.and_then(|first| match rng::below(draw, 8) {
            0 => Some((first.0.clone(), kind)),
            1 => Some((name.clone(), first.1)),
            _ => None,
        });
        entities.push(alike.filter(|entity| !entities.contains(entity)).unwrap_or((name, kind)));
    }
    entities.into_iter().map(|(name, kind)| format!("{name} {kind}")).collect()
}

/// The part of `all` that belongs to a split: three fifths for training, one fifth for validation, one for test.
fn share<'a>(all: &'a [&'static str], split: Split) -> &'a [&'static str] {
    let fifth = all.len() / 5;
    match split {
        Split::Train => &all[..all.len() - 2 * fifth],
        Split::Valid => &all[all.len() - 2 * fifth..all.len() - fifth],
        Split::Test => &all[all.len() - fifth..],
    }
}

/// Proper names of the entities of a split.
pub fn names(split: Split) -> &'static [&'static str] {
    share(&NAMES, split)
}

/// Kinds of entities: common nouns, the same in every split.
pub fn kinds() -> &'static [&'static str] {
    &KINDS
}

/// First names of the people of a split.
pub fn first_names(split: Split) -> &'static [&'static str] {
    share(&FIRST, split)
}

/// Family names of the people of a split.
pub fn last_names(split: Split) -> &'static [&'static str] {
    share(&LAST, split)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_coined_name_is_on_a_list() {
        let mut coined = BTreeSet::new();
        for start in STARTS {
            MIDDLES.iter().for_each(|middle| coined.extend(ENDS.map(|end| [start, middle, end].concat())));
        }
        assert!(coined.len() > 11_000, "{}", coined.len());
        assert!([&NAMES[..], &FIRST, &LAST].iter().all(|list| list.iter().all(|name| !coined.contains(*name))));
    }

    #[test]
    fn no_name_is_shared_between_splits_and_none_is_lost() {
        for all in [&NAMES[..], &FIRST, &LAST] {
            let parts = [Split::Train, Split::Valid, Split::Test].map(|split| share(all, split));
            let together: BTreeSet<&str> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            assert_eq!(together.len(), all.len());
            assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), all.len());
        }
    }
}
