//! The best that a gist of a given length can do on generated recall documents, in closed form: a lower bound on the
//! distortion–rate curve of any compressor and reader, in the spirit of Nagle et al. 2024 (arXiv 2407.15504), who compute
//! that curve for small prompts by a linear program. Here the source is known, so Shannon's converse gives it at once.
//!
//! ```text
//! S  the set of facts        L  the local window, an entity of S, each as likely
//! G  the gist                F  the future: the facts in an order that is independent of S and G
//!
//! D · |F| = E KL(p(F | prefix, L) ‖ p(F | G, L)) = I(S; prefix | G, L) = H(S | L) − I(S; G | L) ≥ H(S | L) − H(G)
//! H(G) ≤ r · ln A + (r + 1) ln(r + 1) − r ln r          r: mean length, A: ids that a gist may hold
//! ```
//! The second line is a code of A letters with a free length, whose entropy at a mean of r is largest when it is
//! geometric. H(S | L) follows from the generator: fact i is uniform over the N_i triples of unused words of which the
//! first two are an entity of the split, so the ordered facts have Σ E ln N_i; of these orders F! are one set, and
//!
//! ```text
//! H(S | L) ≥ Σ ln N_i − ln F! + ln F − ln(W d)          N_i ≥ (W d − 6 d (i − 1)) · (W − 3 (i − 1) − 2)
//! ```
//! with W words and d partners of a word on either side. Each step errs to the safe side, by a few thousandths of a nat.
//! The bound is for an ideal teacher; whether the compressor sees L makes no difference to it. A gist that only copies
//! words needs more: three words a fact, where a code of the same alphabet needs about two.

use super::recall::{RecallConfig, Split};

impl RecallConfig {
    /// Partners of a word in an entity of this split, on either side.
    fn partners(&self, split: Split) -> usize {
        let tenth = self.words / 10;
        match split {
            Split::Train => 8 * tenth - 1, // a word is no partner of itself
            Split::Valid | Split::Test => tenth,
        }
    }

    /// Nats that the facts hold beyond what the local window tells: at least this.
    pub fn hidden_nats(&self, split: Split) -> f64 {
        let (words, partners) = (self.words as f64, self.partners(split) as f64);
        let entities = words * partners;
        let fact = |i: usize| {
            let used = 3.0 * i as f64;
            ((entities - 2.0 * partners * used).max(1.0) * (words - used - 2.0).max(1.0)).ln()
        };
        let orders: f64 = (1..self.facts).map(|n| (n as f64).ln()).sum(); // ln F! − ln F
        (0..self.facts).map(fact).sum::<f64>() - orders - entities.ln()
    }

    /// Least KL, in nats per word of the future, that gists with a mean of `length` words out of `alphabet` can leave.
    pub fn least_kl(&self, split: Split, alphabet: usize, length: f64) -> f64 {
        let lengths = if length > 0.0 { (length + 1.0) * (length + 1.0).ln() - length * length.ln() } else { 0.0 };
        let carried = length * (alphabet.max(1) as f64).ln() + lengths;
        (self.hidden_nats(split) - carried).max(0.0) / self.shape().future as f64
    }

