//! Seconds of a co-training step on more ranks: those of its shards, as one process noted them, dealt to W ranks,
//! and a link between them.
//!
//! ```text
//! T(W) = rest + Σ over stretches of max over ranks of Σ own shards + exchanges
//! exchange = (W − 1) · latency + (W − 1)/W · bytes / bandwidth          a ring, as Gloo's
//! ```
//! The rest (advantages, optimiser, rows) is done by every rank and does not shrink. The model knows no contention for memory or
//! power between ranks of one machine; that is measured beside it ([`RankTimes::contention`]).

use crate::error::{Error, Result};
use crate::parallel::ranks::{Ranks, exchanges_of_sum};
use crate::parallel::tree::own;
use crate::tensor::median;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;
use tch::Tensor;

/// Exchanges of a step that ranks make whatever the experiment: two of the rollouts, and the wish to stop.
const EXCHANGES: usize = 3;
/// Exchanges of each gradient beside its sum: the figures.
const BESIDE_GRADIENT: usize = 1;

/// A step as `timings.jsonl` has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct StepTimes {
    /// Number of the update.
    pub step: usize,
    /// Seconds of the step.
    #[serde(rename = "time/step_s")]
    pub seconds: f64,
    /// Seconds of it in exchanges, waiting included; none for a run of one process.
    #[serde(rename = "time/ranks_s")]
    pub in_exchanges: Option<f64>,
    /// Seconds by stretch between two exchanges and own shard; none where steps are whole.
    #[serde(rename = "time/shards_s", default)]
    pub shards: Vec<Vec<f64>>,
}

/// Reads the steps of a `timings.jsonl` that were made in shards.
///
/// # Errors
/// A row that is none, with file and line.
pub fn sharded_steps(path: &Path) -> Result<Vec<StepTimes>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let row = |(number, line): (usize, &str)| {
        let wrong = |e| Error::file(path, format!("line {}: expected seconds of a step, got {e}", number + 1));
        serde_json::from_str::<StepTimes>(line).map_err(wrong)
    };
    let rows = text.lines().enumerate().map(row).collect::<Result<Vec<_>>>()?;
    Ok(rows.into_iter().filter(|row| !row.shards.is_empty()).collect())
}

/// Cost of an exchange between ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Seconds of a message that holds nothing.
    pub latency_s: f64,
    /// Bytes a second between two ranks.
    pub bytes_per_s: f64,
}

impl Link {
    /// Seconds of `exchanges` among `ranks`, that move `bytes` together.
    pub fn seconds(&self, exchanges: usize, bytes: f64, ranks: usize) -> f64 {
        let others = (ranks - 1) as f64;
        exchanges as f64 * others * self.latency_s + others / ranks as f64 * bytes / self.bytes_per_s
    }

    /// The link that explains measured sums best: least squares over pairs of bytes and seconds; never below 0. A sum moves its
    /// bytes twice.
    pub fn fit(sums: &[(f64, f64)], ranks: usize) -> Self {
        let n = sums.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| sums.iter().map(of).sum::<f64>() / n;
        let (bytes, seconds) = (mean(|sum| sum.0), mean(|sum| sum.1));
        let spread: f64 = sums.iter().map(|sum| (sum.0 - bytes).powi(2)).sum();
        let slope = sums.iter().map(|sum| (sum.0 - bytes) * (sum.1 - seconds)).sum::<f64>() / spread;
        let least = sums.iter().map(|sum| sum.1).fold(f64::INFINITY, f64::min);
        let start = (seconds - slope * bytes).clamp(0.0, least);
        let others = (ranks - 1) as f64;
        let exchanges = exchanges_of_sum(ranks) as f64;
        Self { latency_s: start / (exchanges * others), bytes_per_s: 2.0 * others / ranks as f64 / slope.max(1e-12) }
    }
}

/// Seconds of sums of vectors of these lengths (f32) by all ranks of a group, each the median of `repeats`.
pub fn measure_sums(group: &Ranks, lengths: &[usize], repeats: usize) -> Result<Vec<(f64, f64)>> {
    let of = |&length: &usize| {
        let vector = Tensor::ones([length as i64], (tch::Kind::Float, tch::Device::Cpu));
        drop(group.sum("warming up", &vector)?);
        let mut seconds = Vec::with_capacity(repeats);
        for _ in 0..repeats {
            group.gather("starting together", &[])?;
            let begun = Instant::now();
            drop(group.sum("measuring the link", &vector)?);
            seconds.push(begun.elapsed().as_secs_f64());
        }
        Ok(((length * size_of::<f32>()) as f64, median(seconds)))
    };
    lengths.iter().map(of).collect()
}

