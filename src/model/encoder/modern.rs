//! The pre-norm network of ModernBERT (Warner et al. 2024, arXiv 2412.13663): rotary positions, gated feed-forward layers,
//! and blocks of two kinds, which see the whole row or a window around each token.
//!
//! Blocks with a window cost what the window does, not the row squared: queries go in blocks of B tokens, each with the
//! keys of B + 2R around it, R the reach.
//!
//! ```text
//!            keys of block 1: R before it, R behind it
//!            ┌────────────────────┐
//! row   0 ─────────│──────────│─────────│─────── T
//!         block 0  │ block 1  │ block 2 │
//! ```

use crate::error::Result;
use crate::model::encoder::config::{EncoderConfig, Modern};
use crate::model::encoder::named::{Affine, NamedWeights};
use crate::model::rope::{Rope, rotate};
use tch::{Device, Kind, Tensor};

/// Name of the word embedding `[V, H]`.
pub const WORDS: &str = "embeddings.tok_embeddings.weight";
const NORM: &str = "embeddings.norm";
const LAST: &str = "final_norm";
/// Smallest block of queries.
const BLOCK: i64 = 16;

/// Names and shapes of all weights.
pub fn parameters(config: &EncoderConfig, modern: &Modern) -> Vec<(String, Vec<i64>)> {
    let (h, wide) = (config.hidden_size, config.intermediate_size);
    let mut all = vec![(WORDS.to_string(), vec![config.vocab_size, h])];
    let mut module = |name: String, weight: Vec<i64>, bias: bool| {
        if bias {
            all.push((format!("{name}.bias"), vec![weight[0]]));
        }
        all.push((format!("{name}.weight"), weight));
    };
    module(NORM.into(), vec![h], modern.norm_bias);
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("layers.{layer}.{part}");
        if layer > 0 {
            module(name("attn_norm"), vec![h], modern.norm_bias);
        }
        module(name("attn.Wqkv"), vec![3 * h, h], modern.attention_bias);
        module(name("attn.Wo"), vec![h, h], modern.attention_bias);
        module(name("mlp_norm"), vec![h], modern.norm_bias);
        module(name("mlp.Wi"), vec![2 * wide, h], modern.mlp_bias);
        module(name("mlp.Wo"), vec![h, wide], modern.mlp_bias);
    }
    module(LAST.into(), vec![h], modern.norm_bias);
    all
}

struct ModernBlock {
    /// Norm before attention; none in the first block, which follows the embedding's norm.
    attention_norm: Option<Affine>,
    qkv: Affine,
    out: Affine,
    norm: Affine,
    up: Affine,
    down: Affine,
}

/// The network without its word embedding.
pub struct ModernBert {
    modern: Modern,
    norm: Affine,
    layers: Vec<ModernBlock>,
    last: Affine,
}

impl ModernBert {
    /// Takes its weights out of `named`.
    pub fn take(config: &EncoderConfig, modern: &Modern, named: &mut NamedWeights) -> Result<Self> {
        let norm = named.affine(NORM, modern.norm_bias)?;
        let mut layers = Vec::new();
        for layer in 0..config.num_hidden_layers {
            let mut take = |part: &str, bias: bool| named.affine(&format!("layers.{layer}.{part}"), bias);
            layers.push(ModernBlock {
                attention_norm: (layer > 0).then(|| take("attn_norm", modern.norm_bias)).transpose()?,
                qkv: take("attn.Wqkv", modern.attention_bias)?,
                out: take("attn.Wo", modern.attention_bias)?,
                norm: take("mlp_norm", modern.norm_bias)?,
                up: take("mlp.Wi", modern.mlp_bias)?,
                down: take("mlp.Wo", modern.mlp_bias)?,
            });
        }
        let last = named.affine(LAST, modern.norm_bias)?;
        Ok(Self { modern: modern.clone(), norm, layers, last })
    }

