//! Runs that were trained, opened for whoever needs them: an evaluation, a comparison, an export, a service.
//!
//! ```no_run
//! use gist::compressor::{Compressor, Request};
//! use gist::runs::TrainedRun;
//! use std::path::Path;
//! use tch::Device;
//!
//! fn main() -> gist::error::Result<()> {
//!     let run = TrainedRun::open(Path::new("runs/gist/seed=0"))?;
//!     let models = run.models(Device::Cpu)?;
//!     let compressor = run.compressor(&models)?;
//!     let prefix = models.tokenizer.encode("a long text")?;
//!     let request = Request { prefix: &prefix, local: &[], query: &[], key: 0 };
//!     let gist = compressor.compress(&[request], run.config().budget_tokens())?;
//!     println!("{}", models.tokenizer.decode(&gist[0].ids)?);
//!     Ok(())
//! }
//! ```
//! [`trained`]: the experiment of a run and its weights. [`terms`]: the things that runs are judged by. [`integrity`]: whether
//! the files and the program are still those that a run was made from. [`readers`]: readers adapted to compressors, kept
//! beside what they were taught for. [`export`]: weights for other tools.

pub mod export;
pub mod integrity;
pub mod readers;
pub mod terms;
pub mod trained;

pub use crate::train::inputs::Inputs;
pub use trained::{TrainedCompressor, TrainedRun};
