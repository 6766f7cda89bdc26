//! Figures by name, in the order in which they are written: a row of `metrics.jsonl`.

use std::ops::Deref;

/// Seconds of a step's shards: one list of all own shards for each stretch between two exchanges.
pub type ShardSeconds = Vec<Vec<f64>>;

/// A named list of figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<(&'static str, f64)>);

impl Metrics {
    /// Puts a figure at the end.
    pub fn push(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }

    /// The figure of this name; none if there is no such figure.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }

    /// Adds figures to those of the same names; names that are new come to stand at the end.
    pub fn add(&mut self, other: &Metrics) {
        for &(name, value) in other.iter() {
            match self.0.iter_mut().find(|(own, _)| *own == name) {
                Some((_, sum)) => *sum += value,
                None => self.push(name, value),
            }
        }
    }

    /// Every figure divided by `count`: from sums to means.
    pub fn divided_by(&self, count: f64) -> Metrics {
        self.iter().map(|&(name, value)| (name, value / count)).collect()
    }
}

impl Deref for Metrics {
    type Target = [(&'static str, f64)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<const N: usize> From<[(&'static str, f64); N]> for Metrics {
    fn from(figures: [(&'static str, f64); N]) -> Self {
        Self(figures.into())
    }
}

impl FromIterator<(&'static str, f64)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (&'static str, f64)>>(figures: I) -> Self {
        Self(figures.into_iter().collect())
    }
}

impl Extend<(&'static str, f64)> for Metrics {
    fn extend<I: IntoIterator<Item = (&'static str, f64)>>(&mut self, figures: I) {
        self.0.extend(figures);
    }
}

impl IntoIterator for Metrics {
    type Item = (&'static str, f64);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_batches_become_means() {
        let mut sums = Metrics::from([("a", 1.0)]);
        sums.add(&Metrics::from([("a", 2.0), ("b", 3.0)]));
        sums.add(&Metrics::from([("b", 3.0)]));
        assert_eq!(sums.divided_by(2.0), Metrics::from([("a", 1.5), ("b", 3.0)]));
        assert_eq!((sums.get("b"), sums.get("c")), (Some(6.0), None));
    }
}
