//! Windows: a run of ids inside one document, cut into prefix, local window and future.

use rand::Rng;
use serde::Serialize;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::rng::{self, Stream};

/// Lengths of the three parts, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowShape {
    /// P: tokens to compress.
    pub prefix: usize,
    /// L: tokens that every reader sees uncompressed.
    pub local: usize,
    /// F: tokens to predict.
    pub future: usize,
}

impl WindowShape {
    /// Tokens of a whole window.
    pub fn total(self) -> usize {
        self.prefix + self.local + self.future
    }
}

/// A text that is read after the context, and the future that is predicted behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Ids of the local text in its frame, which every reader sees.
    pub local: Vec<u32>,
    /// Ids of the question alone, which a compressor sees under `condition = "query"`; none where nobody asks.
    pub query: Vec<u32>,
    /// Ids of the future.
    pub future: Vec<u32>,
}

/// An example: a prefix to compress, and the probes by which what stands for it is judged. A window that is cut from a document
/// has one probe: the local window and the true future.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Index of its document in the corpus.
    pub document: usize,
    /// Position of the prefix in the document, in tokens.
    pub start: usize,
    /// Ids before the prefix, or what stands for it, wherever it is read; none without a frame. A compressor does not see them.
    pub frame: Vec<u32>,
    /// Ids of the prefix.
    pub prefix: Vec<u32>,
    /// At least one.
    pub probes: Vec<Probe>,
    /// Ids of the text that states what the probes ask for; none where the data does not know it. No compressor sees it.
    pub evidence: Vec<u32>,
}

impl Window {
    /// A window with one probe.
    pub fn new([document, start]: [usize; 2], prefix: Vec<u32>, local: Vec<u32>, future: Vec<u32>) -> Self {
        let probes = vec![Probe { local, query: Vec::new(), future }];
        Self { document, start, frame: Vec::new(), prefix, probes, evidence: Vec::new() }
    }

    /// The evidence, or as much of it as `most` tokens hold.
    pub fn evidence_within(&self, most: usize) -> Vec<u32> {
        self.evidence[..most.min(self.evidence.len())].to_vec()
    }

    /// Its only probe, or the first of several.
    pub fn probe(&self) -> &Probe {
        &self.probes[0]
    }

    /// The ids that are one text: prefix, local text and future of its first probe.
    pub fn whole(&self) -> Vec<u32> {
        [&self.prefix[..], &self.probe().local, &self.probe().future].concat()
    }
}

/// The documents that hold a window of one shape, and how many starts each offers.
#[derive(Clone, Debug)]
pub struct Eligible {
    total: usize,
    ends: Vec<u64>, // running sum of the starts of documents 0..=i
}

impl Eligible {
    /// Counts the starts; an error when no document is long enough.
    pub fn new(docs: &[Vec<u32>], shape: WindowShape) -> Result<Eligible> {
        check(docs, shape)?;
        let mut sum = 0;
        let starts = |doc: &Vec<u32>| {
            sum += (doc.len() + 1).saturating_sub(shape.total()) as u64;
            sum
        };
        Ok(Eligible { total: shape.total(), ends: docs.iter().map(starts).collect() })
    }

