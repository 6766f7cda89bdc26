//! Rollouts on disk, a row a gist, and surface figures of the gists of a step.

use crate::data::Window;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::reading;
use crate::retention;
use crate::reward::RewardParts;
use crate::rollout::Group;
use crate::run_dir::write_atomic;
use crate::tokenizer::{Tokenizer, WindowText};
use std::path::Path;

/// The rollouts of a step.
pub struct Logged<'a> {
    /// Windows of the step.
    pub windows: &'a [Window],
    /// Gists of the windows, one group for each.
    pub groups: &'a [Group],
    /// Parts of the gists' rewards.
    pub scored: &'a [Vec<RewardParts>],
    /// Price of length that was paid.
    pub lambda: f64,
}

/// Writes `rollouts/step_NNNNNN.jsonl`.
pub fn write(path: &Path, tokenizer: &Tokenizer, step: &Logged) -> Result<()> {
    let Logged { windows, groups, scored, lambda } = *step;
    let mut text = String::new();
    for (i, ((window, group), parts)) in windows.iter().zip(groups).zip(scored).enumerate() {
        let WindowText { prefix, local, future } = tokenizer.window(window)?;
        for ((gist, reading), part) in group.gists.iter().zip(&group.readings).zip(parts) {
            let row = serde_json::json!({
                "window": i, "prefix": prefix, "local": local, "future": future,
                "gist": tokenizer.decode(&gist.ids)?, "tokens": gist.ids.len(), "ended": gist.ended,
                "kl": reading.kl, "nll": reading.nll, "kl_empty": group.empty.kl,
                "reward/quality": part.quality, "reward/length": -lambda * part.length,
                "logprob": gist.behavior_logprobs.iter().sum::<f64>(),
            });
            text.push_str(&row.to_string());
            text.push('\n');
        }
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    write_atomic(path, text.as_bytes())
}

/// Surface figures of the gists of a step: means of those of [`retention::Retention`] that are defined.
pub fn surface(tokenizer: &Tokenizer, windows: &[Window], groups: &[Group]) -> Result<Metrics> {
    let mut all = Vec::new();
    for (window, group) in windows.iter().zip(groups) {
        let prefix = tokenizer.decode(&window.prefix)?;
        let answers = reading::answer_texts(tokenizer, window)?;
        for gist in &group.gists {
            let text = tokenizer.decode(&gist.ids)?;
            let surface = retention::retention(&prefix, &text).with_ids(&window.prefix, &gist.ids);
            all.push(surface.with_answers(&answers, &text));
        }
    }
    let mean = retention::mean(&all);
    let figures = METRICS.into_iter().zip(mean.named());
    Ok(figures.filter_map(|(metric, (_, value))| Some((metric, value?))).collect())
}

/// Metrics of [`retention::Retention::named`], in its order.
const METRICS: [&str; 12] = [
    "text/numbers_kept",
    "text/names_kept",
    "text/identifiers_kept",
    "text/answers_kept",
    "text/punctuation_density",
    "text/prefix_punctuation_density",
    "text/non_latin_share",
    "text/prefix_non_latin_share",
    "text/copied",
    "text/type_token",
    "text/function_words",
    "text/prefix_function_words",
];
