//! Evaluation: every compressor on equal terms, statistics, gates, and the files that come of it.

pub mod asked;
pub mod ceiling;
pub mod compare;
pub mod crossed;
pub mod curves;
pub mod equivalence;
pub mod figures;
pub mod files;
pub mod gates;
pub mod judge;
pub mod ledger;
pub mod oracle;
pub mod pooled;
pub mod recovery;
pub mod run;
pub mod schema;
pub mod shards;
pub mod slices;
pub mod stats;
pub mod table;
pub mod task;
pub mod verdict;
