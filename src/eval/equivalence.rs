//! Three gates between a text and its shorter form, as Sudhendra/compression-layer has them:
//!
//! | gate | score | passes from |
//! |---|---|---|
//! | embedding | cosine of the two sentence embeddings (all-MiniLM-L6-v2), in [0, 1] | 0.60 |
//! | facts | share of each side's facts that the other has (cosine above 0.8), mean of both directions | 0.55 |
//! | judge | verdict of a model, weighted by its confidence | 0.75 |
//!
//! They compare the answers that models give to the text and to its shorter form, or the two texts themselves where no model is
//! asked. A model's score is the mean over its tasks, a gate's the minimum over models; a pair passes if every gate does. The
//! judge is optional. The prompts are our own: the project's are not published.

use crate::compressor::scorers::embedding::Embedding;
use crate::data::pairs::{Domain, TextPair};
use crate::error::Result;
use crate::eval::asked::{AskedModel, json_in};
use crate::eval::stats::bootstrap;
use crate::eval::task::figures::Mean;
use crate::tensor::to_vec;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Gates and the scores from which they pass.
pub const GATES: [(&str, f64); 3] = [("embedding", 0.60), ("facts", 0.55), ("judge", 0.75)];
/// Tokens of a text that its embedding reads: sentence-transformers cuts behind them.
const EMBEDDED_TOKENS: i64 = 256;
/// Facts are the same above this cosine.
const SAME_FACT: f64 = 0.8;
/// Characters of a fact are more than these.
const SHORTEST_FACT: usize = 10;
/// Tokens of an answer.
pub const ANSWER_TOKENS: usize = 200;
/// Name that stands for a model where the texts themselves are compared.
pub const TEXTS: &str = "texts";

const FACTS: &str = "List every fact that the text states, one short sentence a line.";
const REASONING: &str = "List what follows from the text, one short sentence a line.";
const CODE_GEN: &str = "Write the code that the text shows or describes.";
const AS_IT_IS: &str = "Read the text.";

static BETWEEN_FACTS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[.!?]|(?i:\b(?:and|but|however|also|additionally)\b)").ok());

/// Scores of the gates, each in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateScores {
    /// Cosine of the two embeddings.
    pub embedding: f64,
    /// Overlap of facts.
    pub facts: f64,
    /// Verdict of the judge; none without one.
    pub judge: Option<f64>,
}

impl GateScores {
    /// Gate, score and threshold of each gate that is active.
    fn active(&self) -> impl Iterator<Item = (&'static str, f64, f64)> {
        let scores = [Some(self.embedding), Some(self.facts), self.judge];
        GATES.into_iter().zip(scores).filter_map(|((name, from), score)| Some((name, score?, from)))
    }

    /// Whether every active gate passes.
    pub fn passed(&self) -> bool {
        self.active().all(|(_, score, from)| score >= from)
    }

    /// The lowest score of an active gate.
    pub fn least(&self) -> f64 {
        self.active().map(|(_, score, _)| score).fold(f64::INFINITY, f64::min)
    }

    /// One score a gate from several.
    fn of(all: &[GateScores], one: fn(&[f64]) -> f64) -> GateScores {
        let of = |value: fn(&GateScores) -> f64| one(&all.iter().map(value).collect::<Vec<_>>());
        let judged: Vec<f64> = all.iter().filter_map(|own| own.judge).collect();
        GateScores {
            embedding: of(|own| own.embedding),
            facts: of(|own| own.facts),
            judge: (!judged.is_empty()).then(|| one(&judged)),
        }
    }
}

/// Embedding, models and judge.
pub struct Equivalence<'a> {
    /// Sentence encoder of the first two gates.
    pub embedding: &'a Embedding,
    /// Models whose answers are compared; none = the texts themselves.
    pub models: Vec<AskedModel<'a>>,
    /// The third gate.
    pub judge: Option<AskedModel<'a>>,
}

/// A pair with its scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EquivalenceRow {
    /// Line of the pair in its file.
    pub line: usize,
    /// Domain of the text.
    pub domain: Domain,
    /// Whether the row said its domain; else it is by [`Domain::of`].
    pub domain_given: bool,
    /// Scores of each gate, the minimum over models.
    #[serde(flatten)]
    pub scores: GateScores,
    /// Lowest score of an active gate.
    pub min_equivalence: f64,
    /// Whether every active gate passes.
    pub passed: bool,
    /// Scores of each model, the mean over its tasks.
    pub models: BTreeMap<String, GateScores>,
}

