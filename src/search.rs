//! Hindsight search: the gist of a window that lowers the true KL most, greedy over short spans of its prefix. It sees the
//! future, so it is a teacher for the warm start and headroom in the evaluation, never a contestant.

use crate::compressor::budget::extractive;
use crate::compressor::units::spans;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::reading::{Taught, reader_context};
use crate::tokenizer::Tokenizer;
use std::collections::BTreeSet;

/// Candidates of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanShape {
    /// Tokens of a span (the budget when that is less).
    pub span_tokens: usize,
    /// Tokens between the starts of spans; the end of the prefix is a span too.
    pub stride: usize,
    /// Best disjoint single spans that are combined.
    pub shortlist: usize,
}

/// The best gist of one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Tokens of the gist; empty when nothing lowers the KL.
    pub ids: Vec<u32>,
    /// Ascending positions in the prefix, unless it came from `extra`.
    pub kept: Option<Vec<usize>>,
    /// KL(teacher ‖ reader) with it, nats a token.
    pub kl: f64,
}

/// A search with a reader.
pub struct SpanSearch<'a> {
    /// The base.
    pub decoder: &'a Decoder,
    /// Tokenizer of the base.
    pub tokenizer: &'a Tokenizer,
    /// Reads the candidates; the bare base when there is none.
    pub reader: Option<&'a ActiveAdapter>,
    /// The candidates.
    pub params: SpanShape,
}

impl SpanSearch<'_> {
    /// The whole gists that the search measured for each window, each once, best first. Every span is scored as a gist alone;
    /// the best `shortlist` that do not overlap are added one by one, in prefix order, always the one that lowers the KL most,
    /// until the budget is full or none lowers it. Beside that choice, and what it was chosen from last, stand nothing at all,
    /// every half-overlapping span as long as the budget (the most recent tokens among them), and the window's own gists in
    /// `extra` (no entry, or one per window). Spans leave out the characters that they cut. Costs about `prefix / stride` short
    /// forward rows a window.
    pub fn ranked(&self, taught: &Taught, budget: usize, extra: &[Vec<Vec<u32>>]) -> Result<Vec<Vec<Found>>> {
        let windows = taught.windows;
        if !extra.is_empty() && extra.len() != windows.len() {
            return Err(Error::shape("extra gists", format!("{} windows", windows.len()), extra.len()));
        }
        if let Some(long) = extra.iter().flatten().find(|gist| gist.len() > budget) {
            return Err(Error::shape("extra gist", format!("at most {budget} tokens"), long.len()));
        }
        let SpanSearch { decoder, reader, params, .. } = *self;
        let kls = |gists: &[Vec<Found>]| measure(taught, decoder, reader, gists);
        let at = |w: usize, kept: Vec<usize>| {
            let gist = extractive(&windows[w].prefix, kept);
            Found { ids: gist.ids, kept: gist.kept, kl: f64::INFINITY }
        };
        let mut rivals = Vec::new(); // nothing, long spans, extra
        let mut singles = Vec::new();
        for (w, window) in windows.iter().enumerate() {
            let own = extra.get(w).into_iter().flatten();
            let own = own.map(|ids| Found { ids: ids.clone(), kept: None, kl: f64::INFINITY });
            let decoded = self.tokenizer.read(&window.prefix)?;
            let spans = |tokens: usize, stride: usize| {
                let whole = spans(window.prefix.len(), tokens, stride).into_iter().map(|span| decoded.inner(&span));
                let whole = whole.filter(|span| !span.is_empty());
                whole.map(|span| at(w, span.collect())).collect::<Vec<_>>()
            };
            let long = spans(budget, budget.div_ceil(2));
            rivals.push([at(w, vec![])].into_iter().chain(long).chain(own).collect());
            singles.push(spans(params.span_tokens.min(budget), params.stride));
        }
        let (mut rivals, singles) = (kls(&rivals)?, kls(&singles)?);
        let mut shortlists: Vec<Vec<Found>> = singles.into_iter().map(|s| disjoint(s, params.shortlist)).collect();
        // The best single span is already measured; later rounds add to it.
        let mut best: Vec<Found> =
            shortlists.iter().zip(&rivals).map(|(s, r)| lowest(r[..1].iter().chain(s))).collect();
        let mut last_options = vec![Vec::new(); windows.len()];
        loop {
            let options: Vec<Vec<Found>> = (0..windows.len())
                .map(|w| {
                    shortlists[w].iter().filter_map(|span| joined(&best[w], span, budget)).map(|k| at(w, k)).collect()
                })
                .collect();
            if options.iter().all(Vec::is_empty) {
                break;
            }
            for (w, options) in kls(&options)?.into_iter().enumerate() {
                let next = lowest([&best[w]].into_iter().chain(&options));
                if next.kept == best[w].kept {
                    shortlists[w].clear();
                }
                best[w] = next;
                last_options[w] = if options.is_empty() { std::mem::take(&mut last_options[w]) } else { options };
            }
        }
        for (w, gists) in rivals.iter_mut().enumerate() {
            gists.push(best[w].clone());
            gists.append(&mut last_options[w]);
            gists.sort_by(|a, b| a.kl.total_cmp(&b.kl));
            let mut seen = BTreeSet::new();
            gists.retain(|gist| seen.insert(gist.ids.clone()));
        }
        Ok(rivals)
    }
}

