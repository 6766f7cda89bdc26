//! Co-training: the compressor climbs the reward by policy gradient while the generator learns to read what it writes. One
//! step, top to bottom, is `step`:
//!
//! ```text
//! windows, teacher's futures → gists g ~ π, read → R = (D(empty) − D(g)) / D_ref − λ·|g|/P → A = R − baseline
//!   → θ ← θ − η ∇ L_policy(A)      compressor
//!   → φ ← φ − η ∇ KL(teacher ‖ reader)   generator on gists, its twin on nothing
//!   → λ by dual ascent, averaged adapters → metrics
//! ```
//! Differs from the published policy-gradient recipes in that the reward model (the reader) learns beside the policy, that
//! there is one update a rollout except under `ppo`, that KL to the warm start is a term of the loss and not of the reward,
//! and that the most recent tokens, which nobody sampled, are imitated where they earn more than the group (self-imitation).
//! Left out: a learned value function, generalised advantage estimation, and reuse of old rollouts.

mod learned;
mod packed;
mod row;
mod taught_shard;

use crate::algo;
use crate::compressor::actions::{Draws, Trajectory, uniforms};
use crate::config::choices::Reader;
use crate::config::parts::Sampling;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::lora::Adapter;
use crate::reading::request;
use crate::reward::RewardScale;
use crate::rollout::{self, Group, Roles, RolloutKey};
use crate::train::inputs::Inputs;
use crate::train::mix::{ContextSource, Draw, Mix};
use crate::train::readers::{ReaderShard, ReaderUpdates, update_readers};
use crate::train::roles::WarmStarted;
use crate::train::rollout_log;
use crate::train::session::Session;
use crate::train::stage::{Stage, Updated, ValidationRhythm};
use crate::train::trainee::Update;
use crate::train::validation::Validation;
use learned::{Learned, Rewards, token_credits, update_compressor};
use row::{StepFigures, row};
use taught_shard::TaughtShard;

/// Runs whatever is left of co-training.
pub fn run(session: &mut Session) -> Result<()> {
    let Inputs { config, models, .. } = session.inputs;
    let first = config.supervised_updates();
    let frozen = WarmStarted::load(&Session::warm_folder(session.run), config, models)?;
    let before = match session.update() == first && config.train.steps > 0 {
        true => Some(begin(session, &frozen)?.metrics()), // the curves begin where co-training does
        false => None,
    };
    let stage = Stage {
        title: "co-train",
        updates: first..first + config.train.steps,
        run_seed: config.seed,
        validation: Some(ValidationRhythm { every: config.train.eval_every, from: first }),
        before,
        tokens: None,
    };
    stage.run(session, |session, number| step(session, &frozen, number - first))
}

/// Fresh optimisers for the new objective, the unit of the reward and the first companions; returns how validation stands
/// before the first step.
fn begin(session: &mut Session, frozen: &WarmStarted) -> Result<Validation> {
    let config = session.inputs.config;
    session.compressor.reset_optimizer(&config.optim.compressor);
    session.generator.reset_optimizer(&config.optim.generator);
    session.empty_reader.reset_optimizer(&config.optim.generator);
    let validation = session.validate()?;
    if session.leads() {
        eprintln!("before co-training: {validation}");
    }
    session.begin_cotraining(frozen, validation.context_value);
    Ok(validation)
}

/// Makes one step; `number` counts from 0.
fn step(session: &mut Session, frozen: &WarmStarted, number: usize) -> Result<Updated> {
    let Inputs { config, models, .. } = session.inputs;
    // Examples, and what the teacher predicts of their futures.
    let windows = session.inputs.training_windows(number as u64, config.train.windows_per_step)?;
    let parts = TaughtShard::of(session, &windows, number)?;
    // Rollouts without gradient: G gists a window from π, each read by whoever is paid for.
    let rolled = collect(session, frozen, &parts, number)?;
    // Rewards R = (D(empty) − D(g)) / D_ref − λ · |g| / P.
    let scale = RewardScale { signal: config.reward.signal, d_ref: session.d_ref()? };
    let credits = token_credits(session, paid_reader(session, frozen)?, &parts, &rolled, &scale)?;
    let groups = session.shards.gather("rollouts", rolled)?;
    let rewards = Rewards { scale, lambda: session.state.lambda.value, parts: scale.score(&groups) };
    // Advantages A = R − baseline, one an action, and those of the most recent tokens beside them.
    let (estimator, baseline) = (&config.algo.estimator, &mut session.state.baseline);
    let advantages = algo::advantages(&rewards.parts, rewards.lambda, estimator, baseline);
    let learned = Learned::new(&config.algo, &groups, &rewards, advantages, credits);
    // Policy update: θ ← θ − η ∇ L(A).
    let policy = match config.train.compressor_learns {
        true => Some(update_compressor(session, frozen, &windows, &learned, number)?),
        false => None,
    };
    // Reader updates: φ ← φ − η ∇ KL(teacher ‖ reader).
    let readers = match config.train.generator_learns {
        true => Some(teach_readers(session, &windows, &parts, &groups, number)?),
        false => None,
    };
    // What follows the weights: λ, the averages, the stale compressor.
    let figures = StepFigures { groups: &groups, rewards: &rewards, learned: &learned, policy, readers };
    session.state.lambda.update(&config.reward.length, figures.keep_ratio());
    session.follow(number)?;
    // Metrics.
    session.check_replicas(number)?;
    if session.leads() && number.is_multiple_of(config.train.log_rollouts_every) {
        let path = session.run.rollouts(session.update());
        let logged =
            rollout_log::Logged { windows: &windows, groups: &groups, scored: &rewards.parts, lambda: rewards.lambda };
        rollout_log::write(&path, &models.tokenizer, &logged)?;
    }
    let mut metrics = row(figures);
    metrics.extend(rollout_log::surface(&models.tokenizer, &windows, &groups)?);
    let live = live(&metrics);
    Ok(Updated { metrics, live })
}

