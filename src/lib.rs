//! `gist`: learned context compression. A compressor writes a short gist of a long context and a generator reads it in
//! the context's place; both are trained together against a teacher that sees everything.

#![warn(missing_docs)]

pub mod error;
pub mod gguf;
pub mod hub;
pub mod rng;
pub mod tensor;

pub mod base;

pub mod config;
pub mod run_dir;

pub mod data;
pub mod retention;
pub mod tokenizer;

pub mod chat;

pub mod model;

pub mod compressor;

pub mod rollout;
pub mod search;

pub mod reward;

pub mod algo;

pub mod train;

pub mod eval;

pub mod report;
