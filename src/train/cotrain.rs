//! Co-training: the compressor climbs the reward by policy gradient while the generator learns to read what it writes
//! (forward KL to the teacher). One step, top to bottom, is `step`.

use crate::algo;
use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::config::choices::{AlgoConfig, Reader, TokenCredit};
use crate::config::parts::Sampling;
use crate::data::Window;
use crate::error::Result;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::reading::{Taught, request};
use crate::reward::{RewardParts, Unit};
use crate::rng::{self, Stream};
use crate::rollout::{self, Group, Roles, Site};
use crate::tensor::mean;
use crate::train::inputs::Inputs;
use crate::train::mix::{self, Draw, Source};
use crate::train::progress::Progress;
use crate::train::roles::load_roles;
use crate::train::rollout_log;
use crate::train::session::{Session, Validation};
use crate::train::trainee::Place;
use crate::train::updates::{PolicyBatch, PolicyStep, policy_step, reader_step};
use std::time::Instant;

/// The adapters that stay as the warm start left them.
pub struct Frozen {
    compressor: Adapter,
    generator: Adapter,
}

/// Runs whatever is left of co-training.
pub fn run(session: &mut Session) -> Result<()> {
    let Inputs { config, models, .. } = session.inputs;
    let first = config.supervised_updates();
    let [compressor, generator, _] = load_roles(&Session::warm_folder(session.run), config, models)?;
    let frozen = Frozen { compressor, generator };
    let mut before = match session.state.update == first && config.train.steps > 0 {
        true => Some(begin(session, &frozen)?),
        false => None,
    };
    let progress = Progress::new("co-train", config.train.steps, session.state.update - first);
    while session.state.update < first + config.train.steps {
        let clock = Instant::now();
        let update = session.state.update;
        let mut row = step(session, &frozen, update - first)?;
        let live = format!(
            "reward {:.3}  KL {:.4}  keep_ratio {:.3}",
            value(&row, "reward/total"),
            value(&row, "rollout/kl"),
            value(&row, "rollout/keep_ratio")
        );
        let done = update + 1 - first;
        if done.is_multiple_of(config.train.eval_every) || done == config.train.steps {
            let validation = session.validate()?;
            progress.note(&format!("step {done}: {validation}"));
            row.extend(validation.row());
        } else if let Some(validation) = before.take() {
            row.extend(validation.row()); // the curves begin where co-training does
        }
        session.log()?.metrics(update, &row)?;
        session.log()?.timings(update, &[("time/step_s", clock.elapsed().as_secs_f64())])?;
        progress.step(&live);
        session.advance(done == config.train.steps)?;
    }
    progress.finish();
    Ok(())
}

fn value(row: &[(&str, f64)], key: &str) -> f64 {
    row.iter().find(|(k, _)| *k == key).map_or(f64::NAN, |(_, v)| *v)
}

/// Fresh optimisers for the new objective, the unit of the reward, and the first averaged and stale roles; returns how
/// validation stands before the first step.
fn begin(session: &mut Session, frozen: &Frozen) -> Result<Validation> {
    let config = session.inputs.config;
    session.compressor.reset_optimizer(&config.optim.compressor);
    session.generator.reset_optimizer(&config.optim.generator);
    session.empty_reader.reset_optimizer(&config.optim.generator);
    let validation = session.validate()?;
    eprintln!("before co-training: {validation}");
    session.state.d_ref = Some(validation.context_value);
    session.averaged = matches!(config.reward.reader, Reader::Ema { .. }).then(|| frozen.generator.duplicate());
    session.stale = Some(frozen.compressor.duplicate());
    session.smoothed = (config.train.average_decay > 0.0).then(|| frozen.compressor.duplicate());
    Ok(validation)
}

