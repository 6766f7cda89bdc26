//! Evaluation of a run: the `[eval]` section.

use crate::config::compressors::FrozenScorer;
use crate::config::parts::{Problem, Sampling, at_least, is_zero, under};
use serde::{Deserialize, Serialize};

/// Opponents of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baselines {
    /// All baselines; a base is prompted for summaries and notes only where it has a chat template.
    #[default]
    All,
    /// The most recent tokens alone, beside the empty gist; no sampled gist, leak controls or earlier states of the run
    /// either: for sweeps, whose arms are compared with each other.
    Recent,
}

impl Baselines {
    /// Whether none is left out.
    pub fn is_all(&self) -> bool {
        *self == Baselines::All
    }
}

/// The split that a run is judged on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExamSplit {
    /// `data.test`, on which choices are made.
    #[default]
    Test,
    /// `data.valid`, which training looks at too.
    Valid,
    /// `data.final`, read once, for figures that are published. Each reading is counted.
    Final,
}

impl ExamSplit {
    /// Its name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            ExamSplit::Test => "test",
            ExamSplit::Valid => "valid",
            ExamSplit::Final => "final",
        }
    }

    /// Whether it is the default.
    pub fn is_test(&self) -> bool {
        *self == ExamSplit::Test
    }
}

/// The unit that intervals resample whole: that over which the claim is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cluster {
    /// One document.
    #[default]
    Document,
    /// All documents of one source (a project, a book).
    Source,
}

impl Cluster {
    /// Plural, for sentences.
    pub fn plural(self) -> &'static str {
        match self {
            Cluster::Document => "documents",
            Cluster::Source => "sources",
        }
    }

    /// Whether it is the default.
    pub fn is_document(&self) -> bool {
        *self == Cluster::Document
    }
}

/// Evaluation on held-out windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Test windows.
    pub windows: usize,
    /// Test windows taken from one document at most.
    pub windows_per_document: usize,
    /// Validation windows, at every evaluation during training.
    pub valid_windows: usize,
    /// Windows on which spans are searched, with the future in sight and without; 0 = none.
    pub search_windows: usize,
    /// Futures that the teacher imagines for the search without.
    pub imagined_futures: usize,
    /// Test windows of `[data.facts]` whose probes ask, in a table beside the others, for the text round the facts; 0 = none.
    #[serde(skip_serializing_if = "is_zero")]
    pub unasked_windows: usize,
    /// Bootstrap resamples.
    pub resamples: usize,
    /// Split that the final figures are of: "test", "valid" or "final".
    #[serde(skip_serializing_if = "ExamSplit::is_test")]
    pub split: ExamSplit,
    /// Unit that intervals resample whole: "document" or "source".
    #[serde(skip_serializing_if = "Cluster::is_document")]
    pub cluster: Cluster,
    /// Examples written for the gallery.
    pub examples: usize,
    /// Baselines evaluated beside what was trained.
    #[serde(skip_serializing_if = "Baselines::is_all")]
    pub baselines: Baselines,
    /// Frozen models evaluated beside them: `encoder:PATH`, `embedding:PATH`, `evidence:PATH`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub encoders: Vec<FrozenScorer>,
    /// Sampling of the `gist_sampled` row.
    pub sampling: Sampling,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            windows: 400,
            windows_per_document: 4,
            valid_windows: 96,
            search_windows: 0,
            imagined_futures: 8,
            unasked_windows: 0,
            resamples: 2000,
            split: ExamSplit::Test,
            cluster: Cluster::Document,
            examples: 16,
            baselines: Baselines::All,
            encoders: Vec::new(),
            sampling: Sampling::default(),
        }
    }
}

impl EvalConfig {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        at_least("windows", self.windows, 2)?;
        at_least("windows_per_document", self.windows_per_document, 1)?;
        at_least("valid_windows", self.valid_windows, 2)?;
        at_least("imagined_futures", self.imagined_futures, 1)?;
        at_least("resamples", self.resamples, 100)?;
        if let Some((i, twice)) = self.encoders.iter().enumerate().find(|(i, one)| self.encoders[..*i].contains(one)) {
            return Err((format!("encoders[{i}]"), format!("expected each once, got {:?} twice", twice.to_string())));
        }
        self.sampling.check().map_err(under("sampling"))
    }
}
