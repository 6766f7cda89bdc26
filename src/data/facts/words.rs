//! The names and things that generated facts are made of, shared out between the splits so that no entity of one split is
//! ever named in another.

use crate::data::Split;

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
    fn no_name_is_shared_between_splits_and_none_is_lost() {
        for all in [&NAMES[..], &FIRST, &LAST] {
            let parts = [Split::Train, Split::Valid, Split::Test].map(|split| share(all, split));
            let together: BTreeSet<&str> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            assert_eq!(together.len(), all.len());
            assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), all.len());
        }
    }
}
