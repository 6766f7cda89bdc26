//! Document frequencies of tokens in the training documents.

use std::collections::BTreeSet;

/// Number of training documents in which each token occurs.
#[derive(Clone, Debug)]
pub struct DocumentFrequencies {
    documents: usize,
    counts: Vec<u32>,
}

impl DocumentFrequencies {
    /// Counts over `documents`, never those that are evaluated.
    pub fn count<D: AsRef<[u32]>>(documents: &[D]) -> Self {
        let mut counts = Vec::new();
        for document in documents {
            for id in document.as_ref().iter().map(|&id| id as usize).collect::<BTreeSet<_>>() {
                if counts.len() <= id {
                    counts.resize(id + 1, 0);
                }
                counts[id] += 1;
            }
        }
        Self { documents: documents.len(), counts }
    }

    /// Inverse document frequency, smoothed: ln((1 + n) / (1 + n_id)) + 1.
    pub fn idf(&self, id: u32) -> f64 {
        let count = self.counts.get(id as usize).copied().unwrap_or(0);
        ((1 + self.documents) as f64 / (1.0 + count as f64)).ln() + 1.0
    }
}
