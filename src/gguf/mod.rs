//! GGUF, the one-file format of llama.cpp: metadata, tokenizer and weights together. A file is read as the Hugging Face folder
//! that it was made from: [`Gguf::config`] gives `config.json`, [`Gguf::tokenizer`] `tokenizer.json`,
//! [`Gguf::tokenizer_config`] `tokenizer_config.json`, so that everything above needs to know one format.
//!
//! Architectures: llama (Mistral and SmolLM are stored under that name), qwen2, qwen3. Every count, offset and shape is checked
//! against the size of the file before anything is made of it; what does not fit or is not known is an error that names the
//! file and the field.
//!
//! Blocks are dequantised in [`blocks`], by about 130 lines of our own. Of the crates on crates.io only `candle-core` (0.11)
//! reads all of these block types. It would bring some 40 crates and 4 to 5 minutes of compiling on one core, among them a
//! second engine for regular expressions in `tokenizers`, and it would tie the versions of `tokenizers` and `safetensors` to
//! its own. `ggml-quants` (0.1) leaves the K blocks undone; the others read headers only. The formats of the blocks are frozen,
//! and the tests compare each bit for bit with the NumPy code of the `gguf` package.

pub mod blocks;
mod config;
mod file;
mod names;
mod pre_tokenizers;
mod read;
mod tokenizer;
mod value;

pub use file::{Gguf, TensorInfo, is_gguf};
pub use names::gguf_name;
