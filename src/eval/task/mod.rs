//! Downstream: did the answer survive? A model answers each question from the whole context, from nothing, and from what each
//! compressor keeps at each budget.
//!
//! ```text
//! <output>/rows.jsonl                    a row an example, compressor and budget: what a killed run goes on from
//! <output>/summary.json, summary.csv     means, paired intervals by document, slices
//! ```
//! The answers to the whole context and to nothing are asked once an example and shared by all compressors, so that the
//! difference of `identity` is exactly 0.

pub mod answer_kept;
pub mod downstream;
pub mod figures;
pub mod reader;
pub mod rows;
pub mod span_model;
pub mod task_model;
