//! The final evaluation of a run: every compressor on the test windows, read by the run's generator, by the bare base and,
//! where asked for, by readers of their own; `eval/step_NNNNNN/` and `summary.json` of the run.

use crate::compressor::budget::Controller;
use crate::compressor::controls::{Memory, OtherDocument, Shuffled, donors};
use crate::compressor::frequencies::DocumentFrequencies;
use crate::compressor::policy::{Policy, Trained};
use crate::compressor::prompted::Prompt;
use crate::compressor::scorer::Extractive;
use crate::compressor::scorers::{Parts, ScorerKind};
use crate::compressor::{Compressor, baselines};
use crate::config::compressors::FrozenScorer;
use crate::config::eval::{Baselines, EvalConfig};
use crate::config::parts::Sampling;
use crate::error::{Error, Result};
use crate::eval::figures::{Earlier, GIST};
use crate::eval::schema::readers::{GENERATOR, UNASKED};
use crate::eval::schema::summary::{Entry, Evaluation, Summary, WindowLengths};
use crate::eval::table::{Evaluated, Job, Standing};
use crate::hash::FileHash;
use crate::model::lora::Adapter;
use crate::model::weights;
use crate::progress::Progress;
use crate::run_dir::{Provenance, component, write_json_atomic};
use crate::runs::readers::{Lesson, Readers};
use crate::runs::terms::Terms;
use crate::runs::{Inputs, TrainedRun};
use crate::search::SpanShape;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Budgets of a run's own readers are quarters of its cap.
const QUARTERS: usize = 4;
/// Rows that no compressor makes: the evidence, where it is known, and the two searches.
const GOLD: &str = "gold";
const ORACLE: &str = "oracle_greedy";
const LOOKAHEAD: &str = "lookahead";
/// Compressors of every table that no reader is adapted to: one keeps nothing, the other everything.
const ENDS: [&str; 2] = ["empty", "identity"];

/// Names of the compressors in the tables of a run that is evaluated so, over a base that has a chat template or none.
pub fn evaluated(eval: &EvalConfig, has_template: bool) -> Vec<String> {
    let mut names = vec![GIST.to_string(), "empty".to_string()];
    match eval.baselines {
        Baselines::Recent => names.push(ScorerKind::Recent.name().to_string()),
        Baselines::All => {
            names.extend(ScorerKind::ALL.iter().map(|kind| kind.name().to_string()));
            let others = ["llmlingua", "draft", "identity", "gist_sampled", "other_document", "shuffled"];
            names.extend(["recent_joined"].into_iter().chain(others).map(String::from));
            if has_template {
                names.extend(Prompt::ALL.map(|prompt| prompt.name().to_string()));
            }
        }
    }
    names.extend(eval.encoders.iter().map(ToString::to_string));
    if eval.search_windows > 0 {
        names.extend([ORACLE, LOOKAHEAD].map(String::from));
    }
    names
}

/// Names of the evaluated compressors that a reader can be adapted to.
pub fn adaptable(eval: &EvalConfig, has_template: bool) -> Vec<String> {
    let few = EvalConfig { search_windows: 0, ..eval.clone() };
    let others = ["gist_sampled", "other_document", "shuffled"];
    let is_adaptable = |name: &String| !ENDS.contains(&name.as_str()) && !others.contains(&name.as_str());
    evaluated(&few, has_template).into_iter().filter(is_adaptable).collect()
}

/// Options of an evaluation.
pub struct EvaluationOptions<'a> {
    /// Compressors that get a reader of their own, among the [`adaptable`] ones.
    pub adapt: &'a [String],
    /// Hashes of base, tokenizer and text, for the records of those readers.
    pub terms: &'a Terms,
    /// Whether kept readers that another program taught are used.
    pub accept_changes: bool,
    /// Set when the user asks to stop: the evaluation then ends with an error.
    pub stop: &'a AtomicBool,
}

/// Time and memory that a run took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// Wall-clock seconds from start to report.
    pub seconds: f64,
    /// Peak resident memory.
    pub peak_rss_mib: f64,
}

