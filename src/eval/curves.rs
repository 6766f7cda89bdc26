//! Rate–distortion curves: every compressor at every budget on the same held-out windows, read by one reader that all
//! share and by one of its own. Several seeds of an experiment are one entrant: what is kept of them per window is their
//! mean, so that a document is resampled together with all its seeds.

use crate::compressor::controls::check_count;
use crate::compressor::{Compressed, Compressor, Request};
use crate::config::choices::Condition;
use crate::config::eval::Cluster;
use crate::data::{Document, Window};
use crate::error::{Error, Result};
use crate::eval::files::spread;
use crate::eval::schema::comparison::{Budget, Compared, ComparedGist, Contestant, Point, Slice, Speed, Winner};
use crate::eval::schema::readers::{ADAPTED, SHARED};
use crate::eval::slices::{Subset, parts};
use crate::eval::stats::{self, Interval};
use crate::eval::table::clusters;
use crate::model::decoder::Decoder;
use crate::model::lora::Adapter;
use crate::reading::{Reading, Taught, compressed_context, request};
use crate::tensor::{mean, median};
use crate::tokenizer::{Tokenizer, WindowText};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Instant;

/// Windows compressed before the clock starts.
const WARM_UP: usize = 4;
/// The clock's runs: the median of as many as this, fewer where they take longer than this many seconds together.
const REPEATS: usize = 5;
const SECONDS: f64 = 0.5;
/// Windows that are compressed one by one, for the latency.
const ALONE: usize = 9;
const READERS: [&str; 2] = [SHARED, ADAPTED];

/// The measurement that all compressors undergo.
#[derive(Clone, Copy)]
pub struct Exam<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// Tokenizer of the base.
    pub tokenizer: &'a Tokenizer,
    /// Documents that the windows come from; only ids and sources are read.
    pub documents: &'a [Document],
    /// Held-out windows.
    pub windows: &'a [Window],
    /// Index of each window among all held-out windows.
    pub numbers: &'a [usize],
    /// Input of the compressors besides the prefix.
    pub condition: Condition,
    /// Budgets, ascending.
    pub budgets: &'a [Budget],
    /// Unit that the bootstrap resamples whole.
    pub cluster: Cluster,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Bootstrap resamples.
    pub resamples: usize,
}

/// One seed of an entrant.
#[derive(Clone, Copy)]
pub struct Contender<'a> {
    /// The compressor.
    pub compressor: &'a dyn Compressor,
    /// The reader adapted to it, if it has one.
    pub reader: Option<&'a Adapter>,
}

/// One entrant at one budget.
#[derive(Serialize, Deserialize)]
struct Row {
    entrant: usize,
    budget: usize,
    /// Kept tokens over tokens of the prefix, by window.
    kept: Vec<f64>,
    seconds: f64,
    /// Seconds of one window alone.
    latency: f64,
    /// Output of the first seed.
    made: Vec<Compressed>,
    /// Readings by reader, in the order of [`READERS`]; empty for a reader that is missing.
    readings: [Vec<Reading>; 2],
}

impl Row {
    fn read_by(&self, reader: usize) -> bool {
        !self.readings[reader].is_empty()
    }

    fn column(&self, reader: usize, figure: fn(&Reading) -> f64) -> Vec<f64> {
        self.readings[reader].iter().map(figure).collect()
    }

    fn kl(&self, reader: usize) -> Vec<f64> {
        self.column(reader, |r| r.kl)
    }
}

/// Everything measured so far.
pub struct Curves<'a> {
    exam: Exam<'a>,
    /// The teacher's side of every reading; none where all rows were measured elsewhere.
    taught: Option<Taught<'a>>,
    /// Cluster of each window.
    clusters: Vec<usize>,
    /// KL of the reader adapted to nothing, reading nothing, per window.
    context: Vec<f64>,
    entrants: Vec<(String, Vec<u64>)>,
    rows: Vec<Row>,
}

impl<'a> Curves<'a> {
    /// Runs the teacher, and the reader that was adapted to nothing.
    pub fn new(exam: Exam<'a>, empty_reader: &Adapter) -> Result<Self> {
        if exam.windows.is_empty() {
            return Err(Error::shape("windows to compare on", "at least 1", 0));
        }
        let taught = Some(Taught::new(exam.decoder, exam.windows)?);
        let mut curves = Self { taught, ..Self::restored(exam, Vec::new(), &[])? };
        let nothing = vec![Compressed::default(); exam.windows.len()];
        curves.context = curves.read(empty_reader, &nothing)?.iter().map(|r| r.kl).collect();
        Ok(curves)
    }

