//! The section `[submit]`: what a run, or the runs of a sweep, ask of a scheduler. It is no part of a run's configuration: where a run
//! computes does not make it another run.

use crate::config::merge::Tree;
use crate::config::parts::Problem;
use crate::error::Result;
use serde::Deserialize;
use std::path::PathBuf;

/// Name of the section.
pub const SUBMIT: &str = "submit";

/// A scheduler and what is asked of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SubmitConfig {
    /// Slurm, by `sbatch`.
    Slurm(SlurmConfig),
}

/// A run under Slurm, or an array with a task for each run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlurmConfig {
    /// Partition; absent = the cluster's default.
    pub partition: Option<String>,
    /// Machines that the ranks of a run are spread over.
    pub nodes: usize,
    /// CPUs of a task, or of a rank; absent = `hardware.threads`, of a sweep that of the first run.
    pub cpus_per_task: Option<usize>,
    /// GPUs of a task.
    pub gpus_per_task: usize,
    /// Wall-clock limit of a task as Slurm writes it, such as `04:00:00`; absent = the partition's.
    pub time_limit: Option<String>,
    /// Seconds before the limit at which a task is asked to write a checkpoint and stop.
    pub signal_seconds_before_end: usize,
    /// Most tasks at a time; absent = as many as the cluster lets run.
    pub max_parallel: Option<usize>,
    /// Times that a task is queued again after it stopped at its limit or died by a signal.
    pub max_restarts: usize,
    /// More options of `sbatch`, such as `--mem=16G` or `--account=NAME`.
    pub options: Vec<String>,
    /// Lines of bash before the run, such as `module load …`.
    pub setup: String,
    /// Template of the script in place of the built-in one, in Jinja's syntax.
    pub template: Option<PathBuf>,
}

impl Default for SlurmConfig {
    fn default() -> Self {
        Self {
            partition: None,
            nodes: 1,
            cpus_per_task: None,
            gpus_per_task: 0,
            time_limit: None,
            signal_seconds_before_end: 120,
            max_parallel: None,
            max_restarts: 3,
            options: Vec::new(),
            setup: String::new(),
            template: None,
        }
    }
}

impl SubmitConfig {
    /// Takes the section out of an experiment, and checks it.
    pub fn take(tree: &mut Tree) -> Result<Option<SubmitConfig>> {
        let own = tree.split_off(&[SUBMIT]);
        if own.get(SUBMIT).is_none() {
            return Ok(None);
        }
        #[derive(Deserialize)]
        struct Section {
            submit: SubmitConfig,
        }
        let Section { submit } = own.resolve()?;
        submit.check().map_err(|(key, message)| own.invalid(&format!("{SUBMIT}.{key}"), message))?;
        Ok(Some(submit))
    }

    fn check(&self) -> std::result::Result<(), Problem> {
        let SubmitConfig::Slurm(slurm) = self;
        let problem = |key: &str, message: String| Err((key.to_string(), message));
        let counts = [
            ("nodes", Some(slurm.nodes)),
            ("cpus_per_task", slurm.cpus_per_task),
            ("max_parallel", slurm.max_parallel),
        ];
        for (key, value) in counts {
            if value == Some(0) {
                return problem(key, "expected at least 1, got 0".into());
            }
        }
        for (key, value) in [("partition", &slurm.partition), ("time_limit", &slurm.time_limit)] {
            if let Some(value) = value.as_ref().filter(|value| value.is_empty() || value.contains(char::is_whitespace))
            {
                return problem(key, format!("expected a word, got {value:?}"));
            }
        }
        match slurm.options.iter().find(|option| !option.starts_with('-') || option.contains('\n')) {
            Some(bad) => problem("options", format!("expected options of sbatch such as \"--mem=16G\", got {bad:?}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::merge::load_tree;

    #[test]
    fn the_section_is_taken_out_and_its_mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        let read = |section: &str| {
            std::fs::write(&path, format!("name = \"x\"\n{section}")).unwrap();
            let mut tree = load_tree(&path, &[]).unwrap();
            let taken = SubmitConfig::take(&mut tree);
            assert!(tree.get("submit").is_none() && tree.get("name").is_some());
            taken
        };
        assert_eq!(read("").unwrap(), None);
        let SubmitConfig::Slurm(slurm) = read("[submit]\ntype = \"slurm\"\nmax_parallel = 8").unwrap().unwrap();
        assert_eq!(slurm, SlurmConfig { max_parallel: Some(8), ..SlurmConfig::default() });
        for (lines, said) in [
            ("type = \"pbs\"", "pbs"),
            ("max_parallel = 8", "type"),
            ("type = \"slurm\"\npartitions = \"a\"", "partitions"),
            ("type = \"slurm\"\nnodes = 0", "`submit.nodes`: expected at least 1, got 0"),
            ("type = \"slurm\"\nmax_parallel = 0", "`submit.max_parallel`: expected at least 1, got 0"),
            ("type = \"slurm\"\ntime_limit = \"4 hours\"", "`submit.time_limit`: expected a word, got \"4 hours\""),
            ("type = \"slurm\"\noptions = [\"mem=1G\"]", "`submit.options`: expected options of sbatch"),
        ] {
            let error = read(&format!("[submit]\n{lines}")).unwrap_err().to_string();
            assert!(error.contains("a.toml: `submit") && error.contains(said), "{error}");
        }
    }
}
