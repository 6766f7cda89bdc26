//! The files that evaluations leave behind, as types: no computation, no model. Reports and other programs need nothing else.

pub mod comparison;
pub mod ledger;
pub mod readers;
pub mod shipped;
pub mod summary;
pub mod undefined;
pub mod windows;
