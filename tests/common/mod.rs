//! Helpers of all tests: [`models`], small models with seeded weights and plain comparisons; [`world`], the real program with a
//! text, a base and a finished run to work on.

mod models;
mod world;

pub use models::*;
pub use world::*;