/// A finished evaluation.
pub struct Outcome {
    /// Held-out figures.
    pub evaluation: Evaluation,
    /// Differences of kept readers that were accepted, in words.
    pub accepted: Vec<String>,
}

/// Evaluates the weights of a run and writes `eval/step_NNNNNN/`; `summary.json` is left to [`summarise`]. `inputs` are the
/// run's experiment, which may say another device or more searches, its models and its windows.
pub fn evaluate(run: &TrainedRun, inputs: Inputs, options: &EvaluationOptions) -> Result<Outcome> {
    let wanted = evaluated(&inputs.config.eval, true);
    measure(run, inputs, options, &wanted, |found| {
        let Measurements { table, earlier, accepted, unasked, .. } = found;
        let mut evaluation = table.evaluation(earlier.as_ref())?;
        if !unasked.is_empty() {
            evaluation.readers.insert(UNASKED.into(), unasked);
        }
        table.write(&run.dir().eval(run.step()), &evaluation, earlier.as_ref(), inputs.config.eval.examples)?;
        Ok(Outcome { evaluation, accepted })
    })
}

/// Measurements of a run.
pub(super) struct Measurements<'a> {
    /// Rows of the compressors that were asked for.
    pub table: Evaluated<'a>,
    /// The greedy gist at earlier stages, where the gist was asked for and the whole table is.
    pub earlier: Option<Earlier>,
    /// Differences of kept readers that were accepted, in words.
    pub accepted: Vec<String>,
    /// Names of all rows of the whole table, in its order.
    pub order: Vec<String>,
    /// Figures of these compressors where the text round the facts is asked for.
    pub unasked: BTreeMap<String, Entry>,
}