impl Equivalence<'_> {
    /// The scores of a pair.
    ///
    /// # Errors
    /// A model that fails.
    pub fn row(&self, line: usize, pair: &TextPair) -> Result<EquivalenceRow> {
        let domain = pair.domain.unwrap_or_else(|| Domain::of(&pair.verbose));
        let tasks = match domain {
            Domain::Code => [CODE_GEN, REASONING],
            Domain::Nl | Domain::Mixed => [FACTS, REASONING],
        };
        let texts = [&pair.verbose, &pair.compressed];
        let mut models = BTreeMap::new();
        if self.models.is_empty() {
            models.insert(TEXTS.to_string(), self.scores(AS_IT_IS, texts)?);
        }
        for model in &self.models {
            let prompts: Vec<String> = (tasks.iter())
                .flat_map(|wish| texts.map(|text| format!("{wish}\n\nText:\n{text}\n\nAnswer:\n")))
                .collect();
            let answers = (model.ask)(&prompts)?;
            let of_task = |(wish, own): (&&str, &[String])| self.scores(wish, [&own[0], &own[1]]);
            let scores = tasks.iter().zip(answers.chunks(2)).map(of_task).collect::<Result<Vec<_>>>()?;
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            models.insert(model.name.clone(), GateScores::of(&scores, mean));
        }
        let all: Vec<GateScores> = models.values().copied().collect();
        let scores = GateScores::of(&all, |values| values.iter().copied().fold(f64::INFINITY, f64::min));
        let (min_equivalence, passed) = (scores.least(), scores.passed());
        Ok(EquivalenceRow {
            line,
            domain,
            domain_given: pair.domain.is_some(),
            scores,
            min_equivalence,
            passed,
            models,
        })
    }

    /// The scores of two answers to one wish.
    fn scores(&self, wish: &str, [full, short]: [&String; 2]) -> Result<GateScores> {
        let (own, theirs) = (facts(full), facts(short));
        let mut texts: Vec<&str> = vec![full, short];
        texts.extend(own.iter().chain(&theirs).map(String::as_str));
        let all = self.embedding.embed(&texts, EMBEDDED_TOKENS)?; // [2 + facts, H]
        let blank = full.trim().is_empty() || short.trim().is_empty();
        let cosine = if blank { 0.0 } else { (all.get(0) * all.get(1)).sum(tch::Kind::Float).double_value(&[]) };
        let overlap = match (own.len(), theirs.len()) {
            (0, _) | (_, 0) => 0.0,
            (m, n) => {
                let part = |from: usize, count: usize| all.narrow(0, from as i64, count as i64);
                let cosines = to_vec(&part(2, m).matmul(&part(2 + m, n).tr()).reshape([-1]))?;
                two_way(&cosines, n)
            }
        };
        let judge = self.judge.as_ref().map(|judge| -> Result<f64> {
            let answers = (judge.ask)(&[judge_prompt(wish, full, short)])?;
            Ok(judge_score(answers.first().map_or("", String::as_str)))
        });
        Ok(GateScores { embedding: cosine.clamp(0.0, 1.0), facts: overlap, judge: judge.transpose()? })
    }
}

/// The facts of a text: its parts between sentence ends and conjunctions, in lower case, without short ones.
pub fn facts(text: &str) -> Vec<String> {
    let parts = BETWEEN_FACTS.as_ref().map_or_else(|| vec![text], |between| between.split(text).collect());
    let long = parts.into_iter().map(str::trim).filter(|part| part.chars().count() > SHORTEST_FACT);
    long.map(str::to_lowercase).collect()
}

/// Mean of the shares of rows and of columns that have a cosine above [`SAME_FACT`]; `columns` is above 0.
fn two_way(cosines: &[f64], columns: usize) -> f64 {
    let rows = cosines.len() / columns;
    let found_row = |row: usize| cosines[row * columns..(row + 1) * columns].iter().any(|own| *own > SAME_FACT);
    let found_column = |column: usize| cosines[column..].iter().step_by(columns).any(|own| *own > SAME_FACT);
    let share = |found: usize, all: usize| found as f64 / all as f64;
    let by_row = share((0..rows).filter(|&row| found_row(row)).count(), rows);
    (by_row + share((0..columns).filter(|&column| found_column(column)).count(), columns)) / 2.0
}

fn judge_prompt(wish: &str, full: &str, short: &str) -> String {
    format!(
        "A model was asked: {wish} It was asked once with a whole text, once with a short form of it. Say whether its two answers \
         carry the same information; wording does not count.\n\nWith the whole text:\n{full}\n\nWith the short form:\n{short}\n\n\
         Answer with JSON alone: {{\"verdict\": \"equivalent\" or \"partial\" or \"not_equivalent\", \"confidence\": 0 to 1}}"
    )
}

