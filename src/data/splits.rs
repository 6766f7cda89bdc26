//! The documents of a split: read from a file, or generated.

use std::path::Path;

use crate::config::parts::RecallSection;
use crate::data::recall::{RecallConfig, Split, recall_document};
use crate::data::{Document, read_documents};
use crate::error::{Error, Result};

/// Seed of all generated documents: they are a data set, the same for every run.
const SEED: u64 = 0;

/// The documents of `split`: those of its file, or generated ones.
pub fn split_documents(file: Option<&Path>, recall: Option<&RecallSection>, split: Split) -> Result<Vec<Document>> {
    match (file, recall) {
        (Some(path), _) => read_documents(path),
        (None, Some(section)) => generate(section, split),
        (None, None) => Err(Error::invalid("data: expected a file or generated documents, got neither")),
    }
}

/// Generated recall documents of one split.
pub fn generate(section: &RecallSection, split: Split) -> Result<Vec<Document>> {
    let RecallSection { words, prefix, facts, rounds, .. } = *section;
    let config = RecallConfig { words, prefix, facts, rounds };
    config.check()?;
    let count = if split == Split::Train { section.train_documents } else { section.held_out_documents };
    let document = |i: u64| Document {
        id: format!("recall-{split:?}-{i}").to_lowercase(),
        text: recall_document(&config, split, SEED, i).text(),
        source: "recall".into(),
    };
    Ok((0..count as u64).map(document).collect())
}
