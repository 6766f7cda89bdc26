//! `compare`: rate–distortion curves of the compressors of finished runs and of baselines, on the same windows, each read
//! by one reader that all share and by one of its own.
//!
//! ```text
//! <output>/comparison.json            everything that was measured
//! <output>/comparison.csv             a row a compressor, budget and reader
//! <output>/comparison.html            a page that needs nothing else
//! <output>/figures/*.{svg,png}        the curves
//! <output>/readers/                   adapted readers, kept: the same command goes on from them
//! ```
//! Nothing is written before everything that is read has been found to fit together.

mod ask;
mod chains;
mod named;
mod runs;

use crate::cli::{DeviceArg, start};
use ask::Budgets;
use gist::compressor::baseline::Empty;
use gist::compressor::budget::{Controller, RICHEST};
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::scorers::Parts;
use gist::compressor::{Compressor, Request};
use gist::config::parts::RecallSection;
use gist::config::train::TrainConfig;
use gist::data::{RecallConfig, Split, Window};
use gist::error::{Error, Result};
use gist::eval::comparison::{ComparedRun, Comparison};
use gist::eval::files::spread;
use gist::eval::rate_distortion::{Curves, Exam, Member};
use gist::eval::summary::WindowLengths;
use gist::model::lora::Adapter;
use gist::models::Models;
use gist::reading::request;
use gist::report::comparison;
use gist::run_dir::component;
use gist::train::adapt::{Lesson, is_kept, kept_reader};
use gist::train::inputs::{self, Inputs};
use gist::train::progress::Progress;
use gist::train::windows::Windows;
use named::{Baseline, Baselines};
use runs::Finished;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What is compared.
#[derive(clap::Args)]
pub struct CompareArgs {
    /// Directories of finished runs; several seeds of an experiment are one entrant. NAME=DIR gives a run another name
    /// than its experiment's, as two arms of a sweep need.
    #[arg(long, value_name = "RUN", required = true, num_args = 1..)]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    device: DeviceArg,
    /// Baselines beside them, one that scores also with its unit (token, word, sentence), as bm25:token; frozen models, as
    /// encoder:PATH (a token classifier such as LLMLingua-2's) or embedding:PATH (a sentence encoder), the path a folder or
    /// OWNER/NAME of the Hub; and chains of two, such as attention+gist: the second compresses what the first kept.
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "recent,attention,bm25,tf_idf,idf,self_information,truncate,random"
    )]
    compressors: Vec<String>,
    /// Budgets, as shares of the prefix's tokens.
    #[arg(long, value_name = "SHARE,..", value_delimiter = ',', default_value = "0.02,0.05,0.095,0.2,0.4")]
    budgets: Vec<String>,
    /// Updates of every reader; absent = as many as the first run's generator had.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    updates: Option<u64>,
    /// Held-out windows, spread evenly over those that the first run was judged on; absent = all.
    #[arg(long, value_name = "N")]
    windows: Option<usize>,
    /// Folder that receives the comparison; absent = runs/compare/<names of the experiments>.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Which readers: one that all share, one adapted to each, or both.
    #[arg(long, value_name = "WHICH,..", value_delimiter = ',', default_value = "shared,adapted")]
    readers: Vec<String>,
    /// Keep this before anything else, inside the budget (all that extract; repeatable): numbers, identifiers, text:TEXT, or a
    /// regular expression such as '[A-Z]{2,}'.
    #[arg(long, value_name = "WHAT")]
    must_keep: Vec<String>,
    /// Of equal tokens that come to stand side by side keep one only (the same compressors).
    #[arg(long)]
    drop_consecutive: bool,
    /// Meet each budget on average, not in each window: what extracts keeps the units above one score, found on validation
    /// windows, up to twice the budget in a window. What writes, and what is part of a chain, keeps to the budget.
    #[arg(long)]
    adaptive: bool,
}

/// One contestant: its compressors, one a seed.
struct Entrant<'a> {
    name: String,
    seeds: Vec<u64>,
    members: Vec<Box<dyn Compressor + 'a>>,
    /// Says which weights they are; `baseline` for what has none of its own.
    made_of: Vec<String>,
}

impl Entrant<'_> {
    /// What a member is called where seeds are told apart.
    fn label(&self, member: usize) -> String {
        self.seeds.get(member).map_or_else(|| self.name.clone(), |seed| format!("{}@seed={seed}", self.name))
    }
}

