//! Flags that several commands share.

use clap::Args;
use gist::chat::has_template;
use gist::config::hardware::Hardware;
use gist::config::train::TrainConfig;
use gist::device;
use gist::error::Error;
use gist::eval::run::adaptable;
use std::path::PathBuf;

/// The device to compute on.
#[derive(Args)]
pub struct DeviceArg {
    /// cpu, cuda, cuda:N or auto, in place of the configuration's: what --set hardware.device=DEVICE says.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
}

impl DeviceArg {
    /// Overrides of keys, with the device behind `set`.
    pub fn after(&self, set: &[String]) -> Vec<String> {
        let own = self.device.iter().map(|device| format!("hardware.device={device}"));
        set.iter().cloned().chain(own).collect()
    }

    /// Puts it in the place of what a finished run recorded, which stays the same run.
    pub fn put(&self, hardware: &mut Hardware) -> anyhow::Result<()> {
        if let Some(device) = &self.device {
            hardware.device.clone_from(device);
            hardware.check().map_err(|(_, message)| anyhow::anyhow!("--device: {message}"))?;
        }
        device::settle(hardware);
        Ok(())
    }
}

/// Overrides of an experiment that is measured or planned.
#[derive(Args)]
pub struct OverArgs {
    /// Override a key: --set train.steps=100; --set unset=KEY takes one away (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    /// A base of this architecture with random weights, in place of the experiment's.
    #[arg(long, value_name = "CONFIG.json")]
    pub random_weights: Option<PathBuf>,
}

impl OverArgs {
    /// Overrides of keys, the device among them.
    pub fn set(&self) -> Vec<String> {
        self.device.after(&self.set)
    }
}

/// The fair contest: a reader for each compressor.
#[derive(Args)]
pub struct AdaptArgs {
    /// Also train one reader per compressor on its own output, or for those in the list only; takes several times as long
    /// as the rest. Finished readers are kept beside the evaluation and used again.
    #[arg(long, value_name = "NAME,..", num_args = 0.., value_delimiter = ',', require_equals = true)]
    adapt_readers: Option<Vec<String>>,
}

impl AdaptArgs {
    /// Whether the flag was given.
    pub fn is_given(&self) -> bool {
        self.adapt_readers.is_some()
    }

    /// The compressors that get a reader of their own; an error on a name that the evaluation does not have.
    pub fn names(&self, config: &TrainConfig) -> anyhow::Result<Vec<String>> {
        let Some(asked) = &self.adapt_readers else { return Ok(Vec::new()) };
        let known = adaptable(&config.eval, has_template(&config.model.folder()?)?);
        if let Some(bad) = asked.iter().find(|name| !known.contains(name)) {
            anyhow::bail!("--adapt-readers: expected names among {}, got {bad:?}", known.join(", "));
        }
        Ok(if asked.is_empty() { known } else { asked.clone() })
    }
}

/// Acceptance of differences between then and now.
#[derive(Args, Clone, Copy)]
pub struct AcceptArg {
    /// Go on where the program, or a file that a run was made from, has changed since; what has is recorded.
    #[arg(long)]
    pub accept_changes: bool,
}

/// Puts a flag's name before an error about its value; an error that names a file stays as it is.
pub fn naming(flag: &'static str) -> impl Fn(Error) -> anyhow::Error {
    move |error| match error {
        Error::Invalid(message) => anyhow::anyhow!("{flag}: {message}"),
        other => other.into(),
    }
}

/// Flags that start a run.
#[derive(Args)]
pub struct RunArgs {
    /// The experiment's TOML file.
    pub experiment: PathBuf,
    /// Override a key: --set train.steps=100; --set unset=KEY takes one away (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub device: DeviceArg,
    /// Folder that holds run directories.
    #[arg(long, default_value = "runs")]
    pub runs: PathBuf,
    /// The run's directory, in place of the one that its name and seed give.
    #[arg(long, value_name = "DIR", conflicts_with = "runs")]
    pub at: Option<PathBuf>,
    /// Go on from the last checkpoint of an existing run.
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace an existing run.
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub accept: AcceptArg,
    /// Print the resolved configuration and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Ask the network for nothing: models of the Hub must be in the cache (HF_HUB_OFFLINE=1 says the same).
    #[arg(long)]
    pub offline: bool,
}