    /// Hidden states `[N, T, H]` of embedded words; `real` `[N, T]` is false at padding, and absent where there is none.
    pub fn forward(&self, config: &EncoderConfig, words: &Tensor, real: Option<&Tensor>) -> Result<Tensor> {
        let (modern, (n, t, h)) = (&self.modern, words.size3()?);
        let (heads, eps) = (config.num_attention_heads, config.eps);
        let (width, kind, device) = (h / heads, words.kind(), words.device());
        let steps = Tensor::arange(t, (Kind::Int64, device));
        // Rounded to the kind of the weights, then applied in f32, as transformers does.
        let angles = modern.rotary.map(|rotary| {
            let (cos, sin) = Rope::new(t, width, rotary, kind, device).at(&steps);
            (cos.to_kind(Kind::Float), sin.to_kind(Kind::Float))
        });
        let everywhere = real.map(|real| real.view([n, 1, 1, t]));
        let window = NearAttention::new(n, t, modern.reach, real, device);
        let mut xs = self.norm.norm(words, eps);
        for (layer, &local) in self.layers.iter().zip(&modern.local) {
            let ready = layer.attention_norm.as_ref().map(|norm| norm.norm(&xs, eps));
            let qkv =
                layer.qkv.linear(ready.as_ref().unwrap_or(&xs)).view([n, t, 3, heads, width]).permute([2, 0, 3, 1, 4]);
            let (cos, sin) = &angles[usize::from(local)];
            let turned = |at: i64| rotate(&qkv.get(at).to_kind(Kind::Float), cos, sin).to_kind(kind);
            let (q, k, v) = (turned(0), turned(1), qkv.get(2));
            let mixed = if local { window.attend(&q, &k, &v) } else { attend(&q, &k, &v, everywhere.as_ref()) };
            xs = xs + layer.out.linear(&mixed.transpose(1, 2).reshape([n, t, h]));
            let halves = layer.up.linear(&layer.norm.norm(&xs, eps)).chunk(2, -1);
            xs = xs + layer.down.linear(&(halves[0].gelu("none") * &halves[1]));
        }
        Ok(self.last.norm(&xs, eps))
    }
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Tensor {
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, false, None::<f64>, false)
}

/// Attention to what is at most `reach` tokens away.
struct NearAttention {
    tokens: i64,
    reach: i64,
    /// Queries of a block; the whole row when it is short.
    block: i64,
    blocks: i64,
    /// `[N · blocks, 1, B, keys]`: a padding query sees itself, so that nothing is divided by 0.
    mask: Tensor,
}

impl NearAttention {
    fn new(n: i64, tokens: i64, reach: i64, real: Option<&Tensor>, device: Device) -> Self {
        let block = (2 * reach).max(BLOCK);
        let ones = || Tensor::ones([n, tokens], (Kind::Bool, device));
        let real = real.map_or_else(ones, Tensor::shallow_clone);
        let whole = tokens <= 2 * block;
        let (block, blocks) = if whole { (tokens, 1) } else { (block, (tokens + block - 1) / block) };
        // Key 0 of a block lies `reach` before its query 0; in a short row the two are one.
        let offset = if whole { 0 } else { reach };
        let keys = block + 2 * offset;
        let place = |count: i64| Tensor::arange(count, (Kind::Int64, device));
        let distance = place(keys).unsqueeze(0) - offset - place(block).unsqueeze(1); // [B, keys]
        let near = distance.abs().le(reach).view([1, 1, block, keys]);
        let own = distance.eq(0).view([1, 1, block, keys]);
        let real = real.constant_pad_nd([offset, blocks * block - tokens + offset]).unfold(1, keys, block);
        let mask = near.logical_and(&real.unsqueeze(2).logical_or(&own)); // [N, blocks, B, keys]
        let mask = mask.reshape([n * blocks, 1, block, keys]);
        Self { tokens, reach: offset, block, blocks, mask }
    }

    /// `[N, A, T, D]` each.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        if self.blocks == 1 {
            return attend(q, k, v, Some(&self.mask));
        }
        let size = q.size();
        let (n, heads, width) = (size[0], size[1], size[3]);
        let extra = self.blocks * self.block - self.tokens;
        let cut = |xs: &Tensor, around: i64| {
            let padded = xs.constant_pad_nd([0, 0, around, extra + around]);
            let blocks = padded.unfold(2, self.block + 2 * around, self.block); // [N, A, blocks, D, B + 2R]
            blocks.permute([0, 2, 1, 4, 3]).reshape([n * self.blocks, heads, -1, width])
        };
        let mixed = attend(&cut(q, 0), &cut(k, self.reach), &cut(v, self.reach), Some(&self.mask));
        let mixed = mixed.view([n, self.blocks, heads, self.block, width]).transpose(1, 2);
        mixed.reshape([n, heads, -1, width]).narrow(2, 0, self.tokens)
    }
}