/// One step; returns its metrics.
fn step(session: &mut Session, frozen: &Frozen, rl_step: usize) -> Result<Vec<(&'static str, f64)>> {
    let inputs = session.inputs;
    let config = inputs.config;
    rng::seed_torch(config.seed, Stream::Dropout, session.state.update as u64, 0);
    let windows = inputs.training_windows(rl_step as u64, config.train.windows_per_step);
    let taught = inputs.taught(rl_step as u64, &windows)?;
    let groups = collect(session, frozen, &taught, rl_step)?;
    let d_ref = session.state.d_ref.unwrap_or(1.0);
    let unit = Unit { signal: config.reward.signal, d_ref, prefix_tokens: inputs.windows.shape.prefix };
    let (parts, lambda) = (unit.score(&groups), session.state.lambda.value);
    let mut advantages = algo::advantages(&parts, lambda, &config.algo.estimator, &mut session.state.baseline);
    let credits = token_credits(session, &taught, &groups, d_ref)?;
    let own: Vec<&[Trajectory]> = groups.iter().map(|g| g.gists.as_slice()).collect();
    let mut actions = algo::per_action(&advantages.values, &own, credits.as_deref());
    let mut learned: Vec<Vec<Trajectory>> = own.iter().map(|gists| gists.to_vec()).collect();
    let mut recent_rewards = Vec::new();
    for (w, group) in groups.iter().enumerate() {
        let Some((gist, reading)) = &group.recent else { continue };
        let scored = unit.parts(gist, reading, &group.empty);
        let advantage = algo::self_imitation(&scored, &parts[w], lambda, config.algo.recent_coef);
        advantages.values[w].push(advantage);
        actions[w].push(vec![advantage; gist.actions()]);
        learned[w].push(gist.clone());
        recent_rewards.push(scored.total(lambda));
    }
    let gists: Vec<&[Trajectory]> = learned.iter().map(Vec::as_slice).collect();
    let policy = match config.train.compressor_learns {
        true => update_compressor(session, frozen, &windows, &gists, &actions, rl_step)?,
        false => PolicyStep::default(),
    };
    let readers = update_readers(session, &taught, &groups, rl_step)?;
    let keep_ratio = mean_part(&parts, |p| p.length);
    session.state.lambda.update(&config.reward.length, keep_ratio);
    if let (Reader::Ema { decay }, Some(averaged)) = (config.reward.reader, session.averaged.as_mut()) {
        averaged.params_mut().average_towards(session.generator.adapter.params(), 1.0 - decay);
    }
    if let Some(smoothed) = session.smoothed.as_mut() {
        smoothed.params_mut().average_towards(session.compressor.adapter.params(), 1.0 - config.train.average_decay);
    }
    if config.generator.stale_refresh_steps.is_some_and(|n| (rl_step + 1).is_multiple_of(n)) {
        session.stale = Some(session.compressor.adapter.duplicate());
    }
    if rl_step.is_multiple_of(config.train.log_rollouts_every) {
        rollout_log::write(
            &session.run.rollouts(session.state.update),
            &inputs.models.tokenizer,
            &windows,
            &groups,
            (&parts, lambda),
        )?;
    }
    let all = || groups.iter().flat_map(|g| &g.gists);
    let readings = || groups.iter().flat_map(|g| &g.readings);
    let average = |xs: Vec<f64>| mean(&xs);
    let mut row = vec![
        ("reward/total", mean_part(&parts, |p| p.total(lambda))),
        ("reward/quality", mean_part(&parts, |p| p.quality)),
        ("reward/length", -lambda * keep_ratio),
        ("rollout/kl", average(readings().map(|r| r.kl).collect())),
        ("rollout/nll", average(readings().map(|r| r.nll).collect())),
        ("rollout/kl_empty", average(groups.iter().map(|g| g.empty.kl).collect())),
        ("rollout/keep_ratio", keep_ratio),
        ("rollout/ended_frac", average(all().map(|g| f64::from(u8::from(g.ended))).collect())),
        ("rollout/entropy", average(all().flat_map(|g| g.entropy.clone()).collect())),
        ("rollout/group_std", advantages.group_std),
        ("algo/zero_variance_groups", advantages.zero_variance_groups as f64),
        ("algo/advantage_abs", average(advantages.values.concat().iter().map(|a| a.abs()).collect())),
        ("algo/lambda", lambda),
    ];
    if !recent_rewards.is_empty() {
        row.push(("reward/recent", mean(&recent_rewards)));
    }
    if config.train.compressor_learns {
        row.extend([
            ("algo/policy_loss", policy.loss),
            ("algo/mismatch_kl", policy.mismatch_kl),
            ("algo/clip_frac", policy.clip_frac),
            ("algo/kl_reference", policy.kl_reference),
            ("optim/compressor/grad_norm", policy.grad_norm),
        ]);
    }
    if let Some(readers) = readers {
        row.extend([
            ("generator/kl", readers.kl),
            ("empty_reader/kl", readers.kl_empty),
            ("optim/generator/grad_norm", readers.grad_norm),
        ]);
    }
    row.extend(rollout_log::surface(&inputs.models.tokenizer, &windows, &groups)?);
    Ok(row)
}

