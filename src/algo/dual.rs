//! The price of length: fixed, or by dual ascent λ ← max(0, λ + η·(mean keep_ratio − target) / target), the Lagrangian
//! form of "at most this many tokens on average".

use crate::config::choices::LengthPenalty;
use serde::{Deserialize, Serialize};

/// The current price.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lambda {
    /// λ.
    pub value: f64,
}

impl Lambda {
    /// The price before the first step.
    pub fn new(penalty: &LengthPenalty) -> Self {
        let value = match *penalty {
            LengthPenalty::Fixed { lambda } => lambda,
            LengthPenalty::TargetKeepRatio { initial_lambda, .. } => initial_lambda,
        };
        Self { value }
    }

    /// Moves the price after a step whose gists kept `keep_ratio` on average.
    pub fn update(&mut self, penalty: &LengthPenalty, keep_ratio: f64) {
        if let LengthPenalty::TargetKeepRatio { target, lr, .. } = *penalty {
            self.value = (self.value + lr * (keep_ratio - target) / target).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dual_ascent_meets_the_target_of_a_responsive_policy() {
        let penalty = LengthPenalty::TargetKeepRatio { target: 0.1, lr: 0.1, initial_lambda: 0.0 };
        let mut lambda = Lambda::new(&penalty);
        let mut keep_ratio = 0.3;
        for _ in 0..2000 {
            keep_ratio = 0.3 / (1.0 + lambda.value);
            lambda.update(&penalty, keep_ratio);
        }
        assert!((keep_ratio - 0.1).abs() < 1e-3, "{keep_ratio}");
    }

    #[test]
    fn a_price_never_becomes_a_gift() {
        let penalty = LengthPenalty::TargetKeepRatio { target: 0.1, lr: 1.0, initial_lambda: 0.1 };
        let mut lambda = Lambda::new(&penalty);
        lambda.update(&penalty, 0.0);
        assert_eq!(lambda.value, 0.0);
    }
}
