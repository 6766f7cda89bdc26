//! The evaluation: examples one after another, or as many at a time as a server takes; their answers to the whole and to nothing
//! once, then every compressor at every budget.

use crate::compressor::Compressor;
use crate::condense::{Condensed, Condenser, PlainText};
use crate::config::choices::BudgetConfig;
use crate::data::task::TaskRow;
use crate::error::{Error, Result};
use crate::eval::task::rows::{DownstreamRow, GradedAnswer, RowFile, RowKey, RowOrigin, key};
use crate::eval::task::task_model::{QuestionGroup, TaskAnswer, TaskModel};
use crate::grading::Grade;
use crate::grading::python::{self, Ended};
use crate::hash::sha256;
use crate::progress::Progress;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Time of a program that does nothing.
const PROBE_SECONDS: u32 = 20;

/// Name of the whole context among the compressors.
pub const IDENTITY: &str = "identity";

/// A compressor that takes part.
pub struct Participant<'a> {
    /// Name in rows and tables.
    pub name: String,
    /// SHA-256 of its weights, or `baseline`.
    pub weights: String,
    /// Whether it is shown the question.
    pub sees_query: bool,
    /// The compressor.
    pub compressor: &'a dyn Compressor,
}

/// Everything of an evaluation but its rows.
pub struct Downstream<'a> {
    /// The model that answers.
    pub model: TaskModel<'a>,
    /// Compressors, in the order of the table.
    pub participants: Vec<Participant<'a>>,
    /// Budgets, as shares of a context's tokens, ascending.
    pub budgets: &'a [f64],
    /// Common to all rows.
    pub origin: RowOrigin,
    /// Set when the user asks to stop.
    pub stop: &'a AtomicBool,
}

