//! Figures of a downstream evaluation: means with intervals by document, of each compressor at each budget.

use crate::eval::stats::{self, Interval, bootstrap, clusters};
use crate::eval::task::rows::DownstreamRow;
use serde::Serialize;
use std::collections::BTreeMap;

/// Parts of a context by which the place of the answer is told.
const PLACES: [&str; 3] = ["first third", "middle third", "last third"];

/// A mean with its 95 % interval; the bounds are null where there is one document only.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Bounds of the interval.
    pub ci95: [f64; 2],
}

impl From<Interval> for Mean {
    fn from(interval: Interval) -> Self {
        Self { mean: interval.mean, ci95: interval.ci95() }
    }
}

/// F1 of a part of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PartFigures {
    /// Rows.
    pub n: usize,
    /// Mean F1 of the answers to whole contexts.
    pub full_f1: f64,
    /// Mean F1 of the answers to what was kept.
    pub compressed_f1: f64,
}

/// A compressor at one budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DownstreamFigures {
    /// Name of the compressor.
    pub compressor: String,
    /// Share of the tokens that was asked for.
    pub budget_requested: f64,
    /// Whether it was trained here.
    pub trained: bool,
    /// Whether it saw the question.
    pub sees_query: bool,
    /// Examples.
    pub n: usize,
    /// Documents that they are of.
    pub documents: usize,
    /// Mean over examples of tokens kept over tokens.
    pub keep_ratio_macro: f64,
    /// Tokens kept over tokens, all together.
    pub keep_ratio_micro: f64,
    /// Tokens kept, mean of an example.
    pub context_tokens: f64,
    /// Exact match of the answers to whole contexts.
    pub full_exact_match: Mean,
    /// Exact match of the answers to what was kept.
    pub compressed_exact_match: Mean,
    /// Exact match of the answers to nothing.
    pub closed_exact_match: Mean,
    /// F1 of the answers to whole contexts.
    pub full_f1: Mean,
    /// F1 of the answers to what was kept.
    pub compressed_f1: Mean,
    /// F1 of the answers to nothing.
    pub closed_f1: Mean,
    /// Exact match compressed less full, paired.
    pub delta_exact_match: Mean,
    /// F1 compressed less full, paired.
    pub delta_f1: Mean,
    /// F1 less that of each other compressor at the same budget, paired over the examples of both.
    pub f1_less: BTreeMap<String, Mean>,
    /// (compressed − closed) / (full − closed) of F1: 1 = nothing lost, 0 = as good as nothing read.
    pub gap_closed: Mean,
    /// Share of examples of which a reference stands in what was kept.
    pub answer_kept: f64,
    /// Mean milliseconds of the answer to the whole context.
    pub latency_ms_full: f64,
    /// Mean milliseconds of the answer to what was kept.
    pub latency_ms_compressed: f64,
    /// Mean milliseconds of the compressor.
    pub latency_ms_compressor: f64,
    /// Dollars for all answers to what was kept; none where the price is not known.
    pub total_cost_usd_compressed: Option<f64>,
    /// Dollars for all answers to whole contexts.
    pub total_cost_usd_full: Option<f64>,
    /// Tokens of all prompts with what was kept, as billed; none of a model that runs here.
    pub total_input_tokens_compressed: Option<usize>,
    /// Tokens of all prompts with whole contexts, as billed.
    pub total_input_tokens_full: Option<usize>,
    /// By slice of the rows, and by domain.
    pub slices: BTreeMap<String, PartFigures>,
    /// By the part of the context in which the answer begins.
    pub places: BTreeMap<String, PartFigures>,
}

/// Figures of all rows, by compressor and budget in the order in which they first come; `identity` is last.
pub fn figures(rows: &[DownstreamRow], resamples: usize, seed: u64) -> Vec<DownstreamFigures> {
    let mut arms: Vec<(&str, u64)> = Vec::new();
    for row in rows {
        let (_, _, budget) = row.key();
        if !arms.contains(&(row.compressor.as_str(), budget)) {
            arms.push((&row.compressor, budget));
        }
    }
    arms.sort_by_key(|(name, _)| *name == crate::eval::task::downstream::IDENTITY);
    let of = |(name, budget): (&str, u64)| -> Vec<&DownstreamRow> {
        rows.iter().filter(|row| row.compressor == name && row.key().2 == budget).collect()
    };
    let own = |&(name, budget): &(&str, u64)| {
        let own = of((name, budget));
        let others = arms.iter().filter(|other| other.1 == budget && other.0 != name);
        let less = others.map(|&other| (other.0.to_string(), less(&own, &of(other), resamples, seed))).collect();
        Some(DownstreamFigures { f1_less: less, ..arm_figures(&own, resamples, seed)? })
    };
    arms.iter().filter_map(own).collect()
}

