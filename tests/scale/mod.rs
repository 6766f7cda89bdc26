//! More than one process: exit codes, arrays of a sweep, shards and their merging, the index of runs, Slurm.

mod arrays;
mod codes;
mod index;
mod pages;
mod ranks;
mod shards;
mod slurm;
