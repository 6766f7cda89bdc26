//! Safetensors in and out: memory-mapped reading with checked names, shapes and kinds; atomic writing, tensor by tensor, with
//! the `format: pt` metadata that transformers and PEFT look for.

use crate::base;
use crate::error::{Error, Result};
use crate::gguf::is_gguf;
use crate::hash::FileHash;
use crate::hub::{self, INDEX, SINGLE};
use crate::model::config::ModelConfig;
use crate::model::gguf;
use crate::run_dir::write_atomic_by;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// File of the weights of an adapter ([`crate::model::peft`]).
pub(super) const ADAPTER: &str = "adapter_model.safetensors";
/// Name of the embedding.
const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of an output head of its own.
const HEAD: &str = "lm_head.weight";

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
    SafeTensors::deserialize(map).map_err(|error| {
        let why = fault(map).unwrap_or_else(|| error.to_string());
        Error::file(path, format!("not a whole safetensors file: {why}"))
    })
}

/// Message that says in bytes how the file contradicts its header; none where no such difference is found.
fn fault(map: &[u8]) -> Option<String> {
    let length = u64::from_le_bytes(map.get(..8)?.try_into().ok()?) as usize;
    let Some(header) = map.get(8..length.checked_add(8)?) else {
        return Some(format!("expected a header of {length} bytes, got a file of {}", map.len()));
    };
    let header: BTreeMap<String, Value> = serde_json::from_slice(header).ok()?;
    let mut places = Vec::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let [start, end]: [usize; 2] = serde_json::from_value(entry.get("data_offsets")?.clone()).ok()?;
        let shape: Vec<usize> = serde_json::from_value(entry.get("shape")?.clone()).ok()?;
        let dtype: Dtype = serde_json::from_value(entry.get("dtype")?.clone()).ok()?;
        let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size))?;
        let (expected, got) = (count.checked_mul(dtype.bitsize())? / 8, end.checked_sub(start)?);
        if expected != got {
            return Some(format!("`{name}`: expected {expected} bytes ({dtype}, {shape:?}), got {got}"));
        }
        places.push((start, end, name));
    }
    places.sort_unstable();
    let mut end = 0;
    for (start, stop, name) in places {
        if start != end {
            return Some(format!("`{name}`: expected it at byte {end}, where the one before it ends, got {start}"));
        }
        end = stop;
    }
    let whole = end.checked_add(length)?.checked_add(8)?;
    (whole != map.len()).then(|| format!("expected {whole} bytes by its header, got {}", map.len()))
}

/// Every tensor of a safetensors file, copied out of the map, in its stored kind.
pub fn read(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    read_as(path, |_| true, |tensor| Ok(tensor.copy()))
}

/// The `wanted` tensors, each as `copy` makes it of what lies in the map; nothing of the map may be kept.
#[allow(unsafe_code)]
fn read_as(
    path: &Path,
    wanted: impl Fn(&str) -> bool,
    copy: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<BTreeMap<String, Tensor>> {
    let map = map(path)?;
    let parsed = parse(path, &map)?;
    let mut all = BTreeMap::new();
    for (name, view) in parsed.tensors().into_iter().filter(|(name, _)| wanted(name)) {
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

/// Metadata in the header of a safetensors file: its key `__metadata__`.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let map = map(path)?;
    parse(path, &map)?;
    let (_, header) = SafeTensors::read_metadata(&map).map_err(|e| Error::file(path, e.to_string()))?;
    Ok(header.metadata().clone().unwrap_or_default().into_iter().collect())
}

/// The kind of one tensor of a file, if it is there; nothing but the head of the file is looked at.
fn kind_in(path: &Path, name: &str) -> Result<Option<Kind>> {
    let map = map(path)?;
    Ok(parse(path, &map)?.tensor(name).ok().and_then(|view| kind_of(view.dtype())))
}

/// The files that hold the weights of a base, a GGUF file or those of a Hugging Face folder: one, or an index and its shards.
/// Names only; the index is read, and one that cannot be is named alone.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    if is_gguf(folder) {
        return vec![folder.to_path_buf()];
    }
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.exists() || !index.exists() {
        return vec![single];
    }
    let shards = hub::weight_map(&index).map(|map| map.into_values().collect::<BTreeSet<_>>());
    std::iter::once(index).chain(shards.unwrap_or_default().iter().map(|shard| folder.join(shard))).collect()
}

/// Files of the weights in a folder that may hold an adapter in their place ([`crate::model::peft`]).
pub fn files_or_adapter(folder: &Path) -> Vec<PathBuf> {
    let adapter = folder.join(ADAPTER);
    if adapter.exists() { vec![adapter] } else { files(folder) }
}

