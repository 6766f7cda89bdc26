//! Baselines by name: those that every table has, prompts to any base, and frozen models from their folder or repository.

use crate::compressor::budget::Controller;
use crate::compressor::prompted::Prompt;
use crate::compressor::scorer::Extractive;
use crate::compressor::scorers::{Parts, ScorerKind};
use crate::compressor::{Compressor, baselines};
use crate::config::compressors::{FrozenScorer, Unit};
use crate::error::{Error, Result};
use crate::eval::run::frozen_weights;
use crate::models::Models;

/// A compressor, and which weights it is made of: `baseline` where it has none of its own.
pub struct Made<'a> {
    /// The compressor.
    pub compressor: Box<dyn Compressor + 'a>,
    /// SHA-256 of its weights, or `baseline`.
    pub made_of: String,
}

/// A unit that has no settings, by its name in experiment files.
fn unit_named(name: &str) -> Option<Unit> {
    match name {
        "token" => Some(Unit::Token {}),
        "word" => Some(Unit::Word {}),
        "sentence" => Some(Unit::Sentence {}),
        _ => None,
    }
}

/// The parts that baselines are made from.
#[derive(Clone, Copy)]
pub struct Shelf<'a, 'c> {
    /// Base and tokenizer.
    pub models: &'a Models,
    /// Parts that scorers are made from.
    pub parts: Parts<'a>,
    /// Decides what baselines with scores keep.
    pub controller: &'c Controller,
}

impl<'a> Shelf<'a, '_> {
    /// The baseline of this name, made anew; an error that lists the names there are.
    pub fn named(&self, name: &str) -> Result<Made<'a>> {
        if FrozenScorer::is_meant(name) {
            return self.frozen(name);
        }
        let tokenizer = &self.models.tokenizer;
        let plain = |compressor| Made { compressor, made_of: "baseline".into() };
        if let Some(prompt) = Prompt::named(name) {
            return Ok(plain(Box::new(self.models.prompted(prompt)?)));
        }
        let mut known = baselines(self.parts, tokenizer, &self.models.forbidden, self.controller);
        known.retain(|compressor| !["empty", "identity"].contains(&compressor.name()));
        let prompted = Prompt::ALL.iter().map(|prompt| prompt.name());
        let list = known.iter().map(|compressor| compressor.name()).chain(prompted).collect::<Vec<_>>().join(", ");
        if let Some(found) = known.into_iter().find(|compressor| compressor.name() == name) {
            return Ok(plain(found));
        }
        let scored = |(kind, unit): (&str, &str)| Some((kind.parse::<ScorerKind>().ok()?, unit_named(unit)?));
        match name.split_once(':').and_then(scored) {
            Some((kind, unit)) => {
                let (name, controller) = (name.to_string(), self.controller.clone());
                let common = Extractive::plain(kind, self.parts, tokenizer);
                Ok(plain(Box::new(Extractive { name, unit, controller, ..common })))
            }
            None => Err(Error::invalid(format!(
                "expected names among {list}, one that scores with :token, :word or :sentence behind it, or encoder:PATH, \
                 embedding:PATH or evidence:PATH, got {name:?}"
            ))),
        }
    }

    fn frozen(&self, name: &str) -> Result<Made<'a>> {
        let scorer = FrozenScorer::try_from(name.to_string()).map_err(Error::invalid)?;
        let frozen = Extractive::frozen(&scorer, self.models.decoder.device(), &self.models.tokenizer)?;
        let compressor = Box::new(Extractive { controller: self.controller.clone(), ..frozen });
        Ok(Made { compressor, made_of: frozen_weights(&scorer)? })
    }
}