fn mean_part(parts: &[Vec<RewardParts>], f: impl Fn(&RewardParts) -> f64) -> f64 {
    mean(&parts.iter().flatten().map(f).collect::<Vec<_>>())
}

/// Samples groups, read by whoever the reward trusts.
fn collect(session: &Session, frozen: &Frozen, taught: &Taught, rl_step: usize) -> Result<Vec<Group>> {
    let config = session.inputs.config;
    let decoder = &session.inputs.models.decoder;
    let reader = match config.reward.reader {
        Reader::Current {} => &session.generator.adapter,
        Reader::Ema { .. } => session.averaged.as_ref().unwrap_or(&session.generator.adapter),
        Reader::Frozen {} => &frozen.generator,
    };
    let roles = Roles {
        decoder,
        policy: &session.policy,
        compressor: &decoder.activate(&session.compressor.adapter, false)?,
        reader: &decoder.activate(reader, false)?,
    };
    let site = Site { run_seed: config.seed, step: rl_step as u64, first_example: 0 };
    let how = rollout::GroupShape {
        condition: config.condition,
        group_size: config.rollout.group_size,
        budget: session.inputs.budget(),
        with_recent: config.train.compressor_learns && config.algo.recent_coef > 0.0,
    };
    rollout::collect(&roles, taught, how, site)
}

/// What each block of each gist bought, in units of the reward, when the experiment credits tokens.
fn token_credits(
    session: &Session,
    taught: &Taught,
    groups: &[Group],
    d_ref: f64,
) -> Result<Option<Vec<Vec<Vec<f64>>>>> {
    if session.inputs.config.algo.token_credit == TokenCredit::Uniform {
        return Ok(None);
    }
    let decoder = &session.inputs.models.decoder;
    let reader = decoder.activate(&session.generator.adapter, false)?;
    let mut values = rollout::block_values(decoder, &reader, taught, groups, algo::BLOCK)?;
    values.iter_mut().flatten().flatten().for_each(|value| *value /= d_ref);
    Ok(Some(values))
}

/// Policy-gradient updates on one rollout: one, or several under `ppo`.
fn update_compressor(
    session: &mut Session,
    frozen: &Frozen,
    windows: &[Window],
    gists: &[&[Trajectory]],
    advantages: &[Vec<Vec<f64>>],
    rl_step: usize,
) -> Result<PolicyStep> {
    let inputs = session.inputs;
    let config = inputs.config;
    let requests: Vec<_> = windows.iter().enumerate().map(|(i, w)| request(w, config.condition, i as u64)).collect();
    let batch = PolicyBatch {
        requests: &requests,
        groups: gists,
        advantages,
        micro: config.train.micro_windows,
        divisor: (gists.iter().map(|group| group.len()).sum::<usize>() * inputs.budget()) as f64,
    };
    let place = Place { step: session.state.update, root: session.run.root(), batch: &windows };
    let factor = config.train.schedule.factor(rl_step, config.train.steps, config.optim.compressor.warmup_steps);
    let epochs = if let AlgoConfig::Ppo { epochs, .. } = config.algo.estimator { epochs } else { 1 };
    let mut done = PolicyStep::default();
    for _ in 0..epochs {
        done = policy_step(
            &session.policy,
            &inputs.models.decoder,
            &mut session.compressor,
            Some(&frozen.compressor),
            &batch,
            &config.algo,
            (factor, &place),
        )?;
    }
    Ok(done)
}

