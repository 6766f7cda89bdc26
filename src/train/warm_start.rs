//! Warm start by expert iteration: learn to copy at all (random spans, many a window, no search); then search gists that
//! lower the true KL on training windows, imitate the best, each as much as it is worth (reward-weighted regression,
//! Peters & Schaal 2007), and let the generator read them; from the second round on, the policy's own samples compete with
//! the spans. A policy that spreads over the whole vocabulary gives the policy gradient nothing to grip; one that copies
//! useful spans does. Readers that want longer than the compressor go on alone (`warm_readers`).
//!
//! Differs from reward-weighted regression in that candidates come from a search that sees the future, not from the policy,
//! and that weights are normalised within a window.

use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::compressor::budget::recent;
use crate::config::parts::Sampling;
use crate::config::train::TrainConfig;
use crate::config::warm_start::{OutputRank, WarmStart};
use crate::data::Window;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::reading::request;
use crate::rng::{self, Stream};
use crate::run_dir::{read_json, write_json_atomic};
use crate::search::{SpanSearch, SpanShape};
use crate::train::draws::{COPY_STEP, IMITATION_FUTURES, WARM_STEP};
use crate::train::labels::distill;
use crate::train::mix::random_spans;
use crate::train::pair_start;
use crate::train::progress::Progress;
use crate::train::session::{Session, WarmRecord, warm_record};
use crate::train::stage::{Stage, Updated, ValidationRhythm};
use crate::train::trainee::Update;
use crate::train::updates::{ImitationBatch, Weighted, imitation_step};
use crate::train::warm_readers;
use std::path::PathBuf;
use tch::Kind;

/// Windows labelled between two files.
const LABELS_AT_ONCE: usize = 96;
/// Windows whose samples are drawn at once.
const SAMPLED_AT_ONCE: usize = 16;

/// Refuses the adapters of `warm_start.from` where they were trained for another budget than the experiment's and it does not
/// train them for its own before co-training.
pub fn check(config: &TrainConfig) -> Result<()> {
    let Some(from) = &config.warm_start.from else { return Ok(()) };
    let (record, budget) = (warm_record(from)?, config.budget_tokens());
    let path = from.join("record.json");
    let Some(trained) = record.budget else {
        eprintln!(
            "warning: {}: no `budget` in this record of an older program: whether its gists had {budget} tokens cannot be checked",
            path.display()
        );
        return Ok(());
    };
    if trained == budget || config.supervised_updates() > 0 {
        return Ok(());
    }
    let message = format!(
        "`budget`: expected {budget} (`budget` of the experiment), got a warm start for gists of {trained} tokens; train it for \
         {budget} with warm_start.rounds, or start afresh with --set unset=warm_start.from"
    );
    Err(Error::file(path, message))
}

/// Runs whatever is left of the warm start, and writes its adapters into the run (and, as bfloat16, which is half as large,
/// into `warm_start.output`).
pub fn run(session: &mut Session) -> Result<()> {
    let config = session.inputs.config;
    let total = config.supervised_updates();
    copy(session)?;
    pair_start::run(session)?;
    distill::run(session)?;
    while session.update() < config.imitation_end() {
        let round = (session.update() - config.compressor_updates()) / config.warm_start.round_updates();
        let windows = session.inputs.training_windows(WARM_STEP + round as u64, config.warm_start.windows)?;
        let labels = label(session, round, &windows)?;
        imitate(session, round, &windows, &labels)?;
    }
    warm_readers::run(session)?;
    let folder = Session::warm_folder(session.run);
    if session.update() > total || folder.join("record.json").exists() {
        return Ok(());
    }
    let validation = session.validate()?;
    eprintln!("warm start: {validation}");
    let before = match &config.warm_start.from {
        Some(from) if !config.warm_start.fresh_readers => warm_record(from)?.updates,
        Some(_) | None => 0,
    };
    let record = WarmRecord {
        experiment: config.name.clone(),
        seed: config.seed,
        updates: before + config.warm_start.updates_of_readers(),
        budget: Some(config.budget_tokens()),
        seconds: session.seconds(),
        context_value: validation.context_value,
        kl: validation.kl,
    };
    session.export_warm(&folder, Kind::Float, OutputRank::default(), &record)?;
    match &config.warm_start.output {
        Some(output) if total > 0 => {
            session.export_warm(output, Kind::BFloat16, config.warm_start.output_rank, &record)
        }
        _ => Ok(()),
    }
}

