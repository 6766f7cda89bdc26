//! GGUF files that say what is not known here, a network or a vocabulary, met by the real program: one message that names file
//! and field.

use crate::bad_input::{Case, refuse};
use crate::gguf::bad::{BASE, changed};
use tch::{Device, Kind, Tensor};

#[test]
fn networks_that_are_not_computed_here() {
    let cases: &[Case] = &[
        (
            "an unknown architecture",
            |dir| changed(dir, |made| made.set("general.architecture", "mamba")),
            BASE,
            &["base.gguf: `general.architecture`: expected one of [\"llama\", \"qwen2\", \"qwen3\"], got \"mamba\""],
        ),
        (
            "no architecture",
            |dir| changed(dir, |made| made.unset("general.architecture")),
            BASE,
            &["base.gguf: `general.architecture`: expected it in the metadata, got none"],
        ),
        (
            "the keys of another architecture",
            |dir| changed(dir, |made| made.set("general.architecture", "qwen3")),
            BASE,
            &["base.gguf: `qwen3.", "expected it in the metadata, got none"],
        ),
        (
            "no blocks",
            |dir| changed(dir, |made| made.unset("llama.block_count")),
            BASE,
            &["base.gguf: `llama.block_count`: expected it in the metadata, got none"],
        ),
        (
            "blocks as a string",
            |dir| changed(dir, |made| made.set("llama.block_count", "two")),
            BASE,
            &["base.gguf: `llama.block_count`: expected an integer from 0 on, got a string"],
        ),
        (
            "more blocks than anybody has",
            |dir| changed(dir, |made| made.set("llama.block_count", u64::MAX)),
            BASE,
            &["base.gguf: `llama.block_count`: expected no more blocks than the 20 tensors, got 18446744073709551615"],
        ),
        (
            "no heads",
            |dir| changed(dir, |made| made.set("llama.attention.head_count", 0u32)),
            BASE,
            &["base.gguf: `llama.attention.head_count`: expected at least 1, got 0"],
        ),
        (
            "heads by block",
            |dir| changed(dir, |made| made.set("llama.attention.head_count_kv", vec![1u32, 1])),
            BASE,
            &["base.gguf: `llama.attention.head_count_kv`: expected an integer from 0 on, got a list"],
        ),
        (
            "wider than can be counted",
            |dir| changed(dir, |made| made.set("llama.embedding_length", u64::MAX)),
            BASE,
            &["base.gguf: "],
        ),
        (
            "experts",
            |dir| changed(dir, |made| made.set("llama.expert_count", 8u32)),
            BASE,
            &["base.gguf: `llama.expert_count`: expected 0, which changes nothing, got 8"],
        ),
        (
            "a window",
            |dir| changed(dir, |made| made.set("llama.attention.sliding_window", 16u32)),
            BASE,
            &[
                "base.gguf: `llama.attention.sliding_window`: expected attention over all 128 positions, got a window of 16",
            ],
        ),
        (
            "part of a head rotated",
            |dir| changed(dir, |made| made.set("llama.rope.dimension_count", 8u32)),
            BASE,
            &["base.gguf: `llama.rope.dimension_count`: expected the width of a head, 16, got 8"],
        ),
        (
            "narrower values",
            |dir| changed(dir, |made| made.set("llama.attention.value_length", 8u32)),
            BASE,
            &["base.gguf: `llama.attention.value_length`: expected the width of a head, 16, got 8"],
        ),
        (
            "an encoder",
            |dir| changed(dir, |made| made.set("llama.attention.causal", false)),
            BASE,
            &["base.gguf: `llama.attention.causal`: expected a decoder"],
        ),
        (
            "another scaling",
            |dir| changed(dir, |made| made.set("llama.rope.scaling.type", "longrope")),
            BASE,
            &["base.gguf: `llama.rope.scaling.type`: expected \"none\", \"linear\" or \"yarn\", got \"longrope\""],
        ),
        (
            "a scaling by nothing",
            |dir| changed(dir, |made| made.set("llama.rope.scaling.type", "yarn")),
            BASE,
            &["base.gguf: `llama.rope.scaling.factor`: expected it in the metadata, got none"],
        ),
        (
            "divisors of nobody",
            |dir| {
                let divisors = Tensor::from_slice(&[1f32, 2.0, 1.0, 3.0, 1.0, 1.0, 7.0, 1.0]);
                changed(dir, |made| made.add("rope_freqs.weight", &divisors))
            },
            BASE,
            &[
                "base.gguf: `rope_freqs.weight`: expected the divisors of rope_type \"llama3\"",
                "got [1.0, 2.0, 1.0, 3.0",
            ],
        ),
    ];
    refuse(cases, "train", "tiny.toml");
}

