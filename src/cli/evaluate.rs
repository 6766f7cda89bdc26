//! Final evaluation of a run: every compressor on the test windows, summary, tables, page.

use crate::cli::{AdaptArgs, DeviceArg, start};
use anyhow::Context;
use gist::compressor::budget::Controller;
use gist::compressor::controls::{Memory, OtherDocument, Shuffled, donors};
use gist::compressor::frequencies::DocumentFrequencies;
use gist::compressor::policy::{Policy, Trained};
use gist::compressor::scorer::Extractive;
use gist::compressor::scorers::Parts;
use gist::compressor::{Compressor, baselines};
use gist::config::eval::Baselines;
use gist::config::experiment;
use gist::config::parts::Sampling;
use gist::config::train::TrainConfig;
use gist::cost::memory::peak_rss_mib;
use gist::eval::intrinsic::{Evaluated, Job, Part};
use gist::eval::summary::{Summary, WindowLengths};
use gist::model::lora::Adapter;
use gist::report;
use gist::run_dir::{RunDir, read_json, write_json_atomic};
use gist::search::Spans;
use gist::train::adapt::adapted_reader;
use gist::train::inputs::{self, Inputs};
use gist::train::progress::Progress;
use gist::train::roles::{fresh_compressor, fresh_reader, load_roles};
use gist::train::session::{Session, warm_record};
use gist::train::windows::Windows;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// `eval <run>`: evaluates the last checkpoint of a run again, on `device` or on the run's own.
pub fn again(root: &Path, device: &DeviceArg, adapt: &AdaptArgs, oracle: Option<usize>) -> anyhow::Result<()> {
    let run = RunDir::at(root)?;
    let mut config = experiment::load::<TrainConfig>(&run.config(), &[])?;
    device.put(&mut config.hardware)?;
    if let Some(windows) = oracle {
        config.eval.search_windows = windows;
    }
    warm_record(&Session::warm_folder(&run)).context("expected a run past its warm start")?;
    let device = start::prepare(&config)?;
    let models = inputs::models(&config, device)?;
    let windows = Windows::load(&config, &models)?;
    let stop = AtomicBool::new(false);
    let session = Session::open(Inputs { config: &config, models: &models, windows: &windows }, &run, &stop)?;
    // What the run took stays what it took.
    let before = read_json::<Summary>(&run.summary()).ok();
    finish(&session, adapt, before.map(|summary| (summary.seconds, summary.peak_rss_mib)))
}