/// Mean F1 of an arm less that of another, paired by example.
fn less(own: &[&DownstreamRow], other: &[&DownstreamRow], resamples: usize, seed: u64) -> Mean {
    let theirs: BTreeMap<&str, f64> = other.iter().map(|row| (row.example_id.as_str(), row.compressed_f1)).collect();
    let pairs: Vec<(&str, f64)> = (own.iter())
        .filter_map(|row| Some((row.document.as_str(), row.compressed_f1 - theirs.get(row.example_id.as_str())?)))
        .collect();
    let documents = clusters(pairs.iter().map(|(document, _)| *document));
    let values: Vec<f64> = pairs.iter().map(|(_, value)| *value).collect();
    stats::mean(&values, &documents, resamples, seed).into()
}

fn arm_figures(rows: &[&DownstreamRow], resamples: usize, seed: u64) -> Option<DownstreamFigures> {
    let first = rows.first()?;
    let clusters = clusters(rows.iter().map(|row| row.document.as_str()));
    let plain =
        |value: &dyn Fn(&DownstreamRow) -> f64| rows.iter().map(|row| value(row)).sum::<f64>() / rows.len() as f64;
    let mean = |value: fn(&DownstreamRow) -> f64| -> Mean {
        bootstrap(&clusters, resamples, seed, |at| {
            at.iter().map(|&row| value(rows[row])).sum::<f64>() / at.len() as f64
        })
        .into()
    };
    let sum = |at: &[usize], value: fn(&DownstreamRow) -> f64| at.iter().map(|&row| value(rows[row])).sum::<f64>();
    let gap = bootstrap(&clusters, resamples, seed, |at| {
        let closed = sum(at, |row| row.closed_f1);
        (sum(at, |row| row.compressed_f1) - closed) / (sum(at, |row| row.full_f1) - closed)
    });
    let tokens = |value: fn(&DownstreamRow) -> usize| rows.iter().map(|row| value(row)).sum::<usize>() as f64;
    let part = |name: &dyn Fn(&DownstreamRow) -> Option<String>| {
        let mut parts: BTreeMap<String, Vec<&DownstreamRow>> = BTreeMap::new();
        for row in rows {
            if let Some(name) = name(row) {
                parts.entry(name).or_default().push(row);
            }
        }
        let figures = |(name, own): (String, Vec<&DownstreamRow>)| {
            let mean =
                |value: fn(&DownstreamRow) -> f64| own.iter().map(|row| value(row)).sum::<f64>() / own.len() as f64;
            (
                name,
                PartFigures {
                    n: own.len(),
                    full_f1: mean(|row| row.full_f1),
                    compressed_f1: mean(|row| row.compressed_f1),
                },
            )
        };
        parts.into_iter().map(figures).collect::<BTreeMap<_, _>>()
    };
    let place = |row: &DownstreamRow| row.answer_at.map(|at| PLACES[((at * 3.0) as usize).min(2)].to_string());
    let slice =
        |row: &DownstreamRow| Some(format!("{}/{}", row.domain, row.slice.as_deref().unwrap_or(&row.benchmark)));
    Some(DownstreamFigures {
        compressor: first.compressor.clone(),
        budget_requested: first.budget_requested,
        trained: first.compressor_weights != "baseline",
        sees_query: first.sees_query,
        n: rows.len(),
        documents: clusters.iter().max().map_or(0, |last| last + 1),
        keep_ratio_macro: plain(&|row| row.compression_ratio),
        keep_ratio_micro: tokens(|row| row.context_tokens_compressed) / tokens(|row| row.context_tokens_full),
        context_tokens: plain(&|row| row.context_tokens_compressed as f64),
        full_exact_match: mean(|row| row.full_exact_match),
        compressed_exact_match: mean(|row| row.compressed_exact_match),
        closed_exact_match: mean(|row| row.closed_exact_match),
        full_f1: mean(|row| row.full_f1),
        compressed_f1: mean(|row| row.compressed_f1),
        closed_f1: mean(|row| row.closed_f1),
        delta_exact_match: mean(|row| row.delta_exact_match),
        delta_f1: mean(|row| row.delta_f1),
        f1_less: BTreeMap::new(),
        gap_closed: gap.into(),
        answer_kept: plain(&|row| f64::from(u8::from(row.answer_kept))),
        latency_ms_full: plain(&|row| row.latency_ms_full),
        latency_ms_compressed: plain(&|row| row.latency_ms_compressed),
        latency_ms_compressor: plain(&|row| row.latency_ms_compressor),
        total_cost_usd_compressed: rows.iter().map(|row| row.cost_usd_compressed).sum(),
        total_cost_usd_full: rows.iter().map(|row| row.cost_usd_full).sum(),
        total_input_tokens_compressed: rows.iter().map(|row| row.input_tokens_compressed).sum(),
        total_input_tokens_full: rows.iter().map(|row| row.input_tokens_full).sum(),
        slices: part(&slice),
        places: part(&place),
    })
}
