//! The models: a Llama-family decoder with adapters, key/value caches, sampling, chunked vocabulary losses, and weights
//! in Hugging Face and PEFT layout. Never sees strings.

pub mod attention;
pub mod checkpointing;
pub mod config;
pub mod copy_head;
pub mod decoder;
mod dialects;
pub mod encoder;
mod encoder_adapter;
mod encoder_base;
pub mod encoder_record;
pub mod evidence_head;
pub mod folder;
mod gguf;
pub mod heads;
pub mod kernels;
pub mod lora;
pub mod merge;
pub mod params;
pub mod passes;
pub mod peft;
mod peft_config;
pub mod projections;
pub mod read;
pub mod rope;
pub mod row_head;
pub mod sampling;
pub mod site;
pub mod span_head;
pub mod tape;
pub mod token_classifier;
pub mod vocab;
pub mod weights;
pub mod write;