    /// The bound as (keep_ratio, KL), from nothing kept to a little past where it reaches 0 or to `most`.
    pub fn bound(&self, split: Split, alphabet: usize, most: f64) -> Vec<[f64; 2]> {
        const STEPS_A_WORD: f64 = 4.0;
        let steps = (most * self.prefix as f64 * STEPS_A_WORD).ceil() as usize;
        let mut points: Vec<[f64; 2]> = Vec::new();
        for step in 0..=steps {
            let length = step as f64 / STEPS_A_WORD;
            points.push([length / self.prefix as f64, self.least_kl(split, alphabet, length)]);
            if points.last().is_some_and(|point| point[1] == 0.0) {
                break;
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::recall::valid_pair;
    use std::collections::BTreeMap;

    /// H(S | L) by going through every pair of facts in every order.
    fn enumerated(cfg: &RecallConfig, split: Split) -> f64 {
        let words: Vec<usize> = (0..cfg.words).collect();
        let triples = |used: &[usize]| -> Vec<[usize; 3]> {
            let free: Vec<usize> = words.iter().copied().filter(|w| !used.contains(w)).collect();
            let mut found = Vec::new();
            for &a in &free {
                for &b in free.iter().filter(|b| **b != a && valid_pair(cfg.words, a, **b) == split) {
                    found.extend(free.iter().filter(|v| **v != a && **v != b).map(|v| [a, b, *v]));
                }
            }
            found
        };
        let mut sets: BTreeMap<[[usize; 3]; 2], f64> = BTreeMap::new();
        let firsts = triples(&[]);
        for first in &firsts {
            let seconds = triples(first);
            let p = 1.0 / (firsts.len() * seconds.len()) as f64;
            for second in &seconds {
                let mut set = [*first, *second];
                set.sort_unstable();
                *sets.entry(set).or_default() += p;
            }
        }
        assert!((sets.values().sum::<f64>() - 1.0).abs() < 1e-9);
        let entropy = |p: f64| -p * p.ln();
        let mut local: BTreeMap<[usize; 2], f64> = BTreeMap::new();
        let mut joint = 0.0;
        for (set, p) in &sets {
            for fact in set {
                *local.entry([fact[0], fact[1]]).or_default() += p / 2.0;
                joint += entropy(p / 2.0);
            }
        }
        joint - local.values().map(|p| entropy(*p)).sum::<f64>()
    }

    #[test]
    fn what_the_facts_hide_is_what_counting_finds() {
        let one = RecallConfig { words: 20, prefix: 12, facts: 1, rounds: 1 };
        for split in [Split::Train, Split::Valid, Split::Test] {
            assert!((one.hidden_nats(split) - 18f64.ln()).abs() < 1e-12, "the attribute alone");
        }
        let two = RecallConfig { words: 20, prefix: 12, facts: 2, rounds: 1 };
        for split in [Split::Valid, Split::Test] {
            let (bound, exact) = (two.hidden_nats(split), enumerated(&two, split));
            assert!(bound <= exact + 1e-9 && exact - bound < 0.05, "{split:?}: {bound} against {exact}");
        }
    }

    #[test]
    fn no_gist_that_can_be_worked_out_is_below_the_bound() {
        // One fact: the attribute is sent with probability p, and then all is known.
        let one = RecallConfig { words: 20, prefix: 12, facts: 1, rounds: 1 };
        for i in 0..=20 {
            let p = f64::from(i) / 20.0;
            let left = (1.0 - p) * 18f64.ln();
            assert!(one.least_kl(Split::Test, 22, p) <= left + 1e-12, "{p}");
        }
        assert!((one.least_kl(Split::Test, 22, 0.0) - 18f64.ln()).abs() < 1e-12);
        // Two facts: all six words sent leave nothing; one whole fact leaves the other half of the time whole, and half of
        // the time its attribute.
        let two = RecallConfig { words: 20, prefix: 12, facts: 2, rounds: 1 };
        let exact = enumerated(&two, Split::Test);
        let attribute = 15f64.ln();
        let other_fact = exact - 18f64.ln();
        let left = (0.5 * other_fact + 0.5 * attribute) / 4.0;
        let bound = two.least_kl(Split::Test, 22, 3.0);
        assert!(bound <= left && bound >= 0.0, "{bound} {left}");
        assert!(two.least_kl(Split::Test, 22, 0.0) <= exact / 4.0);
    }

    #[test]
    fn the_curve_falls_to_nothing_and_is_convex() {
        let cfg = RecallConfig::default();
        let curve = cfg.bound(Split::Test, 122, 0.4);
        assert_eq!(curve[0][0], 0.0);
        assert!((curve[0][1] - 27.9 / 7.0).abs() < 0.05, "{curve:?}");
        assert_eq!(curve[curve.len() - 1][1], 0.0);
        assert!(curve[curve.len() - 1][0] * 64.0 < 9.0, "a code needs fewer words than copying");
        let falls: Vec<f64> = curve.windows(2).map(|pair| pair[0][1] - pair[1][1]).collect();
        assert!(falls.iter().all(|fall| *fall > 0.0));
        assert!(falls[..falls.len() - 1].windows(2).all(|pair| pair[0] >= pair[1] - 1e-12));
        assert!(cfg.bound(Split::Test, 122, 0.02).len() < curve.len());
    }
}
