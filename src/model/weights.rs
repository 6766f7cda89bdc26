//! Safetensors in and out: memory-mapped reading with checked names, shapes and kinds; atomic writing with the
//! `format: pt` metadata that transformers and PEFT look for.

use crate::error::{Error, Result};
use crate::hub::{self, INDEX, SINGLE};
use crate::run_dir::write_atomic;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F64 => Some(Kind::Double),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::I64 => Some(Kind::Int64),
        Dtype::I32 => Some(Kind::Int),
        _ => None,
    }
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::Float => Some(Dtype::F32),
        Kind::Double => Some(Dtype::F64),
        Kind::Half => Some(Dtype::F16),
        Kind::BFloat16 => Some(Dtype::BF16),
        Kind::Int64 => Some(Dtype::I64),
        Kind::Int => Some(Dtype::I32),
        _ => None,
    }
}

/// The bytes of a weight file.
#[allow(unsafe_code)]
fn map(path: &Path) -> Result<memmap2::Mmap> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    // SAFETY: whoever maps reads and lets go; weight files are written once, by rename.
    unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))
}

fn parse<'a>(path: &Path, map: &'a [u8]) -> Result<SafeTensors<'a>> {
    SafeTensors::deserialize(map).map_err(|e| Error::file(path, format!("not a whole safetensors file: {e}")))
}

/// Every tensor of a safetensors file, copied out of the map, in its stored kind.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    read_as(path, |tensor| Ok(tensor.copy()))
}

/// The same, each tensor as `copy` makes it of what lies in the map; nothing of the map may be kept.
#[allow(unsafe_code)]
fn read_as(path: &Path, copy: impl Fn(&Tensor) -> Result<Tensor>) -> Result<BTreeMap<String, Tensor>> {
    let map = map(path)?;
    let parsed = parse(path, &map)?;
    let mut all = BTreeMap::new();
    for (name, view) in parsed.tensors() {
        let kind = kind_of(view.dtype())
            .ok_or_else(|| Error::file(path, format!("`{name}`: unsupported kind {:?}", view.dtype())))?;
        let size: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        let bytes = size.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
        if bytes != view.data().len() {
            return Err(Error::file(path, format!("`{name}`: expected {bytes} bytes, got {}", view.data().len())));
        }
        if bytes == 0 {
            all.insert(name, Tensor::zeros(size.as_slice(), (kind, Device::Cpu)));
            continue;
        }
        let strides: Vec<i64> = (0..size.len()).map(|d| size[d + 1..].iter().product()).collect();
        // SAFETY: the bytes are as many as shape and kind say, and outlive the tensor, which only `copy` sees. Safetensors
        // may begin a tensor anywhere; this processor reads from any address.
        let stored = unsafe { Tensor::from_blob(view.data().as_ptr(), &size, &strides, kind, Device::Cpu) };
        all.insert(name, copy(&stored)?);
    }
    Ok(all)
}

/// The kind of one tensor of a file, if it is there; nothing but the head of the file is looked at.
fn kind_in(path: &Path, name: &str) -> Result<Option<Kind>> {
    let map = map(path)?;
    Ok(parse(path, &map)?.tensor(name).ok().and_then(|view| kind_of(view.dtype())))
}

/// The files that hold the weights of a Hugging Face folder: one, or an index and its shards. Names only; the index is
/// read, and one that cannot be is named alone.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.exists() || !index.exists() {
        return vec![single];
    }
    let shards = hub::weight_map(&index).map(|map| map.into_values().collect::<BTreeSet<_>>());
    std::iter::once(index).chain(shards.unwrap_or_default().iter().map(|shard| folder.join(shard))).collect()
}

/// The kind in which a Hugging Face folder keeps its embedding.
pub fn stored_kind(folder: &Path) -> Result<Kind> {
    for path in files(folder).iter().filter(|path| path.extension().is_some_and(|e| e == "safetensors")) {
        if let Some(kind) = kind_in(path, "model.embed_tokens.weight")? {
            return Ok(kind);
        }
    }
    Err(Error::file(folder, "expected a tensor `model.embed_tokens.weight`, got none"))
}

