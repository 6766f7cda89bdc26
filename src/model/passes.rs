//! Forward passes of a decoder: over whole rows, and over branches that share a prefix. Outputs are hidden states after
//! the last norm: logits are made in chunks by [`crate::model::vocab`].

use crate::error::{Error, Result};
use crate::model::attention::{self, PrefixKeys};
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::model::rope::rotate;
use tch::{Kind, Tensor};

/// Keys and values of one block.
pub(super) type Keys = (Tensor, Tensor);

/// Keys and values of a processed prefix, to be shared by branches.
pub struct KvCache {
    layers: Vec<Keys>,
    lengths: Vec<i64>,
    /// The same on the device, `[N, 1]`.
    starts: Tensor,
    bias: Option<Tensor>,
}

/// Keys and values that G branches per row have added after the shared prefix: `[N, G, Hkv, room, D]` a layer, written in
/// place, so that a step copies only what is new.
pub struct BranchCache {
    layers: Vec<Keys>,
    len: i64,
    room: i64,
}

/// What else a forward pass over whole rows does.
#[derive(Default)]
struct Pass<'a> {
    /// Every token sees every other, not only those before it.
    both_ways: bool,
    /// Only the first so many blocks.
    blocks: Option<usize>,
    /// Keys and values are kept.
    keep: bool,
    /// From how many last tokens attention is watched, and where it goes, a tensor a block.
    watched: Option<(i64, &'a mut Vec<Tensor>)>,
}

/// Where the tokens of a pass stand, the same for every block.
pub(super) enum Site {
    /// Whole rows.
    Rows(Rows),
    /// Branches behind a prefix.
    Branches(Branches),
}

/// Cosines and sines `[N or 1, 1, T, D]`, who sees whom, padding of the rows.
pub(super) struct Rows {
    cos: Tensor,
    sin: Tensor,
    mask: Option<Tensor>,
    causal: bool,
}

/// Cosines and sines `[N, 1, T, 1, D]`, tokens between the prefix and them, the prefix and its mask.
pub(super) struct Branches {
    cos: Tensor,
    sin: Tensor,
    past: i64,
    prefix: Vec<Keys>,
    bias: Option<Tensor>,
}

/// What a block does besides.
#[derive(Default)]
pub(super) struct Beside<'a> {
    /// From how many last tokens attention is watched, padding of the rows, and where it goes.
    watched: Option<(i64, &'a [i64], &'a mut Vec<Tensor>)>,
    /// Keys and values that branches have added so far.
    grown: Option<&'a mut BranchCache>,
}

impl BranchCache {
    /// Empty, for `room` tokens a branch.
    pub fn new(room: usize) -> Self {
        Self { layers: Vec::new(), len: 0, room: room as i64 }
    }

    /// Writes keys and values `[N, G, Hkv, T, D]` of block `i` behind the earlier ones; all of them, `[N, G, Hkv, S, D]`.
    fn append(&mut self, i: usize, (k, v): Keys) -> Keys {
        let [n, g, h, t, d] = <[i64; 5]>::try_from(k.size()).unwrap_or_default();
        if i == self.layers.len() {
            let empty = || Tensor::empty([n, g, h, self.room, d], (k.kind(), k.device()));
            self.layers.push((empty(), empty()));
        }
        let written = |all: &Tensor, new: &Tensor| {
            all.narrow(3, self.len, t).copy_(new);
            all.narrow(3, 0, self.len + t)
        };
        let (all_k, all_v) = &self.layers[i];
        (written(all_k, &k), written(all_v, &v))
    }
}

impl Rows {
    /// Attention of q `[N, Hq, T, D]` to k and v `[N, Hkv, T, D]` → `[N, T, Hq * D]`.
    fn attend(
        &self,
        window: Option<i64>,
        (q, k, v): (&Tensor, &Tensor, &Tensor),
        watched: Option<(i64, &[i64], &mut Vec<Tensor>)>,
    ) -> Tensor {
        let (n, t) = (q.size()[0], q.size()[2]);
        let near = window.map(|w| attention::near(self.mask.as_ref(), t, w, self.causal, q.device()));
        let mask = near.as_ref().map_or(self.mask.as_ref(), Option::as_ref);
        if let Some((queries, pad, weights)) = watched {
            weights.push(attention::last_weights(q, k, mask, pad, queries));
        }
        attention::within(q, k, v, mask, self.causal).transpose(1, 2).reshape([n, t, -1])
    }
}

