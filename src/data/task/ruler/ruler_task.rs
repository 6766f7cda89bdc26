//! Tasks of RULER by name, and a row as it is drawn.

use crate::error::{Error, Result};

/// A task of RULER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RulerTask {
    /// One needle in repeated sentences.
    NiahSingle1,
    /// One needle among needles, keys are words.
    NiahMultikey2,
    /// One needle among needles, keys and values are UUIDs.
    NiahMultikey3,
    /// Variable tracking.
    Vt,
    /// Common words.
    Cwe,
    /// Frequent coded words.
    Fwe,
    /// SQuAD among other paragraphs.
    Qa1,
    /// HotpotQA among other paragraphs.
    Qa2,
}

impl RulerTask {
    /// All tasks, in RULER's order.
    pub const ALL: [RulerTask; 8] = [
        RulerTask::NiahSingle1,
        RulerTask::NiahMultikey2,
        RulerTask::NiahMultikey3,
        RulerTask::Vt,
        RulerTask::Cwe,
        RulerTask::Fwe,
        RulerTask::Qa1,
        RulerTask::Qa2,
    ];

    /// RULER's name of it.
    pub fn name(self) -> &'static str {
        match self {
            RulerTask::NiahSingle1 => "niah_single_1",
            RulerTask::NiahMultikey2 => "niah_multikey_2",
            RulerTask::NiahMultikey3 => "niah_multikey_3",
            RulerTask::Vt => "vt",
            RulerTask::Cwe => "cwe",
            RulerTask::Fwe => "fwe",
            RulerTask::Qa1 => "qa_1",
            RulerTask::Qa2 => "qa_2",
        }
    }

    /// The task of this name; an error that lists all.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|task| task.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|task| task.name()).collect();
            Error::invalid(format!("expected a task of RULER among {}, got {name:?}", names.join(", ")))
        })
    }

    /// The benchmark that its questions are of; none where all is made up.
    pub fn questions(self) -> Option<&'static str> {
        match self {
            RulerTask::Qa1 => Some("squad"),
            RulerTask::Qa2 => Some("hotpotqa"),
            RulerTask::NiahSingle1
            | RulerTask::NiahMultikey2
            | RulerTask::NiahMultikey3
            | RulerTask::Vt
            | RulerTask::Cwe
            | RulerTask::Fwe => None,
        }
    }

    /// Tokens that an answer may have.
    pub(super) fn answer_tokens(self) -> usize {
        match self {
            RulerTask::NiahSingle1 | RulerTask::NiahMultikey2 | RulerTask::NiahMultikey3 => 128,
            RulerTask::Vt => 30,
            RulerTask::Cwe => 120,
            RulerTask::Fwe => 50,
            RulerTask::Qa1 | RulerTask::Qa2 => 32,
        }
    }
}

/// A row that was drawn.
pub(super) struct Drawn {
    /// Text before the context.
    pub before: String,
    /// The haystack with what is to be found.
    pub context: String,
    /// Text behind it, the question and the beginning of the answer in it.
    pub after: String,
    /// The question alone.
    pub query: String,
    /// References.
    pub answers: Vec<String>,
}

impl Drawn {
    /// The whole prompt.
    pub fn text(&self) -> String {
        [self.before.as_str(), &self.context, &self.after].concat()
    }
}