/// The kind in which a base keeps its embedding (a tied one perhaps under the head's name); float32 for a GGUF file, whose
/// blocks become that.
pub fn stored_kind(folder: &Path) -> Result<Kind> {
    if is_gguf(folder) {
        return Ok(Kind::Float);
    }
    for name in [EMBEDDING, HEAD] {
        for path in shards(folder) {
            if let Some(kind) = kind_in(&path, name)? {
                return Ok(kind);
            }
        }
    }
    Err(Error::file(folder, format!("expected a tensor `{EMBEDDING}`, got none")))
}

/// The architecture of a base: what a GGUF file says; of a Hugging Face folder its `config.json`, and whether the output head
/// is the embedding as the weights have it. Where `tie_word_embeddings` is true and yet there is a head with other values, that
/// head is used, as transformers 5 does, and stderr says so.
pub fn architecture(folder: &Path) -> Result<ModelConfig> {
    let path = base::file(folder, base::CONFIG);
    let mut config = ModelConfig::load(&path)?;
    if is_gguf(folder) || !config.tie_word_embeddings {
        return Ok(config);
    }
    let mut tables = BTreeMap::new();
    let mut with_head = None;
    for file in shards(folder) {
        with_head = kind_in(&file, HEAD)?.map(|_| file).or(with_head);
    }
    let Some(file) = with_head else { return Ok(config) };
    for file in shards(folder) {
        tables.extend(read_as(&file, |name| [EMBEDDING, HEAD].contains(&name), |tensor| Ok(tensor.copy()))?);
    }
    if !is_tied(&tables) {
        let (path, file) = (path.display(), file.display());
        eprintln!(
            "{path}: `tie_word_embeddings` is true, but {file} has an `{HEAD}` that differs from `{EMBEDDING}`: \
             that head is used (set it to false to silence this)"
        );
        config.tie_word_embeddings = false;
    }
    Ok(config)
}

/// Whether the output head, where there is one, is the embedding.
fn is_tied(tables: &BTreeMap<String, Tensor>) -> bool {
    let (Some(embedding), Some(head)) = (tables.get(EMBEDDING), tables.get(HEAD)) else { return true };
    let same_kind = embedding.kind() == head.kind();
    let wide = |tensor: &Tensor| if same_kind { tensor.shallow_clone() } else { tensor.to_kind(Kind::Float) };
    embedding.size() == head.size() && wide(embedding).equal(&wide(head))
}

/// The files of [`files`] that hold tensors.
fn shards(folder: &Path) -> Vec<PathBuf> {
    files(folder).into_iter().filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
}

