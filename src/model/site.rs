//! Layout of the tokens of a forward pass: whole rows, or branches behind a shared prefix. Each layout has its own
//! attention, and its own cache of keys and values between passes.

use crate::model::attention::{self, BranchShape};
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
    /// Padding of each row; none where no row has any.
    pad: Option<Vec<i64>>,
}

impl KvCache {
    /// Cache from every block's keys and values of left-padded rows of `t` tokens, the first `pad[n]` of row n padding.
    pub(super) fn new(layers: Vec<KeyValue>, pad: &[i64], t: i64, device: Device) -> Self {
        let lengths: Vec<i64> = pad.iter().map(|p| t - p).collect();
        let starts = Tensor::from_slice(&lengths).to_device(device).unsqueeze(1);
        let pad = pad.iter().any(|&p| p > 0).then(|| pad.to_vec());
        Self { layers, lengths, starts, pad }
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

/// Keys and values of branches behind their shared prefix: `[N, Hkv, P + room * G, D]` a layer, token by token and of each
/// token branch by branch, written in place, so that a step copies only what is new.
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

    /// Writes keys and values `[N, Hkv, T * G, D]` of block `i` behind the earlier ones, G branches; returns all of them with
    /// those of the prefix, `[N, Hkv, P + S * G, D]`.
    pub(super) fn append(&mut self, i: usize, prefix: &KeyValue, new: &KeyValue, g: i64) -> KeyValue {
        let p = prefix.k.size()[2];
        if i == self.layers.len() {
            let roomy = |prefix: &Tensor| prefix.constant_pad_nd([0, 0, 0, self.room * g]);
            self.layers.push(KeyValue { k: roomy(&prefix.k), v: roomy(&prefix.v) });
        }
        let written = |all: &Tensor, new: &Tensor| {
            let (start, count) = (p + self.len * g, new.size()[2]);
            all.narrow(2, start, count).copy_(new);
            all.narrow(2, 0, start + count)
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
    /// Cosines of the rotary angles, `[N or 1, 1, T, D]`.
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
    /// Cosines of the rotary angles, `[N, 1, T, 1, D]`.
    cos: Tensor,
    /// Sines, of the same shape.
    sin: Tensor,
    prefix: Vec<KeyValue>,
    /// Mask of each block, one tensor where blocks have one window.
    masks: Vec<Tensor>,
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
    /// Branches behind `prefix`, `past` tokens of each before them; `cos` and `sin` `[N, T, D]` are of the branches'
    /// positions, `windows` of each block the tokens that a token sees.
    pub fn behind(
        prefix: &KvCache,
        (branches, past): (i64, i64),
        (cos, sin): (&Tensor, &Tensor),
        repeats: i64,
        windows: impl Iterator<Item = Option<i64>>,
    ) -> Self {
        let shaped = |angles: &Tensor| angles.unsqueeze(1).unsqueeze(3);
        let p = prefix.layers.first().map_or(0, |layer| layer.k.size()[2]);
        let shape = BranchShape { branches, tokens: cos.size()[1], past, prefix: p, repeats };
        let mut masks: Vec<Tensor> = Vec::new();
        let mut made: Vec<(Option<i64>, usize)> = Vec::new();
        for window in windows {
            let known = made.iter().find(|(own, _)| *own == window).map(|(_, at)| masks[*at].shallow_clone());
            made.push((window, masks.len()));
            masks.push(known.unwrap_or_else(|| {
                attention::branch_mask(shape, prefix.pad.as_deref(), window, (cos.kind(), cos.device()))
            }));
        }
        let prefix = prefix.layers.iter().map(KeyValue::handles).collect();
        Self { cos: shaped(cos), sin: shaped(sin), prefix, masks }
    }

    /// Cosines and sines of the rotary angles, `[N, 1, T, 1, D]` each.
    pub fn angles(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// Attention in block `i` of q `[N, G, T, Hq, D]` to the prefix, to what branches hold in `grown`, and to new keys and
    /// values `[N, Hkv, T * G, D]` → `[N, G, T, Hq * D]`.
    pub fn attend(&self, i: usize, q: &Tensor, own: &KeyValue, grown: Option<&mut BranchCache>) -> Tensor {
        let prefix = &self.prefix[i];
        let all = match grown {
            Some(cache) => cache.append(i, prefix, own, q.size()[1]),
            None => {
                let joined = |prefix: &Tensor, own: &Tensor| Tensor::cat(&[prefix, own], 2);
                KeyValue { k: joined(&prefix.k, &own.k), v: joined(&prefix.v, &own.v) }
            }
        };
        attention::branches(q, &all.k, &all.v, &self.masks[i])
    }
}