    /// Curves of rows that were measured elsewhere, over the same windows whose levels are `context`, in the order of entrants
    /// and budgets. No model runs.
    pub fn restored(exam: Exam<'a>, context: Vec<f64>, rows: &[Value]) -> Result<Self> {
        let clusters = clusters(exam.documents, exam.windows, exam.cluster);
        let row = |row: &Value| Row::deserialize(row).map_err(|e| Error::invalid(format!("a row of a curve: {e}")));
        let rows = rows.iter().map(row).collect::<Result<_>>()?;
        Ok(Self { exam, taught: None, clusters, context, entrants: Vec::new(), rows })
    }

    /// KL of the reader adapted to nothing, by window.
    pub fn context(&self) -> &[f64] {
        &self.context
    }

    /// The rows of an entrant, by budget, for [`Curves::restored`].
    pub fn rows_of(&self, entrant: usize) -> Result<Vec<Value>> {
        let rows = self.rows.iter().filter(|row| row.entrant == entrant);
        let value = |row: &Row| serde_json::to_value(row).map_err(|e| Error::invalid(format!("a row of a curve: {e}")));
        rows.map(value).collect()
    }

    /// Announces an entrant; `seeds` are those of its runs. Returns its number, for [`Curves::measure`].
    pub fn enter(&mut self, name: &str, seeds: Vec<u64>) -> Result<usize> {
        if self.entrants.iter().any(|(known, _)| known == name) {
            return Err(Error::invalid(format!("compressors: expected different names, got `{name}` twice")));
        }
        self.entrants.push((name.into(), seeds));
        Ok(self.entrants.len() - 1)
    }

