//! Types of stored numbers, and their blocks as float32. A block holds the quantised values of 32 or 256 weights of a row with
//! their scales (float16); layouts as in ggml's `ggml-quants.c`.

use half::{bf16, f16};
use rayon::prelude::*;

/// Storage format of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockType {
    /// Float32.
    F32,
    /// Float16.
    F16,
    /// Bfloat16.
    BF16,
    /// 32 of 8 bits and a scale.
    Q8_0,
    /// 32 of 4 bits and a scale.
    Q4_0,
    /// 32 of 4 bits, a scale and a least value.
    Q4_1,
    /// 32 of 5 bits and a scale.
    Q5_0,
    /// 32 of 5 bits, a scale and a least value.
    Q5_1,
    /// 256 of 2 bits in groups of 16.
    Q2K,
    /// 256 of 3 bits in groups of 16.
    Q3K,
    /// 256 of 4 bits in groups of 32.
    Q4K,
    /// 256 of 5 bits in groups of 32.
    Q5K,
    /// 256 of 6 bits in groups of 16.
    Q6K,
}

use BlockType::*;

/// The types that are read, with their numbers in a file and their names.
const KNOWN: [(BlockType, u32, &str); 13] = [
    (F32, 0, "F32"),
    (F16, 1, "F16"),
    (BF16, 30, "BF16"),
    (Q8_0, 8, "Q8_0"),
    (Q4_0, 2, "Q4_0"),
    (Q4_1, 3, "Q4_1"),
    (Q5_0, 6, "Q5_0"),
    (Q5_1, 7, "Q5_1"),
    (Q2K, 10, "Q2_K"),
    (Q3K, 11, "Q3_K"),
    (Q4K, 12, "Q4_K"),
    (Q5K, 13, "Q5_K"),
    (Q6K, 14, "Q6_K"),
];

