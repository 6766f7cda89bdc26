//! Likeness of two texts as Python's `difflib.SequenceMatcher(None, a, b).ratio()` has it: longest matching blocks, one after
//! another, where characters that are too frequent in a long `b` begin no block.

use std::collections::BTreeMap;
use std::ops::Range;

/// Length from which frequent characters are left out, and their share of it.
const LONG: usize = 200;

struct Matcher<'a> {
    a: &'a [char],
    b: &'a [char],
    places: BTreeMap<char, Vec<usize>>,
}

impl Matcher<'_> {
    /// The longest block that both ranges hold: the first of the longest in `a`, and of these the first in `b`.
    fn longest(&self, a: &Range<usize>, b: &Range<usize>) -> (usize, usize, usize) {
        let (mut start_a, mut start_b, mut size) = (a.start, b.start, 0);
        let mut lengths: BTreeMap<usize, usize> = BTreeMap::new();
        for i in a.clone() {
            let mut next = BTreeMap::new();
            for &j in self.places.get(&self.a[i]).into_iter().flatten().filter(|j| b.contains(j)) {
                let length = j.checked_sub(1).and_then(|before| lengths.get(&before)).copied().unwrap_or(0) + 1;
                next.insert(j, length);
                if length > size {
                    (start_a, start_b, size) = (i + 1 - length, j + 1 - length, length);
                }
            }
            lengths = next;
        }
        while start_a > a.start && start_b > b.start && self.a[start_a - 1] == self.b[start_b - 1] {
            (start_a, start_b, size) = (start_a - 1, start_b - 1, size + 1);
        }
        while start_a + size < a.end && start_b + size < b.end && self.a[start_a + size] == self.b[start_b + size] {
            size += 1;
        }
        (start_a, start_b, size)
    }
}

/// Twice the characters in matching blocks over those of both texts; 1 for two empty ones.
pub(super) fn ratio(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let mut places: BTreeMap<char, Vec<usize>> = BTreeMap::new();
    b.iter().enumerate().for_each(|(at, c)| places.entry(*c).or_default().push(at));
    if b.len() >= LONG {
        places.retain(|_, at| at.len() <= b.len() / 100 + 1);
    }
    let matcher = Matcher { a: &a, b: &b, places };
    let (mut open, mut matched) = (vec![(0..a.len(), 0..b.len())], 0);
    while let Some((left, right)) = open.pop() {
        let (i, j, size) = matcher.longest(&left, &right);
        if size == 0 {
            continue;
        }
        matched += size;
        open.push((left.start..i, right.start..j));
        open.push((i + size..left.end, j + size..right.end));
        open.retain(|(left, right)| !left.is_empty() && !right.is_empty());
    }
    2.0 * matched as f64 / (a.len() + b.len()) as f64
}
