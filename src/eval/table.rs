//! The table of compressors: each on the same windows under the same budget, read by the same readers, against the same
//! teacher. What is measured is kept per window, so that later statistics need no model.

use crate::compressor::controls::check_count;
use crate::compressor::{Compressed, Compressor};
use crate::config::choices::Condition;
use crate::config::eval::Cluster;
use crate::data::{Document, Window};
use crate::error::{Error, Result};
use crate::eval::schema::readers::{ADAPTED, BASE, GENERATOR};
use crate::eval::stats;
use crate::model::decoder::Decoder;
use crate::model::lora::Adapter;
use crate::reading::{Reading, Taught, answer_texts, compressed_context, request};
use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Models, windows and budget of an evaluation.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// Tokenizer of the base.
    pub tokenizer: &'a Tokenizer,
    /// Documents that the windows come from; only their ids and sources are read.
    pub documents: &'a [Document],
    /// Held-out windows.
    pub windows: &'a [Window],
    /// Input of the compressors besides the prefix.
    pub condition: Condition,
    /// Hard cap, in tokens.
    pub budget: usize,
    /// The co-trained reader.
    pub generator: &'a Adapter,
    /// The reader adapted to nothing: gives `context_value`.
    pub empty_reader: &'a Adapter,
    /// Unit that the bootstrap resamples whole.
    pub cluster: Cluster,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Bootstrap resamples.
    pub resamples: usize,
}

/// The standing of a compressor in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// The trained policy, greedy or sampled.
    Gist,
    /// Honest, to be beaten.
    Baseline,
    /// Should not help: a gist of another document, or shuffled.
    LeakControl,
    /// Chose with the future in sight.
    Hindsight,
    /// Measured many candidates without seeing the future: honest, but far dearer than a compressor may be.
    Search,
}

/// One compressor's results, per window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    pub name: String,
    pub standing: Standing,
    /// Indices of the windows seen.
    pub windows: Vec<usize>,
    pub compressed: Vec<Compressed>,
    pub texts: Vec<String>,
    pub readings: BTreeMap<String, Vec<Reading>>,
    /// Tokens after decode → encode and the generator's KL with them; not for the unchanged prefix.
    pub decoded: Option<Vec<(usize, f64)>>,
}

impl Measured {
    pub fn is_identity(&self) -> bool {
        self.compressed.iter().any(|c| c.identity)
    }
}

/// Everything measured so far.
pub struct Evaluated<'a> {
    pub(super) job: Job<'a>,
    pub(super) rows: Vec<Measured>,
    pub(super) prefixes: Vec<String>,
    pub(super) answers: Vec<Vec<String>>,
    /// Cluster of each window.
    pub(super) clusters: Vec<usize>,
    pub(super) levels: Levels,
    /// The teacher's side of every reading; none where all rows were measured elsewhere.
    taught: Option<Taught<'a>>,
}

/// Figures of each window that belong to no compressor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Levels {
    /// KL of the reader adapted to nothing, reading nothing.
    pub context: Vec<f64>,
    /// NLL of the same.
    pub context_nll: Vec<f64>,
    /// The bare base reading nothing.
    pub unadapted: Vec<Reading>,
    /// NLL of the teacher.
    pub teacher_nll: Vec<f64>,
}

/// The cluster of each window, a number that its windows share and no others have.
pub(super) fn clusters(documents: &[Document], windows: &[Window], by: Cluster) -> Vec<usize> {
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    let of = |window: &Window| match by {
        Cluster::Document => window.document,
        Cluster::Source => *first.entry(&documents[window.document].source).or_insert(window.document),
    };
    windows.iter().map(of).collect()
}

/// Runs all compressors; see [`Evaluated::add`].
pub fn evaluate<'a>(job: Job<'a>, compressors: &[(&dyn Compressor, Standing)]) -> Result<Evaluated<'a>> {
    let mut evaluated = Evaluated::new(job)?;
    for (compressor, standing) in compressors {
        evaluated.add(*compressor, *standing)?;
    }
    Ok(evaluated)
}

