//! GGUF files written field by field, so that any of them can lie: a base of the test world, as llama.cpp would store it.

use gist::gguf::gguf_name;
use gist::model::config::ModelConfig;
use gist::model::weights;
use serde_json::Value;
use std::fs;
use std::path::Path;
use tch::{Kind, Tensor};

const ALIGNMENT: usize = 32;

/// A row of the table of tensors; dimensions as the file has them, the contiguous one first.
#[derive(Clone)]
pub struct Row {
    pub name: String,
    pub dimensions: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
}

/// A file in parts.
#[derive(Clone)]
pub struct Made {
    pub version: u32,
    /// More metadata and tensors than there are.
    pub more: (u64, u64),
    /// Keys with the kind and the bytes of their values.
    pub metadata: Vec<(String, Vec<u8>)>,
    pub tensors: Vec<Row>,
    pub data: Vec<u8>,
}

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes(), value.as_bytes()].concat()
}

/// A value with its kind before it.
pub trait Stored {
    fn stored(&self) -> Vec<u8>;
}

fn kind(number: u32, bytes: &[u8]) -> Vec<u8> {
    [&number.to_le_bytes(), bytes].concat()
}

impl Stored for u32 {
    fn stored(&self) -> Vec<u8> {
        kind(4, &self.to_le_bytes())
    }
}
impl Stored for u64 {
    fn stored(&self) -> Vec<u8> {
        kind(10, &self.to_le_bytes())
    }
}
impl Stored for f32 {
    fn stored(&self) -> Vec<u8> {
        kind(6, &self.to_le_bytes())
    }
}
impl Stored for bool {
    fn stored(&self) -> Vec<u8> {
        kind(7, &[u8::from(*self)])
    }
}
impl Stored for &str {
    fn stored(&self) -> Vec<u8> {
        kind(8, &text(self))
    }
}
impl<T: Stored> Stored for Vec<T> {
    fn stored(&self) -> Vec<u8> {
        let items: Vec<Vec<u8>> = self.iter().map(Stored::stored).collect();
        let of = items.first().map_or(4u32.to_le_bytes().to_vec(), |item| item[..4].to_vec());
        let bytes: Vec<u8> = items.iter().flat_map(|item| item[4..].to_vec()).collect();
        kind(9, &[&of[..], &(items.len() as u64).to_le_bytes(), &bytes].concat())
    }
}

impl Made {
    /// The base in a Hugging Face folder, weights as float32.
    pub fn from_folder(folder: &Path) -> Self {
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let (heads, kv) = (config.num_attention_heads, config.kv_heads());
        let mut made = Self { version: 3, more: (0, 0), metadata: vec![], tensors: vec![], data: vec![] };
        made.set("general.architecture", "llama");
        for (key, value) in [
            ("context_length", config.max_position_embeddings),
            ("embedding_length", config.hidden_size),
            ("block_count", config.num_hidden_layers),
            ("feed_forward_length", config.intermediate_size),
            ("attention.head_count", heads),
            ("attention.head_count_kv", kv),
        ] {
            made.set(&format!("llama.{key}"), value as u32);
        }
        made.set("llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps as f32);
        made.set("llama.rope.freq_base", config.rope_theta as f32);
        made.vocabulary(&folder.join("tokenizer.json"));
        for (name, tensor) in weights::read(&folder.join("model.safetensors")).unwrap() {
            let turned = |heads: i64| {
                let size = tensor.size();
                tensor.view([heads, 2, size[0] / heads / 2, size[1]]).transpose(1, 2).reshape(&size)
            };
            let stored = match name.as_str() {
                name if name.contains("q_proj") => turned(heads),
                name if name.contains("k_proj") => turned(kv),
                _ => tensor.shallow_clone(),
            };
            made.add(&gguf_name(&name).unwrap(), &stored);
        }
        made
    }

    fn vocabulary(&mut self, tokenizer: &Path) {
        let json: Value = serde_json::from_slice(&fs::read(tokenizer).unwrap()).unwrap();
        let mut vocabulary: Vec<(&str, u64)> = json["model"]["vocab"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_u64().unwrap()))
            .collect();
        vocabulary.sort_by_key(|(_, id)| *id);
        let special: Vec<u64> =
            json["added_tokens"].as_array().unwrap().iter().map(|token| token["id"].as_u64().unwrap()).collect();
        let merges: Vec<String> = (json["model"]["merges"].as_array().unwrap().iter())
            .map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        self.set("tokenizer.ggml.model", "gpt2");
        self.set("tokenizer.ggml.pre", "gpt-2");
        let types = vocabulary.iter().map(|(_, id)| if special.contains(id) { 3u32 } else { 1 }).collect::<Vec<_>>();
        self.set("tokenizer.ggml.tokens", vocabulary.into_iter().map(|(token, _)| token).collect::<Vec<_>>());
        self.set("tokenizer.ggml.token_type", types);
        self.set("tokenizer.ggml.merges", merges.iter().map(String::as_str).collect::<Vec<_>>());
        self.set("tokenizer.ggml.eos_token_id", 0u32);
    }

    /// A key of the metadata, added or changed.
    pub fn set(&mut self, key: &str, value: impl Stored) {
        match self.metadata.iter_mut().find(|(known, _)| known == key) {
            Some((_, bytes)) => *bytes = value.stored(),
            None => self.metadata.push((key.into(), value.stored())),
        }
    }

    /// Takes a key away.
    pub fn unset(&mut self, key: &str) {
        let before = self.metadata.len();
        self.metadata.retain(|(known, _)| known != key);
        assert_eq!(self.metadata.len() + 1, before, "{key}");
    }

    /// A float32 tensor behind the others.
    pub fn add(&mut self, name: &str, tensor: &Tensor) {
        let offset = self.data.len() as u64;
        let values = Vec::<f32>::try_from(tensor.to_kind(Kind::Float).reshape([-1])).unwrap();
        self.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
        let dimensions = tensor.size().iter().rev().map(|&size| size as u64).collect();
        self.tensors.push(Row { name: name.into(), dimensions, kind: 0, offset });
    }

    /// A row of the table.
    pub fn row(&mut self, name: &str) -> &mut Row {
        self.tensors.iter_mut().find(|row| row.name == name).unwrap()
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let (tensors, metadata) = (self.tensors.len() as u64 + self.more.1, self.metadata.len() as u64 + self.more.0);
        let mut all = b"GGUF".to_vec();
        all.extend(self.version.to_le_bytes());
        all.extend(tensors.to_le_bytes());
        all.extend(metadata.to_le_bytes());
        for (key, value) in &self.metadata {
            all.extend(text(key));
            all.extend(value);
        }
        for row in &self.tensors {
            all.extend(text(&row.name));
            all.extend((row.dimensions.len() as u32).to_le_bytes());
            row.dimensions.iter().for_each(|size| all.extend(size.to_le_bytes()));
            all.extend(row.kind.to_le_bytes());
            all.extend(row.offset.to_le_bytes());
        }
        all.resize(all.len().next_multiple_of(ALIGNMENT), 0);
        all.extend(&self.data);
        all
    }

    /// Writes it.
    pub fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }
}