/// Fills in the KL of gists, given per window.
fn measure(
    taught: &Taught,
    decoder: &Decoder,
    reader: Option<&ActiveAdapter>,
    gists: &[Vec<Found>],
) -> Result<Vec<Vec<Found>>> {
    let v = decoder.config().vocab_size;
    let contexts: Vec<(usize, Vec<u32>)> = (gists.iter().enumerate())
        .flat_map(|(w, gists)| gists.iter().map(move |gist| (w, reader_context(&gist.ids, reader.is_some(), v))))
        .collect();
    let rows: Vec<(usize, &[u32])> = contexts.iter().map(|(w, c)| (*w, c.as_slice())).collect();
    let mut readings = taught.measure(decoder, reader, &rows)?.into_iter();
    let mut filled = gists.to_vec();
    for (gist, reading) in filled.iter_mut().flatten().zip(readings.by_ref()) {
        gist.kl = reading.kl;
    }
    Ok(filled)
}

/// The best `count` spans, best first, each free of all better ones.
fn disjoint(mut singles: Vec<Found>, count: usize) -> Vec<Found> {
    singles.sort_by(|a, b| a.kl.total_cmp(&b.kl));
    let mut chosen: Vec<Found> = Vec::new();
    for span in singles {
        if chosen.len() < count && chosen.iter().all(|other| !overlap(other, &span)) {
            chosen.push(span);
        }
    }
    chosen
}

fn overlap(a: &Found, b: &Found) -> bool {
    let (Some(a), Some(b)) = (&a.kept, &b.kept) else { return false };
    a.iter().any(|position| b.contains(position))
}

/// Positions of both in prefix order, if they are disjoint and fit.
fn joined(found: &Found, span: &Found, budget: usize) -> Option<Vec<usize>> {
    if overlap(found, span) || found.ids.len() + span.ids.len() > budget {
        return None;
    }
    let mut kept = [found.kept.as_deref()?, span.kept.as_deref()?].concat();
    kept.sort_unstable();
    Some(kept)
}

/// The gist with the lowest KL; the first of several equals.
fn lowest<'a>(gists: impl Iterator<Item = &'a Found>) -> Found {
    let nothing = Found { ids: Vec::new(), kept: Some(Vec::new()), kl: f64::NAN };
    gists.min_by(|a, b| a.kl.total_cmp(&b.kl)).cloned().unwrap_or(nothing)
}
