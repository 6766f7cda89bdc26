//! Layout of the tokens of a forward pass: whole rows, or branches behind a shared prefix. Each layout has its own
//! attention, and its own cache of keys and values between passes.

use crate::model::attention::{self, PrefixKeys};
use tch::{Device, Kind, Tensor};

/// Keys and values of one block.
pub(super) struct KeyValue {
    /// Rotated keys.
    pub k: Tensor,
    /// Values.
    pub v: Tensor,
}

impl KeyValue {
    /// Other handles on the same tensors.
    pub fn handles(&self) -> Self {
        Self { k: self.k.shallow_clone(), v: self.v.shallow_clone() }
    }
}

/// Keys and values of a processed prefix, to be shared by branches.
pub struct KvCache {
    /// `[N, Hkv, P, D]` each, a block after the other.
    layers: Vec<KeyValue>,
    /// Tokens of each row that are no padding.
    lengths: Vec<i64>,
    /// `lengths` as a tensor on the device, `[N, 1]`.
    starts: Tensor,
    /// Additive mask `[N, 1, 1, P]`: −∞ at padding; none where no row is padded.
    bias: Option<Tensor>,
}

impl KvCache {
    /// Cache from every block's keys and values of left-padded rows of `t` tokens, the first `pad[n]` of row n padding.
    pub(super) fn new(layers: Vec<KeyValue>, pad: &[i64], t: i64, device: Device) -> Self {
        let lengths: Vec<i64> = pad.iter().map(|p| t - p).collect();
        let starts = Tensor::from_slice(&lengths).to_device(device).unsqueeze(1);
        let bias = pad.iter().any(|&p| p > 0).then(|| {
            let pads = Tensor::from_slice(pad).to_device(device).unsqueeze(1);
            let hidden_keys = Tensor::arange(t, (Kind::Int64, device)).unsqueeze(0).lt_tensor(&pads);
            Tensor::zeros([pad.len() as i64, t], (Kind::Float, device))
                .masked_fill(&hidden_keys, f64::NEG_INFINITY)
                .view([pad.len() as i64, 1, 1, t])
        });
        Self { layers, lengths, starts, bias }
    }

    /// Number of rows N.
    pub(super) fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens of the longest row, without padding.
    pub(super) fn longest(&self) -> i64 {
        self.lengths.iter().max().copied().unwrap_or(0)
    }

    /// Positions `[N, T]` of `t` tokens, `past` of them behind the prefix.
    pub(super) fn positions(&self, past: i64, t: i64) -> Tensor {
        &self.starts + Tensor::arange_start(past, past + t, (Kind::Int64, self.starts.device())).unsqueeze(0)
    }
}

/// Keys and values that G branches per row have added after the shared prefix: `[N, G, Hkv, room, D]` a layer, written in
/// place, so that a step copies only what is new.
pub struct BranchCache {
    layers: Vec<KeyValue>,
    len: i64,
    room: i64,
}

impl BranchCache {
    /// Empty, for `room` tokens a branch.
    pub fn new(room: usize) -> Self {
        Self { layers: Vec::new(), len: 0, room: room as i64 }
    }

    /// Tokens a branch has so far.
    pub(super) fn len(&self) -> i64 {
        self.len
    }

    /// Tokens a branch may have.
    pub(super) fn room(&self) -> i64 {
        self.room
    }

    /// Counts `t` tokens that every block has appended.
    pub(super) fn advance(&mut self, t: i64) {
        self.len += t;
    }

    /// Writes keys and values `[N, G, Hkv, T, D]` of block `i` behind the earlier ones; returns all of them,
    /// `[N, G, Hkv, S, D]`.
    pub(super) fn append(&mut self, i: usize, new: &KeyValue) -> KeyValue {
        let [n, g, h, t, d] = <[i64; 5]>::try_from(new.k.size()).unwrap_or_default();
        if i == self.layers.len() {
            let empty = || Tensor::empty([n, g, h, self.room, d], (new.k.kind(), new.k.device()));
            self.layers.push(KeyValue { k: empty(), v: empty() });
        }
        let written = |all: &Tensor, new: &Tensor| {
            all.narrow(3, self.len, t).copy_(new);
            all.narrow(3, 0, self.len + t)
        };
        let all = &self.layers[i];
        KeyValue { k: written(&all.k, &new.k), v: written(&all.v, &new.v) }
    }
}

