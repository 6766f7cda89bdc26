//! Forward passes of a decoder: over whole rows, and over branches that share a prefix. Outputs are hidden states after
//! the last norm: logits are made in chunks by [`crate::model::vocab`].

use crate::config::parts::Projection;
use crate::error::{Error, Result};
use crate::model::attention;
use crate::model::decoder::Decoder;
use crate::model::kernels::rotate;
use crate::model::lora::ActiveAdapter;
use crate::model::site::{BranchCache, BranchSite, KeyValue, KvCache, PassSite, RowSite, Watch};
use crate::model::tape::NotedPass;
use tch::{Kind, Tensor};

/// Options of a forward pass over whole rows.
#[derive(Default)]
struct Pass<'a> {
    /// Whether every token sees every other, not only those before it.
    both_ways: bool,
    /// Number of first blocks to run; none = all.
    blocks: Option<usize>,
    /// Whether keys and values are kept.
    keep: bool,
    /// Attention is watched.
    watch: Option<Watch<'a>>,
}

/// Side effects of a block.
#[derive(Default)]
pub(super) struct Beside<'a> {
    /// Attention is watched (whole rows only).
    watch: Option<Watch<'a>>,
    /// Keys and values that branches have added so far.
    grown: Option<&'a mut BranchCache>,
}

impl Decoder {
    /// Hidden states `[N, T, H]` of left-padded rows: ids `[N, T]`, of which the first `pad[n]` of row n are padding.
    pub fn forward(&self, ids: &Tensor, pad: &[i64], adapter: Option<&ActiveAdapter>) -> Result<Tensor> {
        Ok(self.run(ids, pad, adapter, Pass::default())?.0)
    }

    /// Hidden states `[N, T, H]` of left-padded rows in which every token sees every other: the base as an encoder, of use
    /// once an adapter has learned to read that way (LLM2Vec, BehnamGhader et al. 2024, arXiv 2404.05961). With `blocks`,
    /// of its blocks only the first so many.
    pub fn encode(
        &self,
        ids: &Tensor,
        pad: &[i64],
        adapter: Option<&ActiveAdapter>,
        blocks: Option<usize>,
    ) -> Result<Tensor> {
        Ok(self.run(ids, pad, adapter, Pass { both_ways: true, blocks, ..Pass::default() })?.0)
    }

