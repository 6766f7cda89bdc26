//! Adapters that co-training keeps beside the roles that learn, and that follow them.

use crate::config::choices::Reader;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::model::decoder::Decoder;
use crate::model::lora::Adapter;
use crate::model::peft::Base;
use crate::train::roles::WarmStarted;
use std::path::Path;

/// Adapters that follow the roles in co-training; those that the experiment does not ask for are absent.
pub struct Companions {
    /// The compressor some steps ago.
    pub stale: Adapter,
    /// Moving average of the generator, where the reward uses its readings.
    averaged: Option<Adapter>,
    /// Moving average of the compressor, where it is the one that is judged.
    smoothed: Option<Adapter>,
}

fn wants_averaged(config: &TrainConfig) -> bool {
    match config.reward.reader {
        Reader::Ema { .. } => true,
        Reader::Current {} | Reader::Frozen {} => false,
    }
}

fn wants_smoothed(config: &TrainConfig) -> bool {
    config.train.average_decay > 0.0
}

impl Companions {
    /// The companions before the first step: copies of the warm-started adapters.
    pub fn begin(frozen: &WarmStarted, config: &TrainConfig) -> Self {
        Self {
            stale: frozen.compressor.duplicate(),
            averaged: wants_averaged(config).then(|| frozen.generator.duplicate()),
            smoothed: wants_smoothed(config).then(|| frozen.compressor.duplicate()),
        }
    }

    /// Loads the companions of a checkpoint; an error names a missing one.
    pub fn load(folder: &Path, config: &TrainConfig, decoder: &Decoder) -> Result<Self> {
        let load = |name: &str| {
            let saved = folder.join(name);
            match saved.exists() {
                true => decoder.load_adapter(&saved),
                false => Err(Error::file(saved, "expected an adapter that co-training goes on from, got none")),
            }
        };
        Ok(Self {
            stale: load("stale")?,
            averaged: wants_averaged(config).then(|| load("averaged")).transpose()?,
            smoothed: wants_smoothed(config).then(|| load("smoothed")).transpose()?,
        })
    }

    /// Writes each into a folder of its name in `folder`.
    pub fn save(&self, folder: &Path, base: &Base) -> Result<()> {
        let all = [("stale", Some(&self.stale)), ("averaged", self.averaged()), ("smoothed", self.smoothed())];
        for (name, adapter) in all {
            if let Some(adapter) = adapter {
                adapter.save(&folder.join(name), base)?;
            }
        }
        Ok(())
    }

    /// Moving average of the generator.
    pub fn averaged(&self) -> Option<&Adapter> {
        self.averaged.as_ref()
    }

    /// Moving average of the compressor.
    pub fn smoothed(&self) -> Option<&Adapter> {
        self.smoothed.as_ref()
    }

    /// Has them follow the roles after step `number`, which counts from 0.
    pub fn follow(&mut self, compressor: &Adapter, generator: &Adapter, config: &TrainConfig, number: usize) {
        if let (Reader::Ema { decay }, Some(averaged)) = (config.reward.reader, &mut self.averaged) {
            averaged.params_mut().average_towards(generator.params(), 1.0 - decay);
        }
        if let Some(smoothed) = &mut self.smoothed {
            smoothed.params_mut().average_towards(compressor.params(), 1.0 - config.train.average_decay);
        }
        if config.generator.stale_refresh_steps.is_some_and(|n| (number + 1).is_multiple_of(n)) {
            self.stale = compressor.duplicate();
        }
    }
}
