//! Cost of training: operations of a step ([`work`]), how fast this machine is ([`pace`]), memory and seconds of an
//! experiment before anything of it is loaded ([`plan`]), both as measured ([`mod@bench`], [`memory`]), and what more processes
//! would make of a step ([`scaling`]).

pub mod bench;
pub mod memory;
pub mod pace;
pub mod plan;
pub mod scaling;
pub mod work;
