//! Places of the prefix that a gist may copy from. The class of a place is the number of the gist's last tokens that also
//! stand before it; where none does, so that copying would begin anew, it is the distance from the end of the prefix. A
//! second class tells whether the gist has taken the place already. The copy head adds to the logit of each token of the
//! prefix by these classes and by the attention of the base ([`crate::compressor::attended`]). So following a span takes no
//! search by attention (a small base looks one token back and loses its place where tokens recur, LOG.md), the worth of a
//! place can be learned, and a greedy gist need not repeat itself. In the spirit of pointer networks that copy (Gu et al.
//! 2016, arXiv 1603.06393) and keep their coverage (See et al. 2017, arXiv 1704.04368).

use crate::compressor::attended::Attended;
use crate::model::copy_head::{DISTANCES, LENGTHS, MatchEntries, Matches, TAKEN};
use std::collections::BTreeMap;
use tch::Device;

/// State of the places of one prefix while one gist is written.
#[derive(Clone, Debug)]
pub struct Copier<'a> {
    prefix: &'a [u32],
    attended: &'a Attended,
    /// Distinct tokens of the prefix, in order of first occurrence.
    tokens: Vec<u32>,
    /// Index into `tokens` for each place.
    slots: Vec<usize>,
    /// Number of the gist's last tokens that stand before each place.
    lengths: Vec<usize>,
    /// Whether the gist has copied each place.
    taken: Vec<bool>,
    longest: usize,
}

impl<'a> Copier<'a> {
    /// A copier before the gist's first token. Lengths of matches are counted up to `longest`.
    pub fn new(prefix: &'a [u32], attended: &'a Attended, longest: usize) -> Self {
        let mut known = BTreeMap::new();
        let mut tokens = Vec::new();
        let slot = |&token: &u32| {
            *known.entry(token).or_insert_with(|| {
                tokens.push(token);
                tokens.len() - 1
            })
        };
        let slots = prefix.iter().map(slot).collect();
        let (lengths, taken) = (vec![0; prefix.len()], vec![false; prefix.len()]);
        Self { prefix, attended, tokens, slots, lengths, taken, longest }
    }

    /// Key by which the place of a token is the greatest: not taken, then the longest match, then the most attention.
    fn rank(&self, place: usize) -> (bool, usize, usize) {
        (!self.taken[place], self.lengths[place], self.attended.ranks[place])
    }

    /// Appends `token` to the gist.
    pub fn push(&mut self, token: u32) {
        let places = (0..self.prefix.len()).filter(|&place| self.prefix[place] == token);
        if let Some(place) = places.max_by_key(|&place| self.rank(place)) {
            self.taken[place] = true;
        }
        for place in (0..self.prefix.len()).rev() {
            self.lengths[place] = match place.checked_sub(1) {
                Some(before) if self.prefix[before] == token => (self.lengths[before] + 1).min(self.longest),
                _ => 0,
            };
        }
    }

    /// Every distinct token of the prefix with its place.
    fn places(&self) -> impl Iterator<Item = (u32, usize)> {
        let mut best: Vec<Option<usize>> = vec![None; self.tokens.len()];
        for (place, &slot) in self.slots.iter().enumerate() {
            best[slot] = best[slot].into_iter().chain([place]).max_by_key(|&place| self.rank(place));
        }
        self.tokens.iter().copied().zip(best).filter_map(|(token, place)| Some((token, place?)))
    }

    /// Adds the matches of the next action.
    pub fn add_to(&self, all: &mut MatchEntries) {
        let action = all.ends.len() as i64;
        let mut entry = |token: u32, class: usize| {
            all.actions.push(action);
            all.tokens.push(i64::from(token));
            all.classes.push(class as i64);
        };
        for (token, place) in self.places() {
            let values = &self.attended.values[place];
            entry(token, self.class(place));
            all.values.extend(values);
            if self.taken[place] {
                entry(token, TAKEN);
                all.values.extend(std::iter::repeat_n(0.0, values.len()));
            }
        }
        all.ends.push(all.tokens.len() as i64);
    }