/// Layout of the tokens of a pass, equal for every block.
pub(super) enum PassSite {
    /// Whole rows.
    Rows(RowSite),
    /// Branches behind a prefix.
    Branches(BranchSite),
}

/// Left-padded rows of T tokens.
pub(super) struct RowSite {
    /// Cosines of the rotary angles, `[N or 1, T, D]`.
    pub cos: Tensor,
    /// Sines, of the same shape.
    pub sin: Tensor,
    /// Mask of the keys that a query may see, `[N, 1, T, T]`; none where no row is padded.
    pub mask: Option<Tensor>,
    /// Whether a token sees only those before it and itself.
    pub causal: bool,
}

/// G branches of T tokens for each row of a prefix.
pub(super) struct BranchSite {
    /// Cosines of the rotary angles, `[N, T, D]`.
    cos: Tensor,
    /// Sines, of the same shape.
    sin: Tensor,
    /// Tokens between the prefix and these.
    past: i64,
    prefix: Vec<KeyValue>,
    bias: Option<Tensor>,
}

/// Attention that is watched: how much the last tokens of each row attend to every token.
pub(super) struct Watch<'a> {
    /// Tokens that attend.
    pub queries: i64,
    /// Padding of each row.
    pub pad: &'a [i64],
    /// Receives `[N, Hq, T]` f32 from every block.
    pub weights: &'a mut Vec<Tensor>,
}

impl RowSite {
    /// Attention of q `[N, Hq, T, D]` to k and v `[N, Hkv, T, D]` → `[N, T, Hq * D]`.
    pub fn attend(&self, window: Option<i64>, q: &Tensor, own: &KeyValue, watch: Option<Watch>) -> Tensor {
        let (n, t) = (q.size()[0], q.size()[2]);
        let near = window.map(|w| attention::near(self.mask.as_ref(), t, w, self.causal, q.device()));
        let mask = near.as_ref().map_or(self.mask.as_ref(), Option::as_ref);
        if let Some(Watch { queries, pad, weights }) = watch {
            weights.push(attention::last_weights(q, &own.k, mask, pad, queries));
        }
        attention::within(q, &own.k, &own.v, mask, self.causal).transpose(1, 2).reshape([n, t, -1])
    }
}

impl BranchSite {
    /// Branches behind `prefix` and `past` tokens; `cos` and `sin` `[N, T, D]` are of the branches' positions.
    pub fn behind(prefix: &KvCache, past: i64, (cos, sin): (Tensor, Tensor)) -> Self {
        Self {
            cos,
            sin,
            past,
            prefix: prefix.layers.iter().map(KeyValue::handles).collect(),
            bias: prefix.bias.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// Cosines and sines of the rotary angles, `[N, T, D]` each.
    pub fn angles(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// Attention of q `[N, G, T, Hq, D]` to the prefix and to k and v `[N, G, Hkv, S, D]` → `[N, G, T, Hq * D]`.
    pub fn attend(&self, window: Option<i64>, i: usize, q: &Tensor, own: &KeyValue) -> Tensor {
        let prefix = &self.prefix[i];
        let (g, t, hq, p) = (q.size()[1], q.size()[2], q.size()[3], prefix.k.size()[2]);
        let far = window.filter(|&w| self.past + p + t > w).map(|w| {
            let far = attention::far_prefix(t, p, self.past, w, g * hq / own.k.size()[2], q.device());
            self.bias.as_ref().map_or_else(|| far.shallow_clone(), |bias| bias + &far)
        });
        let shared = PrefixKeys { k: &prefix.k, v: &prefix.v, bias: far.as_ref().or(self.bias.as_ref()) };
        attention::branches(q, &shared, &own.k, &own.v, window)
    }
}
