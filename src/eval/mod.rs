//! Evaluation: statistics, what a gist keeps, and the schema of `summary.json`.
pub mod retention;
pub mod stats;
pub mod summary;