    /// The class of a place by its match, or else by its distance from the end.
    fn class(&self, place: usize) -> usize {
        match self.lengths[place] {
            0 => ((self.prefix.len() - place).ilog2() as usize).min(DISTANCES - 1),
            length => LENGTHS + length - 1,
        }
    }
}

/// The matches of many actions, one copier each, as the head wants them.
pub fn collect<'c, 'p: 'c>(copiers: impl Iterator<Item = &'c Copier<'p>>, device: Device) -> Matches {
    let mut all = MatchEntries::default();
    copiers.for_each(|copier| copier.add_to(&mut all));
    all.to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes of each token; of equal places the base attends to the last most.
    fn after(prefix: &[u32], written: &[u32], longest: usize) -> BTreeMap<u32, Vec<usize>> {
        let attended = Attended::of(vec![Vec::new(); prefix.len()]);
        let mut copier = Copier::new(prefix, &attended, longest);
        written.iter().for_each(|&token| copier.push(token));
        let mut entries = MatchEntries::default();
        copier.add_to(&mut entries);
        let mut all: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (token, class) in entries.tokens.iter().zip(&entries.classes) {
            all.entry(*token as u32).or_default().push(*class as usize);
        }
        all
    }

    /// Class of a place after a match of `length` tokens.
    fn matched(length: usize) -> usize {
        LENGTHS + length - 1
    }

    #[test]
    fn a_token_has_the_longest_match_before_any_of_its_places() {
        let prefix = [1, 2, 3, 9, 2, 3, 4, 3];
        // 3 stands before 9 and before 4; 2 3 too; 1 2 3 before 9 alone.
        assert_eq!(after(&prefix, &[3], 4)[&9], [matched(1)]);
        let found = after(&prefix, &[8, 2, 3], 4);
        assert_eq!((&found[&4], &found[&9]), (&vec![matched(2)], &vec![matched(2)]));
        let found = after(&prefix, &[1, 2, 3], 4);
        assert_eq!((&found[&9], &found[&4]), (&vec![matched(3)], &vec![matched(2)]));
        assert_eq!(after(&prefix, &[1, 2, 3], 2)[&9], [matched(2)]);
        // 3 follows 2 (one back) and 4 (none here): the longer counts.
        assert_eq!(after(&prefix, &[2], 4)[&3], [matched(1)]);
    }

    #[test]
    fn without_a_match_the_last_place_counts_by_its_distance_from_the_end() {
        let expected = BTreeMap::from([(1, vec![3]), (2, vec![2]), (3, vec![0]), (4, vec![1]), (9, vec![2])]);
        assert_eq!(after(&[1, 2, 3, 9, 2, 3, 4, 3], &[], 4), expected);
        let long: Vec<u32> = (0..1000).collect();
        assert_eq!(after(&long, &[], 4)[&0], [DISTANCES - 1]);
        assert!(after(&[], &[1], 4).is_empty());
    }

    #[test]
    fn a_place_is_taken_once_and_another_of_its_token_preferred() {
        // Both 5s are taken in turn, the last first; then the token is marked.
        let prefix = [5, 6, 5, 7];
        assert_eq!(after(&prefix, &[5], 4)[&5], [2]);
        assert_eq!(after(&prefix, &[5, 5], 4)[&5], [1, TAKEN]);
        // A span that was copied is marked where the gist would copy it again, match or not.
        assert_eq!(
            after(&[1, 2, 3], &[1, 2, 9], 4),
            BTreeMap::from([(1, vec![1, TAKEN]), (2, vec![1, TAKEN]), (3, vec![0])])
        );
        assert_eq!(after(&[1, 2, 3], &[1, 2, 1], 4)[&2], [matched(1), TAKEN]);
    }
}