/// Copy stage: teaches only the compressor to copy what it reads; which places to read it learns in the rounds.
fn copy(session: &mut Session) -> Result<()> {
    let config = session.inputs.config;
    let (warm, budget) = (&config.warm_start, session.inputs.budget());
    let stage = Stage {
        title: "copy",
        updates: 0..warm.copy_updates,
        run_seed: config.seed,
        validation: None,
        before: None,
        tokens: None,
    };
    stage.run(session, |session, number| {
        let step = COPY_STEP + number as u64;
        let windows = session.inputs.training_windows(step, warm.batch)?;
        let mut groups: Vec<Vec<Weighted>> = Vec::with_capacity(windows.len());
        for (w, window) in windows.iter().enumerate() {
            let decoded = session.inputs.models.tokenizer.read(&window.prefix)?;
            let mut draw = rng::rng(config.seed, Stream::Mix, step, w as u64, 0);
            let spans = (0..warm.copy_gists).map(|_| random_spans(&window.prefix, &decoded, budget, &mut draw));
            groups.push(spans.map(|ids| (Trajectory::imitated(ids, budget), 1.0)).collect());
        }
        let lr_factor = config.train.schedule.factor(number, warm.copy_updates, config.optim.imitation.warmup_steps);
        let update = Update { number, lr_factor, root: session.run.root(), batch: &windows };
        let loss = imitate_gists(session, &groups, &update)?;
        Ok(Updated { metrics: Metrics::from([("warm_start/copy_loss", loss)]), live: format!("loss {loss:.3}") })
    })
}

/// One step of imitation on the windows of `update`.
fn imitate_gists(session: &mut Session, groups: &[Vec<Weighted>], update: &Update<Vec<Window>>) -> Result<f64> {
    let config = session.inputs.config;
    let requests: Vec<_> =
        update.batch.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
    let (policy, micro) = (&session.policy, config.train.micro_windows);
    let batch = ImitationBatch { policy, requests: &requests, groups, micro };
    imitation_step(&session.inputs.models.decoder, &mut session.compressor, &batch, update)
}

/// A gist and its KL, nats a token.
type ScoredGist = (Vec<u32>, f64);

/// The best gists of every window, searched in stretches that are kept in files, so that a killed run loses little.
fn label(session: &Session, round: usize, windows: &[Window]) -> Result<Vec<Vec<ScoredGist>>> {
    let folder = session.run.root().join("warm_start").join(format!("round_{}", round + 1));
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    let progress = Progress::new(&format!("search round {}", round + 1), windows.len().div_ceil(LABELS_AT_ONCE), 0);
    let mut all = Vec::with_capacity(windows.len());
    for (i, stretch) in windows.chunks(LABELS_AT_ONCE).enumerate() {
        session.check_stop()?;
        let path: PathBuf = folder.join(format!("gists_{i:04}.json"));
        if !path.exists() {
            let found = search(session, round, i, stretch)?;
            write_json_atomic(&path, &found)?;
        }
        let gists: Vec<Vec<ScoredGist>> = read_json(&path)?;
        if gists.len() != stretch.len() {
            return Err(Error::file(path, format!("expected {} gists, got {}", stretch.len(), gists.len())));
        }
        all.extend(gists);
        progress.step("");
    }
    progress.finish();
    Ok(all)
}

fn search(session: &Session, round: usize, stretch: usize, windows: &[Window]) -> Result<Vec<Vec<ScoredGist>>> {
    if windows.iter().all(|window| !window.evidence.is_empty()) {
        // The data knows the gist to imitate.
        let budget = session.inputs.budget();
        return Ok(windows.iter().map(|window| vec![(window.evidence_within(budget), 0.0)]).collect());
    }
    let _guard = tch::no_grad_guard();
    let inputs = session.inputs;
    let (warm, decoder, budget) = (&inputs.config.warm_start, &inputs.models.decoder, inputs.budget());
    let step = WARM_STEP + (round * 1_000_000 + stretch) as u64;
    let taught = inputs.taught(step, windows)?;
    let trained = round > 0 || warm.from.is_some();
    let reader = trained.then(|| decoder.activate(&session.generator.adapter, false)).transpose()?;
    let extra = match trained && warm.samples > 0 {
        true => samples(session, step, windows)?,
        false => vec![Vec::new(); windows.len()],
    };
    let params = SpanShape { span_tokens: warm.span_tokens, stride: warm.stride, shortlist: warm.shortlist };
    let search = SpanSearch { decoder, tokenizer: &inputs.models.tokenizer, reader: reader.as_ref(), params };
    let found = search.ranked(&taught, budget, &extra)?;
    Ok(found.into_iter().map(|gists| gists.into_iter().take(warm.gists).map(|f| (f.ids, f.kl)).collect()).collect())
}

/// The policy's own gists of every window.
fn samples(session: &Session, step: u64, windows: &[Window]) -> Result<Vec<Vec<Vec<u32>>>> {
    let inputs = session.inputs;
    let (config, budget) = (inputs.config, inputs.budget());
    let active = inputs.models.decoder.activate(&session.compressor.adapter, false)?;
    let requests: Vec<_> = windows.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
    let mut all = Vec::with_capacity(windows.len());
    for (part, batch) in requests.chunks(SAMPLED_AT_ONCE).enumerate() {
        let first = part * SAMPLED_AT_ONCE;
        let uniforms = |r: usize, s: usize| uniforms(config.seed, step, (first + r) as u64, s as u64, budget);
        let how = &Sampling::default();
        let draws = Draws { group: config.warm_start.samples, budget, how, uniforms: &uniforms };
        let groups = session.policy.sample(&active, batch, draws)?;
        all.extend(groups.into_iter().map(|group| group.into_iter().map(|gist| gist.ids).collect()));
    }
    Ok(all)
}