/// What an update of the readers did.
struct ReaderSteps {
    /// KL(teacher ‖ generator) over the mix, nats a token.
    kl: f64,
    /// KL(teacher ‖ empty reader), nats a token.
    kl_empty: f64,
    /// The generator's gradient norm before clipping.
    grad_norm: f64,
}

/// Generator on the mix, its empty twin on nothing: as many updates each. None when the generator does not learn.
fn update_readers(
    session: &mut Session,
    taught: &Taught,
    groups: &[Group],
    rl_step: usize,
) -> Result<Option<ReaderSteps>> {
    let inputs = session.inputs;
    let config = inputs.config;
    if !config.train.generator_learns {
        return Ok(None);
    }
    let draw = Draw { run_seed: config.seed, step: rl_step as u64 };
    let plan = mix::plan(taught.windows.len(), &config.generator, draw);
    let stale = stale_gists(session, taught.windows, &plan, rl_step)?;
    let gists: Vec<&[Trajectory]> = groups.iter().map(|g| g.gists.as_slice()).collect();
    let v = inputs.models.decoder.config().vocab_size;
    let contexts = mix::contexts(taught.windows, &plan, &gists, &stale, inputs.budget(), v, draw);
    let rows: Vec<(usize, &[u32])> = contexts.iter().map(|(w, c)| (*w, c.as_slice())).collect();
    let nothing: Vec<(usize, &[u32])> = (0..taught.windows.len()).map(|w| (w, [].as_slice())).collect();
    let factor = config.train.schedule.factor(rl_step, config.train.steps, config.optim.generator.warmup_steps);
    let place = Place { step: session.state.update, root: session.run.root(), batch: &taught.windows };
    let at_once = config.reader_rows();
    let (kl, info) =
        reader_step(&inputs.models.decoder, &mut session.generator, taught, (&rows, at_once), (factor, &place))?;
    let (kl_empty, _) =
        reader_step(&inputs.models.decoder, &mut session.empty_reader, taught, (&nothing, at_once), (factor, &place))?;
    Ok(Some(ReaderSteps { kl, kl_empty, grad_norm: info.grad_norm }))
}

/// A gist from the stale compressor for every window whose plan asks for one; nothing for the others.
fn stale_gists(session: &Session, windows: &[Window], plan: &[Vec<Source>], rl_step: usize) -> Result<Vec<Vec<u32>>> {
    let inputs = session.inputs;
    let config = inputs.config;
    let mut gists = vec![Vec::new(); windows.len()];
    let asked: Vec<usize> = (0..windows.len()).filter(|&w| plan[w].contains(&Source::Stale)).collect();
    let Some(stale) = session.stale.as_ref().filter(|_| !asked.is_empty()) else { return Ok(gists) };
    let active: ActiveAdapter = inputs.models.decoder.activate(stale, false)?;
    let requests: Vec<_> = asked.iter().map(|&w| request(&windows[w], config.condition, w as u64)).collect();
    // Sample number G: the group itself uses 0..G.
    let sample = config.rollout.group_size as u64;
    let uniforms = |r: usize, _| uniforms(config.seed, rl_step as u64, asked[r] as u64, sample, inputs.budget());
    let draws = Draws { group: 1, budget: inputs.budget(), how: &Sampling::default(), uniforms: &uniforms };
    let sampled = session.policy.sample(&active, &requests, draws)?;
    for (w, gist) in asked.iter().zip(sampled.into_iter().flatten()) {
        gists[*w] = gist.ids;
    }
    Ok(gists)
}
