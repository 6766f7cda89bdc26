//! Training: pretraining of a base, warm start, co-training; own optimisers with saveable state; checkpoints.

pub mod adapt;
pub mod base_eval;
pub mod bench;
pub mod checkpoint;
pub mod cost;
pub mod cotrain;
pub mod distill;
pub mod fresh;
pub mod inputs;
pub mod label;
pub mod labelled;
pub mod memory;
pub mod mix;
pub mod optim;
pub mod pace;
pub mod plan;
pub mod pretrain;
pub mod progress;
pub mod roles;
pub mod rollout_log;
pub mod session;
pub mod trainee;
pub mod updates;
pub mod warm_start;
pub mod windows;
