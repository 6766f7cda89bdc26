//! Labels by a trained extractive compressor that reads with all of the base: its scores, less that of the end (knowledge
//! distillation, Hinton et al. 2015, arXiv 1503.02531).

use crate::compressor::budget::Controller;
use crate::compressor::extractive::ExtractivePolicy;
use crate::compressor::scored::Scorer;
use crate::compressor::scorers::bm25::Bm25;
use crate::data::Window;
use crate::error::{Error, Result};
use crate::model::copy_head;
use crate::reading::request;
use crate::tensor::to_vec;
use crate::train::inputs::Inputs;
use crate::train::labels::labelled_window::LabelledWindow;
use std::path::Path;

/// The scores of the compressor in `folder` for the units that `policy` cuts, in nats.
pub fn by_teacher(
    inputs: Inputs,
    policy: &ExtractivePolicy,
    folder: &Path,
    windows: &[Window],
) -> Result<Vec<LabelledWindow>> {
    let _guard = tch::no_grad_guard();
    let (decoder, tokenizer, unit) = (&inputs.models.decoder, &inputs.models.tokenizer, policy.unit);
    let adapter = decoder.load_adapter(folder)?;
    let active = decoder.activate(&adapter, false)?;
    let Some(heads) = active.heads.as_ref().filter(|_| active.encoder.is_none()) else {
        return Err(Error::file(folder, "expected an extractive compressor over the base, got another adapter"));
    };
    // Over the base, BM25 is the one hint that there is.
    let hints: Vec<Box<dyn Scorer>> = match heads.features() - copy_head::features(decoder.config()) {
        0 => Vec::new(),
        1 => vec![Box::new(Bm25)],
        n => {
            let expected = "distill.teacher: expected a compressor without compressor.hints, or with \"bm25\" alone";
            return Err(Error::file(folder, format!("{expected}, got one with {n} more features of a unit")));
        }
    };
    let teacher = ExtractivePolicy {
        decoder,
        tokenizer,
        unit,
        aggregate: policy.aggregate,
        foreign: None,
        blocks: None,
        hints,
        controller: Controller::default(),
    };
    let requests: Vec<_> = windows.iter().map(|window| request(window, inputs.config.condition, 0)).collect();
    let mut all = Vec::new();
    for (window, own) in windows.iter().zip(teacher.worths(&active, &requests)?) {
        let mut worth = to_vec(&own.logits)?;
        let end = worth.pop().unwrap_or(0.0);
        worth.iter_mut().for_each(|worth| *worth -= end);
        all.push(LabelledWindow::new(window, own.prefix.units, worth));
    }
    Ok(all)
}
