//! Sums whose order does not depend on who adds them: a binary tree over S = 2^n terms.
//!
//! ```text
//! 0   1   2   3   4   5   6   7        terms, in order
//! └─+─┘   └─+─┘   └─+─┘   └─+─┘
//!   └───+───┘       └───+───┘          of 2 processes, each adds a half; of 4, each a pair;
//!       └───────+───────┘              the rest of the tree is added by the same rule
//! ```
//! Whoever holds an aligned stretch of terms can add its own part of the tree by itself.

use std::ops::{Add, Range};

/// A sum in progress: subtrees that have no neighbour yet, the largest first.
pub struct TreeSum<T> {
    subtrees: Vec<(u32, T)>,
}

impl<T> Default for TreeSum<T> {
    fn default() -> Self {
        Self { subtrees: Vec::new() }
    }
}

impl<T> TreeSum<T>
where
    for<'a> &'a T: Add<&'a T, Output = T>,
{
    /// Adds the next term.
    pub fn push(&mut self, term: T) {
        let (mut level, mut sum) = (0, term);
        while let Some((_, left)) = self.subtrees.pop_if(|(other, _)| *other == level) {
            (level, sum) = (level + 1, &left + &sum);
        }
        self.subtrees.push((level, sum));
    }

    /// The sum of all terms; none unless their number is a power of two.
    pub fn finish(mut self) -> Option<T> {
        let (_, sum) = self.subtrees.pop()?;
        self.subtrees.is_empty().then_some(sum)
    }
}

/// The stretch of `total` things that `rank` of `count` ranks owns, where `count` divides `total`.
pub fn own(total: usize, rank: usize, count: usize) -> Range<usize> {
    let each = total / count;
    rank * each..(rank + 1) * each
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::{self, Stream};

    /// A vector of floats, to tell apart orders of addition.
    #[derive(Clone, Debug, PartialEq)]
    struct Floats(Vec<f32>);

    impl Add for &Floats {
        type Output = Floats;

        fn add(self, other: &Floats) -> Floats {
            Floats(self.0.iter().zip(&other.0).map(|(a, b)| a + b).collect())
        }
    }

    fn terms(count: usize, width: usize) -> Vec<Floats> {
        let mut draw = rng::rng(3, Stream::Mix, count as u64, 0, 0);
        // Sizes apart by powers of ten, so that another order gives other bits.
        let mut value = |_| (rng::uniform(&mut draw) - 0.5) as f32 * 10f32.powi(rng::below(&mut draw, 9) as i32);
        (0..count).map(|_| Floats((0..width).map(&mut value).collect())).collect()
    }

    fn sum(terms: impl IntoIterator<Item = Floats>) -> Option<Floats> {
        let mut sum = TreeSum::default();
        terms.into_iter().for_each(|term| sum.push(term));
        sum.finish()
    }

    #[test]
    fn the_tree_is_the_same_however_many_add_it() {
        for shards in [1, 2, 4, 8, 16] {
            let all = terms(shards, 33);
            let whole = sum(all.clone()).unwrap();
            for ranks in [1, 2, 4, 8, 16].into_iter().filter(|&ranks| ranks <= shards) {
                // Each rank in a thread of its own, and each with a stretch of the vector in the second half of the sum.
                let partial: Vec<Floats> = std::thread::scope(|scope| {
                    let own = |rank| all[own(shards, rank, ranks)].to_vec();
                    let threads: Vec<_> = (0..ranks).map(own).map(|own| scope.spawn(|| sum(own).unwrap())).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                let width = 33usize.next_multiple_of(ranks);
                let mut found = Vec::new();
                for rank in 0..ranks {
                    let stretch = own(width, rank, ranks);
                    let piece =
                        |own: &Floats| Floats(own.0.get(stretch.start..33.min(stretch.end)).unwrap_or(&[]).to_vec());
                    found.extend(sum(partial.iter().map(piece)).unwrap().0);
                }
                assert_eq!(Floats(found), whole, "{shards} shards on {ranks} ranks");
            }
        }
        let all = terms(8, 33);
        let in_a_row = all[1..].iter().fold(all[0].clone(), |sum, term| &sum + term);
        assert_ne!(sum(all).unwrap(), in_a_row, "the terms do not tell orders apart");
    }

    #[test]
    fn only_a_power_of_two_has_a_whole_tree() {
        for count in 1..=16 {
            assert_eq!(sum(terms(count, 1)).is_some(), count.is_power_of_two(), "{count}");
        }
        assert!(sum([]).is_none());
    }

    #[test]
    fn stretches_cover_everything_once() {
        for ranks in [1, 2, 4, 8, 16] {
            let all: Vec<usize> = (0..ranks).flat_map(|rank| own(16, rank, ranks)).collect();
            assert_eq!(all, (0..16).collect::<Vec<_>>());
        }
    }
}
