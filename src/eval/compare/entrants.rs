//! The compressors that take part in a comparison: those of runs, baselines, and chains `first+second`, where the second
//! compresses what the first kept ([`Chain`]).

use crate::compressor::budget::Controller;
use crate::compressor::chain::Chain;
use crate::compressor::frequencies::DocumentFrequencies;
use crate::compressor::scorers::Parts;
use crate::compressor::{Compressor, Request};
use crate::error::{Error, Result};
use crate::eval::compare::named::{Made, Shelf};
use crate::models::Models;
use crate::progress::Progress;
use crate::runs::TrainedRun;

/// One contestant: its compressors, one a seed.
pub struct Entrant<'a> {
    /// Name in tables.
    pub name: String,
    /// Seeds of its runs; empty for a compressor that was not trained.
    pub seeds: Vec<u64>,
    /// Compressors in the order of the seeds; a single one where there are no seeds.
    pub members: Vec<Box<dyn Compressor + 'a>>,
    /// The weights of each member: SHA-256, or `baseline`.
    pub made_of: Vec<String>,
}

impl<'a> Entrant<'a> {
    fn named(name: &str) -> Self {
        Self { name: name.to_string(), seeds: Vec::new(), members: Vec::new(), made_of: Vec::new() }
    }

    fn push(&mut self, made: Made<'a>) {
        self.members.push(made.compressor);
        self.made_of.push(made.made_of);
    }

    /// The name of a member where seeds are told apart.
    pub fn label(&self, member: usize) -> String {
        self.seeds.get(member).map_or_else(|| self.name.clone(), |seed| format!("{}@seed={seed}", self.name))
    }
}

/// Base, counts on training text and controller, of which entrants are made.
pub struct Entrants<'a, 'c> {
    /// Base and tokenizer.
    pub models: &'a Models,
    /// Counts on training documents.
    pub frequencies: &'a DocumentFrequencies,
    /// Decides what extractive compressors keep.
    pub controller: &'c Controller,
}

impl<'a> Entrants<'a, '_> {
    /// The compressors of `runs`, by experiment, then the baselines and last the chains among `names`, in their order; an error
    /// on a name that nobody has, that two have, or that stands there twice.
    pub fn enter(&self, runs: &[TrainedRun], names: &[String]) -> Result<Vec<Entrant<'a>>> {
        let mut entrants: Vec<Entrant> = Vec::new();
        for run in runs {
            let name = &run.config().name;
            let at = entrants.iter().position(|entrant| entrant.name == *name).unwrap_or_else(|| {
                entrants.push(Entrant::named(name));
                entrants.len() - 1
            });
            entrants[at].seeds.push(run.config().seed);
            entrants[at].push(self.of_run(run)?);
        }
        if let Some(name) = (1..names.len()).find_map(|i| names[..i].contains(&names[i]).then(|| &names[i])) {
            return Err(Error::invalid(format!("expected each name once, got {name:?} twice")));
        }
        // A name that a run has is no chain.
        let is_chain = |name: &&String| name.contains('+') && runs.iter().all(|run| run.config().name != **name);
        for name in names.iter().filter(|name| !is_chain(name)) {
            let made = self.shelf().named(name)?;
            if entrants.iter().any(|entrant| entrant.name == made.compressor.name()) {
                let message = format!("`{name}` is also the name of a run's experiment; leave one of them out");
                return Err(Error::invalid(message));
            }
            let mut entrant = Entrant::named(made.compressor.name());
            entrant.push(made);
            entrants.push(entrant);
        }
        for name in names.iter().filter(is_chain) {
            entrants.push(self.chain(name, runs)?);
        }
        Ok(entrants)
    }

    fn shelf(&self) -> Shelf<'a, '_> {
        let parts = Parts { decoder: &self.models.decoder, frequencies: self.frequencies, seed: 0 };
        Shelf { models: self.models, parts, controller: self.controller }
    }

    fn of_run(&self, run: &TrainedRun) -> Result<Made<'a>> {
        let compressor = Box::new(run.compressor(self.models)?.controlled(self.controller));
        Ok(Made { compressor, made_of: run.weights()? })
    }

    fn chain(&self, name: &str, runs: &[TrainedRun]) -> Result<Entrant<'a>> {
        let parts: Vec<&str> = name.split('+').collect();
        let [first, second] = parts[..] else {
            return Err(Error::invalid(format!("expected two names around one `+`, got {name:?}")));
        };
        let runs_of = |part: &str| runs.iter().filter(|run| run.config().name == part).collect::<Vec<_>>();
        let (of_first, of_second) = (runs_of(first), runs_of(second));
        let seeds = |runs: &[&TrainedRun]| runs.iter().map(|run| run.config().seed).collect::<Vec<u64>>();
        if !of_first.is_empty() && !of_second.is_empty() && seeds(&of_first) != seeds(&of_second) {
            let (one, other) = (seeds(&of_first), seeds(&of_second));
            return Err(Error::invalid(format!("{name}: expected the same seeds of both, got {one:?} and {other:?}")));
        }
        let part = |part: &str, runs: &[&TrainedRun], member: usize| match runs.get(member) {
            Some(run) => self.of_run(run),
            None => self.shelf().named(part).map_err(|error| match error {
                Error::Invalid(why) => {
                    Error::invalid(format!("{name}: expected a run's experiment or a baseline: {why}"))
                }
                other => other,
            }),
        };
        let mut entrant = Entrant::named(name);
        for member in 0..of_first.len().max(of_second.len()).max(1) {
            let (one, other) = (part(first, &of_first, member)?, part(second, &of_second, member)?);
            let compressor = Box::new(Chain::new(one.compressor, other.compressor));
            entrant.push(Made { compressor, made_of: format!("{}+{}", one.made_of, other.made_of) });
        }
        entrant.seeds = seeds(if of_first.is_empty() { &of_second } else { &of_first });
        Ok(entrant)
    }
}

/// Has the length of whatever extracts follow the content, as measured on `requests`; chains stay as they are.
pub fn calibrate(entrants: &mut [Entrant], requests: &[Request], budgets: &[usize]) -> Result<()> {
    let progress = Progress::new("calibrate", entrants.len(), 0);
    for entrant in entrants {
        for member in &mut entrant.members {
            member.calibrate(requests, budgets)?;
        }
        progress.step(&entrant.name);
    }
    progress.finish();
    Ok(())
}
