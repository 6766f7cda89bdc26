//! The one integration-test binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod chat;
mod common;
mod compare;
mod compressors;
mod configs;
mod damage;
mod decoders;
mod distill;
mod encoders;
mod evaluation;
mod export;
mod extractive;
mod gates;
mod hub;
mod parity;
mod readers;
mod recall;
mod run_dir;
mod scorers;
mod shipped;
mod support;
mod sweep;
mod tidy;
mod train;
