//! Adversarial rows against plain ones: is a reference in what a compressor keeps? Beside both stand rows with the new question
//! alone and with the filler alone, which say where a fall comes from.

use crate::condense::{Condenser, PlainText};
use crate::config::choices::BudgetConfig;
use crate::data::task::TaskRow;
use crate::data::task::adversarial::AdversarialRow;
use crate::error::Result;
use crate::eval::stats::{bootstrap, clusters};
use crate::eval::task::figures::Mean;
use serde::Serialize;

/// Share of rows of which a reference is kept, of one compressor at one budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerKeptFigures {
    /// Name of the compressor.
    pub compressor: String,
    /// Budget, as a share of a context's tokens.
    pub budget_requested: f64,
    /// Rows.
    pub n: usize,
    /// Documents that they are of.
    pub documents: usize,
    /// Plain rows.
    pub plain: Mean,
    /// The plain context with the new question.
    pub paraphrase: Mean,
    /// The context with filler, with the plain question.
    pub filler: Mean,
    /// Adversarial rows.
    pub adversarial: Mean,
    /// Adversarial less plain, paired by row.
    pub difference: Mean,
}

/// Measures one compressor at one budget; `step` is told of each of the four parts.
///
/// # Errors
/// A compressor that fails.
pub fn answer_kept(
    condenser: &Condenser,
    sees_query: bool,
    rows: &[AdversarialRow],
    share: f64,
    (resamples, seed): (usize, u64),
    step: &dyn Fn(),
) -> Result<AnswerKeptFigures> {
    let budget = BudgetConfig { tokens: None, keep_ratio: Some(share) };
    let kept = |context: fn(&AdversarialRow) -> &TaskRow, asked: fn(&AdversarialRow) -> &TaskRow| {
        let text = |(number, row): (usize, &'_ AdversarialRow)| -> Result<f64> {
            let query = if sees_query { asked(row).query.as_str() } else { "" };
            let text = PlainText { text: &context(row).context, query, key: number as u64 };
            let made = condenser.condense(&[text], &budget)?.remove(0)?;
            Ok(f64::from(u8::from(row.plain.has_reference(&made.text))))
        };
        let found = rows.iter().enumerate().map(text).collect::<Result<Vec<f64>>>();
        step();
        found
    };
    let plain = kept(|row| &row.plain, |row| &row.plain)?;
    let paraphrase = kept(|row| &row.plain, |row| &row.hard)?;
    let filler = kept(|row| &row.hard, |row| &row.plain)?;
    let adversarial = kept(|row| &row.hard, |row| &row.hard)?;
    let clusters = clusters(rows.iter().map(|row| row.plain.document.as_deref().unwrap_or(&row.plain.context)));
    let mean = |values: &[f64]| -> Mean {
        bootstrap(&clusters, resamples, seed, |at| at.iter().map(|&row| values[row]).sum::<f64>() / at.len() as f64)
            .into()
    };
    let difference: Vec<f64> = adversarial.iter().zip(&plain).map(|(hard, plain)| hard - plain).collect();
    Ok(AnswerKeptFigures {
        compressor: condenser.compressor.name().to_string(),
        budget_requested: share,
        n: rows.len(),
        documents: clusters.iter().max().map_or(0, |last| last + 1),
        plain: mean(&plain),
        paraphrase: mean(&paraphrase),
        filler: mean(&filler),
        adversarial: mean(&adversarial),
        difference: mean(&difference),
    })
}
