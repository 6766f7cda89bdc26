//! The contest: every reader is taught, then everyone is measured at every budget.

use crate::compressor::baseline::Empty;
use crate::compressor::{Compressor, Request};
use crate::config::parts::RecallSection;
use crate::data::{RecallConfig, Split, Window};
use crate::error::{Error, Result};
use crate::eval::compare::entrants::{Entrant, calibrate};
use crate::eval::compare::group::joined;
use crate::eval::compare::shards::{ComparisonGround, EntrantRows, Part, read, save, wait_for};
use crate::eval::curves::{Contender, Curves, Exam};
use crate::eval::files::spread;
use crate::eval::schema::comparison::{Budget, ComparedRun, Comparison};
use crate::eval::schema::summary::WindowLengths;
use crate::model::lora::Adapter;
use crate::progress::Progress;
use crate::reading::request;
use crate::run_dir::{Build, component};
use crate::runs::readers::{Lesson, Readers, is_idle};
use crate::runs::terms::Terms;
use crate::runs::{Inputs, TrainedRun};
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Options of a comparison.
pub struct ComparisonOptions<'a> {
    /// Budgets, ascending.
    pub budgets: &'a [Budget],
    /// Held-out windows, spread evenly over those of the experiment.
    pub windows: usize,
    /// Updates of every reader.
    pub updates: usize,
    /// Whether one reader that all share is taught.
    pub shared: bool,
    /// Whether each compressor gets a reader of its own.
    pub adapted: bool,
    /// Whether each budget is met on average, not in each window.
    pub adaptive: bool,
    /// Hashes and settings that all runs share, and those of this comparison.
    pub terms: &'a Terms,
    /// Differences from what the runs were made from, in words, that were accepted.
    pub accepted: Vec<String>,
    /// Whether kept readers that another program taught are used.
    pub accept_changes: bool,
    /// Folder of the comparison; readers are kept in it.
    pub output: &'a Path,
    /// Set when the user asks to stop: the comparison then ends with an error, and readers that are finished stay.
    pub stop: &'a AtomicBool,
    /// Entrants that are measured here.
    pub part: Part<'a>,
}

/// Compares `entrants` over the windows of `inputs`, whose experiment is that of the first of `runs`. Nothing but readers and the
/// files of a shard is written; a shard alone is no comparison.
pub fn compare(
    runs: &[TrainedRun],
    inputs: Inputs,
    mut entrants: Vec<Entrant>,
    options: &ComparisonOptions,
) -> Result<Option<Comparison>> {
    let Inputs { config, models, windows: text } = inputs;
    if options.adaptive && !matches!(options.part, Part::Joined(_)) {
        let requests: Vec<Request> =
            text.valid.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
        calibrate(&mut entrants, &requests, &tokens(options.budgets))?;
    }
    let numbers = spread(text.test.len(), options.windows);
    let windows: Vec<Window> = numbers.iter().map(|&w| text.test[w].clone()).collect();
    let exam = Exam {
        decoder: &models.decoder,
        tokenizer: &models.tokenizer,
        documents: &text.test_documents,
        windows: &windows,
        numbers: &numbers,
        condition: config.condition,
        budgets: options.budgets,
        cluster: config.eval.cluster,
        seed: 0,
        resamples: config.eval.resamples,
    };
    let readers = Readers {
        inputs,
        root: options.output,
        folder: options.output.join("readers"),
        terms: options.terms,
        accept_changes: options.accept_changes,
    };
    let mut contest = Contest { readers, options, accepted: options.accepted.clone() };
    let curves = match options.part {
        Part::Whole => contest.curves(exam, &entrants, 0..entrants.len())?,
        Part::Shard(shard, folder) => {
            shard.check(entrants.len(), "compressors")?;
            let own = shard.range(entrants.len());
            let curves = contest.curves(exam, &entrants, own.clone())?;
            let ground = ground(&entrants, options, curves.context());
            save(folder, shard, entrants.len(), &ground, own, |entrant| {
                Ok(EntrantRows { rows: curves.rows_of(entrant)?, accepted: contest.accepted.clone() })
            })?;
            return Ok(None);
        }
        Part::Joined(verified) => {
            let (context, all) = read(verified, &ground(&entrants, options, &[]))?;
            let rows: Vec<Value> = all.iter().flat_map(|entrant| entrant.rows.clone()).collect();
            for change in all.into_iter().flat_map(|entrant| entrant.accepted) {
                if !contest.accepted.contains(&change) {
                    contest.accepted.push(change);
                }
            }
            let mut curves = Curves::restored(exam, context, &rows)?;
            for entrant in &entrants {
                curves.enter(&entrant.name, entrant.seeds.clone())?;
            }
            curves
        }
    };
    let own = nearest(options.budgets, inputs.budget());
    let (context, shape) = (curves.context_value(), text.shape);
    Ok(Some(Comparison {
        name: joined(runs),
        runs: runs.iter().map(described).collect::<Result<_>>()?,
        terms: options.terms.clone(),
        program: Build::own().to_string(),
        accepted: contest.accepted,
        updates: options.updates,
        seed: config.seed,
        device: format!("{} ({} threads, {})", config.hardware.device, config.hardware.threads, config.hardware.dtype),
        windows: WindowLengths { prefix: shape.prefix, local: shape.local, future: shape.future },
        n_windows: options.windows,
        n_documents: curves.documents(),
        context_value: context.mean,
        context_value_ci95: context.ci95(),
        budgets: options.budgets.to_vec(),
        own_budget_tokens: own,
        compressors: curves.contestants(),
        points: curves.points(),
        winners: curves.winners(),
        slices: curves.slices()?,
        bound: bound(inputs, options.budgets.iter().map(|budget| budget.requested).fold(0.0, f64::max)),
        examples: curves.examples(config.eval.examples, own)?,
    }))
}

