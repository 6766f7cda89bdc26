//! An adapter merged into its base: one checkpoint that any tool reads. W becomes W + (α/r) B A, and the control tokens get
//! rows of the vocabulary.

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::lora::{Adapter, CONTROL, COPY, END};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
/// Control tokens: end-of-gist, start-of-gist, separator, in the order of their rows.
const CONTROLS: i64 = 3;

/// The merged model: `base`, the weights of `config` under their names, with `adapter`; the control tokens take the ids from
/// `first` on, in rows that nobody uses or that are added. With `writes` the model also answers with end-of-gist, which unties
/// the output head; the logits of the other control tokens, and without `writes` of all three, mean nothing and are to be
/// suppressed.
pub fn merged(
    config: &ModelConfig,
    mut base: BTreeMap<String, Tensor>,
    adapter: &Adapter,
    first: i64,
    writes: bool,
) -> Result<(ModelConfig, Vec<(String, Tensor)>)> {
    let _guard = tch::no_grad_guard();
    if adapter.is_extractive() {
        return Err(Error::invalid("expected the adapter of a model that writes or reads, got an extractive one"));
    }
    let mut own: BTreeMap<String, Tensor> = adapter.params().named().into_iter().collect();
    if own.contains_key(COPY) {
        return Err(Error::invalid(
            "the compressor has a copy head (model.copy_lengths), which no merged model can have; its adapter can be exported",
        ));
    }
    let scaling = adapter.config().alpha / adapter.config().rank as f64;
    let downs: Vec<String> = own.keys().filter(|name| name.ends_with(".lora_A.weight")).cloned().collect();
    for down in downs {
        let stem = down.trim_end_matches(".lora_A.weight");
        let missing = |name: &str| Error::shape(name, "a tensor", "none");
        let up = own.remove(&format!("{stem}.lora_B.weight")).ok_or_else(|| missing(stem))?;
        let down = own.remove(&down).ok_or_else(|| missing(stem))?;
        let name = format!("{}.weight", stem.trim_start_matches("base_model.model."));
        let weight = base.get_mut(&name).ok_or_else(|| missing(&name))?;
        *weight = (weight.to_kind(Kind::Float) + up.matmul(&down) * scaling).to_kind(weight.kind());
    }
    let rows = config.vocab_size.max(first + CONTROLS);
    let take = |own: &mut BTreeMap<String, Tensor>, name: &str| {
        own.remove(name).ok_or_else(|| Error::shape(name, "a tensor", "none"))
    };
    let (control, end) = (take(&mut own, CONTROL)?, take(&mut own, END)?);
    let old = base.get(EMBEDDING).ok_or_else(|| Error::shape(EMBEDDING, "a tensor", "none"))?.shallow_clone();
    let head = base.get(HEAD).map_or_else(|| old.shallow_clone(), Tensor::shallow_clone);
    base.insert(EMBEDDING.into(), with_rows(&old, rows, first, &control));
    let tied = config.tie_word_embeddings && !writes;
    if !tied {
        let end =
            if writes { Tensor::cat(&[&end, &end.zeros_like(), &end.zeros_like()], 0) } else { control.zeros_like() };
        base.insert(HEAD.into(), with_rows(&head, rows, first, &end));
    }
    let config = ModelConfig { vocab_size: rows, tie_word_embeddings: tied, ..config.clone() };
    let mut weights = Vec::new();
    for (name, _) in config.parameters() {
        let weight = base.remove(&name).ok_or_else(|| Error::shape(&name, "a tensor", "none"))?;
        weights.push((name, weight));
    }
    Ok((config, weights))
}

/// `table` with `count` rows, those from `first` on replaced by `rows`.
fn with_rows(table: &Tensor, count: i64, first: i64, rows: &Tensor) -> Tensor {
    let (old, width) = (table.size()[0], table.size()[1]);
    let more = Tensor::zeros([count - old, width], (table.kind(), table.device()));
    let fresh = Tensor::cat(&[table, &more], 0);
    fresh.narrow(0, first, rows.size()[0]).copy_(rows);
    fresh
}
