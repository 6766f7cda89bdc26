//! Supervised fine-tuning of a gist compressor on pairs: it imitates the shorter form of each text, as it would write a gist, and
//! keeps the weights with the lowest loss on held-out pairs. Readers stay as they are.
//!
//! Rows are not packed: a batch has texts of like lengths, so that little of it is padding.

use crate::compressor::Compressor;
use crate::compressor::Request;
use crate::compressor::actions::Trajectory;
use crate::compressor::policy::{Policy, Trained};
use crate::condense::pairs::rows::PairRows;
use crate::config::pair_start::PairStart;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::rng::{self, Stream};
use crate::run_dir::{RunDir, read_json, write_json_atomic};
use crate::tensor::to_vec;
use crate::train::draws::PAIR_STEP;
use crate::train::roles::ROLES;
use crate::train::session::Session;
use crate::train::stage::{Learner, Stage, Updated};
use crate::train::trainee::Update;
use crate::train::updates::{ImitationBatch, Weighted, imitation_step};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Batches whose pairs are sorted by length together.
const SORTED_TOGETHER: usize = 16;
/// Held-out pairs whose texts are made shorter for the share that is kept.
const WRITTEN: usize = 32;

/// A pair as tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct PairIds {
    text: Vec<u32>,
    short: Vec<u32>,
}

impl PairIds {
    fn request(&self, key: usize) -> Request<'_> {
        Request { prefix: &self.text, local: &[], query: &[], key: key as u64 }
    }
}

/// The looks at held-out pairs so far: update and loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Looks(Vec<(usize, f64)>);

impl Looks {
    /// The number of the look with the lowest loss, the first of several.
    fn best(&self) -> Option<usize> {
        (0..self.0.len()).min_by(|&a, &b| self.0[a].1.total_cmp(&self.0[b].1))
    }

    /// Whether the last look is the best.
    fn is_best_now(&self) -> bool {
        self.best().is_some_and(|best| best + 1 == self.0.len())
    }

    /// Whether so many looks in a row had no lower loss.
    fn is_over(&self, patience: usize) -> bool {
        patience > 0 && self.best().is_some_and(|best| self.0.len() - 1 - best >= patience)
    }
}

/// Runs whatever is left of the imitation of pairs that the experiment asks for.
pub fn run(session: &mut Session) -> Result<()> {
    let config = session.inputs.config;
    let Some(section) = &config.warm_start.pairs else { return Ok(()) };
    let begin = config.warm_start.copy_updates;
    let end = begin + section.updates;
    if session.update() >= end {
        return Ok(());
    }
    let (train, valid) =
        (read(session, &section.train, usize::MAX, true)?, read(session, &section.valid, section.valid_pairs, true)?);
    let folder = folder(session.run);
    let mut looks = looks_until(&folder, session.update())?;
    let batch = config.warm_start.batch;
    let stage = Stage {
        title: "imitate pairs",
        updates: begin..end,
        run_seed: config.seed,
        validation: None,
        before: None,
        tokens: None,
    };
    stage.run(session, |session, number| {
        let picked: Vec<PairIds> = picked(&train, batch, number - begin, config.seed).into_iter().cloned().collect();
        let lr_factor =
            config.train.schedule.factor(number - begin, section.updates, config.optim.imitation.warmup_steps);
        let update = Update { number, lr_factor, root: session.run.root(), batch: &picked };
        let loss = imitate(session, &picked, &update)?;
        let mut metrics = Metrics::from([("warm_start/pair_loss", loss)]);
        let is_last = number + 1 == end;
        if is_last || (number + 1 - begin).is_multiple_of(section.eval_every) {
            look(session, section, &valid, &mut looks, &mut metrics)?;
            let is_over = looks.is_over(section.patience);
            if is_last || is_over {
                keep_best(session, &looks)?;
                session.ledger().go_on_at(end);
            }
        }
        Ok(Updated { metrics, live: format!("loss {loss:.3}") })
    })
}

/// Folder of the best weights so far.
fn folder(run: &RunDir) -> PathBuf {
    run.root().join("pairs")
}

/// The looks that were made before this update; later ones are of a sitting whose steps were lost.
fn looks_until(folder: &Path, update: usize) -> Result<Looks> {
    let path = folder.join("looks.json");
    if !path.exists() {
        return Ok(Looks::default());
    }
    let mut looks: Looks = read_json(&path)?;
    looks.0.retain(|(at, _)| *at <= update);
    Ok(looks)
}