/// Everything that shards of one comparison have alike.
fn ground(entrants: &[Entrant], options: &ComparisonOptions, context: &[f64]) -> ComparisonGround {
    let label = |entrant: &Entrant| (0..entrant.members.len()).map(|m| entrant.label(m)).collect::<Vec<_>>();
    ComparisonGround {
        budgets: options.budgets.to_vec(),
        windows: options.windows,
        updates: options.updates,
        readers: [options.shared, options.adapted],
        terms: options.terms.clone(),
        entrants: entrants.iter().flat_map(|entrant| label(entrant).into_iter().zip(entrant.made_of.clone())).collect(),
        context: context.to_vec(),
    }
}

fn tokens(budgets: &[Budget]) -> Vec<usize> {
    budgets.iter().map(|budget| budget.tokens).collect()
}

/// Tokens of the budget that is nearest to `wanted`; the smaller of two.
fn nearest(budgets: &[Budget], wanted: usize) -> usize {
    tokens(budgets).into_iter().min_by_key(|tokens| tokens.abs_diff(wanted)).unwrap_or(wanted)
}

fn described(run: &TrainedRun) -> Result<ComparedRun> {
    Ok(ComparedRun {
        path: run.dir().root().display().to_string(),
        experiment: run.config().name.clone(),
        seed: run.config().seed,
        step: run.step(),
        weights: run.weights()?,
    })
}

/// The least KL that any gist of a rate leaves, where the documents are generated and so their information is known.
fn bound(inputs: Inputs, most: f64) -> Option<Vec<[f64; 2]>> {
    let data = &inputs.config.data;
    let section = data.recall.as_ref().filter(|_| data.test.is_none())?;
    let RecallSection { words, prefix, facts, rounds, .. } = *section;
    let recall = RecallConfig { words, prefix, facts, rounds };
    let alphabet = inputs.models.decoder.config().vocab_size as usize - inputs.models.forbidden.len();
    (recall.shape() == inputs.windows.shape).then(|| recall.bound(Split::Test, alphabet, most))
}

/// Teaches readers and measures.
struct Contest<'a> {
    readers: Readers<'a>,
    options: &'a ComparisonOptions<'a>,
    accepted: Vec<String>,
}

