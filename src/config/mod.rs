//! Configuration: TOML files merged, resolved into typed values and validated before anything loads.

pub mod bases;
pub mod bos;
mod chain;
mod check;
pub mod choices;
pub mod compressors;
pub mod distill;
pub mod eval;
pub mod experiment;
mod explain;
mod frame;
pub mod hardware;
mod keys;
pub mod labelled;
pub mod lora;
pub mod merge;
pub mod parallel;
pub mod parts;
pub mod pretrain;
pub mod questions;
pub mod reader;
mod run_names;
pub mod span_reader;
pub mod submit;
pub mod sweep;
pub mod train;
pub mod warm_start;
