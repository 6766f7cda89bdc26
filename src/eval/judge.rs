//! Grades from 1 to 10: could a model act on what a compressor kept? One protocol for every compressor, any model as judge, over
//! the rows of a downstream evaluation. The whole context is graded like any other, as `identity`.

use crate::error::{Error, Result};
use crate::eval::asked::{AskedModel, json_in};
use crate::eval::stats::{clusters, mean};
use crate::eval::task::downstream::IDENTITY;
use crate::eval::task::figures::Mean;
use crate::eval::task::rows::DownstreamRow;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Tokens of a judge's reply.
pub const REPLY_TOKENS: usize = 32;
/// Grades.
const GRADES: std::ops::RangeInclusive<f64> = 1.0..=10.0;

/// A number that stands alone, or before "/10".
static NUMBER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\D*?(\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*10)?\D*$").ok());

/// A text that a compressor kept, with the grades of each judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgedRow {
    /// Example.
    pub example_id: String,
    /// Document that its context is of.
    pub document: String,
    /// Compressor.
    pub compressor: String,
    /// Budget that it was given, as a share.
    pub budget_requested: f64,
    /// Grade by judge; none of a reply that cannot be read.
    pub grades: BTreeMap<String, Option<f64>>,
}

/// Grades of a compressor at a budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeFigures {
    /// Compressor.
    pub compressor: String,
    /// Budget that it was given.
    pub budget_requested: f64,
    /// Rows.
    pub n: usize,
    /// Mean grade by judge, with a 95 % interval by bootstrap over documents; replies that cannot be read are left out.
    pub grades: BTreeMap<String, Mean>,
    /// Replies by judge that could not be read.
    pub unread: BTreeMap<String, usize>,
}

/// Agreement of two judges over the rows that both graded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The judges.
    pub judges: [String; 2],
    /// Rows that both graded.
    pub n: usize,
    /// Share of equal grades.
    pub equal: f64,
    /// Share of grades at most 1 apart.
    pub within_one: f64,
    /// Cohen's kappa with quadratic weights (Cohen 1968): 1 equal, 0 as chance would have it. None where a judge has one grade
    /// for all.
    pub kappa: Option<f64>,
}

fn prompt(question: &str, full: &str, short: &str) -> String {
    format!(
        "Somebody has to do what is asked below, and sees a short form of a text in place of the text. Grade from 1 to 10 how well \
         the short form serves: 10 if it has everything that is needed from the text, 1 if it has nothing of it. Wording does not \
         count.\n\nAsked:\n{question}\n\nText:\n{full}\n\nShort form:\n{short}\n\nAnswer with JSON alone: {{\"grade\": 1 to 10}}"
    )
}

/// The grade in a judge's reply: that of its JSON, or the only number in it. None where there is no such, or none of 1 to 10.
pub fn grade(reply: &str) -> Option<f64> {
    let json = || -> Option<f64> {
        let value = json_in(reply)?;
        value["grade"].as_f64().or_else(|| value["grade"].as_str()?.trim().parse().ok())
    };
    let alone = || NUMBER.as_ref()?.captures(reply)?.get(1)?.as_str().parse().ok();
    json().or_else(alone).filter(|grade| GRADES.contains(grade))
}

/// The grades of rows of an evaluation; `step` is told after each example, and says whether to go on.
///
/// # Errors
/// A judge that fails, an example without its row of `identity`, which has the whole context, or [`Error::Interrupted`].
pub fn judge(
    rows: &[DownstreamRow],
    judges: &[AskedModel],
    mut step: impl FnMut(&str) -> bool,
) -> Result<Vec<JudgedRow>> {
    let mut examples: Vec<(&str, Vec<&DownstreamRow>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        // Rows of a resumed evaluation may stand apart.
        let at = *places.entry(row.example_id.as_str()).or_insert(examples.len());
        match examples.get_mut(at) {
            Some((_, own)) => own.push(row),
            None => examples.push((&row.example_id, vec![row])),
        }
    }
    let mut all = Vec::with_capacity(rows.len());
    for (id, own) in examples {
        let whole = own.iter().find(|row| row.compressor == IDENTITY).map(|row| row.compressed_text.as_str());
        let none = || Error::invalid(format!("example {id:?}: expected a row of {IDENTITY}, got none"));
        let whole = whole.ok_or_else(none)?;
        let prompts: Vec<String> = own.iter().map(|row| prompt(&row.query, whole, &row.compressed_text)).collect();
        let mut judged: Vec<JudgedRow> = (own.iter())
            .map(|row| JudgedRow {
                example_id: row.example_id.clone(),
                document: row.document.clone(),
                compressor: row.compressor.clone(),
                budget_requested: row.budget_requested,
                grades: BTreeMap::new(),
            })
            .collect();
        for model in judges {
            let replies = match (model.ask)(&prompts) {
                Err(Error::Interrupted { .. }) => return Err(Error::Interrupted { step: all.len() }),
                other => other?,
            };
            if replies.len() != prompts.len() {
                return Err(Error::shape(format!("replies of {}", model.name), prompts.len(), replies.len()));
            }
            for (row, reply) in judged.iter_mut().zip(&replies) {
                row.grades.insert(model.name.clone(), grade(reply));
            }
        }
        all.extend(judged);
        if !step(id) {
            return Err(Error::Interrupted { step: all.len() });
        }
    }
    Ok(all)
}

