//! Entrants named `first+second`: a baseline or a run's compressor, then another on what it kept ([`Chain`]).

use crate::cli::compare::Entrant;
use crate::cli::compare::named::Baseline;
use crate::cli::compare::runs::Finished;
use anyhow::{Context, bail};
use gist::compressor::Compressor;
use gist::compressor::budget::Controller;
use gist::compressor::chain::Chain;
use gist::models::Models;

/// Sets the names of chains apart from the others; a name that a run has is none.
pub fn split(names: &[String], found: &[Finished]) -> (Vec<String>, Vec<String>) {
    let is_chain = |name: &&String| name.contains('+') && found.iter().all(|run| run.config.name != **name);
    let alone = names.iter().filter(|name| !is_chain(name)).cloned().collect();
    (names.iter().filter(is_chain).cloned().collect(), alone)
}

/// One entrant; `named` makes a baseline anew.
pub fn entrant<'a>(
    name: &str,
    models: &'a Models,
    found: &[Finished],
    controller: &Controller,
    named: impl Fn(&str) -> anyhow::Result<Baseline<'a>>,
) -> anyhow::Result<Entrant<'a>> {
    let parts: Vec<&str> = name.split('+').collect();
    let [first, second] = parts[..] else {
        bail!("--compressors: expected two names around one `+`, got {name:?}");
    };
    let runs_of = |part: &str| found.iter().filter(|run| run.config.name == part).collect::<Vec<_>>();
    let (of_first, of_second) = (runs_of(first), runs_of(second));
    let seeds = |runs: &[&Finished]| runs.iter().map(|run| run.config.seed).collect::<Vec<u64>>();
    if !of_first.is_empty() && !of_second.is_empty() && seeds(&of_first) != seeds(&of_second) {
        bail!(
            "--compressors: {name}: expected the same seeds of both, got {:?} and {:?}",
            seeds(&of_first),
            seeds(&of_second)
        );
    }
    let count = of_first.len().max(of_second.len()).max(1);
    let mut made = Entrant { name: name.to_string(), seeds: Vec::new(), members: Vec::new(), made_of: Vec::new() };
    for member in 0..count {
        let mut weights = Vec::new();
        let mut part = |part: &str, runs: &[&Finished]| -> anyhow::Result<Box<dyn Compressor + 'a>> {
            if let Some(run) = runs.get(member) {
                weights.push(run.weights()?);
                return Ok(run.compressor(models, controller)?);
            }
            let (made, made_of) =
                named(part).with_context(|| format!("{name}: expected a run's experiment or a baseline"))?;
            weights.push(made_of);
            Ok(made)
        };
        let chain = Chain::new(part(first, &of_first)?, part(second, &of_second)?);
        made.members.push(Box::new(chain));
        made.made_of.push(weights.join("+"));
    }
    let seeded = if of_first.is_empty() { of_second } else { of_first };
    made.seeds = seeds(&seeded);
    Ok(made)
}
