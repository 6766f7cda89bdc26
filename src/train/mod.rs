//! Training: pretraining of a base, warm start, co-training; own optimisers with saveable state; checkpoints.

pub mod adapt;
pub mod checkpoint;
pub mod companions;
pub mod cotrain;
pub mod draws;
mod facts;
pub mod inputs;
pub mod labels;
pub mod mix;
pub mod optim;
pub mod overlap;
pub mod pretrain;
pub use crate::progress;
mod qa;
pub mod readers;
pub mod roles;
pub mod rollout_log;
pub mod session;
pub mod shards;
pub mod spans;
pub mod stage;
pub mod trainee;
pub mod updates;
pub mod validation;
mod warm_readers;
pub mod warm_start;
pub mod windows;
