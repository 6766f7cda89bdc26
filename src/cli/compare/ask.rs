//! Values of the flags of `compare`, checked: every message names the flag, what was expected and what was got.

use anyhow::Context;
use gist::compressor::must_keep;
use gist::config::choices::BudgetConfig;
use gist::config::parts::check_name;
use gist::error::Result;
use gist::eval::schema::comparison::Budget;
use gist::eval::schema::readers::{ADAPTED, SHARED};
use gist::run_dir::FolderLock;
use gist::runs::{Inputs, TrainedRun};
use gist::shard::SHARDS;
use regex::Regex;
use std::path::Path;

/// A finished run. `argument` is its directory, or `NAME=` and that: what it is called in place of its experiment.
pub fn run(argument: &Path) -> Result<TrainedRun> {
    let text = argument.to_str().filter(|_| !argument.exists());
    match text.and_then(|text| text.split_once('=')).filter(|(name, _)| check_name(name).is_ok()) {
        Some((name, root)) => Ok(TrainedRun::open_finished(Path::new(root))?.called(name)),
        None => TrainedRun::open_finished(argument),
    }
}

/// Number of updates for a reader: as many as the run's own generator had.
pub fn updates(run: &TrainedRun) -> anyhow::Result<usize> {
    let updates = run
        .reader_updates()
        .context("--updates: not given, and the number of updates of the run's own reader cannot be read")?;
    anyhow::ensure!(updates > 0, "--updates: expected at least 1, got {updates} from {}", run.dir().root().display());
    Ok(updates)
}

/// Whether the shared reader and the adapted ones are wanted.
pub fn readers(names: &[String]) -> anyhow::Result<[bool; 2]> {
    if let Some(bad) = names.iter().find(|name| ![SHARED, ADAPTED].contains(&name.as_str())) {
        anyhow::bail!("--readers: expected names among {SHARED}, {ADAPTED}, got {bad:?}");
    }
    Ok([SHARED, ADAPTED].map(|wanted| names.iter().any(|name| name == wanted)))
}

/// The budgets as shares, ascending.
pub fn shares(texts: &[String]) -> anyhow::Result<Vec<f64>> {
    let mut shares = Vec::new();
    for text in texts {
        match text.trim().parse::<f64>() {
            Ok(share) if share > 0.0 && share < 1.0 => shares.push(share),
            _ => anyhow::bail!("--budgets: expected shares of the prefix between 0 and 1, got {text:?}"),
        }
    }
    shares.sort_by(f64::total_cmp);
    if let Some(pair) = shares.windows(2).find(|pair| pair[0] == pair[1]) {
        anyhow::bail!("--budgets: expected each share once, got {} twice", pair[0]);
    }
    Ok(shares)
}

/// The shares with what they are in tokens; no two may be as many, none less than one.
pub fn budgets(shares: &[f64], prefix: usize) -> anyhow::Result<Vec<Budget>> {
    let mut budgets: Vec<Budget> = Vec::new();
    for &share in shares {
        let tokens = BudgetConfig { tokens: None, keep_ratio: Some(share) }.tokens(prefix);
        if tokens == 0 {
            anyhow::bail!("--budgets: expected at least 1 of the prefix's {prefix} tokens, got {share}, which is less");
        }
        if let Some(other) = budgets.iter().find(|known| known.tokens == tokens) {
            let other = other.requested;
            anyhow::bail!(
                "--budgets: expected different budgets, got {other} and {share}, both {tokens} of {prefix} tokens"
            );
        }
        budgets.push(Budget { requested: share, tokens });
    }
    Ok(budgets)
}

/// Fails when the base has no positions for the largest budget, so many times over.
pub fn room(inputs: Inputs, budgets: &[Budget], times: usize) -> anyhow::Result<()> {
    let most =
        inputs.models.decoder.room().saturating_sub(inputs.windows.shape.prefix + inputs.windows.shape.local + 2)
            / times;
    match budgets.iter().find(|budget| budget.tokens > most) {
        Some(Budget { requested, tokens }) => {
            anyhow::bail!(
                "--budgets: expected at most {most} tokens, for which the base has room, got {requested}: {tokens}"
            )
        }
        None => Ok(()),
    }
}

/// Count of held-out windows that are compared.
pub fn windows(wanted: Option<usize>, most: usize) -> anyhow::Result<usize> {
    match wanted {
        None => Ok(most),
        Some(wanted) if (1..=most).contains(&wanted) => Ok(wanted),
        Some(wanted) => anyhow::bail!("--windows: expected 1 to {most}, got {wanted}"),
    }
}

/// Patterns of the words that must be kept.
pub fn must_keep(wanted: &[String]) -> anyhow::Result<Vec<Regex>> {
    must_keep::patterns(wanted).map_err(|message| anyhow::anyhow!("--must-keep: {message}"))
}

/// Fails when a folder holds something else than a comparison.
pub fn output(root: &Path) -> anyhow::Result<()> {
    let expected = "expected a new or empty folder, or an earlier comparison's";
    if root.exists() && !root.is_dir() {
        anyhow::bail!("--output: {}: {expected}, got a file", root.display());
    }
    FolderLock::check(root)?;
    let holds = |name: &str| root.join(name).exists();
    if gist::run_dir::is_occupied(root)? && !["comparison.json", "readers", SHARDS].into_iter().any(holds) {
        anyhow::bail!("--output: {}: {expected}, got one with other files in it", root.display());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| word.to_string()).collect()
    }

    #[test]
    fn budgets_are_sorted_different_and_possible() {
        let shares_of = |words: &[&str]| shares(&texts(words));
        assert_eq!(shares_of(&["0.4", " 0.02", "0.1"]).unwrap(), [0.02, 0.1, 0.4]);
        for (words, said) in [
            (&["0.1", "0.10"][..], "got 0.1 twice"),
            (&["0"], "got \"0\""),
            (&["1"], "got \"1\""),
            (&["-0.1"], "got \"-0.1\""),
            (&["NaN"], "got \"NaN\""),
            (&["inf"], "got \"inf\""),
            (&[""], "got \"\""),
            (&["ten"], "got \"ten\""),
        ] {
            let message = shares_of(words).unwrap_err().to_string();
            assert!(message.starts_with("--budgets: expected") && message.contains(said), "{message}");
        }
        assert_eq!(
            budgets(&[0.02, 0.05, 0.095, 0.2, 0.4], 256).unwrap().iter().map(|b| b.tokens).collect::<Vec<_>>(),
            [5, 12, 24, 51, 102]
        );
        assert!(
            budgets(&[0.01], 32).unwrap_err().to_string().contains("at least 1 of the prefix's 32 tokens, got 0.01")
        );
        assert!(budgets(&[0.1, 0.11], 32).unwrap_err().to_string().contains("0.1 and 0.11, both 3 of 32"));
    }

    #[test]
    fn readers_and_windows() {
        assert_eq!(readers(&texts(&["adapted"])).unwrap(), [false, true]);
        assert!(readers(&texts(&["both"])).unwrap_err().to_string().contains("shared, adapted, got \"both\""));
        assert_eq!((windows(None, 9).unwrap(), windows(Some(3), 9).unwrap()), (9, 3));
        assert!(windows(Some(10), 9).unwrap_err().to_string().contains("expected 1 to 9, got 10"));
        assert!(windows(Some(0), 9).is_err());
    }
}
