//! Heads over an encoder that reads a question and a text in one row: which there are, and the names of their weights.

use crate::model::{evidence_head, span_head};
use std::collections::BTreeMap;
use tch::Tensor;

/// Head over an encoder that reads a question and a text in one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowHead {
    /// Worth of each unit to the question ([`evidence_head`]).
    Evidence,
    /// First and last token of the answer ([`span_head`]).
    Span,
}

impl RowHead {
    const ALL: [RowHead; 2] = [RowHead::Evidence, RowHead::Span];

    /// Prefix of the names of its weights.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            RowHead::Evidence => "gist.evidence.",
            RowHead::Span => "gist.span.",
        }
    }

    /// Names and shapes of its weights over hidden states of width `h`.
    pub(super) fn parameters(self, h: i64) -> Vec<(String, Vec<i64>)> {
        let own = match self {
            RowHead::Evidence => evidence_head::parameters(h),
            RowHead::Span => span_head::parameters(h),
        };
        own.into_iter().map(|(name, shape)| (format!("{}{name}", self.prefix()), shape)).collect()
    }

    /// Fresh weights, drawn from libtorch's generator.
    pub(super) fn initial(self, h: i64) -> BTreeMap<String, Tensor> {
        let own = match self {
            RowHead::Evidence => evidence_head::initial(h),
            RowHead::Span => span_head::initial(h),
        };
        own.into_iter().map(|(name, tensor)| (format!("{}{name}", self.prefix()), tensor)).collect()
    }

    /// The head over rows that weights of these names belong to, if they do to one.
    pub(super) fn of<'n>(mut names: impl Iterator<Item = &'n str>) -> Option<RowHead> {
        names.find_map(|name| RowHead::ALL.into_iter().find(|head| name.starts_with(head.prefix())))
    }
}
