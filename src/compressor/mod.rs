//! Compressors: contexts and a budget in, kept ids out. Generative and extractive ones stand behind one trait, so that
//! an evaluation cannot tell them apart.

pub mod actions;
pub mod attended;
pub mod baseline;
mod baselines;
pub mod budget;
pub mod chain;
mod contract;
pub mod controls;
pub mod copying;
pub mod draft;
pub mod evidence;
pub mod extractive;
pub mod foreign;
pub mod frequencies;
pub mod gist;
pub mod llmlingua;
pub mod must_keep;
pub mod policy;
pub mod prompted;
mod ranges;
pub mod recent_joined;
pub mod scored;
pub mod scorer;
pub mod scorers;
mod unit_features;
pub mod units;

pub use baselines::baselines;
pub use contract::{Compressed, Compressor, Request};
