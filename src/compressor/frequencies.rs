//! Document frequencies of terms in the training documents. A term is a token where tokens are whole characters, and else a
//! character or a word ([`Decoded::terms`]): the bytes of a Chinese character say nothing alone.

use crate::error::Result;
use crate::tokenizer::{Decoded, Tokenizer};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The terms of a sequence of tokens, each as its ids.
pub struct TokenTerms<'a> {
    ids: &'a [u32],
    ranges: Vec<Range<usize>>,
}

impl<'a> TokenTerms<'a> {
    /// The terms of tokens with these ids, which say what was `decoded`.
    pub fn new(ids: &'a [u32], decoded: &Decoded) -> Self {
        Self { ids, ranges: decoded.terms() }
    }

    /// The terms that have tokens among these, in their order.
    pub fn of<'s>(&'s self, tokens: &Range<usize>) -> impl Iterator<Item = &'a [u32]> + use<'a, 's> {
        let (ids, end) = (self.ids, tokens.end);
        let first = self.ranges.partition_point(|term| term.end <= tokens.start);
        self.ranges[first..].iter().take_while(move |term| term.start < end).map(|term| &ids[term.clone()])
    }

    /// All terms, in their order.
    pub fn all(&self) -> impl Iterator<Item = &'a [u32]> {
        self.of(&(0..self.ids.len()))
    }
}

/// Number of training documents in which each term occurs.
#[derive(Clone, Debug)]
pub struct DocumentFrequencies {
    documents: usize,
    /// Document frequency of each term of one token, by id.
    tokens: Vec<u32>,
    /// Document frequency of each longer term.
    longer: BTreeMap<Vec<u32>, u32>,
}

impl DocumentFrequencies {
    /// Counts over `documents`, never those that are evaluated.
    pub fn count<D: AsRef<[u32]> + Sync>(tokenizer: &Tokenizer, documents: &[D]) -> Result<Self> {
        let distinct = |document: &D| -> Result<BTreeSet<Vec<u32>>> {
            let ids = document.as_ref();
            Ok(TokenTerms::new(ids, &tokenizer.read(ids)?).all().map(<[u32]>::to_vec).collect())
        };
        let mut counts = Self { documents: documents.len(), tokens: Vec::new(), longer: BTreeMap::new() };
        for documents in documents.chunks(DOCUMENTS_AT_ONCE) {
            let terms = documents.par_iter().map(distinct).collect::<Result<Vec<_>>>()?;
            terms.into_iter().flatten().for_each(|term| *counts.of(term) += 1);
        }
        Ok(counts)
    }

    fn of(&mut self, term: Vec<u32>) -> &mut u32 {
        match term[..] {
            [id] => {
                let id = id as usize;
                if self.tokens.len() <= id {
                    self.tokens.resize(id + 1, 0);
                }
                &mut self.tokens[id]
            }
            _ => self.longer.entry(term).or_default(),
        }
    }

    /// Inverse document frequency, smoothed: ln((1 + documents) / (1 + documents with the term)) + 1.
    pub fn idf(&self, term: &[u32]) -> f64 {
        let count = match term {
            [id] => self.tokens.get(*id as usize),
            longer => self.longer.get(longer),
        };
        ((1 + self.documents) as f64 / (1.0 + f64::from(count.copied().unwrap_or(0)))).ln() + 1.0
    }
}

const DOCUMENTS_AT_ONCE: usize = 256;
