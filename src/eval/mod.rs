//! Evaluation: every compressor on equal terms, statistics, and the schema of `summary.json`.
pub mod comparison;
pub mod figures;
pub mod files;
pub mod gates;
pub mod intrinsic;
pub mod oracle;
pub mod pooled;
pub mod rate_distortion;
pub mod recovery;
pub mod slices;
pub mod stats;
pub mod summary;
pub mod terms;
pub mod verdict;
