//! GGUF files whose head or table of tensors lies, met by the real program: one message that names file and field.

use crate::bad_input::{Case, nothing, refuse};
use crate::common::world;
use crate::gguf::fixture;
use crate::gguf::made::Made;
use gist::base;
use gist::gguf::Gguf;
use gist::model::config::ModelConfig;
use gist::model::weights;
use gist::rng::{self, Stream};
use gist::tokenizer::Tokenizer;
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

pub const BASE: &[&str] = &["model.path=DIR/base.gguf"];
const NORM: &str = "output_norm.weight";
const Q: &str = "blk.0.attn_q.weight";

/// The base of the test world, changed.
pub fn changed(dir: &Path, change: impl FnOnce(&mut Made)) {
    let mut made = Made::from_folder(&world().root.join("base"));
    change(&mut made);
    made.write(&dir.join("base.gguf"));
}

/// Its bytes, changed.
fn bytes(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Made::from_folder(&world().root.join("base")).bytes();
    change(&mut bytes);
    fs::write(dir.join("base.gguf"), bytes).unwrap();
}

/// Where the bytes behind a text are.
fn behind(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() + text.len()
}

#[test]
fn heads_that_lie() {
    let cases: &[Case] = &[
        ("no file", nothing, &["model.path=models/gone.gguf"], &["models/gone.gguf: No such file"]),
        (
            "two files",
            |dir| {
                changed(dir, |_| {});
                fs::copy(dir.join("base.gguf"), dir.join("other.gguf")).unwrap();
            },
            &["model.path=DIR"],
            &["expected one GGUF file, got base.gguf, other.gguf; name one of them"],
        ),
        (
            "a text",
            |dir| fs::write(dir.join("base.gguf"), "version https://git-lfs.example/spec/v1\n").unwrap(),
            BASE,
            &["base.gguf: `magic`: expected \"GGUF\", got \"vers\""],
        ),
        ("nothing in it", |dir| fs::write(dir.join("base.gguf"), "").unwrap(), BASE, &["base.gguf: "]),
        (
            "version 1",
            |dir| changed(dir, |made| made.version = 1),
            BASE,
            &["base.gguf: `version`: expected 2 or 3, got 1"],
        ),
        (
            "version 4",
            |dir| changed(dir, |made| made.version = 4),
            BASE,
            &["base.gguf: `version`: expected 2 or 3, got 4"],
        ),
        (
            "big-endian",
            |dir| changed(dir, |made| made.version = 3u32.swap_bytes()),
            BASE,
            &["base.gguf: `version`: expected a little-endian file, got a big-endian one of version 3"],
        ),
        (
            "cut within the counts",
            |dir| bytes(dir, |bytes| bytes.truncate(20)),
            BASE,
            &["base.gguf: `metadata_kv_count`: expected 8 bytes at byte 16, got the end of the file after 4"],
        ),
        (
            "cut within the metadata",
            |dir| bytes(dir, |bytes| bytes.truncate(behind(bytes, "tokenizer.ggml.merges") + 100)),
            BASE,
            &["base.gguf: `tokenizer.ggml.merges`: expected ", "got the end of the file after "],
        ),
        (
            "cut within the table",
            |dir| bytes(dir, |bytes| bytes.truncate(behind(bytes, NORM) + 6)),
            BASE,
            &["base.gguf: `output_norm.weight`: expected 8 bytes at byte ", "got the end of the file after 2"],
        ),
        (
            "cut within the data",
            |dir| bytes(dir, |bytes| bytes.truncate(bytes.len() * 9 / 10)),
            BASE,
            &["base.gguf: `", "bytes at offset ", "got a file of "],
        ),
        (
            "more metadata than there is",
            |dir| changed(dir, |made| made.more.0 = u64::MAX / 2),
            BASE,
            &["base.gguf: `", "expected ", "got "],
        ),
        (
            "more tensors than there are",
            |dir| changed(dir, |made| made.more.1 = u64::MAX / 2),
            BASE,
            &["base.gguf: `", "expected ", "got "],
        ),
        (
            "a string longer than memory",
            |dir| {
                bytes(dir, |bytes| {
                    let at = behind(bytes, "general.architecture") + 4;
                    bytes[at..at + 8].copy_from_slice(&(u64::MAX - 1).to_le_bytes());
                })
            },
            BASE,
            &["base.gguf: `general.architecture`: expected 18446744073709551614 bytes at byte "],
        ),
        (
            "a list longer than memory",
            |dir| {
                bytes(dir, |bytes| {
                    let at = behind(bytes, "tokenizer.ggml.tokens") + 8;
                    bytes[at..at + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
                })
            },
            BASE,
            &["base.gguf: `tokenizer.ggml.tokens`: expected at most 16777216 entries, got 1152921504606846976"],
        ),
        (
            "a list longer than the file",
            |dir| {
                bytes(dir, |bytes| {
                    let at = behind(bytes, "tokenizer.ggml.token_type") + 8;
                    bytes[at..at + 8].copy_from_slice(&(1u64 << 23).to_le_bytes());
                })
            },
            BASE,
            &["base.gguf: `tokenizer.ggml.token_type`: expected 4 bytes at byte ", "got the end of the file"],
        ),
        (
            "a list of lists",
            |dir| changed(dir, |made| made.set("general.tags", vec![vec![1u32]])),
            BASE,
            &["base.gguf: `general.tags`: expected a list of plain values, got one of lists"],
        ),
        (
            "a kind of value that there is not",
            |dir| changed(dir, |made| made.metadata[0].1[0] = 13),
            BASE,
            &["base.gguf: `general.architecture`: expected a kind of value from 0 to 12, got 13"],
        ),
        (
            "not UTF-8",
            |dir| changed(dir, |made| *made.metadata[0].1.last_mut().unwrap() = 0xff),
            BASE,
            &["base.gguf: `general.architecture`: expected UTF-8, got "],
        ),
        (
            "a bool of 2",
            |dir| {
                changed(dir, |made| {
                    made.set("tokenizer.ggml.add_bos_token", true);
                    *made.metadata.last_mut().unwrap().1.last_mut().unwrap() = 2;
                })
            },
            BASE,
            &["base.gguf: `tokenizer.ggml.add_bos_token`: expected a bool of 0 or 1, got 2"],
        ),
        (
            "a key twice",
            |dir| changed(dir, |made| made.metadata.push(made.metadata[0].clone())),
            BASE,
            &["base.gguf: `general.architecture`: expected it once in the metadata, got it twice"],
        ),
        (
            "one of several files",
            |dir| changed(dir, |made| made.set("split.count", 3u32)),
            BASE,
            &["base.gguf: `split.count`: expected one file, got one of 3 parts"],
        ),
        (
            "no alignment",
            |dir| changed(dir, |made| made.set("general.alignment", 0u32)),
            BASE,
            &["base.gguf: `general.alignment`: expected a power of two up to 1048576, got 0"],
        ),
        (
            "a float as alignment",
            |dir| changed(dir, |made| made.set("general.alignment", 32f32)),
            BASE,
            &["base.gguf: `general.alignment`: expected an integer from 0 on, got a float"],
        ),
    ];
    refuse(cases, "train", "tiny.toml");
}

#[test]
fn tables_of_tensors_that_lie() {
    let cases: &[Case] = &[
        (
            "beyond the end",
            |dir| changed(dir, |made| made.row(NORM).offset = 1 << 40),
            BASE,
            &[
                "base.gguf: `output_norm.weight`: expected 128 bytes at offset 1099511627776 (F32, [32]), got a file of ",
            ],
        ),
        (
            "past counting",
            |dir| changed(dir, |made| made.row(NORM).offset = u64::MAX - 31),
            BASE,
            &["base.gguf: `output_norm.weight`: expected 128 bytes at offset 18446744073709551584"],
        ),
        (
            "between two places",
            |dir| changed(dir, |made| made.row(NORM).offset += 4),
            BASE,
            &["base.gguf: `output_norm.weight`: expected an offset that is a multiple of 32, got "],
        ),
        (
            "two tensors in one place",
            |dir| changed(dir, |made| made.row(NORM).offset = 0),
            BASE,
            &["base.gguf: `", "expected it behind `", "which ends at byte "],
        ),
        (
            "a tensor twice",
            |dir| {
                changed(dir, |made| {
                    let mut row = made.row(NORM).clone();
                    row.offset = 0;
                    made.tensors.push(row);
                })
            },
            BASE,
            &["base.gguf: `output_norm.weight`: expected it once in the table of tensors, got it twice"],
        ),
        (
            "a shape past counting",
            |dir| changed(dir, |made| made.row(Q).dimensions = vec![1 << 40, 1 << 40]),
            BASE,
            &[
                "base.gguf: `blk.0.attn_q.weight`: expected a shape that can be counted, got [1099511627776, 1099511627776]",
            ],
        ),
        (
            "a shape of nothing",
            |dir| changed(dir, |made| made.row(Q).dimensions = vec![0, 32]),
            BASE,
            &["base.gguf: `blk.0.attn_q.weight`: expected a shape that can be counted, got [32, 0]"],
        ),
        (
            "no dimensions",
            |dir| changed(dir, |made| made.row(Q).dimensions.clear()),
            BASE,
            &["base.gguf: `blk.0.attn_q.weight`: expected 1 to 4 dimensions, got 0"],
        ),
        (
            "a larger shape than the data",
            |dir| changed(dir, |made| made.row("token_embd.weight").dimensions[1] *= 1000),
            BASE,
            &["base.gguf: `token_embd.weight`: expected ", "(F32, [300000, 32]), got a file of "],
        ),
        (
            "a foreign quantisation",
            |dir| changed(dir, |made| made.row(Q).kind = 16),
            BASE,
            &[
                "base.gguf: `blk.0.attn_q.weight`: expected one of the types F32, F16, BF16, Q8_0, Q4_0, ",
                "got IQ2_XXS",
            ],
        ),
        (
            "a type that there is not",
            |dir| changed(dir, |made| made.row(Q).kind = 99),
            BASE,
            &["base.gguf: `blk.0.attn_q.weight`: expected one of the types ", "got number 99"],
        ),
        (
            "rows that are no whole blocks",
            |dir| changed(dir, |made| made.row(Q).kind = 12),
            BASE,
            &["base.gguf: `blk.0.attn_q.weight`: expected rows of a multiple of 256 numbers, as Q4K has them, got 32"],
        ),
        (
            "no such tensor",
            |dir| changed(dir, |made| made.tensors.retain(|row| row.name != NORM)),
            BASE,
            &["base.gguf: `output_norm.weight`: expected it in the table of tensors, got none"],
        ),
        (
            "no embedding",
            |dir| changed(dir, |made| made.tensors.retain(|row| row.name != "token_embd.weight")),
            BASE,
            &["base.gguf: `token_embd.weight`: expected it in the table of tensors, got none"],
        ),
        (
            "a tensor too many",
            |dir| {
                changed(dir, |made| {
                    made.add("blk.0.ffn_gate_inp.weight", &Tensor::ones([4], (Kind::Float, Device::Cpu)))
                })
            },
            BASE,
            &["base.gguf: `blk.0.ffn_gate_inp.weight`: expected the tensors of a llama model only"],
        ),
        (
            "another shape than the metadata says",
            |dir| changed(dir, |made| made.set("llama.feed_forward_length", 63u32)),
            BASE,
            &["base.gguf: `blk.0.ffn_gate.weight`: expected shape [63, 32], got [64, 32]"],
        ),
    ];
    refuse(cases, "train", "tiny.toml");
}

#[test]
fn a_base_of_a_quantisation_that_is_not_read_cannot_be_exported_planned_or_measured() {
    use crate::common::{assert_says, fails};
    let folder = tempfile::tempdir().unwrap();
    changed(folder.path(), |made| made.row(Q).kind = 21);
    let (path, out) = (folder.path().join("base.gguf"), folder.path().join("out"));
    let (path, set) = (path.to_str().unwrap(), format!("model.path={}", path.display()));
    let all: [&[&str]; 3] = [
        &["export", "--base", path, "--output", out.to_str().unwrap()],
        &["plan", "tiny.toml", "--set", &set],
        &["bench", "tiny.toml", "--set", &set, "--runs", out.to_str().unwrap()],
    ];
    for arguments in all {
        assert_says(
            &fails(1, arguments),
            &["base.gguf: `blk.0.attn_q.weight`: expected one of the types", "IQ3_S"],
            "",
        );
    }
    assert!(!out.exists());
}

/// Everything that is read of a file.
fn read(path: &Path) -> gist::error::Result<()> {
    let gguf = Gguf::open(path)?;
    gguf.tokenizer_config()?;
    Tokenizer::load(path)?.encode("a b")?;
    base::json::<serde_json::Value>(path, base::CONFIG)?;
    let config = ModelConfig::load(path)?;
    weights::read_model(path, &config, Kind::Float, Device::Cpu).map(drop)
}

#[test]
fn whatever_bytes_are_changed_or_missing_reading_ends_with_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.gguf");
    let mut draw = rng::rng(1, Stream::Data, 0, 0, 0);
    let mut refused = 0;
    for name in ["llama3.gguf", "byte-level.gguf", "merges.gguf", "unigram.gguf"] {
        let whole = fs::read(fixture(name)).unwrap();
        for _ in 0..120 {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng::below(&mut draw, 3) {
                let at = rng::below(&mut draw, bytes.len().min(6000));
                bytes[at] = rng::below(&mut draw, 256) as u8;
            }
            if rng::below(&mut draw, 3) == 0 {
                bytes.truncate(rng::below(&mut draw, whole.len()));
            }
            fs::write(&path, bytes).unwrap();
            refused += usize::from(read(&path).is_err());
        }
    }
    assert!(refused > 300, "{refused} of 480 refused");
}
