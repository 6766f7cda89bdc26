//! The grade of one answer.

use serde::{Deserialize, Serialize};

/// A graded answer, each in [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Grade {
    /// Exact match; of a rule with one number, whether that is 1.
    pub exact_match: f64,
    /// F1, or the one number of the rule.
    pub f1: f64,
}