/// The loss on held-out pairs, into `looks`; the weights are kept where it is the lowest so far.
fn look(
    session: &mut Session,
    section: &PairStart,
    valid: &[PairIds],
    looks: &mut Looks,
    metrics: &mut Metrics,
) -> Result<()> {
    let loss = held_out(session, valid)?;
    looks.0.push((session.update() + 1, loss));
    metrics.push("warm_start/pair_valid_loss", loss);
    if looks.is_best_now() {
        let base = session.inputs.models.base();
        session.compressor.save_adapter(&folder(session.run), &base)?;
    }
    write_json_atomic(&folder(session.run).join("looks.json"), &*looks)?;
    let left = section.patience.saturating_sub(looks.0.len() - 1 - looks.best().unwrap_or(0));
    let patience =
        if section.patience > 0 { format!(", {left} more looks without a lower one end it") } else { String::new() };
    eprintln!("update {}: loss on held-out pairs {loss:.4}{patience}", session.update() + 1);
    Ok(())
}

/// Goes back to the weights with the lowest loss, and tells what they keep.
fn keep_best(session: &mut Session, looks: &Looks) -> Result<()> {
    let folder = folder(session.run).join(ROLES[0]);
    let saved = session.inputs.models.decoder.load_adapter(&folder)?;
    let named = saved.params().named().into_iter().collect();
    session.compressor.adapter.params_mut().load(&named)?;
    if let Some(&(update, loss)) = looks.best().and_then(|best| looks.0.get(best)) {
        eprintln!("pairs: the weights after update {update} are kept, loss {loss:.4}");
    }
    Ok(())
}

/// The pairs of a file that fit, as tokens; those that do not are counted, and told of on request.
fn read(session: &Session, path: &Path, most: usize, tells: bool) -> Result<Vec<PairIds>> {
    let (models, budget) = (session.inputs.models, session.inputs.budget());
    let frame = models.frame(&session.inputs.config.compressor)?.len();
    let (mut found, mut longer, mut over_budget, mut over_room) = (Vec::new(), 0usize, 0usize, 0usize);
    for row in PairRows::open(path)? {
        let row = row?;
        let pair =
            PairIds { text: models.tokenizer.encode(&row.verbose)?, short: models.tokenizer.encode(&row.compressed)? };
        if pair.short.is_empty() || pair.short.len() > pair.text.len() {
            longer += 1;
        } else if pair.short.len() > budget {
            over_budget += 1;
        } else if frame + pair.text.len() + pair.short.len() + 2 > models.decoder.room() {
            over_room += 1;
        } else {
            found.push(pair);
            if found.len() == most {
                break;
            }
        }
    }
    for (count, why) in [
        (longer, "shorter forms that are empty, or longer than their text".to_string()),
        (over_budget, format!("shorter forms of more than the budget's {budget} tokens")),
        (over_room, format!("texts for which the base's {} positions are too few", models.decoder.room())),
    ] {
        if count > 0 && tells {
            eprintln!("{}: {count} pairs are passed over: {why}", path.display());
        }
    }
    match found.is_empty() {
        true => Err(Error::file(path, "expected a pair that fits budget and base, got none")),
        false => Ok(found),
    }
}

/// The pairs of an update, which counts from 0. Each epoch has an order of its own: a shuffle, cut into stretches that are sorted
/// by length and cut into batches, which are shuffled again.
fn picked(pairs: &[PairIds], batch: usize, number: usize, seed: u64) -> Vec<&PairIds> {
    let per_epoch = pairs.len().div_ceil(batch);
    let (epoch, at) = ((number / per_epoch) as u64, number % per_epoch);
    let mut draw = rng::rng(seed, Stream::Data, PAIR_STEP, epoch, 0);
    let mut order = rng::choose(&mut draw, pairs.len(), pairs.len());
    order.chunks_mut(batch * SORTED_TOGETHER).for_each(|part| part.sort_by_key(|&i| pairs[i].text.len()));
    let batches: Vec<&[usize]> = order.chunks(batch).collect();
    let places = rng::choose(&mut draw, batches.len(), batches.len());
    batches[places[at]].iter().map(|&i| &pairs[i]).collect()
}

fn trajectories(pairs: &[PairIds], budget: usize) -> Vec<Trajectory> {
    pairs.iter().map(|pair| Trajectory::imitated(pair.short.clone(), budget)).collect()
}

/// One step on a batch; returns the mean loss of an action, nats.
fn imitate(session: &mut Session, pairs: &[PairIds], update: &Update<Vec<PairIds>>) -> Result<f64> {
    let (config, budget) = (session.inputs.config, session.inputs.budget());
    let requests: Vec<Request> = pairs.iter().enumerate().map(|(key, pair)| pair.request(key)).collect();
    let groups: Vec<Vec<Weighted>> = trajectories(pairs, budget).into_iter().map(|gist| vec![(gist, 1.0)]).collect();
    let (policy, micro) = (&session.policy, config.train.micro_windows);
    let batch = ImitationBatch { policy, requests: &requests, groups: &groups, micro };
    imitation_step(&session.inputs.models.decoder, &mut session.compressor, &batch, update)
}

