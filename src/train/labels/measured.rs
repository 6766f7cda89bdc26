//! Labels measured by reading: what the teacher attributes to each unit of a prefix, either alone or by leaving it out, as
//! leave-one-out attributions of a context are (Cohen-Wang et al. 2024, arXiv 2409.00729). Differs from those in that every
//! unit is left out once, where they fit a sparse linear model to random subsets.

use crate::compressor::extractive::ExtractivePolicy;
use crate::data::Window;
use crate::error::Result;
use crate::model::lora::Adapter;
use crate::reading::{as_rows, reader_context};
use crate::train::inputs::Inputs;
use crate::train::labels::labelled_window::LabelledWindow;

/// Measure that gives a unit its label.
#[derive(Clone, Copy)]
pub enum UnitMeasure<'a> {
    /// Fall of the KL when the reader (none = the bare base) gets the unit alone, against no context.
    Alone(Option<&'a Adapter>),
    /// Rise of the bare base's KL when the unit is taken out of the prefix.
    Without,
}

/// Labels the units of `windows`, in nats a token; `step` names the draws of imagined futures.
pub fn measure(
    inputs: Inputs,
    policy: &ExtractivePolicy,
    how: UnitMeasure,
    windows: &[Window],
    step: u64,
) -> Result<Vec<LabelledWindow>> {
    let _guard = tch::no_grad_guard();
    let decoder = &inputs.models.decoder;
    let taught = inputs.taught(step, windows)?;
    let active = match how {
        UnitMeasure::Alone(reader) => reader.map(|adapter| decoder.activate(adapter, false)).transpose()?,
        UnitMeasure::Without => None,
    };
    let v = decoder.config().vocab_size;
    let (mut units, mut contexts) = (Vec::new(), Vec::new());
    for (w, window) in windows.iter().enumerate() {
        let decoded = policy.tokenizer.read(&window.prefix)?;
        let own = policy.unit.cut(&decoded);
        let mut read = |ids: &[u32]| contexts.push((w, reader_context(ids, active.is_some(), v)));
        read(&[]);
        for unit in &own {
            match how {
                // Of a unit that passes the budget the controller keeps the head.
                UnitMeasure::Alone(_) => {
                    let end = unit.end.min(unit.start + inputs.budget());
                    read(&window.prefix[unit.start..decoded.floor(end)]);
                }
                UnitMeasure::Without => read(&[&window.prefix[..unit.start], &window.prefix[unit.end..]].concat()),
            }
        }
        units.push(own);
    }
    let readings = taught.measure(decoder, active.as_ref(), &as_rows(&contexts))?;
    let mut readings = readings.as_slice();
    let mut all = Vec::new();
    for (window, units) in windows.iter().zip(units) {
        let (own, rest) = readings.split_at(units.len() + 1);
        readings = rest;
        let (empty, kls) = (own[0].kl, own[1..].iter().map(|reading| reading.kl));
        let worth = match how {
            UnitMeasure::Alone(_) => kls.map(|kl| empty - kl).collect(),
            UnitMeasure::Without => kls.collect(), // with the whole prefix it is 0
        };
        all.push(LabelledWindow::new(window, units, worth));
    }
    Ok(all)
}