/// Measures the `wanted` compressors of a run, among the [`evaluated`] ones, and hands the table to `then`.
pub(super) fn measure<T>(
    run: &TrainedRun,
    inputs: Inputs,
    options: &EvaluationOptions,
    wanted: &[String],
    then: impl FnOnce(Measurements) -> Result<T>,
) -> Result<T> {
    let Inputs { config, models, windows } = inputs;
    let wants = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let budget = config.budget_tokens();
    let [judged, generator, empty_reader] = run.judged(models)?;
    let check = || match options.stop.load(Ordering::SeqCst) {
        true => Err(Error::Interrupted { step: run.step() }),
        false => Ok(()),
    };
    let policy = models.policy(&config.compressor)?;
    let greedy = trained(GIST, &policy, &judged, Sampling::greedy());
    let greedy = Memory::new(&greedy);
    let sampled = trained("gist_sampled", &policy, &judged, config.eval.sampling.clone());
    let other = OtherDocument::new(&greedy, donors(&windows.test, 0)?);
    let shuffled = Shuffled { inner: &greedy, seed: 0 };
    let frequencies = DocumentFrequencies::count(&models.tokenizer, &windows.train)?;
    let parts = Parts { decoder: &models.decoder, frequencies: &frequencies, seed: 0 };
    let (whole, controller) = (config.eval.baselines.is_all(), Controller::default());
    let mut honest = match config.eval.baselines {
        Baselines::All => models.baselines(parts, &controller)?,
        Baselines::Recent => {
            let mut few = baselines(parts, &models.tokenizer, &models.forbidden, &controller);
            few.retain(|compressor| ["empty", "recent"].contains(&compressor.name()));
            few
        }
    };
    for named in &config.eval.encoders {
        honest.push(Box::new(Extractive::frozen(named, models.decoder.device(), &models.tokenizer)?));
    }
    let mut table = Evaluated::new(job(inputs, &generator, &empty_reader))?;
    let mut all: Vec<(&dyn Compressor, Standing)> = honest.iter().map(|c| (c.as_ref(), Standing::Baseline)).collect();
    all.push((&greedy, Standing::Gist));
    if whole {
        all.push((&sampled, Standing::Gist));
        all.extend([(&other as &dyn Compressor, Standing::LeakControl), (&shuffled, Standing::LeakControl)]);
    }
    let order = all.iter().map(|(compressor, _)| compressor.name()).chain([GOLD, ORACLE, LOOKAHEAD]);
    let order: Vec<String> = order.map(String::from).collect();
    all.retain(|(compressor, _)| wants(compressor.name()));
    let progress = Progress::new("evaluate", all.len(), 0);
    let job = Job { windows: &windows.unasked, ..job(inputs, &generator, &empty_reader) };
    let mut beside = (!windows.unasked.is_empty()).then(|| Evaluated::new(job)).transpose()?;
    for (compressor, standing) in all {
        check()?;
        // What is kept does not depend on what is asked, unless the compressor sees it.
        let compressor = Memory::new(compressor);
        table.add(&compressor, standing)?;
        // The leak controls are of other windows.
        if let Some(beside) = beside.as_mut().filter(|_| standing != Standing::LeakControl) {
            beside.add(&compressor, standing)?;
        }
        progress.step(compressor.name());
    }
    progress.finish();
    let unasked = beside.map(|beside| beside.entries(GENERATOR)).unwrap_or_default();
    let told = |(name, entry)| (name, Entry { reader: UNASKED.into(), ..entry });
    let unasked = unasked.into_iter().map(told).collect();
    if wants(GIST) {
        table.add_gold()?;
    }
    let w = &config.warm_start;
    let search = SpanShape { span_tokens: w.span_tokens, stride: w.stride, shortlist: w.shortlist };
    if wants(ORACLE) {
        table.add_oracle(config.eval.search_windows, search)?;
    }
    if wants(LOOKAHEAD) {
        table.add_lookahead(LOOKAHEAD, config.eval.search_windows, config.eval.imagined_futures, search)?;
    }

    let greedy_at = |[compressor, generator]: [Adapter; 2]| {
        table.readings_with(&trained(GIST, &policy, &compressor, Sampling::greedy()), &generator)
    };
    let earlier = match whole && wants(GIST) {
        true => Some(Earlier {
            untrained: greedy_at(run.untrained(models)?)?,
            warm_started: greedy_at(run.warm_started(models)?)?.iter().map(|r| r.kl).collect(),
        }),
        false => None,
    };

    let folder = run.dir().eval(run.step());
    let readers = Readers {
        inputs,
        root: run.dir().root(),
        folder: folder.join("readers"),
        terms: options.terms,
        accept_changes: options.accept_changes,
    };
    let budgets: Vec<usize> = (1..=QUARTERS).map(|quarter| (budget * quarter).div_ceil(QUARTERS)).collect();
    let updates = run.reader_updates()?;
    let mut accepted = Vec::new();
    let adaptable = honest.iter().map(AsRef::as_ref).chain([&greedy as &dyn Compressor]);
    let is_asked = |name: &str| wants(name) && options.adapt.iter().any(|asked| asked == name);
    for compressor in adaptable.filter(|compressor| is_asked(compressor.name())) {
        check()?;
        let name = compressor.name();
        let lesson = Lesson {
            title: &format!("reader of {name}"),
            compressors: &[compressor],
            evidence: false,
            budgets: &budgets,
            gists: config.generator.gists_per_window,
            updates,
            stop: options.stop,
        };
        let made_of = match name {
            GIST => run.weights()?,
            _ => weights_of(name, &config.eval)?,
        };
        let reader = readers.get(&component(name), &lesson, json!({ name: made_of }))?;
        accepted.extend(reader.accepted);
        table.adapt(name, &reader.adapter)?;
    }
    then(Measurements { table, earlier, accepted, order, unasked })
}

/// The windows of an experiment that it is judged on, with these readers.
pub(super) fn job<'a>(inputs: Inputs<'a>, generator: &'a Adapter, empty_reader: &'a Adapter) -> Job<'a> {
    let Inputs { config, models, windows } = inputs;
    Job {
        decoder: &models.decoder,
        tokenizer: &models.tokenizer,
        documents: &windows.test_documents,
        windows: &windows.test,
        condition: config.condition,
        budget: config.budget_tokens(),
        generator,
        empty_reader,
        cluster: config.eval.cluster,
        seed: 0,
        resamples: config.eval.resamples,
    }
}

