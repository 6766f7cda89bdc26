//! Pairs in three parts by document: which part a document is in depends on its name and the seed alone, so that it is the same in
//! every file, and stays when documents come in or go.

use crate::hash::Digest;

/// Shares of the parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares([f64; 3]);

/// Names of the parts.
pub const PARTS: [&str; 3] = ["train", "valid", "test"];

impl Shares {
    /// The part, by number, of a document.
    pub fn part(self, document: &str, seed: u64) -> usize {
        let mut digest = Digest::default();
        digest.add(&seed.to_string());
        digest.add(document);
        // 52 bits: an exact number below 1.
        let place = u64::from_str_radix(&digest.hex()[..13], 16).unwrap_or(0) as f64 / (1u64 << 52) as f64;
        let [train, valid, _] = self.0;
        usize::from(place >= train) + usize::from(place >= train + valid)
    }
}

impl std::str::FromStr for Shares {
    type Err = String;

    /// Three numbers such as `80,10,10`, in any unit.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected three numbers, 0 or more, such as 80,10,10, got {text:?}");
        let numbers = text.split(',').map(|number| number.trim().parse::<f64>()).collect::<Result<Vec<_>, _>>();
        let numbers: [f64; 3] = numbers.map_err(|_| wrong())?.try_into().map_err(|_| wrong())?;
        let sum: f64 = numbers.iter().sum();
        let good = numbers.iter().all(|number| *number >= 0.0) && sum > 0.0 && sum.is_finite();
        if good { Ok(Self(numbers.map(|number| number / sum))) } else { Err(wrong()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_their_shares_and_no_document_is_in_two() {
        let shares: Shares = "80, 10,10".parse().unwrap();
        let mut counts = [0usize; 3];
        for number in 0..5000 {
            let document = format!("document {number}");
            counts[shares.part(&document, 0)] += 1;
            assert_eq!(shares.part(&document, 0), shares.part(&document, 0));
        }
        // Four standard errors of a share of 10 % are 85.
        assert!(
            counts[0].abs_diff(4000) < 115 && counts[1].abs_diff(500) < 85 && counts[2].abs_diff(500) < 85,
            "{counts:?}"
        );
        let moved = (0..200).filter(|n| shares.part(&n.to_string(), 0) != shares.part(&n.to_string(), 1)).count();
        assert!(moved > 20, "another seed, another split: {moved}");
        let all: Shares = "1,0,0".parse().unwrap();
        assert!((0..100).all(|number| all.part(&number.to_string(), 0) == 0));
    }

    #[test]
    fn other_shares_are_refused() {
        for bad in ["80,20", "a,b,c", "-1,1,1", "0,0,0", "inf,1,1", ""] {
            assert!(bad.parse::<Shares>().unwrap_err().contains("such as 80,10,10"), "{bad}");
        }
    }
}
