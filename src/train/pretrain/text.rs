//! The text of a pretraining run: documents of both splits, the tokenizer, and training rows cut from one packed stream.

use crate::config::pretrain::PretrainConfig;
use crate::data::{self, Document, Split};
use crate::error::{Error, Result};
use crate::model::weights;
use crate::rng::{self, Stream};
use crate::run_dir::{RunDir, write_atomic};
use crate::tokenizer::Tokenizer;
use std::ops::Range;
use std::path::PathBuf;

/// The text of a run, and its tokenizer when one is given.
pub struct PretrainingText {
    /// Training documents.
    pub(super) train: Vec<Document>,
    /// Held-out documents.
    pub(super) valid: Vec<Document>,
    /// Tokenizer of `init` or `tokenizer.path`, if one is given.
    pub(super) tokenizer: Option<Tokenizer>,
}

impl PretrainingText {
    /// Reads the text and the tokenizer.
    pub fn load(config: &PretrainConfig) -> Result<Self> {
        let tokenizer = config.given_tokenizer()?.as_deref().map(Tokenizer::load_to_train).transpose()?;
        let train = read_all(&config.data.train, config, Split::Train)?;
        let valid = read_all(&config.data.valid, config, Split::Valid)?;
        Ok(Self { train, valid, tokenizer })
    }

    /// The files that it is read from.
    pub fn files(config: &PretrainConfig) -> Result<Vec<PathBuf>> {
        let weights = config.init_folder()?.into_iter().flat_map(|folder| weights::files(&folder));
        let given = config.given_tokenizer()?.into_iter().chain(weights);
        Ok(config.data.train.iter().chain(&config.data.valid).cloned().chain(given).collect())
    }
}

/// Names the files in an error about their documents.
pub(super) fn named(files: &[PathBuf]) -> impl Fn(Error) -> Error {
    move |error| match (files, error) {
        ([first, ..], error @ (Error::Shape { .. } | Error::Invalid(_))) => Error::file(first, error.to_string()),
        (_, error) => error,
    }
}

fn read_all(paths: &[PathBuf], config: &PretrainConfig, split: Split) -> Result<Vec<Document>> {
    let mut all = match &config.data.recall {
        Some(section) => data::generate(section, split)?,
        None => Vec::new(),
    };
    for path in paths {
        all.extend(data::read_documents(path)?);
    }
    Ok(all)
}

pub(super) fn texts(documents: &[Document]) -> Vec<&str> {
    documents.iter().map(|d| d.text.as_str()).collect()
}

/// The tokenizer of the run: trained by an earlier sitting, or trained now and kept in the run.
pub(super) fn tokenizer_for(config: &PretrainConfig, run: &RunDir, documents: &[Document]) -> Result<Tokenizer> {
    let path = run.root().join("tokenizer.json");
    if path.exists() {
        return Tokenizer::load(&path);
    }
    let tokenizer = Tokenizer::train(documents.iter().map(|d| d.text.as_str()), config.tokenizer.vocab_size)?;
    write_atomic(&path, tokenizer.to_json()?.as_bytes())?;
    Tokenizer::load(&path)
}

/// Training rows: packed stretches of all documents, or beginnings of long ones.
pub(super) struct RowSampler<'a> {
    config: &'a PretrainConfig,
    /// All documents, an end-of-text after each.
    pub stream: Vec<u32>,
    /// Positions in `stream` at which documents no shorter than a row begin.
    starts: Vec<usize>,
    /// Ids of ordinary tokens.
    ordinary: Range<u32>,
    /// Token that announces a collage.
    mark: u32,
}