    /// Number of different windows.
    pub fn starts(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// At most `count` windows that share no token, at most `per_document` from one document.
///
/// Each document is cut into back-to-back windows at a random offset, `per_document` of them are drawn, and documents in
/// random order give one each until there are enough. What a document gives depends on the seed and its index only, and
/// a smaller `count` gives a part of what a larger one gives. In order of document and start.
pub fn held_out_windows(
    docs: &[Vec<u32>],
    shape: WindowShape,
    count: usize,
    per_document: usize,
    seed: u64,
) -> Result<Vec<Window>> {
    check(docs, shape)?;
    if count == 0 || per_document == 0 {
        return Err(Error::invalid(format!(
            "held-out windows: expected a count and a number per document above 0, got {count} and {per_document}"
        )));
    }
    let total = shape.total();
    let mut ranked = Vec::new(); // (turn, random key of the document, document, start)
    for (document, ids) in docs.iter().enumerate().filter(|(_, ids)| ids.len() >= total) {
        let mut rng = rng::rng(seed, Stream::Split, document as u64, 0, 0);
        let key: u64 = rng.next_u64();
        let offset = rng::below(&mut rng, ids.len() % total + 1);
        for (turn, slot) in rng::choose(&mut rng, ids.len() / total, per_document).into_iter().enumerate() {
            ranked.push((turn, key, document, offset + slot * total));
        }
    }
    ranked.sort_unstable();
    ranked.truncate(count);
    let mut places: Vec<(usize, usize)> = ranked.into_iter().map(|(_, _, document, start)| (document, start)).collect();
    places.sort_unstable();
    Ok(places.into_iter().map(|(document, start)| cut(docs, shape, document, start)).collect())
}

/// The window that `example` of `step` trains on: uniform over all starts in all documents, a function of its arguments.
pub fn training_window(
    docs: &[Vec<u32>],
    eligible: &Eligible,
    shape: WindowShape,
    run_seed: u64,
    step: u64,
    example: u64,
) -> Window {
    debug_assert_eq!(eligible.total, shape.total());
    debug_assert_eq!(eligible.ends.len(), docs.len());
    let mut rng = rng::rng(run_seed, Stream::Data, step, example, 0);
    let drawn = rng::below(&mut rng, eligible.starts() as usize) as u64;
    let document = eligible.ends.partition_point(|&end| end <= drawn);
    let before = if document == 0 { 0 } else { eligible.ends[document - 1] };
    cut(docs, shape, document, (drawn - before) as usize)
}

/// Copies a span of 16 to T/3 tokens of the row over a later place that does not touch it, so that copying pays and
/// induction appears early in pretraining. With `noise`, the span is first overwritten with ids drawn from that range:
/// nothing but exact copying predicts its return. Rows under 48 tokens stay as they are.
pub fn with_repeated_span(row: &mut [u32], noise: Option<Range<u32>>, rng: &mut impl Rng) {
    let longest = row.len() / 3;
    if longest < 16 {
        return;
    }
    let span = 16 + rng::below(rng, longest - 15);
    let from = rng::below(rng, row.len() - 2 * span + 1);
    let to = from + span + rng::below(rng, row.len() - from - 2 * span + 1);
    if let Some(ids) = noise {
        row[from..from + span].fill_with(|| ids.start + rng::below(rng, ids.len()) as u32);
    }
    row.copy_within(from..from + span, to);
}

/// Overwrites the second half of the row with spans of its first half, 4 to 48 tokens each and short ones oftener: to go
/// on with a span, a model must find where its last tokens stand, and often one token back does not tell. Two of `mark`
/// announce it, so that nothing is learned of text without them.
pub fn with_collage(row: &mut [u32], mark: u32, rng: &mut impl Rng) {
    let half = row.len() / 2;
    if half <= 48 {
        return;
    }
    row[half..half + 2].fill(mark);
    let mut at = half + 2;
    while at < row.len() {
        let span = (4.0 * 12f64.powf(rng::uniform(rng))) as usize;
        let span = span.min(row.len() - at);
        let from = rng::below(rng, half - span + 1);
        row.copy_within(from..from + span, at);
        at += span;
    }
}

fn check(docs: &[Vec<u32>], shape: WindowShape) -> Result<()> {
    let longest = docs.iter().map(Vec::len).max().unwrap_or(0);
    if shape.total() == 0 || longest < shape.total() {
        let WindowShape { prefix, local, future } = shape;
        return Err(Error::invalid(format!(
            "windows of prefix {prefix} + local {local} + future {future}: expected a document of at least {} tokens, \
             got {} of which the longest has {longest}",
            shape.total().max(1),
            docs.len()
        )));
    }
    Ok(())
}

fn cut(docs: &[Vec<u32>], shape: WindowShape, document: usize, start: usize) -> Window {
    let ids = &docs[document][start..start + shape.total()];
    let (prefix, rest) = ids.split_at(shape.prefix);
    let (local, future) = rest.split_at(shape.local);
    Window::new([document, start], prefix.to_vec(), local.to_vec(), future.to_vec())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SHAPE: WindowShape = WindowShape { prefix: 4, local: 2, future: 3 };

    /// Every id names its document and place.
    fn documents(lengths: &[usize]) -> Vec<Vec<u32>> {
        lengths.iter().enumerate().map(|(d, &n)| (0..n).map(|i| (1000 * d + i) as u32).collect()).collect()
    }

    fn ids(window: &Window) -> Vec<u32> {
        window.whole()
    }

    fn inside(window: &Window) -> bool {
        let first = (1000 * window.document + window.start) as u32;
        ids(window) == (first..first + SHAPE.total() as u32).collect::<Vec<_>>()
            && (window.prefix.len(), window.probe().local.len(), window.probe().future.len()) == (4, 2, 3)
    }

    #[test]
    fn held_out_windows_are_disjoint_and_inside_documents() {
        let docs = documents(&[100, 8, 9, 0, 40, 61]);
        for seed in 0..20 {
            let windows = held_out_windows(&docs, SHAPE, 1000, 5, seed).unwrap();
            assert!(windows.iter().all(inside));
            let all: Vec<u32> = windows.iter().flat_map(ids).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            let mut per_document = BTreeMap::new();
            for window in &windows {
                *per_document.entry(window.document).or_insert(0) += 1;
            }
            assert_eq!(per_document, BTreeMap::from([(0, 5), (2, 1), (4, 4), (5, 5)]));
        }
    }

    #[test]
    fn held_out_windows_are_spread_and_stable() {
        let docs = documents(&[90; 12]);
        let windows = held_out_windows(&docs, SHAPE, 12, 5, 7).unwrap();
        assert_eq!(windows.iter().map(|w| w.document).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
        assert_eq!(windows, held_out_windows(&docs, SHAPE, 12, 5, 7).unwrap());
        assert_ne!(windows, held_out_windows(&docs, SHAPE, 12, 5, 8).unwrap());
        let more = held_out_windows(&docs, SHAPE, 30, 5, 7).unwrap();
        assert_eq!(more.len(), 30);
        assert!(windows.iter().all(|w| more.contains(w)));
    }

    #[test]
    fn no_window_fits() {
        let docs = documents(&[5, 8]);
        let message = held_out_windows(&docs, SHAPE, 1, 1, 0).unwrap_err().to_string();
        assert!(message.contains("prefix 4 + local 2 + future 3"), "{message}");
        assert!(message.contains("at least 9 tokens, got 2 of which the longest has 8"), "{message}");
        assert!(Eligible::new(&docs, SHAPE).is_err());
        assert!(Eligible::new(&[], SHAPE).is_err());
        assert!(held_out_windows(&documents(&[20]), SHAPE, 0, 1, 0).is_err());
        assert!(held_out_windows(&documents(&[20]), SHAPE, 1, 0, 0).is_err());
    }

    #[test]
    fn training_windows_are_seeded_and_uniform_over_starts() {
        let docs = documents(&[3, 12, 8, 9, 14]);
        let eligible = Eligible::new(&docs, SHAPE).unwrap();
        assert_eq!(eligible.starts(), 4 + 1 + 6);
        let draw = |seed, step, example| training_window(&docs, &eligible, SHAPE, seed, step, example);
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        let mut seen = BTreeMap::new();
        for step in 0..1100 {
            for example in 0..10 {
                let window = draw(5, step, example);
                assert!(inside(&window));
                *seen.entry((window.document, window.start)).or_insert(0usize) += 1;
            }
        }
        let places: Vec<_> = seen.keys().copied().collect();
        assert_eq!(places, [(1, 0), (1, 1), (1, 2), (1, 3), (3, 0), (4, 0), (4, 1), (4, 2), (4, 3), (4, 4), (4, 5)]);
        // 1000 expected each, standard deviation 30
        assert!(seen.values().all(|n| n.abs_diff(1000) < 150), "{seen:?}");
    }

    #[test]
    fn a_collage_is_made_of_the_first_half() {
        let row: Vec<u32> = (0..385).collect();
        let mut rng = rng::rng(0, Stream::Data, 0, 0, 0);
        let mut spans = 0;
        for _ in 0..100 {
            let mut made = row.clone();
            with_collage(&mut made, 1000, &mut rng);
            assert_eq!((&made[..192], &made[192..194]), (&row[..192], &[1000; 2][..]));
            assert!(made[194..].iter().all(|&id| id < 192));
            spans += 1 + made[194..].windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        }
        assert!((900..1600).contains(&spans), "{spans}");
        let mut short: Vec<u32> = (0..90).collect();
        with_collage(&mut short, 1000, &mut rng);
        assert_eq!(short, (0..90).collect::<Vec<u32>>());
    }

    #[test]
    fn repeated_span_is_a_copy_of_something_earlier() {
        for seed in 0..200 {
            for length in [48, 49, 100, 256] {
                let mut rng = rng::rng(seed, Stream::Data, 0, 0, 0);
                let mut row: Vec<u32> = (0..length).collect();
                with_repeated_span(&mut row, None, &mut rng);
                let changed: Vec<usize> = (0..row.len()).filter(|&i| row[i] != i as u32).collect();
                let (to, span) = (changed[0], changed.len());
                assert_eq!(changed, (to..to + span).collect::<Vec<_>>());
                assert!((16..=row.len() / 3).contains(&span));
                let from = row[to] as usize;
                assert!(from + span <= to);
                assert_eq!(row[from..from + span], row[to..to + span]);
            }
        }
        let mut row: Vec<u32> = (0..100).collect();
        with_repeated_span(&mut row, Some(1000..1050), &mut rng::rng(1, Stream::Data, 0, 0, 0));
        let noise: Vec<u32> = row.iter().copied().filter(|id| (1000..1050).contains(id)).collect();
        assert!(noise.len() >= 32 && noise[..noise.len() / 2] == noise[noise.len() / 2..], "{row:?}");
        assert!(row.iter().enumerate().all(|(i, &id)| id >= 1000 || id == i as u32));
        let mut short: Vec<u32> = (0..47).collect();
        with_repeated_span(&mut short, None, &mut rng::rng(0, Stream::Data, 0, 0, 0));
        assert_eq!(short, (0..47).collect::<Vec<u32>>());
    }
}
