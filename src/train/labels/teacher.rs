//! Labels by a trained extractive compressor that reads with all of the base: its scores, less that of the end (knowledge
//! distillation, Hinton et al. 2015, arXiv 1503.02531).

use crate::compressor::extractive::ExtractivePolicy;
use crate::config::compressors::CompressorConfig;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::model::copy_head;
use crate::model::lora::Adapter;
use crate::reading::request;
use crate::tensor::to_vec;
use crate::train::inputs::Inputs;
use crate::train::labels::labelled_window::LabelledWindow;
use std::path::Path;

/// A compressor that labels.
pub struct Teacher<'a> {
    inputs: Inputs<'a>,
    policy: ExtractivePolicy<'a>,
    adapter: Adapter,
}

impl<'a> Teacher<'a> {
    /// The compressor in `folder`, for the units that `student` cuts; it must have been trained with the hints of
    /// `distill.teacher_hints`.
    pub fn load(inputs: Inputs<'a>, student: &ExtractivePolicy, folder: &Path) -> Result<Self> {
        let decoder = &inputs.models.decoder;
        let adapter = decoder.load_adapter(folder)?;
        let active = decoder.activate(&adapter, false)?;
        let Some(heads) = active.heads.as_ref().filter(|_| active.encoder.is_none()) else {
            return Err(Error::file(folder, "expected an extractive compressor over the base, got another adapter"));
        };
        let hints = &inputs.config.distill.teacher_hints;
        let (expected, got) = (copy_head::features(decoder.config()) + hints.len() as i64, heads.features());
        if got != expected {
            let names = serde_json::to_string(hints).unwrap_or_default();
            let message =
                format!("expected {expected} features of a unit (distill.teacher_hints = {names}), got {got}");
            return Err(Error::file(folder, message));
        }
        let (unit, aggregate) = (student.unit, student.aggregate);
        let (encoder, blocks, hints, evidence) = (None, None, hints.clone(), false);
        let own = CompressorConfig::Extractive { unit, aggregate, encoder, blocks, hints, evidence };
        let none = || Error::invalid("distill.teacher: expected an extractive compressor, got another");
        let policy = inputs.models.extractive_policy(&own)?.ok_or_else(none)?;
        Ok(Self { inputs, policy, adapter })
    }

    /// The teacher's scores of the units of `windows`, in nats.
    pub fn label(&self, windows: &[Window]) -> Result<Vec<LabelledWindow>> {
        let _guard = tch::no_grad_guard();
        let active = self.inputs.models.decoder.activate(&self.adapter, false)?;
        let requests: Vec<_> = windows.iter().map(|window| request(window, self.inputs.config.condition, 0)).collect();
        let mut all = Vec::new();
        for (window, own) in windows.iter().zip(self.policy.worths(&active, &requests)?) {
            let logits = to_vec(&own.logits)?; // of each unit, then of the end
            let (worth, end) = logits.split_at(own.prefix.units.len());
            let worth = worth.iter().map(|worth| worth - end[0]).collect();
            all.push(LabelledWindow::new(window, own.prefix.units, worth));
        }
        Ok(all)
    }
}