/// SHA-256 of the weights of a base: of the whole of a GGUF file; of a folder over the names, kinds, shapes and bytes of its
/// tensors as they are stored, in the order of their names, however they are spread over files.
pub fn identity(folder: &Path, config: &ModelConfig) -> Result<String> {
    if is_gguf(folder) {
        return Ok(FileHash::of(folder)?.sha256);
    }
    let mut wanted: BTreeSet<String> = config.parameters().into_iter().map(|(name, _)| name).collect();
    wanted.insert(HEAD.into());
    let mut lines = BTreeMap::new();
    for path in shards(folder) {
        let map = map(&path)?;
        let tensors = parse(&path, &map)?.tensors();
        let own = tensors.into_par_iter().filter(|(name, _)| wanted.contains(name)).map(|(name, view)| {
            let line = format!("{name} {} {:?} {}\n", view.dtype(), view.shape(), hex(&Sha256::digest(view.data())));
            (name, line)
        });
        lines.extend(own.collect::<Vec<_>>());
    }
    if config.tie_word_embeddings && lines.contains_key(EMBEDDING) {
        lines.remove(HEAD);
    }
    let mut digest = Sha256::new();
    lines.values().for_each(|line| digest.update(line));
    Ok(hex(&digest.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The weights of a base, a GGUF file or a Hugging Face folder with one file or shards and their index, in this kind and on
/// this device: one copy, out of the mapped file. Every weight of `config` must be there with its shape, and nothing else; of
/// what other tools leave beside them, tables of rotary frequencies and the output head of a tied model are passed over. That
/// head must be the embedding ([`architecture`] says whether it is), and stands for it where the file has only the head.
pub fn read_model(folder: &Path, config: &ModelConfig, kind: Kind, device: Device) -> Result<BTreeMap<String, Tensor>> {
    if is_gguf(folder) {
        return gguf::read(folder, config, kind, device);
    }
    let (path, mut all) = read_folder(folder, kind, device)?;
    if config.tie_word_embeddings {
        if !is_tied(&all) {
            let message = format!("`{HEAD}`: expected the embedding (`tie_word_embeddings` is true), got other values");
            return Err(Error::file(path, message));
        }
        if let Some(head) = all.remove(HEAD) {
            all.entry(EMBEDDING.into()).or_insert(head);
        }
    }
    let expected = config.parameters();
    let is_expected = |name: &str| expected.iter().any(|(known, _)| known == name);
    all.retain(|name, _| is_expected(name) || !name.ends_with("rotary_emb.inv_freq"));
    check_architecture(&path, &all, config)?;
    check_exact(&path, &all, &expected)?;
    Ok(all)
}

/// Parts of a block that one architecture has and another has not.
const TELLING: [&str; 4] =
    ["self_attn.q_norm.weight", "self_attn.q_proj.bias", "self_attn.o_proj.bias", "mlp.gate_proj.bias"];

/// Fails if the weights in `path` are those of another architecture than `config` names.
fn check_architecture(path: &Path, all: &BTreeMap<String, Tensor>, config: &ModelConfig) -> Result<()> {
    for part in TELLING {
        let block = format!("model.layers.0.{part}");
        let (stored, named) = (all.contains_key(&block), config.parameters().iter().any(|(name, _)| *name == block));
        if stored != named {
            let (asked, got) = if named { ("with", "without") } else { ("without", "with") };
            let of = &config.model_type;
            let message =
                format!("expected weights of `model_type` {of:?}, {asked} `{part}`, got those of one {got} it");
            return Err(Error::file(path, message));
        }
    }
    Ok(())
}

/// All tensors of a folder, whatever their names, with the file that lists them: the only one, or the index.
pub fn read_folder(folder: &Path, kind: Kind, device: Device) -> Result<(PathBuf, BTreeMap<String, Tensor>)> {
    let copy = |tensor: &Tensor| Ok(tensor.f_to_device_(device, kind, false, true)?);
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.exists() || !index.exists() {
        let all = read_as(&single, |_| true, copy)?;
        return Ok((single, all));
    }
    let weight_map = hub::weight_map(&index)?;
    let mut all = BTreeMap::new();
    for shard in weight_map.values().collect::<BTreeSet<_>>() {
        let path = folder.join(shard);
        for (name, tensor) in read_as(&path, |_| true, copy)? {
            if weight_map.get(&name) != Some(shard) {
                let listed = weight_map.get(&name).map_or("nowhere".into(), |other| format!("in {other:?}"));
                return Err(Error::file(&path, format!("`{name}`: the index has it {listed}")));
            }
            all.insert(name, tensor);
        }
    }
    Ok((index, all))
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

/// Writes `named` tensors, atomically.
pub fn write(path: &Path, named: &[(String, Tensor)]) -> Result<()> {
    write_telling(path, named, [])
}

/// Writes `named` tensors, atomically, with `told` in the header's metadata. No more than one tensor is in memory twice.
pub fn write_telling(
    path: &Path,
    named: &[(String, Tensor)],
    told: impl IntoIterator<Item = (String, String)>,
) -> Result<()> {
    let mut sorted: Vec<(&str, &Tensor)> = named.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    // Wide kinds first, so that every tensor is aligned, as the safetensors crate has them.
    sorted.sort_by_key(|(name, tensor)| (Reverse(tensor.kind().elt_size_in_bytes()), *name));
    let mut header = serde_json::Map::new();
    let format = ("format".to_string(), "pt".to_string());
    let told: BTreeMap<String, String> = told.into_iter().chain([format]).collect();
    header.insert("__metadata__".into(), json!(told));
    let mut end = 0;
    for (name, tensor) in &sorted {
        let dtype = dtype_of(tensor.kind())
            .ok_or_else(|| Error::file(path, format!("`{name}`: cannot store kind {:?}", tensor.kind())))?;
        let start = end;
        end += tensor.numel() * tensor.kind().elt_size_in_bytes();
        let entry = json!({"dtype": dtype.to_string(), "shape": tensor.size(), "data_offsets": [start, end]});
        header.insert(name.to_string(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    write_atomic_by(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in sorted {
            let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
            let mut bytes = vec![0u8; tensor.numel() * tensor.kind().elt_size_in_bytes()];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel()).map_err(std::io::Error::other)?;
            file.write_all(&bytes)?;
        }
        Ok(())
    })
}