#[test]
fn vocabularies_that_are_not_known() {
    let cases: &[Case] = &[
        (
            "an unknown model",
            |dir| changed(dir, |made| made.set("tokenizer.ggml.model", "rwkv")),
            BASE,
            &["base.gguf: `tokenizer.ggml.model`: expected one of \"gpt2\", \"llama\", \"t5\", got \"rwkv\""],
        ),
        (
            "no model",
            |dir| changed(dir, |made| made.unset("tokenizer.ggml.model")),
            BASE,
            &["base.gguf: `tokenizer.ggml.model`: expected it in the metadata, got none"],
        ),
        (
            "an unknown pre-tokenizer",
            |dir| changed(dir, |made| made.set("tokenizer.ggml.pre", "kimi-k2")),
            BASE,
            &["base.gguf: `tokenizer.ggml.pre`: expected one of gpt-2, ", "smollm, ", "llama-bpe, ", "got \"kimi-k2\""],
        ),
        (
            "no pre-tokenizer",
            |dir| changed(dir, |made| made.unset("tokenizer.ggml.pre")),
            BASE,
            &["base.gguf: `tokenizer.ggml.pre`: expected it in the metadata, got none"],
        ),
        (
            "no tokens",
            |dir| changed(dir, |made| made.unset("tokenizer.ggml.tokens")),
            BASE,
            &["base.gguf: `tokenizer.ggml.tokens`: expected it in the metadata, got none"],
        ),
        (
            "numbers for tokens",
            |dir| changed(dir, |made| made.set("tokenizer.ggml.tokens", vec![1u32, 2])),
            BASE,
            &["base.gguf: `tokenizer.ggml.tokens`: expected a list of strings, got a list"],
        ),
        (
            "a token twice",
            |dir| {
                changed(dir, |made| {
                    made.set("tokenizer.ggml.tokens", vec!["a", "b", "a"]);
                    made.set("tokenizer.ggml.token_type", vec![1u32; 3]);
                })
            },
            BASE,
            &["base.gguf: `tokenizer.ggml.tokens`: expected each once, got \"a\" as 0 and as 2"],
        ),
        (
            "types for fewer",
            |dir| changed(dir, |made| made.set("tokenizer.ggml.token_type", vec![1u32; 7])),
            BASE,
            &["base.gguf: `tokenizer.ggml.token_type`: expected 300 entries, as tokenizer.ggml.tokens has, got 7"],
        ),
        (
            "no merges",
            |dir| changed(dir, |made| made.unset("tokenizer.ggml.merges")),
            BASE,
            &["base.gguf: `tokenizer.ggml.merges`: expected it in the metadata, got none"],
        ),
        (
            "a merge of what there is not",
            |dir| changed(dir, |made| made.set("tokenizer.ggml.merges", vec!["a b", "xyz a"])),
            BASE,
            &["base.gguf: `tokenizer.ggml.merges`: expected two tokens that make a third in entry "],
        ),
        (
            "an end beyond the vocabulary",
            |dir| changed(dir, |made| made.set("tokenizer.ggml.eos_token_id", 300u32)),
            BASE,
            &["base.gguf: `tokenizer.ggml.eos_token_id`: expected an id below 300, got 300"],
        ),
        (
            "a beginning without a token",
            |dir| changed(dir, |made| made.set("tokenizer.ggml.add_bos_token", true)),
            BASE,
            &["base.gguf: `tokenizer.ggml.bos_token_id`: expected it in the metadata, got none"],
        ),
        (
            "pieces without scores",
            |dir| changed(dir, |made| made.set("tokenizer.ggml.model", "llama")),
            BASE,
            &["base.gguf: `tokenizer.ggml.scores`: expected it in the metadata, got none"],
        ),
        (
            "fewer rows than tokens",
            |dir| {
                changed(dir, |made| {
                    made.tensors.retain(|row| row.name != "token_embd.weight");
                    made.add("token_embd.weight", &Tensor::ones([200, 32], (Kind::Float, Device::Cpu)));
                })
            },
            BASE,
            &["base.gguf: vocab_size: expected at least the tokenizer's 300 entries, got 200"],
        ),
    ];
    refuse(cases, "train", "tiny.toml");
}
