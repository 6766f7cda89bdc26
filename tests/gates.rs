//! Gates of the design: what is fast and shared equals what is plain and alone.

mod branches;
mod checkpoints;
mod controls;
mod credit;
mod extractive;
mod files;
mod halves;
mod heads;
mod kernels;
mod policy;
mod pretraining;
mod sampling;
mod shards;
mod updates;
mod vocabulary;