/// Compares, and writes what came of it.
pub fn run(args: &CompareArgs) -> anyhow::Result<()> {
    let readers = ask::readers(&args.readers)?;
    let shares = ask::shares(&args.budgets)?;
    let found = runs::find(&args.runs)?;
    let mut config: TrainConfig = found[0].config.clone();
    args.device.put(&mut config.hardware)?;
    let budgets = ask::tokens(&shares, config.data.prefix_tokens)?;
    let output = args.output.clone().unwrap_or_else(|| Path::new("runs/compare").join(runs::joined(&found)));
    ask::output(&output)?;
    let device = start::prepare(&config)?;
    let models = inputs::models(&config, device)?;
    let text = Windows::load(&config, &models)?;
    let inputs = Inputs { config: &config, models: &models, windows: &text };
    ask::room(inputs, &budgets, if args.adaptive { RICHEST } else { 1 })?;
    let must_keep = ask::must_keep(&args.must_keep)?;
    let count = ask::windows(args.windows, text.test.len())?;
    let numbers = spread(text.test.len(), count);
    let windows: Vec<Window> = numbers.iter().map(|&w| text.test[w].clone()).collect();
    let updates = match args.updates {
        Some(updates) => updates as usize,
        None => found[0].updates()?,
    };
    let frequencies = DocumentFrequencies::count(&models.tokenizer, &text.train)?;
    let parts = Parts { decoder: &models.decoder, frequencies: &frequencies, seed: 0 };
    let controller = Controller { must_keep, drop_consecutive: args.drop_consecutive, ..Controller::default() };
    let baselines = Baselines { models: &models, parts, controller: &controller };
    let named = |name: &str| baselines.named(name);
    let (chained, alone) = chains::split(&args.compressors, &found);
    let mut entrants = enter(&models, &found, &controller, ask::baselines(&alone, named)?)?;
    for (i, name) in chained.iter().enumerate() {
        anyhow::ensure!(!chained[..i].contains(name), "--compressors: expected each name once, got {name:?} twice");
        entrants.push(chains::entrant(name, &models, &found, &controller, named)?);
    }
    let mut terms = found[0].terms()?;
    if !controller.must_keep.is_empty() {
        terms.insert("must_keep".into(), args.must_keep.join(", "));
    }
    if args.drop_consecutive {
        terms.insert("drop_consecutive".into(), "true".into());
    }
    if args.adaptive {
        terms.insert("adaptive".into(), "true".into());
        calibrate(inputs, &mut entrants, &budgets)?;
    }
    let stop = start::catch_interrupt()?;
    let exam = Exam {
        decoder: &models.decoder,
        tokenizer: &models.tokenizer,
        documents: &text.test_documents,
        windows: &windows,
        numbers: &numbers,
        condition: config.condition,
        budgets: &budgets,
        seed: 0,
        resamples: config.eval.resamples,
    };
    let school = School { inputs, output: &output, budgets: &budgets, updates, terms: terms.clone(), stop };
    let curves = match school.curves(exam, &entrants, readers) {
        Err(Error::Interrupted { .. }) => anyhow::bail!("stopped; the same command goes on from the finished readers"),
        other => other?,
    };
    let own = ask::nearest(&budgets, inputs.budget());
    let (context, shape) = (curves.context_value(), text.shape);
    let result = Comparison {
        name: runs::joined(&found),
        runs: found.iter().map(Finished::describe).collect::<Result<Vec<ComparedRun>>>()?,
        terms,
        updates,
        seed: config.seed,
        device: format!("{} ({} threads, {})", config.hardware.device, config.hardware.threads, config.hardware.dtype),
        windows: WindowLengths { prefix: shape.prefix, local: shape.local, future: shape.future },
        n_windows: count,
        n_documents: curves.documents(),
        context_value: context.mean,
        context_value_ci95: context.ci95(),
        budgets: ask::described(&budgets),
        own_budget_tokens: own,
        compressors: curves.contestants(),
        points: curves.points(),
        winners: curves.winners(),
        slices: curves.slices()?,
        bound: bound(inputs, budgets.iter().map(|(share, _)| *share).fold(0.0, f64::max)),
        examples: curves.examples(config.eval.examples, own)?,
    };
    let page = comparison::write(&output, &result)?;
    println!("{}", comparison::text(&result));
    println!("comparison: {}", page.display());
    Ok(())
}

/// Has the length of what extracts follow the content, as validation windows say; chains stay as they are.
fn calibrate(inputs: Inputs, entrants: &mut [Entrant], budgets: &Budgets) -> Result<()> {
    let condition = inputs.config.condition;
    let requests: Vec<Request> =
        inputs.windows.valid.iter().enumerate().map(|(i, w)| request(w, condition, i as u64)).collect();
    let tokens: Vec<usize> = budgets.iter().map(|(_, tokens)| *tokens).collect();
    let progress = Progress::new("calibrate", entrants.len(), 0);
    for entrant in entrants {
        for member in &mut entrant.members {
            member.calibrate(&requests, &tokens)?;
        }
        progress.step(&entrant.name);
    }
    progress.finish();
    Ok(())
}

/// What no gist can go below, where the documents are generated and so their information is known.
fn bound(inputs: Inputs, most: f64) -> Option<Vec<[f64; 2]>> {
    let data = &inputs.config.data;
    let section = data.recall.as_ref().filter(|_| data.test.is_none())?;
    let RecallSection { words, prefix, facts, rounds, .. } = *section;
    let recall = RecallConfig { words, prefix, facts, rounds };
    let alphabet = inputs.models.decoder.config().vocab_size as usize - inputs.models.forbidden.len();
    (recall.shape() == inputs.windows.shape).then(|| recall.bound(Split::Test, alphabet, most))
}

