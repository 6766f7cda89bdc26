//! Dense retrieval: cosine of the sentence embeddings of a unit and of the question (Reimers & Gurevych 2019, arXiv
//! 1908.10084), by a sentence encoder as it comes; a text's embedding is the mean over its tokens, or its first token where
//! the folder's `1_Pooling/config.json` (of sentence-transformers) says so. No prompt is put before a text.

use crate::compressor::foreign::Foreign;
use crate::compressor::scored::{Scored, Scorer};
use crate::config::compressors::Unit;
use crate::error::Result;
use crate::model::encoder::{Encoder, pools_first};
use crate::tensor::to_vec;
use std::path::Path;
use tch::{Device, Tensor};

/// A sentence encoder with its tokenizer.
pub struct Embedding {
    pub(in crate::compressor) foreign: Foreign,
    pub(in crate::compressor) encoder: Encoder,
    first: bool,
}

impl Embedding {
    /// Reads the encoder's folder.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let (config, weights) = Encoder::read(folder)?;
        let weights = weights.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect();
        let foreign = Foreign::load(&folder.join("tokenizer.json"))?;
        Ok(Self { foreign, encoder: Encoder::from_named(&config, weights)?, first: pools_first(folder)? })
    }

    /// The embeddings of texts that are cut to `longest` tokens, each of length 1: `[N, H]`.
    pub fn embed(&self, texts: &[&str], longest: i64) -> Result<Tensor> {
        self.foreign.embed_within(&self.encoder, texts, self.first, longest)
    }
}

impl Scorer for Embedding {
    fn unit(&self) -> Unit {
        Unit::Sentence {}
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let one = |prefix: &Scored| {
            let mut texts: Vec<&str> = prefix.units.iter().map(|unit| prefix.decoded.slice(unit)).collect();
            texts.push(prefix.question.text());
            let all = self.foreign.embed(&self.encoder, &texts, self.first)?; // [U + 1, H]
            let units = texts.len() as i64 - 1;
            to_vec(&all.narrow(0, 0, units).matmul(&all.get(units)))
        };
        prefixes.iter().map(one).collect()
    }
}