impl<'a> Evaluated<'a> {
    /// Runs the teacher, and the readers on nothing.
    pub fn new(job: Job<'a>) -> Result<Self> {
        if let Some(bad) = job.windows.iter().find(|w| w.document >= job.documents.len()) {
            return Err(Error::shape("document of a window", format!("0..{}", job.documents.len()), bad.document));
        }
        if job.windows.is_empty() {
            return Err(Error::shape("windows to evaluate", "at least 1", 0));
        }
        let taught = Taught::new(job.decoder, job.windows)?;
        let (context, context_nll, unadapted) = (Vec::new(), Vec::new(), Vec::new());
        let levels = Levels { context, context_nll, unadapted, teacher_nll: taught.teacher_nll(job.decoder)? };
        let mut evaluated = Self { taught: Some(taught), ..Self::restored(job, levels, Vec::new())? };
        let nothing = vec![Compressed::default(); job.windows.len()];
        let all: Vec<usize> = (0..job.windows.len()).collect();
        let context = evaluated.read(Some(job.empty_reader), &all, &nothing)?;
        (evaluated.levels.context, evaluated.levels.context_nll) = context.iter().map(|r| (r.kl, r.nll)).unzip();
        evaluated.levels.unadapted = evaluated.read(None, &all, &nothing)?;
        Ok(evaluated)
    }

    /// The table of rows that were measured elsewhere; no model runs.
    pub(super) fn restored(job: Job<'a>, levels: Levels, rows: Vec<Measured>) -> Result<Self> {
        let decode = |w: &Window| job.tokenizer.decode(&w.prefix);
        let prefixes = job.windows.iter().map(decode).collect::<Result<_>>()?;
        let clusters = clusters(job.documents, job.windows, job.cluster);
        let answers = job.windows.iter().map(|w| answer_texts(job.tokenizer, w)).collect::<Result<_>>()?;
        Ok(Self { job, rows, prefixes, answers, clusters, levels, taught: None })
    }

    /// Compresses every window once; the generator and the bare base read the results, and the generator reads them once
    /// more after decode → encode. An error when a result is above the budget and is not the unchanged prefix.
    pub fn add(&mut self, compressor: &dyn Compressor, standing: Standing) -> Result<()> {
        let compressed = self.compress(compressor)?;
        self.push(compressor.name(), standing, (0..compressed.len()).collect(), compressed)
    }

    /// Adds results made by other means on some of the windows.
    pub(super) fn push(
        &mut self,
        name: &str,
        standing: Standing,
        windows: Vec<usize>,
        compressed: Vec<Compressed>,
    ) -> Result<()> {
        if self.rows.iter().any(|row| row.name == name) {
            return Err(Error::invalid(format!("compressors: expected different names, got `{name}` twice")));
        }
        let texts = compressed.iter().map(|c| self.job.tokenizer.decode(&c.ids)).collect::<Result<Vec<String>>>()?;
        let generator = self.read(Some(self.job.generator), &windows, &compressed)?;
        let base = self.read(None, &windows, &compressed)?;
        let unchanged = compressed.iter().any(|c| c.identity);
        let decoded =
            if unchanged { None } else { Some(self.read_decoded(&windows, &compressed, &texts, &generator)?) };
        let readings = BTreeMap::from([(GENERATOR.to_string(), generator), (BASE.to_string(), base)]);
        self.rows.push(Measured { name: name.into(), standing, windows, compressed, texts, readings, decoded });
        Ok(())
    }

    /// Has a compressor's results read by a reader that was trained on that compressor's output.
    pub fn adapt(&mut self, name: &str, reader: &Adapter) -> Result<()> {
        let at = self.rows.iter().position(|row| row.name == name);
        let at = at.ok_or_else(|| Error::invalid(format!("expected a compressor that was evaluated, got `{name}`")))?;
        let row = &self.rows[at];
        let readings = self.read(Some(reader), &row.windows, &row.compressed)?;
        self.rows[at].readings.insert(ADAPTED.to_string(), readings);
        Ok(())
    }

