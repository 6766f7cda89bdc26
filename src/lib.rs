//! `gist`: learned context compression. A compressor writes a short gist of a long context and a generator reads it in
//! the context's place; both are trained together against a teacher that sees everything.

#![warn(missing_docs)]

pub mod data;
pub mod error;
pub mod eval;
pub mod rng;