/// The part of a summary that differs between a run and a ceiling.
pub(super) struct Origin {
    /// Name of the run.
    pub run: String,
    /// Steps that it has made.
    pub steps: usize,
    /// Times that it has read the final split.
    pub final_reads: usize,
}

/// The summary of an evaluation.
pub(super) fn summary(inputs: Inputs, origin: Origin, evaluation: Evaluation, took: Took) -> Summary {
    let (config, shape) = (inputs.config, inputs.windows.shape);
    let hardware = &config.hardware;
    Summary {
        experiment: config.name.clone(),
        run: origin.run,
        seed: config.seed,
        steps: origin.steps,
        seconds: took.seconds,
        peak_rss_mib: took.peak_rss_mib,
        device: format!("{} ({} threads, {})", hardware.device, hardware.threads, hardware.dtype),
        budget_tokens: config.budget_tokens(),
        windows: WindowLengths { prefix: shape.prefix, local: shape.local, future: shape.future },
        frame: config.frame_in_words(),
        split: config.eval.split,
        final_reads: origin.final_reads,
        eval: evaluation,
    }
}

/// Writes the `summary.json` of a run, and returns it.
pub fn summarise(run: &TrainedRun, inputs: Inputs, evaluation: Evaluation, took: Took) -> Result<Summary> {
    // In a sweep the folder names the arm too.
    let name = run.dir().root().file_name().map(|name| name.to_string_lossy().into_owned());
    let origin = Origin {
        run: name.unwrap_or_else(|| format!("seed={}", inputs.config.seed)),
        steps: run.step(),
        final_reads: Provenance::read(run.dir())?.final_reads(),
    };
    let summary = summary(inputs, origin, evaluation, took);
    write_json_atomic(&run.dir().summary(), &summary)?;
    Ok(summary)
}

fn trained<'a>(name: &str, policy: &'a Policy<'a>, adapter: &'a Adapter, sampling: Sampling) -> Trained<'a> {
    Trained { name: name.into(), policy, adapter, sampling, seed: 0 }
}

/// The weights that a baseline has beside the base: SHA-256 of the files of a frozen model, `baseline` where there are none.
fn weights_of(name: &str, eval: &EvalConfig) -> Result<String> {
    match eval.encoders.iter().find(|scorer| scorer.to_string() == name) {
        Some(scorer) => frozen_weights(scorer),
        None => Ok("baseline".into()),
    }
}

/// SHA-256 of the weight files of a frozen model, joined.
pub(super) fn frozen_weights(scorer: &FrozenScorer) -> Result<String> {
    let hashes = weights::files_or_adapter(&scorer.folder()?)
        .iter()
        .map(|file| Ok(FileHash::of(file)?.sha256))
        .collect::<Result<Vec<_>>>()?;
    Ok(hashes.join("+"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_a_table_follow_from_its_section() {
        let few = EvalConfig { baselines: Baselines::Recent, ..EvalConfig::default() };
        assert_eq!(evaluated(&few, true), ["gist", "empty", "recent"]);
        let encoders = vec![FrozenScorer::try_from("encoder:models/x".to_string()).unwrap()];
        let more = EvalConfig { encoders, search_windows: 2, ..few };
        assert_eq!(evaluated(&more, true)[3..], ["encoder:models/x", "oracle_greedy", "lookahead"]);
        let all = evaluated(&EvalConfig::default(), false);
        assert!(["self_information", "draft", "shuffled"].iter().all(|name| all.iter().any(|known| known == name)));
        assert!(!all.contains(&"lookahead".to_string()));
        let instruct = evaluated(&EvalConfig::default(), true);
        assert_eq!(instruct[all.len()..], ["summary", "dense_notes"]);
        let known = adaptable(&EvalConfig::default(), true);
        assert!(["recent_joined", "prompt_lookup", "summary"].iter().all(|name| known.iter().any(|own| own == name)));
    }
}