impl Contest<'_> {
    /// The reader of these compressors, kept under `place`; `of` names their weights.
    fn reader(&mut self, title: &str, place: &str, of: Value, compressors: &[&dyn Compressor]) -> Result<Adapter> {
        let gists = self.readers.inputs.config.generator.gists_per_window;
        let lesson = Lesson {
            title,
            compressors,
            evidence: false,
            budgets: &tokens(self.options.budgets),
            gists: if is_idle(compressors) { 1 } else { gists },
            updates: self.options.updates,
            stop: self.options.stop,
        };
        // Shards share readers: who comes first teaches one, the others wait for it.
        let _lock = match self.options.part {
            Part::Shard(..) => Some(wait_for(&self.readers.folder.join(place), self.options.stop)?),
            Part::Whole | Part::Joined(_) => None,
        };
        let reader = self.readers.get(place, &lesson, of)?;
        self.accepted.extend(reader.accepted);
        Ok(reader.adapter)
    }

    /// Teaches the readers of the entrants `own`, then measures those.
    fn curves<'e>(&mut self, exam: Exam<'e>, entrants: &[Entrant], own: Range<usize>) -> Result<Curves<'e>> {
        let ComparisonOptions { shared, adapted, stop, .. } = *self.options;
        let all: Vec<(usize, usize)> =
            (0..entrants.len()).flat_map(|e| (0..entrants[e].members.len()).map(move |m| (e, m))).collect();
        let total = 1 + usize::from(shared) + if adapted { all.len() } else { 0 };
        let title = |at: usize, what: &str| format!("reader {at} of {total}, {what}");
        let empty = self.reader(&title(1, "of nothing"), "empty", json!({}), &[&Empty])?;
        let mut curves = Curves::new(exam, &empty)?;
        let shared = match shared {
            false => None,
            true => {
                // Each entrant has an equal share, and each seed an equal part of it.
                let most = entrants.iter().map(|entrant| entrant.members.len()).fold(1, lcm);
                let turns: Vec<&dyn Compressor> = (0..most)
                    .flat_map(|turn| entrants.iter().map(move |e| e.members[turn % e.members.len()].as_ref()))
                    .collect();
                let of: Map<String, Value> =
                    (all.iter()).map(|&(e, m)| (entrants[e].label(m), entrants[e].made_of[m].clone().into())).collect();
                Some(self.reader(&title(2, "shared by all"), "shared", of.into(), &turns)?)
            }
        };
        let mut adapters: Vec<Vec<Adapter>> = entrants.iter().map(|_| Vec::new()).collect();
        for (i, &(e, m)) in all.iter().enumerate().filter(|(_, (e, _))| adapted && own.contains(e)) {
            let label = entrants[e].label(m);
            let at = total - all.len() + i + 1;
            let of = json!({label.as_str(): entrants[e].made_of[m]});
            let place = format!("of/{}", component(&label));
            adapters[e].push(self.reader(&title(at, &label), &place, of, &[entrants[e].members[m].as_ref()])?);
        }
        let progress = Progress::new("measure", own.len() * exam.budgets.len(), 0);
        for (entrant, adapters) in entrants.iter().zip(&adapters) {
            let number = curves.enter(&entrant.name, entrant.seeds.clone())?;
            if !own.contains(&number) {
                continue;
            }
            let members = entrant.members.iter().enumerate();
            let contenders: Vec<Contender> =
                members.map(|(m, c)| Contender { compressor: c.as_ref(), reader: adapters.get(m) }).collect();
            for budget in 0..exam.budgets.len() {
                if stop.load(Ordering::SeqCst) {
                    return Err(Error::Interrupted { step: 0 });
                }
                curves.measure(number, budget, &contenders, shared.as_ref())?;
                progress.step(&entrant.name);
            }
        }
        progress.finish();
        Ok(curves)
    }
}

/// The least common multiple.
fn lcm(a: usize, b: usize) -> usize {
    let gcd = (1..=a.min(b)).rev().find(|d| a.is_multiple_of(*d) && b.is_multiple_of(*d)).unwrap_or(1);
    a / gcd * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_budget_is_the_gallerys() {
        let budgets = [3, 5, 16].map(|tokens| Budget { requested: 0.1, tokens });
        assert_eq!((nearest(&budgets, 4), nearest(&budgets, 100)), (3, 16));
    }

    #[test]
    fn equal_shares() {
        assert_eq!((lcm(1, 3), lcm(2, 3), lcm(4, 6)), (3, 6, 12));
    }
}
