//! Answers on the disk, a file each, under the hash of address and request.

use crate::endpoint::protocol::ModelReply;
use crate::error::Result;
use crate::run_dir::{read_json, write_json_atomic};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An answer that was paid for.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptAnswer {
    /// Address that was asked.
    pub address: String,
    /// Model that was asked.
    pub model: String,
    /// Milliseconds that the answer took.
    pub latency_ms: f64,
    /// The reply.
    pub reply: ModelReply,
}

/// A folder of answers.
pub(super) struct AnswerFolder {
    /// The folder, which is made when the first answer comes.
    pub root: PathBuf,
}

impl AnswerFolder {
    fn path(&self, hash: &str) -> PathBuf {
        self.root.join(&hash[..2]).join(format!("{hash}.json"))
    }

    /// The answer under a hash, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn get(&self, hash: &str) -> Result<Option<KeptAnswer>> {
        let path = self.path(hash);
        if path.is_file() { read_json(&path).map(Some) } else { Ok(None) }
    }

    /// Writes an answer under its hash.
    pub fn put(&self, hash: &str, answer: &KeptAnswer) -> Result<()> {
        write_json_atomic(&self.path(hash), answer)
    }
}