    /// Attention weight of each head of the base on every token, from the last `queries` tokens of the row: f32
    /// `[N, layers * Hq, T]`, layer by layer; no gradient.
    pub fn attention(&self, ids: &Tensor, pad: &[i64], queries: i64) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut weights = Vec::new();
        let watch = Some(Watch { queries, pad, weights: &mut weights });
        let _ = self.run(ids, pad, None, Pass { watch, ..Pass::default() })?;
        Ok(Tensor::cat(&weights, 1))
    }

    /// Like [`Decoder::forward`], and keeps the keys and values.
    pub fn prefill(&self, ids: &Tensor, pad: &[i64], adapter: Option<&ActiveAdapter>) -> Result<(Tensor, KvCache)> {
        let (hidden, layers) = self.run(ids, pad, adapter, Pass { keep: true, ..Pass::default() })?;
        Ok((hidden, KvCache::new(layers, pad, ids.size()[1], self.device())))
    }

    fn run(
        &self,
        ids: &Tensor,
        pad: &[i64],
        adapter: Option<&ActiveAdapter>,
        pass: Pass,
    ) -> Result<(Tensor, Vec<KeyValue>)> {
        let (n, t) = ids.size2()?;
        if pad.len() as i64 != n || pad.iter().any(|&p| p < 0 || p >= t) {
            return Err(Error::shape("padding", format!("{n} counts in 0..{t}"), format!("{pad:?}")));
        }
        self.check_positions(t)?;
        let Pass { both_ways, blocks, keep, mut watch } = pass;
        let mask = if both_ways { attention::padded_mask } else { attention::padded_causal_mask };
        let mask = mask(pad, t, self.device());
        let steps = Tensor::arange(t, (Kind::Int64, self.device()));
        let positions = match &mask {
            None => steps.unsqueeze(0),
            Some(_) => {
                (steps.unsqueeze(0) - Tensor::from_slice(pad).to_device(self.device()).unsqueeze(1)).clamp_min(0)
            }
        };
        let (cos, sin) = self.rope.at(&positions); // [N or 1, T, D]
        let rows = RowSite { cos, sin, mask, causal: !both_ways };
        let blocks = blocks.unwrap_or(usize::MAX).min(self.layers.len());
        self.through(ids, PassSite::Rows(rows), blocks, adapter, |site, i, xs| {
            let watch = watch.as_mut().map(|watch| Watch { weights: &mut *watch.weights, ..*watch });
            let (ys, own) = self.block(site, i, xs, adapter, Beside { watch, ..Beside::default() });
            (ys, keep.then_some(own))
        })
    }

    /// Hidden states `[N, G, T, H]` of G branches per row that continue the shared prefix: ids `[N, G, T]`. With a
    /// `grown` cache the new tokens come after those of earlier calls and are appended to it, as far as it has room.
    pub fn branches(
        &self,
        ids: &Tensor,
        prefix: &KvCache,
        mut grown: Option<&mut BranchCache>,
        adapter: Option<&ActiveAdapter>,
    ) -> Result<Tensor> {
        let (n, _, t) = ids.size3()?;
        if n as usize != prefix.rows() {
            return Err(Error::shape("branch rows", prefix.rows(), n));
        }
        let past = grown.as_ref().map_or(0, |cache| cache.len());
        if let Some(cache) = grown.as_ref().filter(|cache| past + t > cache.room()) {
            return Err(Error::shape("tokens of a branch", format!("at most {}", cache.room()), past + t));
        }
        self.check_positions(prefix.longest() + past + t)?;
        let angles = self.rope.at(&prefix.positions(past, t)); // [N, T, D]
        let site = BranchSite::behind(prefix, past, angles);
        let (hidden, _) = self.through(ids, PassSite::Branches(site), self.layers.len(), adapter, |site, i, xs| {
            let grown = grown.as_deref_mut();
            (self.block(site, i, xs, adapter, Beside { grown, ..Beside::default() }).0, None)
        })?;
        if let Some(cache) = grown {
            cache.advance(t);
        }
        Ok(hidden)
    }

    /// Blocks one after the other and the last norm; gives hidden states and what each block keeps. Under activation
    /// checkpointing both are leaves, and the pass is noted.
    fn through(
        &self,
        ids: &Tensor,
        site: PassSite,
        blocks: usize,
        adapter: Option<&ActiveAdapter>,
        mut block: impl FnMut(&PassSite, usize, &Tensor) -> (Tensor, Option<KeyValue>),
    ) -> Result<(Tensor, Vec<KeyValue>)> {
        if let Some(active) = adapter.filter(|active| active.layers.len() != self.layers.len()) {
            return Err(Error::shape("blocks of an adapter", self.layers.len(), active.layers.len()));
        }
        let tape = adapter.and_then(|active| active.tape.as_ref());
        let guard = tape.map(|_| tch::no_grad_guard());
        let number = adapter.map_or(0, ActiveAdapter::begin_pass);
        let mut xs = self.embed(ids, adapter)?;
        let (mut inputs, mut kept) = (Vec::new(), Vec::new());
        for i in 0..blocks {
            inputs.extend(tape.map(|_| xs.shallow_clone()));
            adapter.inspect(|active| active.seed_dropout(number, i));
            let (ys, own) = block(&site, i, &xs);
            xs = ys;
            kept.extend(own);
        }
        adapter.inspect(|active| active.seed_dropout(number, usize::MAX));
        let out = self.norm(&xs, &self.norm);
        drop(guard);
        inputs.push(xs);
        Ok(match tape {
            Some(tape) => tape.note(NotedPass { ids: ids.shallow_clone(), site, number, inputs, kept, out }),
            None => (out, kept),
        })
    }

    /// Block `i` over `xs` `[.., H]`, with the keys and values that it makes.
    pub(super) fn block(
        &self,
        site: &PassSite,
        i: usize,
        xs: &Tensor,
        adapter: Option<&ActiveAdapter>,
        beside: Beside,
    ) -> (Tensor, KeyValue) {
        let layer = &self.layers[i];
        let (hq, hkv, d) = (self.config.num_attention_heads, self.config.kv_heads(), self.config.head_width());
        let ys = self.norm(xs, &layer.input_norm);
        let heads = |projection: Projection, count: i64| {
            let mut shape = xs.size();
            shape.pop();
            shape.extend([count, d]);
            self.heads(self.project(&ys, i, projection, adapter).view(shape.as_slice()), i, projection)
        };
        let (mixed, own) = match site {
            PassSite::Rows(rows) => {
                let rotated = |projection: Projection, count: i64| {
                    rotate(&heads(projection, count).unsqueeze(1), &rows.cos, &rows.sin).squeeze_dim(1).transpose(1, 2)
                };
                let q = rotated(Projection::Q, hq); // [N, Hq, T, D]
                let own = KeyValue { k: rotated(Projection::K, hkv), v: heads(Projection::V, hkv).transpose(1, 2) };
                (rows.attend(layer.window, &q, &own, beside.watch), own)
            }
            PassSite::Branches(branches) => {
                let (cos, sin) = branches.angles();
                let q = rotate(&heads(Projection::Q, hq), cos, sin); // [N, G, T, Hq, D]
                let k = rotate(&heads(Projection::K, hkv), cos, sin).transpose(2, 3);
                let mut own = KeyValue { k, v: heads(Projection::V, hkv).transpose(2, 3) };
                if let Some(cache) = beside.grown {
                    own = cache.append(i, &own);
                }
                (branches.attend(layer.window, i, &q, &own), own)
            }
        };
        let xs = xs + self.project(&mixed, i, Projection::O, adapter);
        let ys = self.mlp(&self.norm(&xs, &layer.post_norm), i, adapter);
        (xs + ys, own)
    }
}