/// Figures of each compressor and budget, in the order of the rows.
pub fn figures(rows: &[JudgedRow], resamples: usize, seed: u64) -> Vec<JudgeFigures> {
    let mut parts: Vec<(&str, f64, Vec<&JudgedRow>)> = Vec::new();
    for row in rows {
        let is_own = |(name, budget, _): &&mut (&str, f64, Vec<&JudgedRow>)| {
            *name == row.compressor && *budget == row.budget_requested
        };
        match parts.iter_mut().find(is_own) {
            Some((_, _, own)) => own.push(row),
            None => parts.push((&row.compressor, row.budget_requested, vec![row])),
        }
    }
    let of = |(compressor, budget_requested, own): (&str, f64, Vec<&JudgedRow>)| {
        let (mut grades, mut unread) = (BTreeMap::new(), BTreeMap::new());
        for judge in own.iter().flat_map(|row| row.grades.keys()).collect::<std::collections::BTreeSet<_>>() {
            let read: Vec<(&str, f64)> =
                own.iter().filter_map(|row| Some((row.document.as_str(), (*row.grades.get(judge)?)?))).collect();
            let documents = clusters(read.iter().map(|(document, _)| *document));
            let values: Vec<f64> = read.iter().map(|(_, grade)| *grade).collect();
            unread.insert(judge.clone(), own.len() - read.len());
            if !values.is_empty() {
                grades.insert(judge.clone(), mean(&values, &documents, resamples, seed).into());
            }
        }
        JudgeFigures { compressor: compressor.into(), budget_requested, n: own.len(), grades, unread }
    };
    parts.into_iter().map(of).collect()
}

/// Agreement of each two judges.
pub fn agreement(rows: &[JudgedRow]) -> Vec<Agreement> {
    let names: Vec<&String> = rows.first().map_or_else(Vec::new, |row| row.grades.keys().collect());
    let mut all = Vec::new();
    for (i, first) in names.iter().enumerate() {
        for second in &names[i + 1..] {
            let of = |row: &JudgedRow, name: &str| row.grades.get(name).copied().flatten();
            let pairs: Vec<[f64; 2]> =
                rows.iter().filter_map(|row| Some([of(row, first)?, of(row, second)?])).collect();
            let share = |near: f64| {
                pairs.iter().filter(|[a, b]| (a - b).abs() <= near).count() as f64 / pairs.len().max(1) as f64
            };
            let (equal, within_one) = (share(0.0), share(1.0));
            let judges = [(*first).clone(), (*second).clone()];
            all.push(Agreement { judges, n: pairs.len(), equal, within_one, kappa: kappa(&pairs) });
        }
    }
    all
}

/// 1 less the mean squared difference of pairs over that of all combinations.
fn kappa(pairs: &[[f64; 2]]) -> Option<f64> {
    let n = pairs.len() as f64;
    let observed: f64 = pairs.iter().map(|[a, b]| (a - b).powi(2)).sum::<f64>() / n;
    let chance =
        pairs.iter().flat_map(|[a, _]| pairs.iter().map(move |[_, b]| (a - b).powi(2))).sum::<f64>() / n.powi(2);
    let varied = |which: usize| pairs.iter().any(|pair| pair[which] != pairs[0][which]);
    (!pairs.is_empty() && varied(0) && varied(1)).then(|| 1.0 - observed / chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grade_is_that_of_the_json_or_the_only_number() {
        for (reply, expected) in [
            (r#"{"grade": 7}"#, Some(7.0)),
            ("```json\n{\"grade\": \"8\"}\n``` {", Some(8.0)),
            (r#"{"grade": 6.5, "why": "3 of 4 facts"}"#, Some(6.5)),
            ("9", Some(9.0)),
            ("Grade: 4/10.", Some(4.0)),
            ("I give it 7 out of 10.", Some(7.0)),
            (r#"{"grade": 11}"#, None),
            (r#"{"grade": 0}"#, None),
            ("Between 3 and 5.", None),
            ("I cannot say.", None),
            ("", None),
        ] {
            assert_eq!(grade(reply), expected, "{reply:?}");
        }
    }

    #[test]
    fn agreement_is_that_of_cohen() {
        let row = |a: Option<f64>, b: Option<f64>| JudgedRow {
            example_id: "x".into(),
            document: "d".into(),
            compressor: "c".into(),
            budget_requested: 0.2,
            grades: BTreeMap::from([("a".to_string(), a), ("b".to_string(), b)]),
        };
        let rows = [(1.0, 1.0), (2.0, 4.0), (3.0, 3.0), (10.0, 9.0)].map(|(a, b)| row(Some(a), Some(b)));
        let found = agreement(&[&rows[..], &[row(None, Some(3.0))]].concat()).remove(0);
        assert_eq!((found.n, found.equal, found.within_one), (4, 0.5, 0.75));
        // Observed (0 + 4 + 0 + 1) / 4; of the 16 combinations 1 has 77 in all, 2 has 55, 3 has 41, 10 has 167.
        assert!((found.kappa.unwrap_or(0.0) - (1.0 - 1.25 / (340.0 / 16.0))).abs() < 1e-12);
        assert!(agreement(&[row(Some(1.0), Some(2.0)), row(Some(1.0), Some(3.0))])[0].kappa.is_none());
    }
}
