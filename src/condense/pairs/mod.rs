//! Pairs of a text and its shorter form on their way to a supervised compressor: read ([`rows`]), cleaned, sanitised, and split by
//! document. One row at a time, so that memory does not grow with the rows, but for a number for each text that was seen.

pub mod clean;
pub mod rows;
pub mod sanitize;
pub mod split;
