//! Compressors as flags and experiments name them: the one that learns, the scorers, the units that are kept or dropped.

use crate::config::parts::{Problem, at_least, is_false, not_negative, under};
use crate::error;
use crate::hub;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The compressor that learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum CompressorConfig {
    /// Writes a gist token by token.
    Gist {
        /// Instruction to an instruct model, with `{prefix}` once where the text stands; the message of a user where the model
        /// has a chat template. Absent = the bare text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instruction: Option<String>,
        /// Search for a likelier gist where the greedy one is unsure; absent = the greedy one as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        likeliest: Option<Likeliest>,
    },
    /// Keeps units of the prefix: the base with its causal mask off says what each is worth, or an encoder does.
    Extractive {
        /// Unit that is kept or dropped as a whole.
        #[serde(default)]
        unit: Unit,
        /// Rule that makes a unit's score from the scores of its tokens.
        #[serde(default, skip_serializing_if = "Aggregate::is_mean")]
        aggregate: Aggregate,
        /// An encoder to start from in place of the base.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        encoder: Option<EncoderSection>,
        /// Number of the base's first blocks that read: a smaller and faster student; absent = all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blocks: Option<usize>,
        /// Scorers that need no training: their scores, standardised over a prefix, are added to a unit's score, with weights
        /// that start at 1 and learn.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hints: Vec<Hint>,
        /// Whether the encoder finds evidence for a question (`gist distill`): a unit's score begins as a sum of its cosine, its
        /// BM25 and the cosine of its passage, all standardised, and what is read passage by passage is added to it.
        #[serde(default, skip_serializing_if = "is_false")]
        evidence: bool,
    },
}

/// Search for the likeliest gist (MAP decoding by samples): a greedy gist with an action that is less probable than `below` is
/// compared with samples, and the one with the highest probability as a whole is taken. One wrong token makes all that follow
/// improbable, which greedy choice cannot see.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Likeliest {
    /// Samples that an unsure gist is compared with.
    pub samples: usize,
    /// Probability of an action below which a gist is unsure, in (0, 1].
    pub below: f64,
}

impl Default for Likeliest {
    fn default() -> Self {
        Self { samples: 16, below: 0.7 }
    }
}

impl Likeliest {
    fn check(&self) -> Result<(), Problem> {
        at_least("samples", self.samples, 1)?;
        match self.below > 0.0 && self.below <= 1.0 {
            true => Ok(()),
            false => Err(("below".into(), format!("expected a probability in (0, 1], got {}", self.below))),
        }
    }
}

/// A scorer whose scores an extractive compressor gets as features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    /// BM25 for the query or the local window.
    Bm25,
    /// Cosine of the sentence embeddings by the compressor's own encoder, as it comes.
    Embedding,
}

/// An encoder (BERT, DistilBERT, RoBERTa, XLM-R, ModernBERT).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSection {
    /// Folder with `config.json`, `model.safetensors`, `tokenizer.json`, or a repository of the Hugging Face Hub.
    pub path: PathBuf,
    /// Branch, tag or commit of that repository; absent = main, as it is in the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Share of the learning rate that its own weights get; the heads over it get all.
    #[serde(default = "lr_factor")]
    pub lr_factor: f64,
    /// Rank of low-rank weights that learn beside its own, which stay as they are, for an encoder that finds evidence
    /// (`evidence = true`) or answers; absent = its own learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<i64>,
}

impl EncoderSection {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        if let Some(rank) = self.rank.filter(|rank| *rank < 1) {
            return Err(("rank".into(), format!("expected at least 1, got {rank}")));
        }
        not_negative("lr_factor", self.lr_factor)
    }

    /// Folder of the encoder's files: `path` itself, or the cached repository that it names.
    pub fn folder(&self) -> error::Result<PathBuf> {
        hub::folder(&self.path, self.revision.as_deref())
    }
}

fn lr_factor() -> f64 {
    0.05
}

impl CompressorConfig {
    /// Says what is impossible, naming the key.
    pub fn check(&self) -> Result<(), Problem> {
        let (unit, encoder, blocks, hints) = match self {
            CompressorConfig::Extractive { unit, aggregate, encoder, blocks, hints, evidence } => {
                if *evidence && encoder.is_none() {
                    return Err(("evidence".into(), "expected compressor.encoder beside true, got none".into()));
                }
                if let Some(encoder) = encoder {
                    encoder.check().map_err(under("encoder"))?;
                    if let Some(rank) = encoder.rank.filter(|_| !evidence) {
                        let expected = "expected it absent, or compressor.evidence = true beside it";
                        return Err(("encoder.rank".into(), format!("{expected}, got {rank}")));
                    }
                }
                if *evidence && !(hints.is_empty() && aggregate.is_mean()) {
                    let message = "expected false beside compressor.hints or compressor.aggregate, got true";
                    return Err(("evidence".into(), message.into()));
                }
                (unit, encoder, blocks, hints)
            }
            CompressorConfig::Gist { instruction, likeliest } => {
                likeliest.iter().try_for_each(|search| search.check().map_err(under("likeliest")))?;
                return match instruction.as_ref().map_or(1, |text| text.matches("{prefix}").count()) {
                    1 => Ok(()),
                    n => Err(("instruction".into(), format!("expected `{{prefix}}` once, got it {n} times"))),
                };
            }
        };
        unit.check().map_err(under("unit"))?;
        at_least("blocks", blocks.unwrap_or(1), 1)?;
        if let Some((i, twice)) = hints.iter().enumerate().find(|(i, hint)| hints[..*i].contains(hint)) {
            return Err((format!("hints[{i}]"), format!("expected each once, got {twice:?} twice")));
        }
        if encoder.is_none() && hints.contains(&Hint::Embedding) {
            return Err(("hints".into(), "expected compressor.encoder beside \"embedding\", got none".into()));
        }
        if encoder.is_some() && blocks.is_some() {
            let message = "expected none beside compressor.encoder, which reads in the base's place";
            return Err(("blocks".into(), message.into()));
        }
        Ok(())
    }
}

