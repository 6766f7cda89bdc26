//! The encoder of an adapter ([`crate::model::encoder_adapter`]): its sizes, its weights where these stay as they are, and the
//! projections that low-rank weights may stand beside.

use crate::model::encoder::EncoderConfig;
use std::collections::BTreeMap;
use tch::Tensor;

/// PEFT's prefix of a module's name.
pub(super) const PEFT: &str = "base_model.model.";

/// The encoder of an adapter.
pub struct EncoderBase {
    pub(super) config: EncoderConfig,
    /// Its weights, f32, where low-rank ones learn in their place; else none.
    pub(super) frozen: BTreeMap<String, Tensor>,
}

impl EncoderBase {
    /// An encoder all of which learns.
    pub(super) fn learning(config: &EncoderConfig) -> Self {
        Self { config: config.clone(), frozen: BTreeMap::new() }
    }

    /// An encoder that stays as these weights are.
    pub(super) fn frozen(config: &EncoderConfig, frozen: BTreeMap<String, Tensor>) -> Self {
        Self { config: config.clone(), frozen }
    }

    /// Whether its own weights learn.
    pub(super) fn learns(&self) -> bool {
        self.frozen.is_empty()
    }

    /// A copy that shares what is frozen.
    pub(super) fn duplicate(&self) -> Self {
        let frozen = self.frozen.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Self { config: self.config.clone(), frozen }
    }
}

/// Names and shapes of the projections in an encoder's blocks, without `.weight`.
pub(super) fn projections(config: &EncoderConfig) -> Vec<(String, Vec<i64>)> {
    let in_block = |name: &str| name.split('.').any(|part| part.parse::<usize>().is_ok());
    let own = config.parameters().into_iter().filter(|(name, shape)| shape.len() == 2 && in_block(name));
    own.filter_map(|(name, shape)| Some((name.strip_suffix(".weight")?.to_string(), shape))).collect()
}

/// Names of projections within a block, each once.
pub(super) fn targets(config: &EncoderConfig) -> Vec<String> {
    let in_block = |name: String| {
        name.split_once(|c: char| c.is_ascii_digit())
            .map(|(_, rest)| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').to_string())
    };
    let mut all: Vec<String> = projections(config).into_iter().filter_map(|(name, _)| in_block(name)).collect();
    all.sort();
    all.dedup();
    all
}
