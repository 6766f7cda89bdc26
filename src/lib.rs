//! `gist`: learned context compression. A compressor writes a short gist of a long context and a generator reads it in the
//! context's place; both are trained together against a teacher that sees everything. This page is the map of the crate.
//!
//! ```text
//!  document ──► prefix (P tokens) ┃ local window (L) ┃ future (F)
//!    teacher    = base, adapters off, reads prefix + local ──────► p_T(future)
//!    compressor = base + LoRA, reads the prefix ──► gist, at most `budget` tokens
//!    generator  = base + LoRA, reads gist + local ───────────────► p_G(future)
//!
//!    reward(gist) = (D(empty) − D(gist)) / D_ref − λ · |gist| / P,   D = KL(p_T ‖ p_G), nats per future token
//! ```
//! One frozen base is in memory once. The roles differ in their adapters alone; the teacher is the base with none.
//!
//! # Where each stage is
//!
//! | stage | place |
//! |---|---|
//! | an experiment is read and checked | [`config::experiment`] |
//! | text becomes documents, then windows with their probes | [`data`], [`tokenizer`], [`train::windows`] |
//! | the base and its tokenizer are loaded | [`models`] |
//! | a base is trained from text | [`train::pretrain`] |
//! | extractive compressors are labelled and distilled | [`train::labels`] |
//! | an encoder learns to point at answers | [`train::spans`], read by [`reading::span`] |
//! | compressor and readers are warm-started | [`train::warm_start`] |
//! | **co-training, one step from top to bottom** | [`train::cotrain`] |
//! | ‥ gists are sampled in groups | [`rollout`], by a policy of [`compressor`] |
//! | ‥ a reader is compared with the teacher | [`reading`] |
//! | ‥ readings become rewards | [`reward`] |
//! | ‥ rewards become advantages, and a loss | [`algo`] |
//! | ‥ compressor and readers take their steps | [`train::updates`] |
//! | ‥ a step is cut into shards, which processes share | [`train::shards`], [`parallel`] |
//! | ‥ rows, validation, checkpoints, the wish to stop | [`train::stage`] |
//! | readers are adapted to other compressors | [`train::adapt`], kept by [`runs::readers`] |
//! | a text is made shorter, text in, text out | [`condense`] |
//! | a trained run is opened | [`runs`] |
//! | what there is to gain before any training | [`eval::ceiling`] |
//! | a run is evaluated on its test windows | [`eval::run`] |
//! | runs and baselines are compared over budgets | [`eval::compare`] |
//! | rows of a benchmark are read or generated, answers graded | [`data::task`], [`grading`] |
//! | questions are answered from what is kept | [`eval::task`] |
//! | a text and its shorter form are compared | [`eval::equivalence`] |
//! | seeds are pooled, arms of a sweep judged | [`eval::pooled`], [`eval::verdict`] |
//! | files become tables, figures and pages | [`report`] |
//! | memory and seconds are estimated and measured | [`cost`] |
//!
//! The program (`src/main.rs`, `src/cli`) parses, calls and prints; whatever it does, a library call does too.
//!
//! # Layers
//!
//! A module imports modules of higher lines only, and no two files import from each other. `tests/tidy.rs` holds both.
//!
//! | modules | know of |
//! |---|---|
//! | [`error`], [`text_file`], [`grading`], [`hash`], [`rng`], [`tensor`], [`metrics`], [`progress`], [`hub`], [`parallel`] | nothing of the project |
//! | [`config`], [`run_dir`], [`shard`], [`device`], [`endpoint`] | experiments, run directories, parts of a job, the machine, models of others |
//! | [`data`], [`tokenizer`], [`retention`], [`chat`] | text and ids |
//! | [`model`] | tensors: decoder, encoder, adapters, sampling; no text |
//! | [`compressor`], [`models`], [`condense`], [`reading`] | who compresses, and what a reader makes of it |
//! | [`rollout`], [`search`], [`reward`], [`algo`], [`train`] | how they learn |
//! | [`cost`], [`runs`] | what training costs, and what it left |
//! | [`eval`], [`report`] | how good it is, and how that is shown |
//!
//! # Invariants
//!
//! - [`reward`] and [`algo`] never run a model: numbers in, numbers out.
//! - [`train`] never matches on an algorithm or a compressor by name; [`eval`] never imports [`algo`] or [`train`].
//! - [`config`] and [`report`] work with no device; [`eval::schema`] has every file of an evaluation as a type.
//! - The future of a window never reaches a compressor: [`compressor::Request`] has no place for it.
//! - Only [`compressor::budget`] turns a ratio into a count; no compressor passes its budget.
//! - A draw depends on (run seed, stream, step, example, sample) alone ([`rng`]): the same seed and threads give the same
//!   bytes, and a run that is killed and resumed ends as one that was left alone.
//! - A file is whole or absent; nothing is written before everything that is read has been found to fit.
//! - Figures are of what a run was made from: files and program are checked ([`runs::integrity`]), or the difference is
//!   recorded.

#![warn(missing_docs)]

pub mod error;
pub mod file_name;
pub mod gguf;
pub mod text_file;

pub mod grading;
pub mod hash;
pub mod hub;
pub mod metrics;
pub mod progress;
pub mod rng;
pub mod tensor;
pub mod text;

pub mod base;
pub mod parallel;

pub mod config;
pub mod run_dir;

pub mod shard;

pub mod data;
pub mod device;
pub mod endpoint;
pub mod retention;
pub mod tokenizer;

pub mod chat;

pub mod model;

pub mod compressor;

pub mod models;

pub mod condense;

pub mod reading;

pub mod rollout;
pub mod search;

pub mod reward;

pub mod algo;

pub mod train;

pub mod cost;
pub mod runs;

pub mod eval;

pub mod report;