/// The mean loss of an action on held-out pairs, nats.
fn held_out(session: &Session, pairs: &[PairIds]) -> Result<f64> {
    let _guard = tch::no_grad_guard();
    let Policy::Gist(policy) = &session.policy else { return Err(writes()) };
    let active = session.inputs.models.decoder.activate(&session.compressor.adapter, false)?;
    let (mut sum, mut actions) = (0.0, 0usize);
    let mut sorted: Vec<&PairIds> = pairs.iter().collect();
    sorted.sort_by_key(|pair| pair.text.len());
    for part in sorted.chunks(session.inputs.config.train.micro_windows) {
        let part: Vec<PairIds> = part.iter().map(|&pair| pair.clone()).collect();
        let requests: Vec<Request> = part.iter().enumerate().map(|(key, pair)| pair.request(key)).collect();
        let gists = trajectories(&part, session.inputs.budget());
        let groups: Vec<&[Trajectory]> = gists.iter().map(std::slice::from_ref).collect();
        let logprobs = to_vec(&policy.logprobs(&active, &requests, &groups)?)?;
        sum -= logprobs.iter().sum::<f64>();
        actions += logprobs.len();
    }
    Ok(sum / actions.max(1) as f64)
}

/// Shares of the text that the pairs keep and that the compressor keeps, and how many of its texts are word for word those of the
/// pairs, over the first held-out pairs.
pub struct Kept {
    /// Pairs.
    pub pairs: usize,
    /// Mean share of tokens that the pairs keep.
    pub wanted: f64,
    /// Mean share of tokens that the compressor keeps, greedy.
    pub kept: f64,
    /// Share of texts that it makes shorter exactly as the pairs do.
    pub equal: f64,
}

/// Makes held-out texts shorter by the weights as they are; none where the experiment has no pairs.
pub fn kept(session: &Session) -> Result<Option<Kept>> {
    let Some(section) = &session.inputs.config.warm_start.pairs else { return Ok(None) };
    let pairs = read(session, &section.valid, WRITTEN.min(section.valid_pairs), false)?;
    let trained = Trained::greedy("sft", &session.policy, &session.compressor.adapter, session.inputs.config.seed);
    let requests: Vec<Request> = pairs.iter().enumerate().map(|(key, pair)| pair.request(key)).collect();
    let written = trained.compress(&requests, session.inputs.budget())?;
    let mean = |of: &dyn Fn(usize) -> f64| (0..pairs.len()).map(of).sum::<f64>() / pairs.len() as f64;
    let share = |ids: usize, at: usize| ids as f64 / pairs[at].text.len().max(1) as f64;
    Ok(Some(Kept {
        pairs: pairs.len(),
        wanted: mean(&|at| share(pairs[at].short.len(), at)),
        kept: mean(&|at| share(written[at].ids.len(), at)),
        equal: mean(&|at| f64::from(u8::from(written[at].ids == pairs[at].short))),
    }))
}

fn writes() -> Error {
    Error::invalid("warm_start.pairs: expected compressor.type = \"gist\", got another")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(count: usize) -> Vec<PairIds> {
        (0..count).map(|i| PairIds { text: vec![1; 1 + (i * 7) % 50], short: vec![i as u32] }).collect()
    }

    #[test]
    fn every_epoch_has_every_pair_once_and_like_lengths_together() {
        let all = pairs(37);
        let epoch = |first: usize| -> Vec<u32> {
            (first..first + 10).flat_map(|number| picked(&all, 4, number, 5)).map(|pair| pair.short[0]).collect()
        };
        let (one, two) = (epoch(0), epoch(10));
        for own in [&one, &two] {
            let mut sorted = own.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..37).collect::<Vec<_>>());
        }
        assert_ne!(one, two);
        let spread = |number: usize| {
            let lengths: Vec<usize> = picked(&all, 4, number, 5).iter().map(|pair| pair.text.len()).collect();
            lengths.iter().max().unwrap_or(&0) - lengths.iter().min().unwrap_or(&0)
        };
        assert!((0..10).all(|number| spread(number) <= 10), "{:?}", (0..10).map(spread).collect::<Vec<_>>());
    }

    #[test]
    fn the_lowest_loss_is_kept_and_patience_ends() {
        let mut looks = Looks::default();
        assert!(!looks.is_best_now() && !looks.is_over(1));
        for (loss, best_now, over) in [(3.0, true, false), (2.0, true, false), (2.5, false, false), (2.0, false, true)]
        {
            looks.0.push((looks.0.len(), loss));
            assert_eq!((looks.is_best_now(), looks.is_over(2)), (best_now, over), "{looks:?}");
        }
        assert_eq!(looks.best(), Some(1));
        assert!(!looks.is_over(0), "0 = never");
    }
}
