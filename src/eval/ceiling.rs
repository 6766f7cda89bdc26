//! The ceiling of an experiment, measured on its windows before a compressor is trained: the reader adapted to nothing, the
//! evidence where the data knows it, every baseline, and searches that do not see the future.

use crate::compressor::Compressor;
use crate::compressor::baseline::Empty;
use crate::compressor::budget::Controller;
use crate::compressor::controls::donors;
use crate::compressor::frequencies::DocumentFrequencies;
use crate::compressor::scorer::Extractive;
use crate::compressor::scorers::{Parts, ScorerKind};
use crate::error::{Error, Result};
use crate::eval::run::{Origin, Took, job, summary};
use crate::eval::schema::summary::{Evaluation, Summary};
use crate::eval::table::{Evaluated, Standing};
use crate::progress::Progress;
use crate::run_dir::write_json_atomic;
use crate::runs::Inputs;
use crate::runs::readers::{Lesson, teach};
use crate::search::SpanShape;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Settings for a ceiling.
pub struct CeilingOptions<'a> {
    /// Updates of each of the two readers; 0 = they are the bare base behind fresh adapters.
    pub updates: usize,
    /// Windows on which spans are searched.
    pub search_windows: usize,
    /// Numbers of imagined futures to search with.
    pub imagined: &'a [usize],
    /// Set when the user asks to stop.
    pub stop: &'a AtomicBool,
}

/// Measures on the test windows. The generator of the table is a reader adapted to the evidence, or to the most recent tokens
/// where there is none; `root` receives the batch of an update that is not finite.
pub fn ceiling(inputs: Inputs, root: &Path, options: &CeilingOptions) -> Result<Evaluation> {
    let Inputs { config, models, windows } = inputs;
    let budget = config.budget_tokens();
    let frequencies = DocumentFrequencies::count(&models.tokenizer, &windows.train)?;
    let parts = Parts { decoder: &models.decoder, frequencies: &frequencies, seed: 0 };
    let knows_evidence = windows.test.iter().all(|window| !window.evidence.is_empty());
    let recent = Extractive::plain(ScorerKind::Recent, parts, &models.tokenizer);
    let budgets = [budget];
    let lesson = |title, compressors, evidence| Lesson {
        title,
        compressors,
        evidence,
        budgets: &budgets,
        gists: 1,
        updates: options.updates,
        stop: options.stop,
    };
    let empty_reader = teach(inputs, root, &lesson("reader of nothing", &[&Empty], false))?;
    let generator = match knows_evidence {
        true => teach(inputs, root, &lesson("reader of the evidence", &[&Empty], true))?,
        false => teach(inputs, root, &lesson("reader of recent tokens", &[&recent as &dyn Compressor], false))?,
    };
    donors(&windows.test, 0)?;
    let mut table = Evaluated::new(job(inputs, &generator, &empty_reader))?;
    table.add_gold()?;
    let mut honest = models.baselines(parts, &Controller::default())?;
    for named in &config.eval.encoders {
        honest.push(Box::new(Extractive::frozen(named, models.decoder.device(), &models.tokenizer)?));
    }
    let progress = Progress::new("ceiling", honest.len(), 0);
    for compressor in &honest {
        if options.stop.load(Ordering::SeqCst) {
            return Err(Error::Interrupted { step: 0 });
        }
        table.add(compressor.as_ref(), Standing::Baseline)?;
        progress.step(compressor.name());
    }
    progress.finish();
    if windows.test.iter().all(|window| window.probes.len() == 1) {
        let w = &config.warm_start;
        let shape = SpanShape { span_tokens: w.span_tokens, stride: w.stride, shortlist: w.shortlist };
        for &imagined in options.imagined {
            table.add_lookahead(&format!("lookahead_{imagined}"), options.search_windows, imagined, shape)?;
        }
    }
    table.evaluation(None)
}

/// Writes `ceiling.json` into `folder` and returns it.
pub fn save(inputs: Inputs, folder: &Path, evaluation: Evaluation, took: Took) -> Result<Summary> {
    let origin = Origin { run: "ceiling".into(), steps: 0, final_reads: 0 };
    let summary = summary(inputs, origin, evaluation, took);
    write_json_atomic(&folder.join("ceiling.json"), &summary)?;
    Ok(summary)
}
