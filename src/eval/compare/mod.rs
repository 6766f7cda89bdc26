//! The comparison of finished runs and baselines: rate–distortion curves on the same windows, each compressor read by one
//! reader that all share and by one of its own.
//!
//! [`group`]: runs that fit together. [`entrants`]: compressors by name, of runs, baselines and chains of two. [`contest`]:
//! readers are taught, everyone is measured, and [`crate::eval::schema::comparison::Comparison`] comes of it.

pub mod contest;
pub mod entrants;
pub mod group;
mod named;
pub mod shards;

pub use contest::{ComparisonOptions, compare};
pub use entrants::{Entrant, Entrants};
