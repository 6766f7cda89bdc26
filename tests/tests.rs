//! The one integration-test binary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod gates;
mod parity;
mod support;