    /// Readings per window with another compressor and generator (such as those of the warm start), outside the table.
    pub fn readings_with(&self, compressor: &dyn Compressor, generator: &Adapter) -> Result<Vec<Reading>> {
        let compressed = self.compress(compressor)?;
        let all: Vec<usize> = (0..compressed.len()).collect();
        self.read(Some(generator), &all, &compressed)
    }

    /// One result a window, none above the budget but the unchanged prefix.
    fn compress(&self, compressor: &dyn Compressor) -> Result<Vec<Compressed>> {
        let (name, job) = (compressor.name(), self.job);
        let requests: Vec<_> =
            job.windows.iter().enumerate().map(|(i, w)| request(w, job.condition, i as u64)).collect();
        let compressed = compressor.compress(&requests, job.budget)?;
        check_count(name, requests.len(), compressed.len())?;
        for (w, c) in compressed.iter().enumerate() {
            let unchanged = c.identity && c.ids == job.windows[w].prefix;
            if c.ids.len() > job.budget && !unchanged {
                let what = format!("gist of compressor `{name}` for window {w}");
                return Err(Error::shape(what, format!("at most {} tokens", job.budget), c.ids.len()));
            }
        }
        Ok(compressed)
    }

    fn read(&self, reader: Option<&Adapter>, windows: &[usize], made: &[Compressed]) -> Result<Vec<Reading>> {
        let v = self.job.decoder.config().vocab_size;
        let contexts: Vec<Vec<u32>> = made.iter().map(|c| compressed_context(c, reader.is_some(), v)).collect();
        let rows: Vec<(usize, &[u32])> = windows.iter().copied().zip(contexts.iter().map(Vec::as_slice)).collect();
        let active = reader.map(|adapter| self.job.decoder.activate(adapter, false)).transpose()?;
        let taught = self.taught.as_ref();
        let taught =
            taught.ok_or_else(|| Error::invalid("expected a table that measures, got one of finished rows"))?;
        taught.measure(self.job.decoder, active.as_ref(), &rows)
    }

    /// Tokens and KL after decode → encode; read again only where the ids changed. More than a prefix's worth of tokens
    /// is counted in full but cut before it is read.
    fn read_decoded(
        &self,
        windows: &[usize],
        made: &[Compressed],
        texts: &[String],
        readings: &[Reading],
    ) -> Result<Vec<(usize, f64)>> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let again = self.job.tokenizer.encode_all(&texts)?;
        let mut found: Vec<(usize, f64)> = again.iter().zip(readings).map(|(ids, r)| (ids.len(), r.kl)).collect();
        let changed: Vec<usize> = (0..made.len()).filter(|&i| made[i].ids != again[i]).collect();
        let places: Vec<usize> = changed.iter().map(|&i| windows[i]).collect();
        let cut = |i: &usize| {
            let ids = again[*i].iter().copied().take(self.job.windows[windows[*i]].prefix.len()).collect();
            Compressed { ids, joined: made[*i].joined, ..Compressed::default() }
        };
        let contexts: Vec<Compressed> = changed.iter().map(cut).collect();
        let readings = self.read(Some(self.job.generator), &places, &contexts)?;
        for (&i, reading) in changed.iter().zip(readings) {
            found[i].1 = reading.kl;
        }
        Ok(found)
    }

    pub(super) fn row(&self, name: &str) -> Result<&Measured> {
        let known: Vec<&str> = self.rows.iter().map(|row| row.name.as_str()).collect();
        let found = self.rows.iter().find(|row| row.name == name);
        found.ok_or_else(|| Error::invalid(format!("expected a compressor among {known:?}, got `{name}`")))
    }

    /// KL with a compressor's results, in the order of the windows it saw, under the co-trained generator.
    pub fn kl(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self.row(name)?.readings[GENERATOR].iter().map(|r| r.kl).collect())
    }

    /// KL of the reader adapted to nothing, per window.
    pub fn context(&self) -> &[f64] {
        &self.levels.context
    }

    /// Mean KL of the reader adapted to nothing: what there is to gain.
    pub fn context_value(&self) -> stats::Interval {
        stats::mean(&self.levels.context, &self.clusters, self.job.resamples, self.job.seed)
    }
}