/// Seconds of a step on `ranks`, by the seconds of its shards on one; `gradients` are the bytes of all gradients together.
///
/// # Errors
/// The step's shards cannot be dealt to so many ranks.
pub fn simulate(step: &StepTimes, ranks: usize, gradients: f64, link: Link) -> Result<f64> {
    let count = step.shards.first().map_or(0, Vec::len);
    if ranks == 0 || !count.is_multiple_of(ranks) {
        return Err(Error::invalid(format!("--ranks: expected divisors of the run's {count} shards, got {ranks}")));
    }
    let all: f64 = step.shards.iter().flatten().sum();
    let slowest = |stretch: &Vec<f64>| {
        let of_rank = |rank| own(count, rank, ranks).map(|shard| stretch[shard]).sum::<f64>();
        (0..ranks).map(of_rank).fold(0.0, f64::max)
    };
    let shared: f64 = step.shards.iter().map(slowest).sum();
    let gradients_of_step = step.shards.len().saturating_sub(1);
    let exchanges = EXCHANGES + (exchanges_of_sum(ranks) + BESIDE_GRADIENT) * gradients_of_step;
    // Each gradient is moved twice: stretches to those who add them, and their sums to all.
    Ok(step.seconds - all + shared + link.seconds(exchanges, 2.0 * gradients, ranks))
}

/// A step of one global batch on W ranks, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankTimes {
    /// W.
    pub ranks: usize,
    /// Seconds of a step, the median over steps and repeats.
    pub step_s: f64,
    /// The median of each repeat.
    pub repeats_s: Vec<f64>,
    /// Share of the step in exchanges, waiting included.
    pub in_exchanges: f64,
    /// Seconds of a step of 1/W of the batch by one process that is alone on the machine.
    pub alone_s: f64,
    /// Seconds of such a step by W processes at once that do not talk to one another.
    pub at_once_s: f64,
    /// Largest memory of rank 0, MiB.
    pub peak_rss_mib: f64,
    /// Seconds of a step that the shards of one process and the link predict; none where the link was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_s: Option<f64>,
}

impl RankTimes {
    /// E(W) = T(1) / (W · T(W)), where `one` is T(1).
    pub fn efficiency(&self, one: f64) -> f64 {
        one / (self.ranks as f64 * self.step_s)
    }

    /// C(W): how fast W processes at once are that do not talk to one another, 1 where they do not disturb one another.
    pub fn contention(&self) -> f64 {
        self.alone_s / self.at_once_s
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FAST: Link = Link { latency_s: 0.0, bytes_per_s: f64::INFINITY };

    fn step() -> StepTimes {
        StepTimes {
            step: 0,
            seconds: 13.0,
            in_exchanges: None,
            shards: vec![vec![1.0, 2.0, 1.0, 2.0], vec![3.0, 1.0, 1.0, 1.0]],
        }
    }

    #[test]
    fn every_stretch_waits_for_its_slowest_rank() {
        let seconds = |ranks| simulate(&step(), ranks, 0.0, FAST).unwrap();
        assert_eq!([1, 2, 4].map(seconds), [13.0, 1.0 + 3.0 + 4.0, 1.0 + 2.0 + 3.0]);
        let error = simulate(&step(), 3, 0.0, FAST).unwrap_err().to_string();
        assert!(error.contains("divisors of the run's 4 shards, got 3"), "{error}");
        simulate(&step(), 0, 0.0, FAST).unwrap_err();
    }

    #[test]
    fn the_link_costs_messages_and_bytes() {
        let link = Link { latency_s: 1e-3, bytes_per_s: 1e6 };
        let more = simulate(&step(), 2, 1e6, link).unwrap() - simulate(&step(), 2, 0.0, FAST).unwrap();
        assert!((more - (5.0 * 1e-3 + 1.0)).abs() < 1e-9, "{more}");
        assert_eq!(simulate(&step(), 1, 1e6, link).unwrap(), 13.0, "one process has nobody to talk to");
    }

    #[test]
    fn a_link_is_found_again() {
        let link = Link { latency_s: 5e-5, bytes_per_s: 1.25e9 };
        for ranks in [2, 8] {
            let sum = |bytes: f64| (bytes, link.seconds(exchanges_of_sum(ranks), 2.0 * bytes, ranks));
            let found = Link::fit(&[1e3, 1e5, 1e6, 1e7].map(sum), ranks);
            assert!((found.latency_s / link.latency_s - 1.0).abs() < 1e-6, "{found:?}");
            assert!((found.bytes_per_s / link.bytes_per_s - 1.0).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn only_steps_in_shards_are_read_and_a_torn_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("timings.jsonl");
        let rows = "{\"step\":0,\"time/step_s\":2.0}\n{\"step\":1,\"time/step_s\":3.0,\"time/shards_s\":[[1.0,1.0]]}\n";
        std::fs::write(&path, rows).unwrap();
        let found = sharded_steps(&path).unwrap();
        assert_eq!((found.len(), found[0].step, found[0].seconds), (1, 1, 3.0));
        std::fs::write(&path, format!("{rows}{{\"step\":")).unwrap();
        let error = sharded_steps(&path).unwrap_err().to_string();
        assert!(error.contains("timings.jsonl") && error.contains("line 3"), "{error}");
    }
}
