//! Warm start by expert iteration: learn to copy at all (random spans, many a window, no search); then search gists that
//! lower the true KL on training windows, imitate the best, each as much as it is worth (reward-weighted regression,
//! Peters & Schaal 2007), and let the generator read them; from the second round on, the policy's own samples compete with
//! the spans. A policy that spreads over the whole vocabulary gives the policy gradient nothing to grip; one that copies
//! useful spans does.

use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::compressor::budget::recent;
use crate::config::parts::Sampling;
use crate::config::train::WarmStart;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::reading::request;
use crate::rng::{self, Stream};
use crate::run_dir::{read_json, write_json_atomic};
use crate::search::{SpanSearch, ranked};
use crate::train::distill;
use crate::train::mix::{self, Draw};
use crate::train::progress::Progress;
use crate::train::session::{Session, WarmRecord};
use crate::train::trainee::Place;
use crate::train::updates::{Weighted, imitation_step, reader_step};
use serde::Serialize;
use std::path::PathBuf;

/// Windows labelled between two files.
const LABELS_AT_ONCE: usize = 96;
/// Marks the training windows of the warm start: no policy-gradient step has so high a number.
const WARM_STEP: u64 = 1 << 40;
/// The same for the windows on which copying is learned.
const COPY_STEP: u64 = 1 << 42;

/// Runs whatever is left of the warm start, and writes its adapters into the run (and into `warm_start.output`).
pub fn run(session: &mut Session) -> Result<()> {
    let config = session.inputs.config;
    let (own, total) = (config.compressor_updates(), config.supervised_updates());
    copy(session)?;
    distill::run(session)?;
    while session.state.update < total {
        let round = (session.state.update - own) / config.warm_start.round_updates();
        let windows = session.inputs.training_windows(WARM_STEP + round as u64, config.warm_start.windows);
        let labels = label(session, round, &windows)?;
        imitate(session, round, &windows, &labels)?;
    }
    let folder = Session::warm_folder(session.run);
    if session.state.update > total || folder.join("record.json").exists() {
        return Ok(());
    }
    let validation = session.validate()?;
    eprintln!("warm start: {validation}");
    let before = match &config.warm_start.from {
        Some(from) => crate::train::session::warm_record(from)?.updates,
        None => 0,
    };
    let record = WarmRecord {
        experiment: config.name.clone(),
        seed: config.seed,
        updates: before + total - own,
        seconds: session.seconds(),
        context_value: validation.context_value,
        kl: validation.kl,
    };
    session.export_warm(&folder, &record)?;
    match &config.warm_start.output {
        Some(output) if total > 0 => session.export_warm(output, &record),
        _ => Ok(()),
    }
}

/// Teaches the compressor alone to write what it reads; where to read, it learns from the rounds.
fn copy(session: &mut Session) -> Result<()> {
    let (inputs, config) = (session.inputs, session.inputs.config);
    let (warm, budget) = (&config.warm_start, inputs.budget());
    let progress = Progress::new("copy", warm.copy_updates, session.state.update.min(warm.copy_updates));
    while session.state.update < warm.copy_updates {
        let update = session.state.update;
        let clock = std::time::Instant::now();
        let step = COPY_STEP + update as u64;
        let windows = inputs.training_windows(step, warm.batch);
        let gists: Vec<Vec<Weighted>> = (windows.iter().enumerate())
            .map(|(w, window)| {
                let mut draw = rng::rng(config.seed, Stream::Mix, step, w as u64, 0);
                let spans = (0..warm.copy_gists).map(|_| mix::random_spans(&window.prefix, budget, &mut draw));
                spans.map(|ids| (Trajectory::imitated(ids, budget), 1.0)).collect()
            })
            .collect();
        let factor = config.train.schedule.factor(update, warm.copy_updates, config.optim.imitation.warmup_steps);
        let place = Place { step: update, root: session.run.root(), batch: &windows };
        rng::seed_torch(config.seed, Stream::Dropout, update as u64, 0);
        let loss = imitate_gists(session, &windows, &gists, (factor, &place))?;
        session.log()?.metrics(update, &[("warm_start/copy_loss", loss)])?;
        session.log()?.timings(update, &[("time/step_s", clock.elapsed().as_secs_f64())])?;
        progress.step(&format!("loss {loss:.3}"));
        session.advance(update + 1 == warm.copy_updates)?;
    }
    progress.finish();
    Ok(())
}

