//! Configuration: TOML files merged, resolved into typed values and validated before anything loads.

mod chain;
mod explain;
mod keys;
pub mod merge;
pub mod sweep;