impl Branches {
    /// Attention of q `[N, G, T, Hq, D]` to the prefix and to k and v `[N, G, Hkv, S, D]` → `[N, G, T, Hq * D]`.
    fn attend(&self, window: Option<i64>, i: usize, (q, k, v): (&Tensor, &Tensor, &Tensor)) -> Tensor {
        let (prefix_k, prefix_v) = &self.prefix[i];
        let (g, t, hq, p) = (q.size()[1], q.size()[2], q.size()[3], prefix_k.size()[2]);
        let far = window.filter(|&w| self.past + p + t > w).map(|w| {
            let far = attention::far_prefix(t, p, self.past, w, g * hq / k.size()[2], q.device());
            self.bias.as_ref().map_or_else(|| far.shallow_clone(), |bias| bias + &far)
        });
        let shared = PrefixKeys { k: prefix_k, v: prefix_v, bias: far.as_ref().or(self.bias.as_ref()) };
        attention::branches(q, &shared, k, v, window)
    }
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

    /// How much each head of the base attends to every token from the last `queries` of its row, `[N, layers * Hq, T]`
    /// f32, layer by layer; no gradient.
    pub fn attention(&self, ids: &Tensor, pad: &[i64], queries: i64) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let mut weights = Vec::new();
        let _ = self.run(ids, pad, None, Pass { watched: Some((queries, &mut weights)), ..Pass::default() })?;
        Ok(Tensor::cat(&weights, 1))
    }

    /// Like [`Decoder::forward`], and keeps the keys and values.
    pub fn prefill(&self, ids: &Tensor, pad: &[i64], adapter: Option<&ActiveAdapter>) -> Result<(Tensor, KvCache)> {
        let (hidden, layers) = self.run(ids, pad, adapter, Pass { keep: true, ..Pass::default() })?;
        let t = ids.size()[1];
        let lengths: Vec<i64> = pad.iter().map(|p| t - p).collect();
        let starts = Tensor::from_slice(&lengths).to_device(self.device()).unsqueeze(1);
        let bias = pad.iter().any(|&p| p > 0).then(|| {
            let pads = Tensor::from_slice(pad).to_device(self.device()).unsqueeze(1);
            let hidden_keys = Tensor::arange(t, (Kind::Int64, self.device())).unsqueeze(0).lt_tensor(&pads);
            Tensor::zeros([pad.len() as i64, t], (Kind::Float, self.device()))
                .masked_fill(&hidden_keys, f64::NEG_INFINITY)
                .view([pad.len() as i64, 1, 1, t])
        });
        Ok((hidden, KvCache { layers, lengths, starts, bias }))
    }

    fn run(
        &self,
        ids: &Tensor,
        pad: &[i64],
        adapter: Option<&ActiveAdapter>,
        pass: Pass,
    ) -> Result<(Tensor, Vec<Keys>)> {
        let (n, t) = ids.size2()?;
        if pad.len() as i64 != n || pad.iter().any(|&p| p < 0 || p >= t) {
            return Err(Error::shape("padding", format!("{n} counts in 0..{t}"), format!("{pad:?}")));
        }
        self.check_positions(t)?;
        let Pass { both_ways, blocks, keep, mut watched } = pass;
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
        let rows = Rows { cos: cos.unsqueeze(1), sin: sin.unsqueeze(1), mask, causal: !both_ways };
        let blocks = blocks.unwrap_or(usize::MAX).min(self.layers.len());
        self.through(ids, Site::Rows(rows), blocks, adapter, |site, i, xs| {
            let watched = watched.as_mut().map(|(queries, weights)| (*queries, pad, &mut **weights));
            let (ys, keys) = self.block(site, i, xs, adapter, Beside { watched, ..Beside::default() });
            (ys, keep.then_some(keys))
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
        if n as usize != prefix.lengths.len() {
            return Err(Error::shape("branch rows", prefix.lengths.len(), n));
        }
        let past = grown.as_ref().map_or(0, |c| c.len);
        if let Some(cache) = grown.as_ref().filter(|cache| past + t > cache.room) {
            return Err(Error::shape("tokens of a branch", format!("at most {}", cache.room), past + t));
        }
        self.check_positions(prefix.lengths.iter().max().copied().unwrap_or(0) + past + t)?;
        let d = self.config.head_width();
        let positions =
            &prefix.starts + Tensor::arange_start(past, past + t, (Kind::Int64, self.device())).unsqueeze(0);
        let (cos, sin) = self.rope.at(&positions); // [N, T, D]
        let site = Branches {
            cos: cos.view([n, 1, t, 1, d]),
            sin: sin.view([n, 1, t, 1, d]),
            past,
            prefix: prefix.layers.iter().map(|(k, v)| (k.shallow_clone(), v.shallow_clone())).collect(),
            bias: prefix.bias.as_ref().map(Tensor::shallow_clone),
        };
        let (hidden, _) = self.through(ids, Site::Branches(site), self.layers.len(), adapter, |site, i, xs| {
            let grown = grown.as_deref_mut();
            (self.block(site, i, xs, adapter, Beside { grown, ..Beside::default() }).0, None)
        })?;
        if let Some(cache) = grown {
            cache.len += t;
        }
        Ok(hidden)
    }

    /// Blocks one after the other and the last norm; gives hidden states and what each block keeps. Under activation
    /// checkpointing both are leaves, and the pass is noted.
    fn through(
        &self,
        ids: &Tensor,
        site: Site,
        blocks: usize,
        adapter: Option<&ActiveAdapter>,
        mut block: impl FnMut(&Site, usize, &Tensor) -> (Tensor, Option<Keys>),
    ) -> Result<(Tensor, Vec<Keys>)> {
        let tape = adapter.and_then(|active| active.tape.as_ref());
        let guard = tape.map(|_| tch::no_grad_guard());
        let number = adapter.map_or(0, ActiveAdapter::begin_pass);
        let mut xs = self.embed(ids, adapter)?;
        let (mut inputs, mut kept) = (Vec::new(), Vec::new());
        for i in 0..blocks {
            inputs.extend(tape.map(|_| xs.shallow_clone()));
            adapter.inspect(|active| active.seed_dropout(number, i));
            let (ys, keys) = block(&site, i, &xs);
            xs = ys;
            kept.extend(keys);
        }
        adapter.inspect(|active| active.seed_dropout(number, usize::MAX));
        let hidden = self.norm(&xs, &self.norm);
        drop(guard);
        inputs.push(xs);
        Ok(match tape {
            Some(tape) => tape.note(ids, site, number, inputs, (&hidden, kept)),
            None => (hidden, kept),
        })
    }

    /// Block `i` over `xs` `[.., H]`, with the keys and values that it makes.
    pub(super) fn block(
        &self,
        site: &Site,
        i: usize,
        xs: &Tensor,
        adapter: Option<&ActiveAdapter>,
        beside: Beside,
    ) -> (Tensor, Keys) {
        let layer = &self.layers[i];
        let (hq, hkv, d) = (self.config.num_attention_heads, self.config.kv_heads(), self.config.head_width());
        let ys = self.norm(xs, &layer.input_norm);
        let heads = |index: usize, h: i64| {
            let mut shape = xs.size();
            shape.pop();
            shape.extend([h, d]);
            self.heads(self.project(&ys, i, index, adapter).view(shape.as_slice()), i, index)
        };
        let (mixed, keys) = match site {
            Site::Rows(rows) => {
                let heads = |index: usize, h: i64| heads(index, h).transpose(1, 2);
                let q = rotate(&heads(0, hq), &rows.cos, &rows.sin); // [N, Hq, T, D]
                let k = rotate(&heads(1, hkv), &rows.cos, &rows.sin);
                let v = heads(2, hkv);
                (rows.attend(layer.window, (&q, &k, &v), beside.watched), (k, v))
            }
            Site::Branches(branches) => {
                let q = rotate(&heads(0, hq), &branches.cos, &branches.sin); // [N, G, T, Hq, D]
                let mut k = rotate(&heads(1, hkv), &branches.cos, &branches.sin).transpose(2, 3);
                let mut v = heads(2, hkv).transpose(2, 3);
                if let Some(cache) = beside.grown {
                    (k, v) = cache.append(i, (k, v));
                }
                (branches.attend(layer.window, i, (&q, &k, &v)), (k, v))
            }
        };
        let xs = xs + self.project(&mixed, i, 3, adapter);
        let ys = self.mlp(&self.norm(&xs, &layer.post_norm), i, adapter);
        (xs + ys, keys)
    }
}