fn live(metrics: &Metrics) -> String {
    let figure = |name: &str| metrics.get(name).unwrap_or(f64::NAN);
    let [reward, kl, keep_ratio] = ["reward/total", "rollout/kl", "rollout/keep_ratio"].map(figure);
    format!("reward {reward:.3}  KL {kl:.4}  keep_ratio {keep_ratio:.3}")
}

/// The reader whose reading the reward pays for.
fn paid_reader<'s>(session: &'s Session, frozen: &'s WarmStarted) -> Result<&'s Adapter> {
    match session.inputs.config.reward.reader {
        Reader::Current {} => Ok(&session.generator.adapter),
        Reader::Ema { .. } => session.companions()?.averaged().ok_or_else(no_average),
        Reader::Frozen {} => Ok(&frozen.generator),
    }
}

/// Samples groups, shard by shard, and has them read by the reader that the reward uses.
fn collect(session: &Session, frozen: &WarmStarted, parts: &[TaughtShard], number: usize) -> Result<Vec<Vec<Group>>> {
    let Inputs { config, models, .. } = session.inputs;
    let decoder = &models.decoder;
    let roles = Roles {
        decoder,
        tokenizer: &session.inputs.models.tokenizer,
        policy: &session.policy,
        compressor: &decoder.activate(&session.compressor.adapter, false)?,
        reader: &decoder.activate(paid_reader(session, frozen)?, false)?,
    };
    let how = rollout::GroupShape {
        condition: config.condition,
        group_size: config.rollout.group_size,
        budget: session.inputs.budget(),
        with_recent: config.train.compressor_learns && config.algo.recent_coef > 0.0,
    };
    let of = |part: &TaughtShard| {
        let first_example = part.examples.start as u64;
        let key = RolloutKey { run_seed: config.seed, step: number as u64, first_example };
        rollout::collect(&roles, &part.taught, how, key)
    };
    parts.iter().enumerate().map(|(index, part)| session.shards.timed(index, || of(part))).collect()
}

/// Generator on the mix, its empty twin on nothing.
fn teach_readers(
    session: &mut Session,
    windows: &Vec<Window>,
    parts: &[TaughtShard],
    groups: &[Group],
    number: usize,
) -> Result<ReaderUpdates> {
    let config = session.inputs.config;
    let readers = (parts.iter().enumerate())
        .map(|(index, part)| session.shards.timed(index, || reader_shard(session, part, groups, number)))
        .collect::<Result<Vec<_>>>()?;
    let lr_factor = config.train.schedule.factor(number, config.train.steps, config.optim.generator.warmup_steps);
    let root = session.run.root();
    let update = Update { number: session.update(), lr_factor, root, batch: windows };
    let shards = session.shards.clone();
    update_readers(session, &shards, &readers, &update)
}

/// The contexts of the generator on one shard.
fn reader_shard<'a>(
    session: &Session,
    part: &'a TaughtShard,
    groups: &[Group],
    number: usize,
) -> Result<ReaderShard<'a>> {
    let Inputs { config, models, .. } = session.inputs;
    let windows = part.taught.windows;
    let mix = Mix {
        shares: &config.generator,
        budget: session.inputs.budget(),
        vocabulary: models.decoder.config().vocab_size,
        tokenizer: &models.tokenizer,
        draw: Draw { run_seed: config.seed, step: number as u64, first_example: part.examples.start },
    };
    let plan = mix.plan(windows.len());
    let stale = stale_gists(session, part, &plan, number)?;
    let gists: Vec<&[Trajectory]> = groups[part.examples.clone()].iter().map(|group| &group.gists[..]).collect();
    Ok(ReaderShard { taught: &part.taught, contexts: mix.contexts(windows, &plan, &gists, &stale)? })
}

/// A gist from the stale compressor for every window of a shard whose plan asks for one; nothing for the others.
fn stale_gists(
    session: &Session,
    part: &TaughtShard,
    plan: &[Vec<ContextSource>],
    number: usize,
) -> Result<Vec<Vec<u32>>> {
    let Inputs { config, models, .. } = session.inputs;
    let (windows, first, budget) = (part.taught.windows, part.examples.start, session.inputs.budget());
    let mut gists = vec![Vec::new(); windows.len()];
    let asked: Vec<usize> = (0..windows.len()).filter(|&w| plan[w].contains(&ContextSource::Stale)).collect();
    if asked.is_empty() {
        return Ok(gists);
    }
    let active = models.decoder.activate(&session.companions()?.stale, false)?;
    let key = |w: usize| (first + w) as u64;
    let requests: Vec<_> = asked.iter().map(|&w| request(&windows[w], config.condition, key(w))).collect();
    // Sample number G: the group itself uses 0..G.
    let sample = config.rollout.group_size as u64;
    let uniforms = |r: usize, _| uniforms(config.seed, number as u64, key(asked[r]), sample, budget);
    let draws = Draws { group: 1, budget, how: &Sampling::default(), uniforms: &uniforms };
    let sampled = session.policy.sample(&active, &requests, draws)?;
    for (w, gist) in asked.iter().zip(sampled.into_iter().flatten()) {
        gists[*w] = gist.ids;
    }
    Ok(gists)
}

fn no_average() -> Error {
    Error::invalid("reward.reader: expected a moving average of the generator, got none")
}
