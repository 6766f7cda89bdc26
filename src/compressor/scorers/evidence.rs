//! A trained evidence encoder ([`crate::compressor::evidence`]) as a scorer over any reading model. The folder that `gist
//! distill` leaves names the sentence encoder that it began from in `evidence.json`; a folder without that file is a sentence
//! encoder as it comes, whose score is the sum that training begins from.

use crate::compressor::evidence::EvidenceEncoder;
use crate::compressor::scored::{Scored, Scorer};
use crate::config::compressors::Unit;
use crate::error::Result;
use crate::model::encoder::Encoder;
use crate::model::encoder_record::EncoderRecord;
use crate::model::evidence_head::EvidenceHead;
use crate::model::lora::Adapter;
use crate::model::row_head::RowHead;
use crate::tensor::to_vec;
use std::path::Path;
use tch::{Device, Kind};

/// Name of the record.
pub const RECORD: &str = "evidence.json";

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
                let untouched = EncoderRecord::folder(&record)?;
                let adapter = Adapter::load_rows(folder, RowHead::Evidence, &untouched, device)?;
                (untouched, adapter)
            }
            false => {
                let (config, named) = Encoder::read(folder)?;
                (folder.to_path_buf(), Adapter::of_rows(&config, named, RowHead::Evidence, device)?)
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