/// The weights of a Hugging Face folder, in one file or in shards with their index, in this kind and on this device: one
/// copy, out of the mapped file. Every name in `expected` must be there with its shape, and nothing else; of what other
/// tools leave beside them, tables of rotary frequencies and the output head of a tied model are passed over.
pub fn read_model(
    folder: &Path,
    expected: &[(String, Vec<i64>)],
    kind: Kind,
    device: Device,
) -> Result<BTreeMap<String, Tensor>> {
    let (path, mut all) = read_folder(folder, kind, device)?;
    let is_expected = |name: &str| expected.iter().any(|(known, _)| known == name);
    all.retain(|name, _| is_expected(name) || !(name.ends_with("rotary_emb.inv_freq") || name == "lm_head.weight"));
    check_exact(&path, &all, expected)?;
    Ok(all)
}

/// The same, whatever names there are, and the file that answers for them: the only one, or the index.
pub fn read_folder(folder: &Path, kind: Kind, device: Device) -> Result<(PathBuf, BTreeMap<String, Tensor>)> {
    let copy = |tensor: &Tensor| Ok(tensor.f_to_device_(device, kind, false, true)?);
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.exists() || !index.exists() {
        let all = read_as(&single, copy)?;
        return Ok((single, all));
    }
    let weight_map = hub::weight_map(&index)?;
    let mut all = BTreeMap::new();
    for shard in weight_map.values().collect::<BTreeSet<_>>() {
        let path = folder.join(shard);
        if Path::new(shard).components().count() != 1 {
            return Err(Error::file(&index, format!("expected names of files beside it, got {shard:?}")));
        }
        for (name, tensor) in read_as(&path, copy)? {
            if weight_map.get(&name) != Some(shard) {
                let listed = weight_map.get(&name).map_or("nowhere".into(), |other| format!("in {other:?}"));
                return Err(Error::file(&path, format!("`{name}`: the index has it {listed}")));
            }
            all.insert(name, tensor);
        }
    }
    Ok((index, all))
}

/// Like [`read`], but every name in `expected` must be there with its shape; extra names are an error too.
pub fn read_exact(path: &Path, expected: &[(String, Vec<i64>)]) -> Result<BTreeMap<String, Tensor>> {
    let all = read(path)?;
    check_exact(path, &all, expected)?;
    Ok(all)
}

/// Fails unless `all`, read from `path`, holds exactly the names in `expected` with their shapes.
pub fn check_exact(path: &Path, all: &BTreeMap<String, Tensor>, expected: &[(String, Vec<i64>)]) -> Result<()> {
    for (name, shape) in expected {
        let tensor = all.get(name).ok_or_else(|| Error::file(path, format!("`{name}` is missing")))?;
        if &tensor.size() != shape {
            return Err(Error::file(path, format!("`{name}`: expected shape {shape:?}, got {:?}", tensor.size())));
        }
    }
    let known: BTreeSet<_> = expected.iter().map(|(n, _)| n).collect();
    if let Some(extra) = all.keys().find(|n| !known.contains(n)) {
        return Err(Error::file(path, format!("`{extra}` is not a weight of this model")));
    }
    Ok(())
}

/// Writes `named` tensors in the given order of names, atomically.
pub fn write(path: &Path, named: &[(String, Tensor)]) -> Result<()> {
    let mut buffers = Vec::with_capacity(named.len());
    for (name, tensor) in named {
        let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        let dtype = dtype_of(tensor.kind())
            .ok_or_else(|| Error::file(path, format!("`{name}`: cannot store kind {:?}", tensor.kind())))?;
        let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        buffers.push((name, dtype, tensor.size(), bytes));
    }
    let mut views = Vec::with_capacity(buffers.len());
    for (name, dtype, size, bytes) in &buffers {
        let shape = size.iter().map(|&d| d as usize).collect();
        let view = TensorView::new(*dtype, shape, bytes).map_err(|e| Error::file(path, format!("`{name}`: {e}")))?;
        views.push((name.as_str(), view));
    }
    let metadata = [("format".to_string(), "pt".to_string())].into();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| Error::file(path, e.to_string()))?;
    write_atomic(path, &bytes)
}
