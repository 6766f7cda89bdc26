//! More than one process: exit codes, arrays of a sweep, shards and their merging, the index of runs, Slurm, and what is gained.

mod arrays;
mod codes;
mod index;
mod launchers;
mod pages;
mod ranks;
mod scaling;
mod shards;
mod slurm;
