//! Extractive compressors from labels. Of training windows, labels are measured by reading or given by a trained compressor
//! ([`windows`]), and `gist train` learns from them before its policy gradient ([`distill`]); of texts, somebody said what to
//! keep, and `gist distill` learns from that ([`texts`]). One update is the same for both ([`step`]).

pub mod distill;
pub mod example;
pub mod labelled_window;
pub mod measured;
pub mod rankers;
pub mod step;
pub mod teacher;
pub mod texts;
pub mod windows;