impl Downstream<'_> {
    /// Weights by name, as rows record them.
    pub fn weights(&self) -> BTreeMap<String, String> {
        let own = self.participants.iter().map(|own| (own.name.clone(), own.weights.clone()));
        own.chain([(IDENTITY.to_string(), "baseline".to_string())]).collect()
    }

    /// Answers every example of a stretch that has not all of its rows yet; the rows of an example are written together.
    ///
    /// # Errors
    /// A model that fails, a file that cannot be written, or [`Error::Interrupted`] between two examples.
    pub fn run<'b>(&self, examples: &'b [TaskRow], stretch: Range<usize>, file: &mut RowFile) -> Result<()> {
        let there: BTreeSet<RowKey> = file.rows.iter().map(DownstreamRow::key).collect();
        let mut shared: BTreeMap<String, [GradedAnswer; 2]> = BTreeMap::new();
        file.rows.iter().for_each(|row| _ = shared.entry(row.example_id.clone()).or_insert_with(|| row.shared()));
        let is_open = |row: &&(usize, &'b TaskRow)| self.wanted(&row.1.id).iter().any(|key| !there.contains(key));
        // An example has the number, and so the draws, that it has among all.
        let all: Vec<(usize, &'b TaskRow)> =
            examples.iter().enumerate().skip(stretch.start).take(stretch.len()).collect();
        let open: Vec<&(usize, &'b TaskRow)> = all.iter().filter(is_open).collect();
        let progress = Progress::new("downstream", all.len(), all.len() - open.len());
        // Before any answer is paid for.
        if open.iter().any(|(_, row)| row.program.is_some()) {
            python::run("", PROBE_SECONDS)?;
        }
        let (mut full, mut count) = (0.0, 0.0);
        for some in open.chunks(self.model.together()) {
            if self.stop.load(Ordering::SeqCst) {
                return Err(Error::Interrupted { step: file.rows.len() });
            }
            let prepare =
                |(number, row): &&(usize, &'b TaskRow)| self.prepare(row, *number as u64, shared.get(&row.id), &there);
            let mut prepared = some.iter().map(prepare).collect::<Result<Vec<_>>>()?;
            let groups: Vec<QuestionGroup> =
                prepared.iter_mut().flat_map(|own| std::mem::take(&mut own.groups)).collect();
            let mut answers = match self.model.answers(&groups, self.stop) {
                Err(Error::Interrupted { .. }) => return Err(Error::Interrupted { step: file.rows.len() }),
                other => other?.into_iter(),
            };
            for own in prepared {
                let made = self.rows(own, &mut answers, &there)?;
                full += made.first().map_or(0.0, |own| own.full_f1);
                count += 1.0;
                file.push(made)?;
                let (f1, rows, cost) = (full / count, file.rows.len(), self.model.spending());
                progress.step(&format!("full F1 {f1:.3}, {rows} rows, {cost}"));
            }
        }
        progress.finish();
        Ok(())
    }

    /// The places of all rows of an example.
    fn wanted(&self, example: &str) -> Vec<RowKey> {
        let of =
            |own: &Participant| self.budgets.iter().map(|&budget| key(example, &own.name, budget)).collect::<Vec<_>>();
        self.participants.iter().flat_map(of).chain([key(example, IDENTITY, 1.0)]).collect()
    }

    /// Questions about an example, for the rows that are not there yet.
    fn prepare<'b>(
        &self,
        row: &'b TaskRow,
        number: u64,
        known: Option<&[GradedAnswer; 2]>,
        there: &BTreeSet<RowKey>,
    ) -> Result<Prepared<'_, 'b>> {
        let tokenizer = self.model.tokenizer();
        let whole = self.model.question(row, Some(&row.context))?;
        let cut_tokens_full = whole.cut;
        let mut kept: Vec<KeptText> = Vec::new();
        for own in &self.participants {
            let condenser = Condenser { compressor: own.compressor, tokenizer };
            let query = if own.sees_query { row.query.as_str() } else { "" };
            let is_open = |share: &f64| !there.contains(&key(&row.id, &own.name, *share));
            let shares: Vec<f64> = self.budgets.iter().copied().filter(is_open).collect();
            let budget = |&share: &f64| BudgetConfig { tokens: None, keep_ratio: Some(share) };
            let begun = Instant::now();
            let text = [PlainText { text: &row.context, query, key: number }];
            let made = condenser.condense_each(&text, &shares.iter().map(budget).collect::<Vec<_>>())?;
            let took = milliseconds(begun) / shares.len().max(1) as f64;
            for (share, made) in shares.into_iter().zip(made.into_iter().flatten()) {
                let made = made.map_err(|error| Error::invalid(format!("example {:?}: {error}", row.id)))?;
                kept.push(KeptText { own, share, made, took });
            }
        }
        let questions = kept.iter().map(|own| self.model.question(row, Some(&own.made.text)));
        let mut groups = vec![QuestionGroup { row, questions: questions.collect::<Result<Vec<_>>>()? }];
        if known.is_none() {
            let nothing = self.model.question(row, None)?;
            groups.splice(0..0, [whole, nothing].map(|one| QuestionGroup { row, questions: vec![one] }));
        }
        let tokens_full = tokenizer.encode(&row.context)?.len();
        Ok(Prepared { row, known: known.cloned(), tokens_full, cut_tokens_full, kept, groups })
    }

    /// The rows of an example, from the next answers: to the whole and to nothing where they are not known, then to what was
    /// kept.
    fn rows(
        &self,
        prepared: Prepared,
        answers: &mut impl Iterator<Item = Vec<TaskAnswer>>,
        there: &BTreeSet<RowKey>,
    ) -> Result<Vec<DownstreamRow>> {
        let Prepared { row, known, tokens_full, cut_tokens_full, kept, .. } = prepared;
        let mut next = || -> Result<Vec<GradedAnswer>> {
            answers.next().into_iter().flatten().map(|answer| graded(row, answer)).collect()
        };
        let [full, closed] = match known {
            Some(known) => known,
            None => {
                let (mut full, mut closed) = (next()?, next()?);
                [full.remove(0), closed.remove(0)]
            }
        };
        let common = Common { row, full: &full, closed: &closed, tokens_full, cut_tokens_full };
        let mut rows: Vec<DownstreamRow> = (kept.into_iter().zip(next()?))
            .map(|(KeptText { own, share, made, took }, answer)| {
                let sees = own.sees_query;
                let arm = Arm { name: &own.name, weights: &own.weights, sees, share, budget: made.budget };
                self.row(&common, arm, answer, &made.text, made.tokens_encoded, took)
            })
            .collect();
        if !there.contains(&key(&row.id, IDENTITY, 1.0)) {
            let arm = Arm { name: IDENTITY, weights: "baseline", sees: false, share: 1.0, budget: tokens_full };
            rows.push(self.row(&common, arm, full.clone(), &row.context, tokens_full, 0.0));
        }
        Ok(rows)
    }

    fn row(
        &self,
        common: &Common,
        arm: Arm,
        answer: GradedAnswer,
        text: &str,
        tokens: usize,
        took: f64,
    ) -> DownstreamRow {
        let Common { row, full, closed, tokens_full, cut_tokens_full } = *common;
        let place = row.answers.iter().filter_map(|reference| row.context.find(reference)).min();
        DownstreamRow {
            origin: self.origin.clone(),
            example_id: row.id.clone(),
            benchmark: row.benchmark.clone(),
            domain: row.domain.clone(),
            slice: row.slice.clone(),
            document: row.document.clone().unwrap_or_else(|| sha256(row.context.as_bytes())),
            query: row.query.clone(),
            answers: row.answers.clone(),
            compressor: arm.name.into(),
            compressor_weights: arm.weights.into(),
            sees_query: arm.sees,
            budget_requested: arm.share,
            budget_tokens: arm.budget,
            delta_exact_match: answer.exact_match - full.exact_match,
            delta_f1: answer.f1 - full.f1,
            full_output: full.output.clone(),
            compressed_output: answer.output,
            closed_output: closed.output.clone(),
            full_exact_match: full.exact_match,
            compressed_exact_match: answer.exact_match,
            closed_exact_match: closed.exact_match,
            full_f1: full.f1,
            compressed_f1: answer.f1,
            closed_f1: closed.f1,
            context_tokens_full: tokens_full,
            context_tokens_compressed: tokens,
            compression_ratio: tokens as f64 / tokens_full.max(1) as f64,
            latency_ms_full: full.latency_ms,
            latency_ms_compressed: answer.latency_ms,
            latency_ms_compressor: took,
            cost_usd_full: full.billed.cost_usd,
            cost_usd_compressed: answer.billed.cost_usd,
            cost_usd_closed: closed.billed.cost_usd.filter(|_| closed.billed.input_tokens.is_some()),
            input_tokens_full: full.billed.input_tokens,
            input_tokens_compressed: answer.billed.input_tokens,
            input_tokens_closed: closed.billed.input_tokens,
            output_tokens_full: full.billed.output_tokens,
            output_tokens_compressed: answer.billed.output_tokens,
            output_tokens_closed: closed.billed.output_tokens,
            cut_tokens_full,
            answer_at: place.map(|at| at as f64 / row.context.len().max(1) as f64),
            answer_kept: row.has_reference(text),
            compressed_text: text.into(),
        }
    }
}

/// An example whose questions are ready.
struct Prepared<'a, 'b> {
    row: &'b TaskRow,
    known: Option<[GradedAnswer; 2]>,
    tokens_full: usize,
    cut_tokens_full: usize,
    kept: Vec<KeptText<'a>>,
    groups: Vec<QuestionGroup<'b>>,
}

/// A text that a compressor kept at a budget.
struct KeptText<'a> {
    own: &'a Participant<'a>,
    share: f64,
    made: Condensed,
    /// Milliseconds for all budgets, divided by their number.
    took: f64,
}

fn graded(row: &TaskRow, answer: TaskAnswer) -> Result<GradedAnswer> {
    let grade = match &row.program {
        None => row.grading.grade(&answer.output, &row.answers, &row.classes),
        Some(program) => {
            let passed = python::run(&program.with(&answer.output), program.seconds)? == Ended::Passed;
            let score = f64::from(u8::from(passed));
            Grade { exact_match: score, f1: score }
        }
    };
    let TaskAnswer { output, latency_ms, billed } = answer;
    Ok(GradedAnswer { output, exact_match: grade.exact_match, f1: grade.f1, latency_ms, billed })
}

/// Answers and lengths that all rows of an example share.
struct Common<'a> {
    row: &'a TaskRow,
    full: &'a GradedAnswer,
    closed: &'a GradedAnswer,
    tokens_full: usize,
    cut_tokens_full: usize,
}

/// A compressor at a budget.
struct Arm<'a> {
    name: &'a str,
    weights: &'a str,
    sees: bool,
    share: f64,
    budget: usize,
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
