//! Work of one step shared by several processes, the ranks of a run, whose results do not depend on how many share it. A run of
//! one process has no group.

pub mod place;
pub mod ranks;
mod shim;
pub mod standing;
pub mod tree;
