//! Training of a span reader ([`crate::reading::span`]) on questions whose answers stand in their contexts.

pub mod examples;
pub mod learn;