/// Names of types that are not read, for messages.
const FOREIGN: [(u32, &str); 22] = [
    (9, "Q8_1"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

impl BlockType {
    /// The type with this number in a file; an error says which there are.
    pub fn from_number(number: u32) -> Result<Self, String> {
        if let Some((known, ..)) = KNOWN.iter().find(|(_, own, _)| *own == number) {
            return Ok(*known);
        }
        let names: Vec<&str> = KNOWN.iter().map(|(.., name)| *name).collect();
        let foreign = FOREIGN.iter().find(|(own, _)| *own == number);
        let got = foreign.map_or(format!("number {number}"), |(_, name)| name.to_string());
        Err(format!("expected one of the types {}, got {got}", names.join(", ")))
    }

    /// Numbers in a block.
    pub fn values(self) -> usize {
        match self {
            F32 | F16 | BF16 => 1,
            Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 => 32,
            Q2K | Q3K | Q4K | Q5K | Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            F32 => 4,
            F16 | BF16 => 2,
            Q8_0 => 34,
            Q4_0 => 18,
            Q4_1 => 20,
            Q5_0 => 22,
            Q5_1 => 24,
            Q2K => 84,
            Q3K => 110,
            Q4K => 144,
            Q5K => 176,
            Q6K => 210,
        }
    }

    /// Writes whole blocks as float32: `out` holds as many numbers as `data` has in it.
    pub fn dequantise(self, data: &[u8], out: &mut [f32]) {
        /// Blocks that one thread takes at a time.
        const AT_ONCE: usize = 1024;
        let (bytes, values) = (self.bytes(), self.values());
        debug_assert_eq!(data.len() / bytes * values, out.len());
        out.par_chunks_mut(values * AT_ONCE).zip(data.par_chunks(bytes * AT_ONCE)).for_each(|(out, data)| {
            for (out, block) in out.chunks_exact_mut(values).zip(data.chunks_exact(bytes)) {
                self.block(block, out);
            }
        });
    }

    fn block(self, b: &[u8], out: &mut [f32]) {
        match self {
            F32 => out[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            F16 => out[0] = half(b, 0),
            BF16 => out[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Q8_0 => {
                let d = half(b, 0);
                fill(out, |i| f32::from(b[2 + i] as i8) * d);
            }
            Q4_0 => {
                let d = half(b, 0);
                fill(out, |i| d * (f32::from(nibble(&b[2..], i)) - 8.0));
            }
            Q4_1 => {
                let (d, least) = (half(b, 0), half(b, 2));
                fill(out, |i| d * f32::from(nibble(&b[4..], i)) + least);
            }
            Q5_0 => {
                let d = half(b, 0);
                fill(out, |i| d * (f32::from(nibble(&b[6..], i) | fifth(&b[2..], i)) - 16.0));
            }
            Q5_1 => {
                let (d, least) = (half(b, 0), half(b, 2));
                fill(out, |i| d * f32::from(nibble(&b[8..], i) | fifth(&b[4..], i)) + least);
            }
            Q2K => {
                let (d, least) = (half(b, 80), half(b, 82));
                fill(out, |i| {
                    let (scale, q) = (b[i / 16], pair(&b[16..], i));
                    d * f32::from(scale & 15) * f32::from(q) - least * f32::from(scale >> 4)
                });
            }
            Q3K => {
                let d = half(b, 108);
                fill(out, |i| {
                    let high = b[i % 32] >> (i / 32) & 1; // set where nothing is taken off
                    let q = f32::from(pair(&b[32..], i)) - 4.0 * f32::from(1 - high);
                    d * (f32::from(scale_of_6_bits(&b[96..], i / 16)) - 32.0) * q
                });
            }
            Q4K | Q5K => {
                let (d, least) = (half(b, 0), half(b, 2));
                let low = if self == Q4K { &b[16..] } else { &b[48..] };
                fill(out, |i| {
                    let group = i / 32;
                    let fifth = if self == Q4K { 0 } else { (b[16 + i % 32] >> group & 1) << 4 };
                    let q = (low[i / 64 * 32 + i % 32] >> (4 * (group % 2)) & 15) | fifth;
                    let (scale, offset) = scale_and_offset(&b[4..16], group);
                    d * f32::from(scale) * f32::from(q) - least * f32::from(offset)
                });
            }
            Q6K => {
                let d = half(b, 208);
                fill(out, |i| {
                    let low = b[i / 128 * 64 + i % 64] >> (4 * (i / 64 % 2)) & 15;
                    let q = low | pair(&b[128..], i) << 4;
                    d * f32::from(b[192 + i / 16] as i8) * (f32::from(q) - 32.0)
                });
            }
        }
    }
}

fn fill(out: &mut [f32], value: impl Fn(usize) -> f32) {
    out.iter_mut().enumerate().for_each(|(i, out)| *out = value(i));
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Value `i` of 32 of four bits: the low halves of 16 bytes, then the high ones.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i % 16] >> (4 * (i / 16)) & 15
}

/// The fifth bit of value `i` of 32, in its place.
fn fifth(bytes: &[u8], i: usize) -> u8 {
    (bytes[i / 8] >> (i % 8) & 1) << 4
}

/// Value `i` of 256 of two bits: 128 in 32 bytes, 32 to each pair of bits.
fn pair(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3
}

/// Scale `group` of 16, of six bits: four in the first 8 bytes, two in the last 4.
fn scale_of_6_bits(bytes: &[u8], group: usize) -> u8 {
    let low = bytes[group % 8] >> (4 * (group / 8)) & 15;
    let high = bytes[8 + group % 4] >> (2 * (group / 4)) & 3;
    low | high << 4
}

/// Scale and offset `group` of 8, of six bits each, in 12 bytes.
fn scale_and_offset(bytes: &[u8], group: usize) -> (u8, u8) {
    match group {
        0..4 => (bytes[group] & 63, bytes[group + 4] & 63),
        _ => {
            let both = bytes[group + 4];
            (both & 15 | (bytes[group - 4] >> 6) << 4, both >> 4 | (bytes[group] >> 6) << 4)
        }
    }
}
