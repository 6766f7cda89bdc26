//! An adapter merged into its base: one checkpoint that any tool reads. W becomes W + (α/r) B A, and the control tokens get
//! rows of the vocabulary. Beside one copy of the weights it holds the largest of them once more, in float32.

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::lora::{Adapter, COPY};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The merged model: `base`, the weights of `config` under their names, with `adapter`; the control tokens take the ids from
/// `first` on, in rows that nobody uses or that are added. The logits of start-of-gist and separator, and in a model that
/// only reads that of end-of-gist too, mean nothing and are to be suppressed.
pub fn merged(
    config: &ModelConfig,
    mut base: BTreeMap<String, Tensor>,
    adapter: &Adapter,
    first: i64,
) -> Result<(ModelConfig, Vec<(String, Tensor)>)> {
    let _guard = tch::no_grad_guard();
    let tied = config.tie_word_embeddings;
    let (rows, end) = adapter.vocabulary_rows(tied)?;
    let mut own: BTreeMap<String, Tensor> = adapter.params().named().into_iter().collect();
    if own.contains_key(COPY) {
        return Err(Error::invalid(
            "the compressor has a copy head (model.copy_lengths), which no merged model can have; its adapter can be exported",
        ));
    }
    let scaling = adapter.config().alpha / adapter.config().rank as f64;
    let downs: Vec<String> = own.keys().filter(|name| name.ends_with(".lora_A.weight")).cloned().collect();
    let missing = |name: &str| Error::shape(name, "a tensor", "none");
    for down in downs {
        let stem = down.trim_end_matches(".lora_A.weight");
        let up = own.remove(&format!("{stem}.lora_B.weight")).ok_or_else(|| missing(stem))?;
        let down = own.remove(&down).ok_or_else(|| missing(stem))?;
        let name = format!("{}.weight", stem.trim_start_matches("base_model.model."));
        let weight = base.get_mut(&name).ok_or_else(|| missing(&name))?;
        weight.copy_(&(weight.to_kind(Kind::Float) + up.matmul(&down) * scaling));
    }
    let count = config.vocab_size.max(first + rows.size()[0]);
    for (name, rows) in std::iter::once((EMBEDDING, rows)).chain(end.map(|end| (HEAD, end))) {
        let table = base.remove(name).ok_or_else(|| missing(name))?;
        base.insert(name.into(), with_rows(table, count, first, &rows));
    }
    let config = ModelConfig { vocab_size: count, ..config.clone() };
    let mut weights = Vec::new();
    for (name, _) in config.parameters() {
        let weight = base.remove(&name).ok_or_else(|| missing(&name))?;
        weights.push((name, weight));
    }
    Ok((config, weights))
}

/// `table` with `count` rows, those from `first` on replaced by `rows`.
fn with_rows(mut table: Tensor, count: i64, first: i64, rows: &Tensor) -> Tensor {
    let (old, width) = (table.size()[0], table.size()[1]);
    if count > old {
        table = Tensor::cat(&[&table, &Tensor::zeros([count - old, width], (table.kind(), table.device()))], 0);
    }
    table.narrow(0, first, rows.size()[0]).copy_(rows);
    table
}