    /// Has an entrant compress every window within the budget of this index, timed, and the readers that there are read
    /// the result.
    pub fn measure(
        &mut self,
        entrant: usize,
        budget: usize,
        contenders: &[Contender],
        shared: Option<&Adapter>,
    ) -> Result<()> {
        let windows = self.exam.windows;
        let count = contenders.len() as f64;
        let blank = vec![Reading { kl: 0.0, nll: 0.0, top1_agreement: 0.0 }; windows.len()];
        let mut row = Row {
            entrant,
            budget,
            kept: vec![0.0; windows.len()],
            seconds: 0.0,
            latency: 0.0,
            made: Vec::new(),
            readings: [Vec::new(), Vec::new()],
        };
        for contender in contenders {
            let (made, [seconds, latency]) = self.compress(contender.compressor, self.exam.budgets[budget].tokens)?;
            row.seconds += seconds / count;
            row.latency += latency / count;
            for ((kept, window), output) in row.kept.iter_mut().zip(windows).zip(&made) {
                *kept += output.ids.len() as f64 / window.prefix.len().max(1) as f64 / count;
            }
            for (sums, reader) in row.readings.iter_mut().zip([shared, contender.reader]) {
                let Some(reader) = reader else { continue };
                if sums.is_empty() {
                    sums.clone_from(&blank);
                }
                for (sum, reading) in sums.iter_mut().zip(self.read(reader, &made)?) {
                    sum.kl += reading.kl / count;
                    sum.nll += reading.nll / count;
                    sum.top1_agreement += reading.top1_agreement / count;
                }
            }
            if row.made.is_empty() {
                row.made = made;
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// One result a window, none above the budget, and the seconds that they take: all at once, and one alone (median).
    fn compress(&self, compressor: &dyn Compressor, budget: usize) -> Result<(Vec<Compressed>, [f64; 2])> {
        let windows = self.exam.windows;
        let of = |(i, w): (usize, &'a Window)| request(w, self.exam.condition, i as u64);
        let requests: Vec<Request> = windows.iter().enumerate().map(of).collect();
        compressor.compress(&requests[..requests.len().min(WARM_UP)], budget)?;
        let timed = || -> Result<(Vec<Compressed>, f64)> {
            let begun = Instant::now();
            let made = compressor.compress(&requests, budget)?;
            Ok((made, begun.elapsed().as_secs_f64()))
        };
        let (made, first) = timed()?;
        let mut times = vec![first];
        while times.len() < REPEATS && times.iter().sum::<f64>() < SECONDS {
            times.push(timed()?.1);
        }
        let mut alone = Vec::new();
        for request in requests.iter().take(ALONE) {
            let begun = Instant::now();
            compressor.compress(std::slice::from_ref(request), budget)?;
            alone.push(begun.elapsed().as_secs_f64());
        }
        check_count(compressor.name(), requests.len(), made.len())?;
        let most = compressor.most(budget);
        if let Some(w) = made.iter().position(|output| output.ids.len() > most) {
            let what = format!("gist of compressor `{}` for window {w}", compressor.name());
            return Err(Error::shape(what, format!("at most {most} tokens"), made[w].ids.len()));
        }
        Ok((made, [median(times), median(alone)]))
    }

    fn read(&self, reader: &Adapter, made: &[Compressed]) -> Result<Vec<Reading>> {
        let v = self.exam.decoder.config().vocab_size;
        let contexts: Vec<Vec<u32>> = made.iter().map(|c| compressed_context(c, true, v)).collect();
        let rows: Vec<(usize, &[u32])> = contexts.iter().map(Vec::as_slice).enumerate().collect();
        let taught = self.taught.as_ref();
        let taught = taught.ok_or_else(|| Error::invalid("expected curves that measure, got some of finished rows"))?;
        taught.measure(self.exam.decoder, Some(&self.exam.decoder.activate(reader, false)?), &rows)
    }

    /// Mean KL of the reader adapted to the empty gist: the most that a gist could remove.
    pub fn context_value(&self) -> Interval {
        stats::mean(&self.context, &self.clusters, self.exam.resamples, self.exam.seed)
    }

    /// Documents of the windows.
    pub fn documents(&self) -> usize {
        self.exam.windows.iter().map(|w| w.document).collect::<BTreeSet<_>>().len()
    }

    fn gap(&self, kl: &[f64], windows: &[usize]) -> Interval {
        let at = |values: &[f64]| -> Vec<f64> { windows.iter().map(|&w| values[w]).collect() };
        let clusters: Vec<usize> = windows.iter().map(|&w| self.clusters[w]).collect();
        stats::gap_closed(&at(kl), &at(&self.context), &clusters, self.exam.resamples, self.exam.seed)
    }

    /// The compressors that take part, with their speed.
    pub fn contestants(&self) -> Vec<Contestant> {
        let tokens: usize = self.exam.windows.iter().map(|w| w.prefix.len()).sum();
        let speed = |row: &Row| Speed {
            budget_tokens: self.exam.budgets[row.budget].tokens,
            ms_per_window: 1e3 * row.seconds / self.exam.windows.len() as f64,
            prefix_tokens_per_second: tokens as f64 / row.seconds,
            latency_ms: 1e3 * row.latency,
        };
        let one = |(i, (name, seeds)): (usize, &(String, Vec<u64>))| Contestant {
            name: name.clone(),
            seeds: seeds.clone(),
            speed: self.rows.iter().filter(|row| row.entrant == i).map(speed).collect(),
        };
        self.entrants.iter().enumerate().map(one).collect()
    }

    /// The points of all curves: reader by reader, entrant by entrant, by budget.
    pub fn points(&self) -> Vec<Point> {
        let (resamples, seed) = (self.exam.resamples, self.exam.seed);
        let all: Vec<usize> = (0..self.clusters.len()).collect();
        let point = |reader: usize, row: &Row| {
            let kl = row.kl(reader);
            let (kl_mean, gap) = (stats::mean(&kl, &self.clusters, resamples, seed), self.gap(&kl, &all));
            let Budget { requested, tokens: budget_tokens } = self.exam.budgets[row.budget];
            Point {
                compressor: self.entrants[row.entrant].0.clone(),
                reader: READERS[reader].into(),
                requested,
                budget_tokens,
                keep_ratio: mean(&row.kept),
                kl: kl_mean.mean,
                kl_ci95: kl_mean.ci95(),
                gap_closed: gap.mean,
                gap_closed_ci95: gap.ci95(),
                nll: mean(&row.column(reader, |r| r.nll)),
                top1_agreement: mean(&row.column(reader, |r| r.top1_agreement)),
            }
        };
        let rows = |reader: usize| self.rows.iter().filter(move |row| row.read_by(reader));
        (0..READERS.len()).flat_map(|reader| rows(reader).map(move |row| point(reader, row))).collect()
    }

    /// Under each reader and at each budget, who leaves the least KL, and whom of the others it cannot be told from.
    pub fn winners(&self) -> Vec<Winner> {
        let mut winners = Vec::new();
        for (reader, name) in READERS.into_iter().enumerate() {
            for (budget, &Budget { requested, tokens: budget_tokens }) in self.exam.budgets.iter().enumerate() {
                let at = self.rows.iter().filter(|row| row.budget == budget && row.read_by(reader));
                let mut ranked: Vec<(&str, Vec<f64>)> =
                    at.map(|row| (self.entrants[row.entrant].0.as_str(), row.kl(reader))).collect();
                ranked.sort_by(|a, b| mean(&a.1).total_cmp(&mean(&b.1)));
                let Some(((best, best_kl), others)) = ranked.split_first() else { continue };
                let less = |kl: &[f64]| {
                    let (resamples, seed) = (self.exam.resamples, self.exam.seed);
                    stats::gap_closed_diff(best_kl, kl, &self.context, &self.clusters, resamples, seed)
                };
                let behind: Vec<(&str, Interval)> = others.iter().map(|(name, kl)| (*name, less(kl))).collect();
                let second = behind.first();
                winners.push(Winner {
                    reader: name.into(),
                    requested,
                    budget_tokens,
                    compressor: best.to_string(),
                    runner_up: second.map(|(name, _)| name.to_string()),
                    gap_closed_diff: second.map_or(f64::NAN, |(_, found)| found.mean),
                    ci95: second.map_or([f64::NAN; 2], |(_, found)| found.ci95()),
                    not_separable: (behind.iter().filter(|(_, found)| !found.above_zero()))
                        .map(|(name, _)| name.to_string())
                        .collect(),
                });
            }
        }
        winners
    }

    /// The points on parts of the windows.
    pub fn slices(&self) -> Result<Vec<Slice>> {
        let exam = self.exam;
        let sources: Vec<&str> = exam.windows.iter().map(|w| exam.documents[w.document].source.as_str()).collect();
        let futures = exam.windows.iter().map(|w| Ok(exam.tokenizer.window(w)?.future)).collect::<Result<Vec<_>>>()?;
        let mut slices = Vec::new();
        for Subset { by, name, windows } in parts(&sources, &self.context, &futures) {
            let at = |values: &[f64]| mean(&windows.iter().map(|&w| values[w]).collect::<Vec<_>>());
            for (reader, reader_name) in READERS.into_iter().enumerate() {
                for row in self.rows.iter().filter(|row| row.read_by(reader)) {
                    let kl = row.kl(reader);
                    let gap = self.gap(&kl, &windows);
                    slices.push(Slice {
                        by: by.into(),
                        part: name.clone(),
                        n_windows: windows.len(),
                        context_value: at(&self.context),
                        compressor: self.entrants[row.entrant].0.clone(),
                        reader: reader_name.into(),
                        budget_tokens: exam.budgets[row.budget].tokens,
                        kl: at(&kl),
                        gap_closed: gap.mean,
                        gap_closed_ci95: gap.ci95(),
                    });
                }
            }
        }
        Ok(slices)
    }

    /// About `count` windows, spread evenly, with what every entrant made of them within `tokens`.
    pub fn examples(&self, count: usize, tokens: usize) -> Result<Vec<Compared>> {
        let tokenizer = self.exam.tokenizer;
        let example = |window: usize| {
            let source = &self.exam.windows[window];
            let mut gists = Vec::new();
            for row in self.rows.iter().filter(|row| self.exam.budgets[row.budget].tokens == tokens) {
                gists.push(ComparedGist {
                    compressor: self.entrants[row.entrant].0.clone(),
                    tokens: tokenizer.read(&row.made[window].ids)?.spelled(),
                    kept: row.made[window].kept.clone(),
                    kl: row.readings.iter().find_map(|readings| readings.get(window)).map_or(f64::NAN, |r| r.kl),
                });
            }
            let WindowText { local, future, .. } = tokenizer.window(source)?;
            Ok(Compared {
                window: self.exam.numbers.get(window).copied().unwrap_or(window),
                document: self.exam.documents[source.document].id.clone(),
                prefix_tokens: tokenizer.read(&source.prefix)?.pieces(),
                local,
                future,
                context_value: self.context[window],
                gists,
            })
        };
        spread(self.exam.windows.len(), count).into_iter().map(example).collect()
    }
}