fn imitate_gists(
    session: &mut Session,
    windows: &[Window],
    gists: &[Vec<Weighted>],
    step: (f64, &Place<impl Serialize>),
) -> Result<f64> {
    let config = session.inputs.config;
    let requests: Vec<_> = windows.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
    imitation_step(
        &session.policy,
        &session.inputs.models.decoder,
        &mut session.compressor,
        (&requests, gists),
        config.train.micro_windows,
        step,
    )
}

/// A gist and its KL, nats a token.
type Label = (Vec<u32>, f64);

/// The best gists of every window, searched in stretches that are kept in files, so that a killed run loses little.
fn label(session: &Session, round: usize, windows: &[Window]) -> Result<Vec<Vec<Label>>> {
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
        let gists: Vec<Vec<Label>> = read_json(&path)?;
        if gists.len() != stretch.len() {
            return Err(Error::file(path, format!("expected {} gists, got {}", stretch.len(), gists.len())));
        }
        all.extend(gists);
        progress.step("");
    }
    progress.finish();
    Ok(all)
}

fn search(session: &Session, round: usize, stretch: usize, windows: &[Window]) -> Result<Vec<Vec<Label>>> {
    let _guard = tch::no_grad_guard();
    let inputs = session.inputs;
    let (config, decoder, budget) = (inputs.config, &inputs.models.decoder, inputs.budget());
    let warm = &config.warm_start;
    let step = WARM_STEP + (round * 1_000_000 + stretch) as u64;
    let taught = inputs.taught(step, windows)?;
    let trained = round > 0 || warm.from.is_some();
    let reader = trained.then(|| decoder.activate(&session.generator.adapter, false)).transpose()?;
    let mut extra = vec![Vec::new(); windows.len()];
    if trained && warm.samples > 0 {
        let active = decoder.activate(&session.compressor.adapter, false)?;
        let requests: Vec<_> =
            windows.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
        for (first, batch) in requests.chunks(16).enumerate().map(|(i, b)| (i * 16, b)) {
            let uniforms = |r: usize, s: usize| uniforms(config.seed, step, (first + r) as u64, s as u64, budget);
            let how = &Sampling::default();
            let draws = Draws { group: warm.samples, budget, how, uniforms: &uniforms };
            let groups = session.policy.sample(&active, batch, draws)?;
            for (i, group) in groups.into_iter().enumerate() {
                extra[first + i] = group.into_iter().map(|gist| gist.ids).collect();
            }
        }
    }
    let params = SpanSearch { span_tokens: warm.span_tokens, stride: warm.stride, shortlist: warm.shortlist };
    let found = ranked(&taught, decoder, reader.as_ref(), budget, params, &extra)?;
    Ok(found.into_iter().map(|gists| gists.into_iter().take(warm.gists).map(|f| (f.ids, f.kl)).collect()).collect())
}

/// The best `count` gists of a window with weights that sum to 1, of which `warm.recent` is the most recent tokens'.
fn weighted(labels: &[Label], count: usize, warm: &WarmStart, prefix: &[u32], budget: usize) -> Vec<Weighted> {
    let best = labels.first().map_or(0.0, |(_, kl)| *kl);
    let raw: Vec<f64> = labels.iter().take(count).map(|(_, kl)| ((best - kl) / warm.temperature).exp()).collect();
    let scale = (1.0 - warm.recent) / raw.iter().sum::<f64>();
    let mut gists: Vec<Weighted> = labels
        .iter()
        .zip(raw)
        .map(|((ids, _), raw)| (Trajectory::imitated(ids.clone(), budget), raw * scale))
        .collect();
    if warm.recent > 0.0 {
        gists.push((Trajectory::imitated(recent(prefix, budget).to_vec(), budget), warm.recent));
    }
    gists
}