impl Default for CompressorConfig {
    fn default() -> Self {
        CompressorConfig::Gist { instruction: None, likeliest: None }
    }
}

/// Unit that an extractive compressor keeps or drops as a whole; it always consists of whole tokens of the reading model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Unit {
    /// A single token.
    Token {},
    /// A word with the blanks before it (UAX 29).
    Word {},
    /// A sentence (UAX 29); a line break ends one, so that a line of source code is one at most.
    Sentence {},
    /// A fixed number of tokens, beginning every `stride` tokens and at the end.
    Span {
        /// Tokens of a span.
        tokens: usize,
        /// Tokens between the starts of spans.
        stride: usize,
    },
}

impl Default for Unit {
    fn default() -> Self {
        Unit::Span { tokens: 8, stride: 8 }
    }
}

impl Unit {
    /// Says what is impossible, naming the key.
    pub fn check(self) -> Result<(), Problem> {
        match self {
            Unit::Token {} | Unit::Word {} | Unit::Sentence {} => Ok(()),
            Unit::Span { tokens, stride } => at_least("tokens", tokens, 1).and(at_least("stride", stride, 1)),
        }
    }
}

/// Rule that makes a unit's score from the scores of its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Mean of the tokens' scores.
    #[default]
    Mean,
    /// Score of the first token.
    First,
    /// Highest of the tokens' scores.
    Max,
}

impl Aggregate {
    /// Whether it is the mean.
    pub fn is_mean(&self) -> bool {
        *self == Aggregate::Mean
    }
}

/// Kind of a frozen model that scores units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrozenKind {
    /// A token classifier: the probability that a token is kept (LLMLingua-2, Kompress).
    Encoder,
    /// A sentence encoder: the cosine of sentence and question.
    Embedding,
    /// An encoder that `gist distill` taught to find evidence, or a sentence encoder as it comes: the sum that it begins from.
    Evidence,
}

/// A frozen model as a scorer, named `encoder:PATH`, `embedding:PATH` or `evidence:PATH`; the path is a folder or a repository
/// of the Hugging Face Hub, `owner/name` or `owner/name@revision`. `evidence` alone, or `extractive:evidence`, is the encoder
/// that ships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FrozenScorer {
    /// Kind of its scores.
    pub kind: FrozenKind,
    /// Folder or repository.
    pub path: PathBuf,
    /// Branch, tag or commit of the repository.
    pub revision: Option<String>,
}

/// Prefix of a name, and the kind that it stands for.
const FROZEN: [(&str, FrozenKind); 3] =
    [("encoder", FrozenKind::Encoder), ("embedding", FrozenKind::Embedding), ("evidence", FrozenKind::Evidence)];

/// Names of the evidence encoder that ships, and its folder.
const SHIPPED: ([&str; 2], &str) = (["evidence", "extractive:evidence"], "checkpoints/minilm/evidence");

impl FrozenScorer {
    /// Whether a name is meant to be one.
    pub fn is_meant(name: &str) -> bool {
        SHIPPED.0.contains(&name)
            || name.split_once(':').is_some_and(|(kind, _)| FROZEN.iter().any(|(known, _)| *known == kind))
    }

    /// Folder of the model's files: `path` itself, or the cached repository that it names.
    pub fn folder(&self) -> error::Result<PathBuf> {
        hub::folder(&self.path, self.revision.as_deref())
    }
}

impl TryFrom<String> for FrozenScorer {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if SHIPPED.0.contains(&name.as_str()) {
            return Ok(Self { kind: FrozenKind::Evidence, path: SHIPPED.1.into(), revision: None });
        }
        let parts = name.split_once(':').filter(|(_, path)| !path.is_empty());
        let found = parts.and_then(|(kind, path)| Some((FROZEN.iter().find(|(known, _)| *known == kind)?.1, path)));
        let (kind, path) =
            found.ok_or(format!("expected encoder:PATH, embedding:PATH or evidence:PATH, got {name:?}"))?;
        let pinned = path.rsplit_once('@').filter(|(path, _)| hub::is_repository(Path::new(path)));
        let (path, revision) = pinned.map_or((path, None), |(path, revision)| (path, Some(revision.to_string())));
        Ok(Self { kind, path: path.into(), revision })
    }
}

impl From<FrozenScorer> for String {
    fn from(scorer: FrozenScorer) -> String {
        scorer.to_string()
    }
}

impl std::fmt::Display for FrozenScorer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        if (self.kind, self.path.as_path()) == (FrozenKind::Evidence, Path::new(SHIPPED.1)) {
            return f.write_str(SHIPPED.0[0]);
        }
        let kind = FROZEN.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
        write!(f, "{kind}:{}", self.path.display())?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}
