//! Baselines by name: those that every table has, and frozen models from their folder or repository.

use gist::compressor::budget::Controller;
use gist::compressor::scorer::Extractive;
use gist::compressor::scorers::{Parts, ScorerKind};
use gist::compressor::{Compressor, baselines};
use gist::config::compressors::{FrozenScorer, Unit};
use gist::model::weights;
use gist::models::Models;
use gist::train::checkpoint::sha256_file;

/// A baseline, and which weights it is: `baseline` for what has none of its own.
pub type Baseline<'a> = (Box<dyn Compressor + 'a>, String);

/// A unit that has no settings, by its name in experiment files.
fn unit_named(name: &str) -> Option<Unit> {
    match name {
        "token" => Some(Unit::Token {}),
        "word" => Some(Unit::Word {}),
        "sentence" => Some(Unit::Sentence {}),
        _ => None,
    }
}

/// What baselines are made of.
pub struct Baselines<'a> {
    /// Base and tokenizer.
    pub models: &'a Models,
    /// For scorers.
    pub parts: Parts<'a>,
    /// What is kept by those that score.
    pub controller: &'a Controller,
}

impl<'a> Baselines<'a> {
    /// The baseline of this name, made anew.
    pub fn named(&self, name: &str) -> anyhow::Result<Baseline<'a>> {
        if FrozenScorer::is_meant(name) {
            return self.frozen(name);
        }
        let tokenizer = &self.models.tokenizer;
        let mut known = baselines(self.parts, tokenizer, &self.models.forbidden, self.controller);
        known.retain(|compressor| !["empty", "identity"].contains(&compressor.name()));
        let list = known.iter().map(|compressor| compressor.name()).collect::<Vec<_>>().join(", ");
        if let Some(found) = known.into_iter().find(|compressor| compressor.name() == name) {
            return Ok((found, "baseline".into()));
        }
        match name.split_once(':').and_then(|(kind, unit)| Some((kind.parse::<ScorerKind>().ok()?, unit_named(unit)?)))
        {
            Some((kind, unit)) => {
                let (name, controller) = (name.to_string(), self.controller.clone());
                let plain = Extractive::plain(kind, self.parts, tokenizer);
                Ok((Box::new(Extractive { name, unit, controller, ..plain }), "baseline".into()))
            }
            None => anyhow::bail!(
                "--compressors: expected names among {list}, one that scores with :token, :word or :sentence behind it, or encoder:PATH or embedding:PATH, got {name:?}"
            ),
        }
    }

    fn frozen(&self, name: &str) -> anyhow::Result<Baseline<'a>> {
        let scorer = FrozenScorer::try_from(name.to_string());
        let scorer = scorer.map_err(|message| anyhow::anyhow!("--compressors: {message}"))?;
        let compressor = Extractive::frozen(&scorer, self.models.decoder.device(), &self.models.tokenizer)?;
        let mut hashes = Vec::new();
        for file in weights::files(&scorer.folder()?) {
            hashes.push(sha256_file(&file)?.1);
        }
        Ok((Box::new(Extractive { controller: self.controller.clone(), ..compressor }), hashes.join("+")))
    }
}
