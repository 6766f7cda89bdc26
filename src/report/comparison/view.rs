//! The parts of a comparison as its tables, figures and pages show them.

use crate::eval::schema::comparison::{Comparison, Point, Winner};
use crate::eval::schema::readers::{ADAPTED, SHARED};
use crate::report::format::points_ci;

/// The readers that there are, the shared one first.
pub fn readers(comparison: &Comparison) -> Vec<&'static str> {
    let read = |reader: &&str| comparison.points.iter().any(|point| point.reader == **reader);
    [SHARED, ADAPTED].into_iter().filter(read).collect()
}

/// Empty for what is undefined.
pub fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { String::new() }
}

/// `1 token`, `24 tokens`.
pub fn count(tokens: usize) -> String {
    if tokens == 1 { "1 token".into() } else { format!("{tokens} tokens") }
}

/// The points of one reader at one budget, best first.
pub fn ranked<'a>(comparison: &'a Comparison, reader: &str, tokens: usize) -> Vec<&'a Point> {
    let here = |p: &&Point| p.reader == reader && p.budget_tokens == tokens;
    let mut points: Vec<&Point> = comparison.points.iter().filter(here).collect();
    points.sort_by(|a, b| a.kl.total_cmp(&b.kl));
    points
}

/// The best compressor and whether its lead is significant, as a sentence.
pub fn verdict(winner: &Winner) -> String {
    let Some(second) = &winner.runner_up else { return "nobody to compare with".into() };
    let difference = points_ci(winner.gap_closed_diff, winner.ci95);
    let told = match (winner.separable(), winner.ci95.iter().all(|bound| bound.is_finite())) {
        (true, _) => "told apart",
        (false, true) => "not separable",
        (false, false) => "interval unknown",
    };
    format!("{difference} points against {second}: {told}")
}
