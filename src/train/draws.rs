//! Numbers of steps that name the draws of each stage of training. A seed is a function of the run's seed, a stream, a step,
//! an example and a sample ([`crate::rng`]); a policy-gradient step has its own number, and no run has so many of them that
//! it would come to those below.

/// Rounds of the warm start: their windows, the order in which they are imitated, and what readers mix.
pub const WARM_STEP: u64 = 1 << 40;
/// Windows and budgets of readers that are adapted for a comparison.
pub const ADAPT_STEP: u64 = 1 << 41;
/// Windows on which copying is learned.
pub const COPY_STEP: u64 = 1 << 42;
/// Windows of the readers' own updates, and what they read.
pub const READER_STEP: u64 = 1 << 45;
/// Futures that the teacher imagines for the windows of a round. Copying imagines none, so that they may share numbers.
pub const IMITATION_FUTURES: u64 = COPY_STEP;
/// Windows that are labelled.
pub const LABEL_STEP: u64 = 1 << 43;
/// Order in which pairs are imitated.
pub const PAIR_STEP: u64 = 1 << 46;
/// Order in which labelled windows are learned from.
pub const DISTILL_STEP: u64 = 1 << 44;