/// The score of a judge's reply: that of its verdict, drawn towards 0.5 by doubt. A reply that cannot be read is partial, in
/// doubt.
pub fn judge_score(reply: &str) -> f64 {
    let read = || -> Option<(f64, f64)> {
        let value = json_in(reply)?;
        let base = match value["verdict"].as_str()?.to_lowercase().as_str() {
            "equivalent" => 1.0,
            "partial" => 0.65,
            "not_equivalent" => 0.25,
            _ => return None,
        };
        Some((base, value["confidence"].as_f64()?.clamp(0.0, 1.0)))
    };
    let (base, confidence) = read().unwrap_or((0.65, 0.5));
    base * confidence + 0.5 * (1.0 - confidence)
}

/// A gate over some pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GateFigures {
    /// Mean score.
    pub score: Mean,
    /// Share that passes.
    pub passed: Mean,
}

/// All gates over some pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EquivalenceFigures {
    /// Pairs.
    pub n: usize,
    /// Share of which every active gate passes.
    pub passed: Mean,
    /// Mean of the lowest score.
    pub min_equivalence: Mean,
    /// Each active gate.
    pub gates: BTreeMap<&'static str, GateFigures>,
}

/// Figures of all pairs (`all`) and of each domain; intervals are by bootstrap over pairs.
pub fn figures(rows: &[EquivalenceRow], resamples: usize, seed: u64) -> BTreeMap<&'static str, EquivalenceFigures> {
    let mut parts: BTreeMap<&str, Vec<&EquivalenceRow>> = BTreeMap::new();
    for row in rows {
        parts.entry("all").or_default().push(row);
        parts.entry(row.domain.name()).or_default().push(row);
    }
    let of = |own: Vec<&EquivalenceRow>| {
        let each: Vec<usize> = (0..own.len()).collect();
        let mean = |value: &(dyn Fn(&EquivalenceRow) -> f64 + Sync)| -> Mean {
            let values: Vec<f64> = own.iter().map(|row| value(row)).collect();
            bootstrap(&each, resamples, seed, |at| at.iter().map(|&row| values[row]).sum::<f64>() / at.len() as f64)
                .into()
        };
        let share = |yes: bool| f64::from(u8::from(yes));
        let score = |row: &EquivalenceRow, gate: &str| row.scores.active().find(|(name, _, _)| *name == gate);
        let active = own.first().into_iter().flat_map(|row| row.scores.active());
        let gates = active.map(|(name, _, from)| {
            let of = |row: &EquivalenceRow| score(row, name).map_or(0.0, |(_, own, _)| own);
            (name, GateFigures { score: mean(&of), passed: mean(&|row| share(of(row) >= from)) })
        });
        let gates = gates.collect();
        let (passed, least) = (mean(&|row| share(row.passed)), mean(&|row| row.min_equivalence));
        EquivalenceFigures { n: own.len(), passed, min_equivalence: least, gates }
    };
    parts.into_iter().map(|(name, own)| (name, of(own))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_parts_between_ends_and_conjunctions() {
        let text = "Anna hid seven coins and Boris found them. However, Brandt was late! Ten chars.";
        assert_eq!(facts(text), ["anna hid seven coins", "boris found them", ", brandt was late"]);
        assert!(facts("Short. And so.").is_empty());
    }

    #[test]
    fn coverage_counts_both_directions() {
        // Two facts, three facts: both of the first are found, two of the second.
        assert_eq!(two_way(&[0.9, 0.1, 0.1, 0.2, 0.81, 0.3], 3), (1.0 + 2.0 / 3.0) / 2.0);
        assert_eq!(two_way(&[0.8], 1), 0.0, "0.8 itself is not above");
    }

    #[test]
    fn a_judge_in_doubt_is_near_half() {
        for (reply, expected) in [
            (r#"{"verdict": "equivalent", "confidence": 1.0}"#, 1.0),
            ("```json\n{\"verdict\": \"PARTIAL\", \"confidence\": 0.8}\n```", 0.65 * 0.8 + 0.5 * 0.2),
            (r#"{"verdict": "not_equivalent", "confidence": 7}"#, 0.25),
            (r#"{"verdict": "equivalent", "confidence": 0}"#, 0.5),
            ("I would say yes.", 0.65 * 0.5 + 0.25),
            (r#"{"verdict": "same", "confidence": 1}"#, 0.65 * 0.5 + 0.25),
        ] {
            assert!((judge_score(reply) - expected).abs() < 1e-12, "{reply}: {}", judge_score(reply));
        }
    }

    #[test]
    fn every_active_gate_must_pass() {
        let of = |embedding, facts, judge| GateScores { embedding, facts, judge };
        assert!(of(0.60, 0.55, None).passed() && of(0.60, 0.55, Some(0.75)).passed());
        for low in [of(0.59, 1.0, None), of(1.0, 0.54, None), of(1.0, 1.0, Some(0.74))] {
            assert!(!low.passed());
        }
        assert_eq!(of(0.9, 0.7, Some(0.8)).least(), 0.7);
    }
}
