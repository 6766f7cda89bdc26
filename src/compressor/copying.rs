//! Where a gist copies from: for every token of the prefix, how many of the gist's last tokens also stand before it there,
//! and where nothing matches, so that copying would begin anew, how far that place is from the end of the prefix. The
//! policy's copy head pays each such token by its class, so that following a span takes no search by attention (a small
//! base looks one token back and loses its place where tokens recur, LOG.md), and the worth of a place can be learned.
//! In the spirit of pointer networks that copy (Gu et al. 2016, arXiv 1603.06393; See et al. 2017, arXiv 1704.04368).

use crate::model::vocab::{DISTANCES, Matches};
use std::collections::BTreeMap;
use tch::Device;

/// Classes of a copy head that tells matches of up to `longest` tokens apart.
pub fn classes(longest: usize) -> usize {
    if longest == 0 { 0 } else { DISTANCES + longest }
}

/// The places of one prefix, while one gist is written.
#[derive(Clone, Debug)]
pub struct Copier<'a> {
    prefix: &'a [u32],
    /// Distinct tokens of the prefix, by first occurrence.
    tokens: Vec<u32>,
    /// For each place, its token among them.
    slots: Vec<usize>,
    /// For each place, how many of the gist's last tokens stand before it.
    lengths: Vec<usize>,
    longest: usize,
}

impl<'a> Copier<'a> {
    /// Before the first token. Lengths are counted up to `longest`.
    pub fn new(prefix: &'a [u32], longest: usize) -> Self {
        let mut known = BTreeMap::new();
        let mut tokens = Vec::new();
        let slot = |&token: &u32| {
            *known.entry(token).or_insert_with(|| {
                tokens.push(token);
                tokens.len() - 1
            })
        };
        let slots = prefix.iter().map(slot).collect();
        Self { prefix, tokens, slots, lengths: vec![0; prefix.len()], longest }
    }

    /// The gist goes on with `token`.
    pub fn push(&mut self, token: u32) {
        for place in (0..self.prefix.len()).rev() {
            self.lengths[place] = match place.checked_sub(1) {
                Some(before) if self.prefix[before] == token => (self.lengths[before] + 1).min(self.longest),
                _ => 0,
            };
        }
    }

    /// Every distinct token of the prefix with the class of its place: the one with the longest match, of equals the last.
    pub fn matches(&self) -> impl Iterator<Item = (u32, usize)> {
        let mut best: Vec<(usize, usize)> = vec![(0, 0); self.tokens.len()];
        for (place, (&slot, &length)) in self.slots.iter().zip(&self.lengths).enumerate() {
            best[slot] = best[slot].max((length, place));
        }
        let end = self.prefix.len();
        let class = move |(length, place): (usize, usize)| match length {
            0 => ((end - place).ilog2() as usize).min(DISTANCES - 1),
            length => DISTANCES + length - 1,
        };
        self.tokens.clone().into_iter().zip(best.into_iter().map(class))
    }
}

/// The matches of many actions, one copier each, as the head wants them.
pub fn collect<'c, 'p: 'c>(copiers: impl Iterator<Item = &'c Copier<'p>>, device: Device) -> Matches {
    let mut all = Builder::default();
    copiers.for_each(|copier| all.add(copier));
    all.finish(device)
}

/// Gathers matches action by action.
#[derive(Default)]
pub struct Builder {
    ends: Vec<i64>,
    actions: Vec<i64>,
    tokens: Vec<i64>,
    classes: Vec<i64>,
}

impl Builder {
    /// The next action.
    pub fn add(&mut self, copier: &Copier) {
        let action = self.ends.len() as i64;
        for (token, class) in copier.matches() {
            self.actions.push(action);
            self.tokens.push(i64::from(token));
            self.classes.push(class as i64);
        }
        self.ends.push(self.tokens.len() as i64);
    }

    /// On the device of the logits.
    pub fn finish(self, device: Device) -> Matches {
        Matches::new(self.ends, [self.actions, self.tokens, self.classes], device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(prefix: &[u32], written: &[u32], longest: usize) -> BTreeMap<u32, usize> {
        let mut copier = Copier::new(prefix, longest);
        written.iter().for_each(|&token| copier.push(token));
        copier.matches().collect()
    }

    /// Class of a place after a match of `length` tokens.
    fn matched(length: usize) -> usize {
        DISTANCES + length - 1
    }

    #[test]
    fn a_token_has_the_longest_match_before_any_of_its_places() {
        let prefix = [1, 2, 3, 9, 2, 3, 4, 3];
        // 3 stands before 9 and before 4; 2 3 too; 1 2 3 before 9 alone.
        assert_eq!(after(&prefix, &[3], 4)[&9], matched(1));
        let found = after(&prefix, &[8, 2, 3], 4);
        assert_eq!((found[&4], found[&9]), (matched(2), matched(2)));
        let found = after(&prefix, &[1, 2, 3], 4);
        assert_eq!((found[&9], found[&4]), (matched(3), matched(2)));
        assert_eq!(after(&prefix, &[1, 2, 3], 2)[&9], matched(2));
        // 3 follows 2 (one back) and 4 (none here): the longer counts.
        assert_eq!(after(&prefix, &[2], 4)[&3], matched(1));
    }

    #[test]
    fn without_a_match_the_last_place_counts_by_its_distance_from_the_end() {
        assert_eq!(after(&[1, 2, 3, 9, 2, 3, 4, 3], &[], 4), BTreeMap::from([(1, 3), (2, 2), (3, 0), (4, 1), (9, 2)]));
        assert_eq!(after(&[1, 2, 3], &[1, 2, 7], 4), BTreeMap::from([(1, 1), (2, 1), (3, 0)]));
        let long: Vec<u32> = (0..1000).collect();
        assert_eq!(after(&long, &[], 4)[&0], DISTANCES - 1);
        assert!(after(&[], &[1], 4).is_empty());
    }
}
