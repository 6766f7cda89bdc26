//! Schema of `[distill]`: how an extractive compressor learns from labels before the policy gradient.

use crate::config::compressors::Hint;
use crate::config::parts::{Problem, at_least, not_negative, under};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Labels and loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distill {
    /// Training windows that are labelled; 0 = no distillation.
    pub windows: usize,
    /// Kind of label of a unit.
    pub label: Label,
    /// Folder of a trained extractive compressor over the same base that labels by its scores (`label = "teacher"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<PathBuf>,
    /// Hints that the teacher was trained with (its `compressor.hints`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub teacher_hints: Vec<Hint>,
    /// Folder of labels that `gist label` made of this experiment; absent = they are made by the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_from: Option<PathBuf>,
    /// Loss.
    pub loss: DistillLoss,
    /// Passes over the labelled windows.
    pub epochs: usize,
    /// Windows of a step.
    pub batch: usize,
}

impl Default for Distill {
    fn default() -> Self {
        Self {
            windows: 0,
            label: Label::Alone,
            teacher: None,
            teacher_hints: Vec::new(),
            labels_from: None,
            loss: DistillLoss::Ranking { temperature: default_temperature() },
            epochs: 4,
            batch: 24,
        }
    }
}

/// Label of a unit: its worth to the teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// Fall of the reader's KL when it gets the unit alone, against no context; nats a token.
    Alone,
    /// Rise of the bare base's KL when the unit is taken out of the prefix, nats a token.
    Without,
    /// The score that another extractive compressor gives it, less that of the end: knowledge distillation (Hinton et al. 2015,
    /// arXiv 1503.02531), which a ranking temperature of 1 suits.
    Teacher,
}

/// The loss of distillation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum DistillLoss {
    /// Cross-entropy of the first draw from softmax(label / temperature), the end at label 0 (ListNet, Cao et al. 2007).
    Ranking {
        /// Nats a token that make a unit e times more worth drawing.
        #[serde(default = "default_temperature")]
        temperature: f64,
    },
    /// Keep or drop each unit (LLMLingua-2): binary cross-entropy against the best units that the budget holds.
    Keep {
        /// Weight of the units kept; absent = so many that kept and dropped weigh the same in each window.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        positive_weight: Option<f64>,
    },
    /// Cross-entropy of the first draw among the units from those labelled above 0, all alike (listwise ranking, Cao et al.
    /// 2007), and binary cross-entropy of keeping exactly those beside it.
    Listwise {
        /// Weight of the binary cross-entropy.
        #[serde(default = "default_keep_weight")]
        keep_weight: f64,
    },
}

fn default_keep_weight() -> f64 {
    0.5
}

fn default_temperature() -> f64 {
    0.05
}

impl Distill {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        at_least("epochs", self.epochs, 1)?;
        at_least("batch", self.batch, 1)?;
        if (self.label == Label::Teacher) != self.teacher.is_some() {
            let got = if self.teacher.is_some() { "one" } else { "none" };
            let expected = "expected a folder when label is \"teacher\", and none otherwise";
            return Err(("teacher".into(), format!("{expected}, got {got}")));
        }
        if self.teacher.is_none() && !self.teacher_hints.is_empty() {
            return Err(("teacher_hints".into(), "expected none without a teacher, got some".into()));
        }
        self.loss.check().map_err(under("loss"))
    }

    /// Updates of the whole distillation.
    pub fn updates(&self) -> usize {
        self.epochs * self.windows.div_ceil(self.batch)
    }
}

impl DistillLoss {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        match *self {
            DistillLoss::Ranking { temperature } => match temperature > 0.0 && temperature.is_finite() {
                true => Ok(()),
                false => Err(("temperature".into(), format!("expected a finite number above 0, got {temperature}"))),
            },
            DistillLoss::Keep { positive_weight: Some(weight) } => not_negative("positive_weight", weight),
            DistillLoss::Keep { positive_weight: None } => Ok(()),
            DistillLoss::Listwise { keep_weight } => not_negative("keep_weight", keep_weight),
        }
    }
}