impl<'a> RowSampler<'a> {
    /// Packs the documents; an error when they do not fill the rows that `config` asks for.
    pub fn new(config: &'a PretrainConfig, tokenizer: &Tokenizer, documents: &[Document]) -> Result<Self> {
        let len = config.rows.tokens + 1;
        let (stream, starts) = pack(tokenizer, documents, len)?;
        if stream.len() < 2 * len {
            return Err(Error::shape("text", format!("at least {} tokens", 2 * len), stream.len()));
        }
        if !config.rows.packed && starts.is_empty() {
            let tokens = config.rows.tokens;
            let expected = format!("a document of at least {tokens} tokens, as rows.packed = false needs");
            return Err(Error::shape("text", expected, "none"));
        }
        let ordinary = tokenizer.special_ids().len() as u32..tokenizer.vocab_size() as u32;
        Ok(Self { config, stream, starts, ordinary, mark: tokenizer.require_end_of_text()? })
    }

    /// The `index`-th training row ever: epochs are permutations of the rows; packed ones have an offset an epoch.
    pub fn row(&self, index: usize) -> Vec<u32> {
        let len = self.config.rows.tokens + 1;
        let rows = if self.config.rows.packed { (self.stream.len() - len) / len } else { self.starts.len() };
        let (epoch, place) = (index / rows, index % rows);
        let place = permuted(place, rows, rng::seed(self.config.seed, Stream::Data, epoch as u64, 1, 0));
        let offset = || rng::below(&mut rng::rng(self.config.seed, Stream::Data, epoch as u64, 0, 0), len);
        let start = if self.config.rows.packed { offset() + place * len } else { self.starts[place] };
        let mut row = self.stream[start..start + len].to_vec();
        let mut draw = rng::rng(self.config.seed, Stream::Mix, index as u64, 0, 0);
        let (kind, rows) = (rng::uniform(&mut draw), &self.config.rows);
        if kind < rows.repeated_span_frac + rows.repeated_noise_frac {
            let noise = (kind >= rows.repeated_span_frac).then(|| self.ordinary.clone());
            data::with_repeated_span(&mut row, noise, &mut draw);
        } else if kind < rows.repeated_span_frac + rows.repeated_noise_frac + rows.collage_frac {
            data::with_collage(&mut row, self.mark, &mut draw);
        }
        row
    }
}

/// All documents as one stream, an end-of-text after each, and where those begin that hold a row of `len`.
fn pack(tokenizer: &Tokenizer, documents: &[Document], len: usize) -> Result<(Vec<u32>, Vec<usize>)> {
    let end = tokenizer.require_end_of_text()?;
    let (mut stream, mut starts) = (Vec::new(), Vec::new());
    for ids in tokenizer.encode_all(&texts(documents))? {
        if ids.len() + 1 >= len {
            starts.push(stream.len());
        }
        stream.extend(ids);
        stream.push(end);
    }
    Ok((stream, starts))
}

/// A bijection of `0..n` that needs no table: a Feistel network on the next power of four, walked until inside.
fn permuted(index: usize, n: usize, key: u64) -> usize {
    let half = (usize::BITS - (n.max(2) - 1).leading_zeros()).div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut x = index as u64;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for round in 0..4 {
            let mixed = rng::seed(key, Stream::Data, round, right, 0) & mask;
            (left, right) = (right, left ^ mixed);
        }
        x = (left << half) | right;
        if (x as usize) < n {
            return x as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacked_rows_begin_where_documents_do() {
        let documents: Vec<Document> = ["one two three", "one", "two three one two"]
            .map(|text| Document { id: text.into(), text: text.into(), source: String::new() })
            .into();
        let tokenizer = Tokenizer::train(texts(&documents).into_iter(), 300).unwrap();
        let lengths: Vec<usize> = tokenizer.encode_all(&texts(&documents)).unwrap().iter().map(Vec::len).collect();
        let (stream, starts) = pack(&tokenizer, &documents, lengths[0] + 1).unwrap();
        assert_eq!(stream.len(), lengths.iter().sum::<usize>() + 3);
        assert_eq!(starts, [0, lengths[0] + lengths[1] + 2]);
    }

    #[test]
    fn permuted_is_a_bijection() {
        for n in [1, 2, 3, 10, 257, 1000] {
            let mut seen: Vec<usize> = (0..n).map(|i| permuted(i, n, 7)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }
}
