//! What training costs: operations of a step ([`work`]), how fast this machine is ([`pace`]), memory and seconds of an
//! experiment before anything of it is loaded ([`plan`]), and both as measured ([`mod@bench`], [`memory`]).

pub mod bench;
pub mod memory;
pub mod pace;
pub mod plan;
pub mod work;