fn imitate(session: &mut Session, round: usize, windows: &[Window], labels: &[Vec<Label>]) -> Result<()> {
    let inputs = session.inputs;
    let (config, decoder, budget) = (inputs.config, &inputs.models.decoder, inputs.budget());
    let warm = &config.warm_start;
    let (per_round, per_epoch) = (config.warm_start.round_updates(), windows.len().div_ceil(warm.batch));
    let begin = config.compressor_updates() + round * per_round;
    let total = warm.rounds * per_round;
    let progress = Progress::new(&format!("imitate round {}", round + 1), per_round, session.state.update - begin);
    while session.state.update < begin + per_round {
        let update = session.state.update;
        let clock = std::time::Instant::now();
        let within = update - begin;
        let (epoch, batch) = (within / per_epoch, within % per_epoch);
        let mut order = rng::rng(config.seed, Stream::Data, WARM_STEP + round as u64, epoch as u64, 1);
        let order = rng::choose(&mut order, windows.len(), windows.len());
        let picked: Vec<usize> = order.into_iter().skip(batch * warm.batch).take(warm.batch).collect();
        let chosen: Vec<Window> = picked.iter().map(|&i| windows[i].clone()).collect();
        let count = picked.iter().map(|&i| labels[i].len()).min().unwrap_or(0);
        let gists: Vec<Vec<Weighted>> =
            picked.iter().map(|&i| weighted(&labels[i], count, warm, &windows[i].prefix, budget)).collect();
        let done = update - config.compressor_updates();
        let factor = config.train.schedule.factor(done, total, config.optim.imitation.warmup_steps);
        let place = Place { step: update, root: session.run.root(), batch: &chosen };
        rng::seed_torch(config.seed, Stream::Dropout, update as u64, 0);
        let imitation = imitate_gists(session, &chosen, &gists, (factor, &place))?;
        let taught = inputs.taught(COPY_STEP + update as u64, &chosen)?;
        let gists: Vec<Vec<Trajectory>> =
            gists.into_iter().map(|group| group.into_iter().map(|(gist, _)| gist).collect()).collect();
        let groups: Vec<&[Trajectory]> = gists.iter().map(Vec::as_slice).collect();
        let v = decoder.config().vocab_size;
        let draw = Draw { run_seed: config.seed, step: WARM_STEP + update as u64 };
        let stale = vec![Vec::new(); chosen.len()];
        let plan = mix::plan(chosen.len(), &config.generator, draw);
        let contexts = mix::contexts(&chosen, &plan, &groups, &stale, budget, v, draw);
        let rows: Vec<(usize, &[u32])> = contexts.iter().map(|(w, c)| (*w, c.as_slice())).collect();
        let nothing: Vec<(usize, &[u32])> = (0..chosen.len()).map(|w| (w, [].as_slice())).collect();
        let at_once = config.reader_rows();
        let (kl, _) = reader_step(decoder, &mut session.generator, &taught, (&rows, at_once), (factor, &place))?;
        let (kl_empty, _) =
            reader_step(decoder, &mut session.empty_reader, &taught, (&nothing, at_once), (factor, &place))?;
        let mut row =
            vec![("warm_start/imitation_loss", imitation), ("generator/kl", kl), ("empty_reader/kl", kl_empty)];
        let ends_round = within + 1 == per_round;
        if (update + 1).is_multiple_of(config.train.eval_every) || ends_round {
            let validation = session.validate()?;
            progress.note(&format!("update {}: {validation}", update + 1));
            row.extend(validation.row());
        }
        session.log()?.metrics(update, &row)?;
        session.log()?.timings(update, &[("time/step_s", clock.elapsed().as_secs_f64())])?;
        progress.step(&format!("imitation {imitation:.3}  KL {kl:.4}  empty {kl_empty:.4}"));
        session.advance(ends_round)?;
    }
    progress.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gist_is_imitated_by_its_worth() {
        let labels: Vec<Label> = vec![(vec![1], 0.1), (vec![2, 3], 0.1), (vec![4], 0.15), (vec![5], 9.0)];
        let mut warm = WarmStart { temperature: 0.05, ..WarmStart::default() };
        let weights = |gists: &[Weighted]| gists.iter().map(|(_, weight)| *weight).collect::<Vec<f64>>();
        let close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        let gists = weighted(&labels, 3, &warm, &[7, 8, 9], 2);
        let e = (-1.0f64).exp();
        let expected = [1.0, 1.0, e].map(|raw| raw / (2.0 + e));
        assert!(close(&weights(&gists), &expected), "{gists:?}");
        warm.recent = 0.25;
        let with_recent = weighted(&labels, 3, &warm, &[7, 8, 9], 2);
        let expected = [0.75 * expected[0], 0.75 * expected[1], 0.75 * expected[2], 0.25];
        assert!(close(&weights(&with_recent), &expected), "{with_recent:?}");
        assert_eq!(with_recent[3].0, Trajectory::imitated(vec![8, 9], 2));
        assert_eq!(gists[0].0.ids, [1]);
        assert!(gists[0].0.ended && !gists[1].0.ended);
    }
}
