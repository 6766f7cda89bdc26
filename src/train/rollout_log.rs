//! Rollouts on disk, a row a gist, and surface figures of the gists of a step.

use crate::data::Window;
use crate::error::{Error, Result};
use crate::reward::RewardParts;
use crate::rollout::Group;
use crate::run_dir::write_atomic;
use crate::tensor::mean;
use crate::train::setup::Setup;
use std::collections::BTreeSet;
use std::path::Path;

/// Writes `rollouts/step_NNNNNN.jsonl`.
pub fn write(
    path: &Path,
    setup: &Setup,
    windows: &[Window],
    groups: &[Group],
    parts: &[Vec<RewardParts>],
) -> Result<()> {
    let mut text = String::new();
    for (i, ((window, group), parts)) in windows.iter().zip(groups).zip(parts).enumerate() {
        let (prefix, local, future) = (
            &setup.tokenizer.decode(&window.prefix)?,
            &setup.tokenizer.decode(&window.local)?,
            &setup.tokenizer.decode(&window.future)?,
        );
        for ((gist, reading), part) in group.gists.iter().zip(&group.readings).zip(parts) {
            let row = serde_json::json!({
                "window": i, "prefix": prefix, "local": local, "future": future,
                "gist": setup.tokenizer.decode(&gist.ids)?, "tokens": gist.ids.len(), "ended": gist.ended,
                "kl": reading.kl, "nll": reading.nll, "kl_empty": group.empty.kl,
                "reward/quality": part.quality, "reward/length": part.length,
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

/// Mean share of gist tokens that occur in the prefix, and mean share of distinct tokens, over non-empty gists.
pub fn surface(windows: &[Window], groups: &[Group]) -> (f64, f64) {
    let (mut copied, mut variety) = (Vec::new(), Vec::new());
    for (window, group) in windows.iter().zip(groups) {
        let known: BTreeSet<u32> = window.prefix.iter().copied().collect();
        for gist in group.gists.iter().filter(|g| !g.ids.is_empty()) {
            let n = gist.ids.len() as f64;
            copied.push(gist.ids.iter().filter(|id| known.contains(id)).count() as f64 / n);
            variety.push(gist.ids.iter().collect::<BTreeSet<_>>().len() as f64 / n);
        }
    }
    (mean(&copied), mean(&variety))
}
