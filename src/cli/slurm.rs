//! Jobs of Slurm: the script of a run or of an array of runs, and its submission.

use crate::cli::exit::Failed;
use anyhow::Context;
use gist::config::submit::SlurmConfig;
use gist::error::Error;
use gist::run_dir::write_atomic;
use minijinja::{Environment, UndefinedBehavior, context};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The script of a job.
const TEMPLATE: &str = include_str!("slurm.sh.jinja");

/// A job and its command; what it asks of the cluster is the section `[submit]`.
pub struct SlurmJob<'a> {
    /// Its purpose in words, for the first line of the script.
    pub what: String,
    /// Name of the experiment or sweep.
    pub name: &'a str,
    /// Numbers of the tasks of an array, as `1-3,7`; none for a single run.
    pub tasks: Option<String>,
    /// Most tasks at a time.
    pub max_parallel: Option<usize>,
    /// Processes that share a run.
    pub ranks: usize,
    /// Threads of each.
    pub threads: usize,
    /// File that receives what it prints, with Slurm's own placeholders.
    pub log: PathBuf,
    /// The command, as bash reads it.
    pub command: String,
}

/// The script of a job.
pub fn script(slurm: &SlurmConfig, job: &SlurmJob) -> anyhow::Result<String> {
    let template = match &slurm.template {
        Some(path) => std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?,
        None => TEMPLATE.to_string(),
    };
    let named = slurm.template.clone().unwrap_or_else(|| PathBuf::from("the built-in template"));
    let mut jinja = Environment::new();
    jinja.set_undefined_behavior(UndefinedBehavior::Strict);
    let folder = std::env::current_dir()?;
    let (logs, file) = (job.log.parent().unwrap_or(Path::new("")), job.log.file_name().unwrap_or_default());
    let logs = folder.join(logs).display().to_string().replace('%', "%%");
    let values = context! {
        what => &job.what,
        name => format!("gist-{}", job.name),
        tasks => &job.tasks,
        max_parallel => job.max_parallel,
        nodes => slurm.nodes,
        ranks => job.ranks,
        folder => in_double_quotes(&folder.display().to_string()),
        output => in_double_quotes(&format!("{logs}/{}", file.to_string_lossy())),
        cpus_per_task => slurm.cpus_per_task.unwrap_or(job.threads),
        gpus_per_task => slurm.gpus_per_task,
        partition => &slurm.partition,
        time_limit => &slurm.time_limit,
        options => &slurm.options,
        signal_seconds_before_end => slurm.signal_seconds_before_end,
        max_restarts => slurm.max_restarts,
        setup => slurm.setup.trim_end(),
        command => &job.command,
    };
    let text = jinja.render_str(&template, values).map_err(|error| {
        let line = error.line().map_or(String::new(), |line| format!("line {line}: "));
        Error::file(named, format!("{line}{error}"))
    })?;
    Ok(text.trim_end().to_string() + "\n")
}

/// Writes a script and submits it; returns the job's number. Where that fails the script is kept, and the error says so.
pub fn send(path: &Path, text: &str, logs: &Path) -> anyhow::Result<String> {
    write_atomic(path, text.as_bytes())?;
    std::fs::create_dir_all(logs).with_context(|| logs.display().to_string())?;
    let kept = |said: &str| Failed(format!("not submitted: {said}; the script is kept: {}", path.display()));
    let answer = Command::new("sbatch").arg("--parsable").arg(path).output().map_err(|e| match e.kind() {
        ErrorKind::NotFound => kept("expected `sbatch` on the PATH, got none"),
        _ => kept(&format!("sbatch: {e}")),
    })?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        return Err(kept(&format!("sbatch said: {}", said.trim())).into());
    }
    Ok(String::from_utf8_lossy(&answer.stdout).trim().to_string())
}

/// Words as bash reads them back.
pub fn line(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._=+-:,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A value as a `#SBATCH` line takes it.
fn in_double_quotes(value: &str) -> String {
    if value.contains([' ', '#']) { format!("\"{value}\"") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_written_as_bash_reads_them() {
        assert_eq!(quoted("train.steps=3"), "train.steps=3");
        let hard = "a 'b' $c \"d\"";
        let said = Command::new("bash").args(["-c", &format!("printf %s {}", quoted(hard))]).output();
        assert_eq!(said.map(|output| output.stdout).unwrap_or_default(), hard.as_bytes());
    }
}
