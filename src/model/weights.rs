//! Safetensors in and out: memory-mapped reading with checked names, shapes and kinds; atomic writing with the
//! `format: pt` metadata that transformers and PEFT look for.

use crate::error::{Error, Result};
use crate::run_dir::write_atomic;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

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

/// Every tensor of a safetensors file, copied out of the map, in its stored kind.
#[allow(unsafe_code)]
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    // SAFETY: the map is read here and dropped before returning; weight files are written once, by rename.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
    let parsed =
        SafeTensors::deserialize(&map).map_err(|e| Error::file(path, format!("not a whole safetensors file: {e}")))?;
    let mut all = BTreeMap::new();
    for (name, view) in parsed.tensors() {
        let kind = kind_of(view.dtype())
            .ok_or_else(|| Error::file(path, format!("`{name}`: unsupported kind {:?}", view.dtype())))?;
        let size: Vec<i64> = view.shape().iter().map(|&d| d as i64).collect();
        let bytes = size.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
        if bytes != view.data().len() {
            return Err(Error::file(path, format!("`{name}`: expected {bytes} bytes, got {}", view.data().len())));
        }
        all.insert(name, Tensor::f_from_data_size(view.data(), &size, kind)?);
    }
    Ok(all)
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
    let known: std::collections::BTreeSet<_> = expected.iter().map(|(n, _)| n).collect();
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
