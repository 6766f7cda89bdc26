//! A frozen token classifier ([`crate::model::token_classifier`]) under this controller: all words of a prefix are ranked
//! together, whichever window they were read in, where LLMLingua-2 and Kompress keep a share of each chunk. The score of a
//! unit is the mean of its tokens (LLMLingua-2) or the best of them (Kompress). Neither knows a question. Windows are as long
//! as the encoder's positions allow (headroom gives Kompress 350 words at a time, cut at blanks).

use crate::compressor::foreign::{Foreign, places, sharing};
use crate::compressor::scored::{Scored, Scorer};
use crate::config::compressors::{Aggregate, Unit};
use crate::error::Result;
use crate::model::token_classifier::TokenClassifier;
use crate::tokenizer::Bytes;
use std::path::Path;
use tch::Device;

/// A classifier with its tokenizer.
pub struct Classified {
    foreign: Foreign,
    classifier: TokenClassifier,
}

impl Classified {
    /// Reads the classifier's folder.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let classifier = TokenClassifier::load(folder, device)?;
        Ok(Self { foreign: Foreign::load(&folder.join("tokenizer.json"))?, classifier })
    }
}

impl Scorer for Classified {
    fn unit(&self) -> Unit {
        Unit::Word {}
    }
    fn reads_text(&self) -> bool {
        true
    }
    fn score(&self, prefixes: &[Scored]) -> Result<Vec<Vec<f64>>> {
        let texts: Vec<String> = prefixes.iter().map(|prefix| prefix.pieces.concat()).collect();
        let how = if self.classifier.takes_the_best() { Aggregate::Max } else { Aggregate::Mean };
        let one = |(prefix, (worths, bytes)): (&Scored, (Vec<f64>, Vec<Bytes>))| {
            let tokens = places(&prefix.pieces);
            let units: Vec<Bytes> = prefix.units.iter().map(|u| (tokens[u.start].0, tokens[u.end - 1].1)).collect();
            how.units(&worths, &sharing(&units, &bytes))
        };
        Ok(prefixes.iter().zip(self.foreign.worths(&self.classifier, &texts)?).map(one).collect())
    }
}
