//! A training window with what each unit of its prefix is worth, as it lies in files.

use crate::data::Window;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// One training window with its labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledWindow {
    /// Index of its training document.
    pub document: usize,
    /// Position of the prefix in the document, in tokens.
    pub start: usize,
    /// Ids of its prefix.
    pub prefix: Vec<u32>,
    /// First token of each unit and the one after its last.
    pub units: Vec<(usize, usize)>,
    /// Worth of each unit, nats a token.
    pub worth: Vec<f64>,
}

impl LabelledWindow {
    /// The labels of `window`, one a unit.
    pub fn new(window: &Window, units: Vec<Range<usize>>, worth: Vec<f64>) -> Self {
        let units = units.into_iter().map(|unit| (unit.start, unit.end)).collect();
        Self { document: window.document, start: window.start, prefix: window.prefix.clone(), units, worth }
    }
}
