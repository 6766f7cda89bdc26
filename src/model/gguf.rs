//! The weights of a GGUF file under Hugging Face names: dequantised, the rows of queries and keys back in their order.

use crate::error::Result;
use crate::gguf::{Gguf, TensorInfo, gguf_name};
use crate::model::config::ModelConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Numbers that are dequantised at a time.
const AT_ONCE: usize = 1 << 24;
/// A table that is part of the configuration.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Every weight of `config`, in this kind and on this device. A tensor that is missing, of another shape, or not of this
/// architecture is an error that names it as the file does.
pub fn read(path: &Path, config: &ModelConfig, kind: Kind, device: Device) -> Result<BTreeMap<String, Tensor>> {
    let gguf = Gguf::open(path)?;
    // llama.cpp rotates neighbours where Hugging Face rotates halves, and stores Llama's rows in its own order.
    let interleaved = gguf.architecture()? == "llama";
    let mut known = BTreeSet::from([ROPE_FACTORS.to_string()]);
    let mut wanted = Vec::new();
    for (name, shape) in config.parameters() {
        let own = gguf_name(&name).unwrap_or_else(|| name.clone());
        let tensor = gguf.tensor(&own)?;
        if tensor.shape != shape {
            return Err(gguf.fault(format!("`{own}`: expected shape {shape:?}, got {:?}", tensor.shape)));
        }
        known.insert(own);
        wanted.push((name, tensor));
    }
    if let Some(extra) = gguf.tensors().keys().find(|name| !known.contains(*name)) {
        let message = format!("`{extra}`: expected the tensors of a {} model only, got this one", config.model_type);
        return Err(gguf.fault(message));
    }
    let mut all = BTreeMap::new();
    for (name, tensor) in wanted {
        let turned = interleaved && (name.contains("self_attn.q_proj") || name.contains("self_attn.k_proj"));
        let head = if turned { config.head_width() } else { 1 };
        all.insert(name, load(&gguf, tensor, head, (kind, device))?);
    }
    Ok(all)
}

/// One tensor, some rows at a time; within each `head` rows, those of neighbours become those of halves.
fn load(gguf: &Gguf, tensor: &TensorInfo, head: i64, options: (Kind, Device)) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let rows =
        if tensor.shape.len() == 1 { tensor.shape[0] } else { tensor.shape[..tensor.shape.len() - 1].iter().product() };
    let width = tensor.numel() as i64 / rows;
    let heads = rows / head;
    let whole = Tensor::f_empty([rows, width], options)?;
    let halves = whole.view([heads, 2.min(head), (head / 2).max(1), width]);
    let at_once = (AT_ONCE as i64 / (head * width)).max(1);
    let mut buffer = Vec::new();
    for first in (0..heads).step_by(at_once as usize) {
        let count = at_once.min(heads - first);
        buffer.resize((count * head * width) as usize, 0.0);
        gguf.read(tensor, (first * head * width) as usize, &mut buffer);
        let stored = Tensor::f_from_slice(&buffer)?.view([count, (head / 2).max(1), 2.min(head), width]);
        halves.narrow(0, first, count).f_copy_(&stored.transpose(1, 2))?;
    }
    Ok(whole.f_view(tensor.shape.as_slice())?)
}
