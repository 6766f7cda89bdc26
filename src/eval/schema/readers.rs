//! Names of the readers under which compressors are measured, as they stand in every file and table.

/// The generator of the run, trained together with its compressor.
pub const GENERATOR: &str = "generator";
/// The base without any adapter.
pub const BASE: &str = "base";
/// A reader for each compressor, trained on that compressor's output.
pub const ADAPTED: &str = "adapted";
/// The generator where the probes ask for the text round the facts (`eval.unasked_windows`): what was given up.
pub const UNASKED: &str = "unasked";
/// One reader for all compressors, trained on all their outputs in equal shares.
pub const SHARED: &str = "shared";