/// The trained compressors, by experiment, then the baselines.
fn enter<'a>(
    models: &'a Models,
    found: &[Finished],
    controller: &Controller,
    baselines: Vec<Baseline<'a>>,
) -> anyhow::Result<Vec<Entrant<'a>>> {
    let mut entrants: Vec<Entrant> = Vec::new();
    for run in found {
        let (compressor, made_of) = (run.compressor(models, controller)?, run.weights()?);
        let name = &run.config.name;
        let at = entrants.iter().position(|entrant| entrant.name == *name).unwrap_or_else(|| {
            let empty = Entrant { name: name.clone(), seeds: Vec::new(), members: Vec::new(), made_of: Vec::new() };
            entrants.push(empty);
            entrants.len() - 1
        });
        entrants[at].seeds.push(run.config.seed);
        entrants[at].members.push(compressor);
        entrants[at].made_of.push(made_of);
    }
    for (baseline, made_of) in baselines {
        let name = baseline.name().to_string();
        if entrants.iter().any(|entrant| entrant.name == name) {
            anyhow::bail!("--compressors: `{name}` is also the name of a run's experiment; leave one of them out");
        }
        entrants.push(Entrant { name, seeds: Vec::new(), members: vec![baseline], made_of: vec![made_of] });
    }
    Ok(entrants)
}

/// Where readers are taught and kept.
struct School<'a> {
    inputs: Inputs<'a>,
    output: &'a Path,
    budgets: &'a Budgets,
    updates: usize,
    terms: std::collections::BTreeMap<String, String>,
    stop: &'a AtomicBool,
}

impl<'a> School<'a> {
    fn check(&self) -> Result<()> {
        match self.stop.load(Ordering::SeqCst) {
            true => Err(Error::Interrupted { step: 0 }),
            false => Ok(()),
        }
    }

    /// The reader of these compressors, kept under `readers/<place>`; `of` names what they are.
    fn reader(&self, title: &str, place: &str, of: Value, compressors: &[&dyn Compressor]) -> Result<Adapter> {
        let config = self.inputs.config;
        let idle = compressors.len() == 1 && compressors[0].name() == "empty";
        let tokens: Vec<usize> = self.budgets.iter().map(|(_, tokens)| *tokens).collect();
        let lesson = Lesson {
            title,
            compressors,
            budgets: &tokens,
            gists: if idle { 1 } else { config.generator.gists_per_window },
            updates: self.updates,
            stop: self.stop,
        };
        let record = json!({
            "updates": self.updates,
            "budgets": if idle { Vec::new() } else { tokens.clone() },
            "compressors": of,
            "gists_per_window": lesson.gists,
            "windows_per_step": config.train.windows_per_step,
            "imagined_futures": config.train.imagined_futures,
            "schedule": config.train.schedule,
            "optim": config.optim.generator,
            "lora": config.model.lora.generator,
            "seed": config.seed,
            "dtype": config.hardware.dtype,
            "terms": self.terms,
        });
        let folder = self.output.join("readers").join(place);
        if is_kept(&folder, &record)? {
            eprintln!("{title}: kept");
        } else {
            eprintln!("{title} …");
        }
        kept_reader(self.inputs, self.output, &lesson, &folder, &record)
    }

    /// Teaches every reader, then measures everyone.
    fn curves(&self, exam: Exam<'a>, entrants: &[Entrant], [shared, adapted]: [bool; 2]) -> Result<Curves<'a>> {
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
        let mut own: Vec<Vec<Adapter>> = entrants.iter().map(|_| Vec::new()).collect();
        for (i, &(e, m)) in all.iter().enumerate().filter(|_| adapted) {
            let label = entrants[e].label(m);
            let at = total - all.len() + i + 1;
            let of = json!({label.as_str(): entrants[e].made_of[m]});
            let place = format!("of/{}", component(&label));
            own[e].push(self.reader(&title(at, &label), &place, of, &[entrants[e].members[m].as_ref()])?);
        }
        let progress = Progress::new("measure", entrants.len() * exam.budgets.len(), 0);
        for (entrant, own) in entrants.iter().zip(&own) {
            let number = curves.enter(&entrant.name, entrant.seeds.clone())?;
            let members: Vec<Member> =
                entrant.members.iter().enumerate().map(|(m, c)| (c.as_ref(), own.get(m))).collect();
            for budget in 0..exam.budgets.len() {
                self.check()?;
                curves.measure(number, budget, &members, shared.as_ref())?;
                progress.step(&entrant.name);
            }
        }
        progress.finish();
        Ok(curves)
    }
}

fn lcm(a: usize, b: usize) -> usize {
    let gcd = (1..=a.min(b)).rev().find(|d| a.is_multiple_of(*d) && b.is_multiple_of(*d)).unwrap_or(1);
    a / gcd * b
}

/// Draws the page and the figures of a finished comparison again.
pub fn redraw(root: &Path) -> anyhow::Result<PathBuf> {
    let result: Comparison = gist::run_dir::read_json(&root.join("comparison.json"))?;
    Ok(comparison::write(root, &result)?)
}
