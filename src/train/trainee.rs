//! A role that learns: an adapter with its optimiser.

use crate::config::parts::OptimConfig;
use crate::error::{Error, Result};
use crate::hash::sha256;
use crate::model::decoder::Decoder;
use crate::model::lora::{ActiveAdapter, Adapter};
use crate::model::peft::Base;
use crate::run_dir::{RunDir, write_json_atomic};
use crate::train::checkpoint::{self, Groups};
use crate::train::optim::{Optimizer, StepInfo};
use crate::train::stage::Counters;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Adapter and optimiser of one role.
pub struct Trainee {
    name: &'static str,
    /// The weights.
    pub adapter: Adapter,
    optim: Optimizer,
    encoder_factor: f64,
    steps: usize,
}

impl Trainee {
    /// A role that starts from `adapter` with a fresh optimiser.
    pub fn new(name: &'static str, adapter: Adapter, optim: &OptimConfig) -> Self {
        let optim = Optimizer::adamw(optim, adapter.params());
        Self { name, adapter, optim, encoder_factor: 1.0, steps: 0 }
    }

    /// This role with an encoder's own weights at a share of the learning rate.
    pub fn with_encoder_factor(mut self, factor: f64, optim: &OptimConfig) -> Self {
        self.encoder_factor = factor;
        self.reset_optimizer(optim);
        self
    }

    /// Puts the weights under a fresh optimiser.
    pub fn reset_optimizer(&mut self, optim: &OptimConfig) {
        let factors = self.adapter.lr_factors(self.encoder_factor);
        self.optim = Optimizer::adamw(optim, self.adapter.params()).with_factors(factors);
    }

    /// Views for a training pass.
    pub fn active(&self, decoder: &Decoder) -> Result<ActiveAdapter> {
        decoder.activate(&self.adapter, true)
    }

    /// The gradient accumulated so far, which is cleared; a zero has no sign.
    pub fn take_gradient(&self) -> Result<Tensor> {
        let mut leaf = self.adapter.params().leaf().shallow_clone();
        let grad = leaf.grad();
        if !grad.defined() {
            return Err(Error::invalid(format!("{}: expected a gradient, got none", self.name)));
        }
        let own = tch::no_grad(|| &grad + 0.0);
        leaf.zero_grad();
        Ok(own)
    }

    /// Puts a gradient in the place of one that was taken.
    pub fn put_gradient(&mut self, gradient: &Tensor) {
        let mut grad = self.adapter.params().leaf().grad();
        tch::no_grad(|| grad.copy_(gradient));
    }

    /// SHA-256 of the weights, in hexadecimal.
    pub fn hash(&self) -> Result<String> {
        let leaf = self.adapter.params().leaf().detach().to_device(tch::Device::Cpu);
        let values = Vec::<f32>::try_from(&leaf)?;
        Ok(sha256(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()))
    }

    /// Takes an optimiser step on the gradient accumulated so far; a gradient that is not finite saves `batch` and stops.
    pub fn step(&mut self, update: &Update<impl Serialize>) -> Result<StepInfo> {
        match self.optim.step(self.adapter.params(), update.lr_factor)? {
            Ok(info) => {
                self.steps += 1;
                Ok(info)
            }
            Err(norm) => Err(update.non_finite(format!("{}'s gradient (norm {norm})", self.name))),
        }
    }

    /// Steps taken since the program began, whatever optimiser took them: as long as it stays, so do the weights.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Adds adapter (by `save_adapter`) and optimiser state to a checkpoint's groups.
    pub fn groups(&self, groups: &mut Groups) {
        groups.push((format!("{}_optimizer", self.name), self.optim.state()));
    }

    /// Writes the adapter into `folder/<name>`.
    pub fn save_adapter(&self, folder: &Path, base: &Base) -> Result<()> {
        self.save_adapter_as(folder, base, Kind::Float, None)
    }

    /// Writes the adapter alone, in this kind of number, cut to a rank if one is given.
    pub fn save_adapter_as(&self, folder: &Path, base: &Base, kind: Kind, rank: Option<i64>) -> Result<()> {
        let to = folder.join(self.name);
        match rank {
            Some(rank) => self.adapter.reduced(rank)?.save_as(&to, base, kind),
            None => self.adapter.save_as(&to, base, kind),
        }
    }

    /// Writes a checkpoint of this role alone, and keeps the newest few.
    pub fn checkpoint(&self, run: &RunDir, counters: Counters, base: &Base) -> Result<()> {
        let mut groups = Groups::new();
        self.groups(&mut groups);
        checkpoint::save(&run.checkpoint(counters.update), counters.update, &groups, &counters, |folder| {
            self.save_adapter(folder, base)
        })?;
        checkpoint::prune(&run.checkpoints(), checkpoint::KEPT)
    }

    /// Restores adapter and optimiser from a checkpoint.
    pub fn restore(&mut self, folder: &Path, decoder: &Decoder) -> Result<()> {
        let folder_of_adapter = folder.join(self.name);
        let saved = match self.adapter.saved_beside_encoder(&folder_of_adapter)? {
            Some(named) => named,
            None => decoder.load_adapter(&folder_of_adapter)?.params().named().into_iter().collect(),
        };
        self.restore_weights(folder, &saved)
    }

    /// Restores the optimiser from the checkpoint in `folder`, the adapter from `saved`.
    pub fn restore_weights(&mut self, folder: &Path, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        self.adapter.params_mut().load(saved)?;
        self.optim.load(&checkpoint::tensors(folder, &format!("{}_optimizer", self.name))?)
    }
}

/// One update: its number, how large a step it takes, and what is saved if something in it is not finite.
pub struct Update<'a, T: Serialize> {
    /// Number of the update.
    pub number: usize,
    /// Multiple of the learning rate.
    pub lr_factor: f64,
    /// Run directory.
    pub root: &'a Path,
    /// The examples that it learns from.
    pub batch: &'a T,
}

impl<T: Serialize> Update<'_, T> {
    /// Saves the batch and makes the error that stops the run.
    pub fn non_finite(&self, what: String) -> Error {
        let saved = self.root.join(format!("non_finite_step_{:06}.json", self.number));
        match write_json_atomic(&saved, self.batch) {
            Ok(()) => Error::NonFinite { what, step: self.number, saved },
            Err(error) => error,
        }
    }
}