/// The best `count` gists of a window with weights that sum to 1, of which `warm.recent` is that of the `recent` tokens.
fn weighted(labels: &[ScoredGist], count: usize, warm: &WarmStart, recent: &[u32], budget: usize) -> Vec<Weighted> {
    let best = labels.first().map_or(0.0, |(_, kl)| *kl);
    let raw: Vec<f64> = labels.iter().take(count).map(|(_, kl)| ((best - kl) / warm.temperature).exp()).collect();
    let scale = (1.0 - warm.recent) / raw.iter().sum::<f64>();
    let imitated = |ids: &[u32]| Trajectory::imitated(ids.to_vec(), budget);
    let mut gists: Vec<Weighted> = labels.iter().zip(raw).map(|((ids, _), raw)| (imitated(ids), raw * scale)).collect();
    if warm.recent > 0.0 {
        gists.push((imitated(recent), warm.recent));
    }
    gists
}

/// One round: the compressor imitates what the search found, the generator reads it, its twin reads nothing.
fn imitate(session: &mut Session, round: usize, windows: &[Window], labels: &[Vec<ScoredGist>]) -> Result<()> {
    let config = session.inputs.config;
    let (warm, budget) = (&config.warm_start, session.inputs.budget());
    let (per_round, per_epoch) = (warm.round_updates(), windows.len().div_ceil(warm.batch));
    let begin = config.compressor_updates() + round * per_round;
    let stage = Stage {
        title: &format!("imitate round {}", round + 1),
        updates: begin..begin + per_round,
        run_seed: config.seed,
        validation: Some(ValidationRhythm { every: config.train.eval_every, from: 0 }),
        before: None,
        tokens: None,
    };
    stage.run(session, |session, number| {
        let (epoch, batch) = ((number - begin) / per_epoch, (number - begin) % per_epoch);
        let mut order = rng::rng(config.seed, Stream::Data, WARM_STEP + round as u64, epoch as u64, 1);
        let order = rng::choose(&mut order, windows.len(), windows.len());
        let picked: Vec<usize> = order.into_iter().skip(batch * warm.batch).take(warm.batch).collect();
        let chosen: Vec<Window> = picked.iter().map(|&i| windows[i].clone()).collect();
        let count = picked.iter().map(|&i| labels[i].len()).min().unwrap_or(0);
        let mut groups: Vec<Vec<Weighted>> = Vec::with_capacity(picked.len());
        for &i in &picked {
            let recent = recent(&session.inputs.models.tokenizer, &windows[i].prefix, budget)?;
            groups.push(weighted(&labels[i], count, warm, recent, budget));
        }
        let (done, total) = (number - config.compressor_updates(), warm.rounds * per_round);
        let lr_factor = config.train.schedule.factor(done, total, config.optim.imitation.warmup_steps);
        let update = Update { number, lr_factor, root: session.run.root(), batch: &chosen };
        let imitation = imitate_gists(session, &groups, &update)?;
        let mut metrics = Metrics::from([("warm_start/imitation_loss", imitation)]);
        if !(number - begin).is_multiple_of(warm.readers_every) {
            return Ok(Updated { metrics, live: format!("imitation {imitation:.3}") });
        }
        let taught = session.inputs.taught(IMITATION_FUTURES + number as u64, &chosen)?;
        let read: Vec<Vec<Trajectory>> =
            groups.into_iter().map(|group| group.into_iter().map(|(gist, _)| gist).collect()).collect();
        let readers = warm_readers::read(session, WARM_STEP + number as u64, &taught, &read, &update)?;
        metrics.extend(readers.metrics);
        Ok(Updated { metrics, live: format!("imitation {imitation:.3}  {}", readers.live) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gist_is_imitated_by_its_worth() {
        let labels: Vec<ScoredGist> = vec![(vec![1], 0.1), (vec![2, 3], 0.1), (vec![4], 0.15), (vec![5], 9.0)];
        let mut warm = WarmStart { temperature: 0.05, ..WarmStart::default() };
        let weights = |gists: &[Weighted]| gists.iter().map(|(_, weight)| *weight).collect::<Vec<f64>>();
        let close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        let gists = weighted(&labels, 3, &warm, &[8, 9], 2);
        let e = (-1.0f64).exp();
        let expected = [1.0, 1.0, e].map(|raw| raw / (2.0 + e));
        assert!(close(&weights(&gists), &expected), "{gists:?}");
        warm.recent = 0.25;
        let with_recent = weighted(&labels, 3, &warm, &[8, 9], 2);
        let expected = [0.75 * expected[0], 0.75 * expected[1], 0.75 * expected[2], 0.25];
        assert!(close(&weights(&with_recent), &expected), "{with_recent:?}");
        assert_eq!(with_recent[3].0, Trajectory::imitated(vec![8, 9], 2));
        assert_eq!(gists[0].0.ids, [1]);
        assert!(gists[0].0.ended && !gists[1].0.ended);
    }
}
