//! A trained evidence encoder ([`crate::compressor::evidence`]) as a scorer over any reading model. The folder that `gist
//! distill` leaves names the sentence encoder that it began from in `evidence.json`; a folder without that file is a sentence
//! encoder as it comes, whose score is the sum that training begins from.

use crate::compressor::evidence::EvidenceEncoder;
use crate::compressor::scored::{Scored, Scorer};
use crate::config::compressors::{EncoderSection, Unit};
use crate::error::{Error, Result};
use crate::hash::FileHash;
use crate::hub;
use crate::model::encoder::Encoder;
use crate::model::evidence_head::EvidenceHead;
use crate::model::lora::Adapter;
use crate::model::weights;
use crate::run_dir::{read_json, write_json_atomic};
use crate::tensor::to_vec;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

const RECORD: &str = "evidence.json";

/// `evidence.json`: the sentence encoder whose cosines are terms of the score.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidenceRecord {
    /// Its folder or repository.
    path: PathBuf,
    /// Branch, tag or commit of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    /// SHA-256 of its weight files.
    sha256: Vec<String>,
}

fn hashes(folder: &Path) -> Result<Vec<String>> {
    weights::files(folder).iter().map(|file| Ok(FileHash::of(file)?.sha256)).collect()
}

impl EvidenceRecord {
    /// Writes the record beside the trained weights.
    pub fn save(section: &EncoderSection, folder: &Path) -> Result<()> {
        let (path, revision) = (section.path.clone(), section.revision.clone());
        let record = Self { path, revision, sha256: hashes(&section.folder()?)? };
        write_json_atomic(&folder.join(RECORD), &record)
    }

    /// The folder of the sentence encoder, which must have the weights that training began from.
    fn folder(self, at: &Path) -> Result<PathBuf> {
        let folder = hub::folder(&self.path, self.revision.as_deref())?;
        let found = hashes(&folder)?;
        match found == self.sha256 {
            true => Ok(folder),
            false => {
                let message = format!("`sha256`: expected {:?} in {}, got {found:?}", self.sha256, folder.display());
                Err(Error::file(at, message))
            }
        }
    }
}

/// An evidence encoder with its weights.
pub struct FoundEvidence {
    terms: EvidenceEncoder,
    encoder: Encoder,
    head: EvidenceHead,
}

impl FoundEvidence {
    /// Reads the folder of a trained evidence encoder, or of a sentence encoder.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let record = folder.join(RECORD);
        let (untouched, adapter) = match record.exists() {
            true => {
                let found: EvidenceRecord = read_json(&record)?;
                let untouched = found.folder(&record)?;
                let adapter = Adapter::load_evidence(folder, &untouched, device)?;
                (untouched, adapter)
            }
            false => {
                let (config, named) = Encoder::read(folder)?;
                (folder.to_path_buf(), Adapter::of_evidence(&config, named, device)?)
            }
        };
        let (encoder, head) = adapter.evidence(Kind::Float)?;
        Ok(Self { terms: EvidenceEncoder::load(&untouched, device)?, encoder, head })
    }
}

impl Scorer for FoundEvidence {
    fn unit(&self) -> Unit {
        Unit::Sentence {}
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let _guard = tch::no_grad_guard();
        let one = |prefix: &Scored| {
            let scores = self.terms.scores(&self.encoder, &self.head, std::slice::from_ref(prefix))?;
            scores.first().map_or(Ok(Vec::new()), to_vec)
        };
        prefixes.iter().map(one).collect()
    }
}
