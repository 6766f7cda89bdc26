//! Configuration: TOML files merged, resolved into typed values and validated before anything loads.

mod chain;
mod explain;
mod keys;
pub mod choices;
pub mod merge;
pub mod parts;
pub mod pretrain;
pub mod train;
pub mod sweep;