/// Evaluates the session's roles as they are and writes `eval/`, `summary.json`, `report.html`; `took` are the seconds and the
/// peak memory of a run that is evaluated again.
pub fn finish(session: &Session, adapt: &AdaptArgs, took: Option<(f64, f64)>) -> anyhow::Result<()> {
    let Inputs { config, models, windows } = session.inputs;
    let budget = config.budget_tokens();
    let job = Job {
        decoder: &models.decoder,
        tokenizer: &models.tokenizer,
        documents: &windows.test_documents,
        windows: &windows.test,
        condition: config.condition,
        budget,
        generator: &session.generator.adapter,
        empty_reader: &session.empty_reader.adapter,
        seed: 0,
        resamples: config.eval.resamples,
    };
    let policy = models.policy(&config.compressor)?;
    let greedy = gist("gist", &policy, session.judged(), Sampling::greedy());
    let greedy = Memory::new(&greedy);
    let sampled = gist("gist_sampled", &policy, session.judged(), config.eval.sampling.clone());
    let other = OtherDocument::new(&greedy, donors(&windows.test, 0)?);
    let shuffled = Shuffled { inner: &greedy, seed: 0 };
    let frequencies = DocumentFrequencies::count(&models.tokenizer, &windows.train)?;
    let parts = Parts { decoder: &models.decoder, frequencies: &frequencies, seed: 0 };
    let mut honest = baselines(parts, &models.tokenizer, &models.forbidden, &Controller::default());
    let whole = config.eval.baselines == Baselines::All;
    if !whole {
        honest.retain(|compressor| ["empty", "recent"].contains(&compressor.name()));
    }
    for named in &config.eval.encoders {
        honest.push(Box::new(Extractive::frozen(named, models.decoder.device(), &models.tokenizer)?));
    }
    let adaptable: Vec<&dyn Compressor> = (honest.iter().map(AsRef::as_ref).chain([&greedy as &dyn Compressor]))
        .filter(|compressor| !["empty", "identity"].contains(&compressor.name()))
        .collect();
    adapt.check(&adaptable)?;

    let mut table = Evaluated::new(job)?;
    let mut all: Vec<(&dyn Compressor, Part)> = honest.iter().map(|c| (c.as_ref(), Part::Baseline)).collect();
    all.push((&greedy, Part::Gist));
    if whole {
        all.push((&sampled, Part::Gist));
        all.extend([(&other as &dyn Compressor, Part::LeakControl), (&shuffled, Part::LeakControl)]);
    }
    let progress = Progress::new("evaluate", all.len(), 0);
    for (compressor, part) in all {
        session.check_stop()?;
        table.add(compressor, part)?;
        progress.step(compressor.name());
    }
    progress.finish();
    let w = &config.warm_start;
    let search = Spans { span_tokens: w.span_tokens, stride: w.stride, shortlist: w.shortlist };
    table.add_searches(config.eval.search_windows, config.eval.imagined_futures, search)?;

    let greedy_kl = |compressor: &Adapter, generator: &Adapter| {
        table.kl_with(&gist("gist", &policy, compressor, Sampling::greedy()), generator)
    };
    let warm_folder = Session::warm_folder(session.run);
    let (kl_start, warm_kl) = match whole {
        true => {
            let [compressor, generator, _] = load_roles(&warm_folder, config, models)?;
            let start = greedy_kl(&fresh_compressor(config, models)?, &fresh_reader(config, models)?)?;
            (gist::tensor::mean(&start), Some(greedy_kl(&compressor, &generator)?))
        }
        false => (f64::NAN, None),
    };

    let updates = warm_record(&warm_folder)?.updates + session.update() - config.supervised_updates();
    let readers = session.run.eval(session.update()).join("readers");
    for compressor in adaptable.into_iter().filter(|compressor| adapt.wants(compressor.name())) {
        session.check_stop()?;
        let reader = adapted_reader(session, compressor, updates, &readers)?;
        table.adapt(compressor.name(), &reader)?;
    }
    let kl_warm_start = warm_kl.as_ref().map_or(f64::NAN, |kl| gist::tensor::mean(kl));
    let evaluation = table.evaluation(kl_start, kl_warm_start, warm_kl.as_deref())?;
    table.write(&session.run.eval(session.update()), &evaluation, config.eval.examples)?;
    let (seconds, peak_rss_mib) = took.unwrap_or_else(|| (session.seconds(), peak_rss_mib()));
    let shape = windows.shape;
    // In a sweep the folder names the arm too.
    let folder = session.run.root().file_name().map(|name| name.to_string_lossy().into_owned());
    let summary = Summary {
        experiment: config.name.clone(),
        run: folder.unwrap_or_else(|| format!("seed={}", config.seed)),
        seed: config.seed,
        steps: session.update(),
        seconds,
        peak_rss_mib,
        device: format!("{} ({} threads, {})", config.hardware.device, config.hardware.threads, config.hardware.dtype),
        budget_tokens: budget,
        windows: WindowLengths { prefix: shape.prefix, local: shape.local, future: shape.future },
        eval: evaluation,
    };
    write_json_atomic(&session.run.summary(), &summary)?;
    println!("{}", report::table(&summary));
    println!("report: {}", report::render(session.run.root())?.display());
    Ok(())
}

fn gist<'a>(name: &str, policy: &'a Policy<'a>, adapter: &'a Adapter, sampling: Sampling) -> Trained<'a> {
    Trained { name: name.into(), policy, adapter, sampling, seed: 0 }
}
