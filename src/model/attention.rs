//! Causal attention over left-padded rows, and attention of branches that share one prefix.
//!
//! ```text
//! forward (left-padded row)          branches (G gists of one prefix)
//!        k: . . a b c                      k: prefix(P) | own gist (t)
//! q: .      1 0 0 0 0                gist 0:  1 1 1 1 1 | 1 0 0
//!    .      0 1 0 0 0                         1 1 1 1 1 | 1 1 0
//!    a      0 0 1 0 0                gist 1:  1 1 1 1 1 | 1 0 0     (its own t, never gist 0's)
//!    b      0 0 1 1 0
//!    c      0 0 1 1 1
//! ```
//! A padding query attends to itself, so that no softmax row is empty. Under a sliding window (Mistral) a query sees a key
//! only from less than so many tokens away.

use tch::{Device, Kind, Tensor};

/// Causal mask of left-padded rows, `[N, 1, T, T]`, true where a query may see a key; none when no row has padding.
pub fn padded_causal_mask(pad: &[i64], t: i64, device: Device) -> Option<Tensor> {
    if pad.iter().all(|&p| p == 0) {
        return None;
    }
    let pad = Tensor::from_slice(pad).to_device(device);
    let key_is_real = Tensor::arange(t, (Kind::Int64, device)).unsqueeze(0).ge_tensor(&pad.unsqueeze(1)); // [N, T]
    let causal = Tensor::ones([t, t], (Kind::Bool, device)).tril(0);
    let itself = Tensor::eye(t, (Kind::Int64, device)).to_kind(Kind::Bool);
    let mask = key_is_real.unsqueeze(1).logical_and(&causal).logical_or(&itself);
    Some(mask.unsqueeze(1))
}

/// Mask of left-padded rows in which every token sees every other, `[N, 1, T, T]`; none when no row has padding.
pub fn padded_mask(pad: &[i64], t: i64, device: Device) -> Option<Tensor> {
    if pad.iter().all(|&p| p == 0) {
        return None;
    }
    let pad = Tensor::from_slice(pad).to_device(device);
    let key_is_real = Tensor::arange(t, (Kind::Int64, device)).unsqueeze(0).ge_tensor(&pad.unsqueeze(1)); // [N, T]
    let itself = Tensor::eye(t, (Kind::Int64, device)).to_kind(Kind::Bool);
    Some(key_is_real.unsqueeze(1).logical_or(&itself).unsqueeze(1))
}

/// `mask` (or plain causal attention) restricted to keys less than `window` tokens away, `[N or 1, 1, T, T]`; `mask` itself
/// where no key is farther.
pub fn near(mask: Option<&Tensor>, t: i64, window: i64, causal: bool, device: Device) -> Option<Tensor> {
    if window >= t {
        return mask.map(Tensor::shallow_clone);
    }
    let ones = Tensor::ones([t, t], (Kind::Bool, device));
    let band = ones.triu(1 - window).logical_and(&ones.tril(if causal { 0 } else { window - 1 })).view([1, 1, t, t]);
    Some(mask.map_or_else(|| band.shallow_clone(), |mask| mask.logical_and(&band)))
}

/// Attention of a row to itself, where `mask` allows it, or, without one, to what comes before if it is `causal` and to all
/// otherwise: q `[N, Hq, T, D]`, k and v `[N, Hkv, T, D]` → `[N, Hq, T, D]`.
pub fn within(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
    let gqa = q.size()[1] != k.size()[1];
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal && mask.is_none(), None::<f64>, gqa)
}

/// Attention weight of each head on every key, mean over the last `queries` tokens of each row that are no padding: q
/// `[N, Hq, T, D]`, k `[N, Hkv, T, D]`, rows with `pad[n]` tokens of padding in front → `[N, Hq, T]` f32.
pub fn last_weights(q: &Tensor, k: &Tensor, mask: Option<&Tensor>, pad: &[i64], queries: i64) -> Tensor {
    let (t, d, device) = (q.size()[2], q.size()[3], q.device());
    let queries = queries.min(t);
    let k = k.repeat_interleave_self_int(q.size()[1] / k.size()[1], 1, None);
    let scores = (q.narrow(2, t - queries, queries) / (d as f64).sqrt()).matmul(&k.transpose(-1, -2));
    let seen = match mask {
        Some(mask) => mask.shallow_clone(),
        None => Tensor::ones([1, 1, t, t], (Kind::Bool, device)).tril(0),
    };
    let unseen = seen.narrow(2, t - queries, queries).logical_not();
    let weights = scores.to_kind(Kind::Float).masked_fill(&unseen, f64::NEG_INFINITY).softmax(-1, Kind::Float);
    let pad = Tensor::from_slice(pad).to_device(device).unsqueeze(1);
    let real = Tensor::arange_start(t - queries, t, (Kind::Int64, device)).unsqueeze(0).ge_tensor(&pad); // [N, queries]
    let real = real.to_kind(Kind::Float);
    let shares = &real / real.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
    (weights * shares.unsqueeze(1).unsqueeze(-1)).sum_dim_intlist([2i64].as_slice(), false, Kind::Float)
}

/// Tokens of a pass over branches.
#[derive(Clone, Copy, Debug)]
pub struct BranchShape {
    /// G: branches of a prefix.
    pub branches: i64,
    /// T: new tokens of each.
    pub tokens: i64,
    /// Tokens of each between the prefix and the new ones.
    pub past: i64,
    /// P: places of the prefix, padding on the left included.
    pub prefix: i64,
    /// Query heads that share a key head.
    pub repeats: i64,
}

/// Additive mask `[N or 1, 1, T * G * repeats, P + S * G]` of the new tokens of branches over the prefix and the S tokens that
/// each branch has with them: −∞ at padding, of which row n has `pad[n]` tokens, at other branches, at later tokens, and at
/// those `window` tokens away and farther. Keys of branches stand token by token, of each token branch by branch.
pub fn branch_mask(shape: BranchShape, pad: Option<&[i64]>, window: Option<i64>, like: (Kind, Device)) -> Tensor {
    let BranchShape { branches: g, tokens: t, past, prefix: p, repeats } = shape;
    let (kind, device) = like;
    let (options, s) = ((Kind::Int64, device), past + t);
    let time = Tensor::arange_start(past, s, options).view([t, 1, 1, 1]);
    let (branch, key) = (Tensor::arange(g, options), Tensor::arange(s, options).view([1, 1, s, 1]));
    let same = branch.view([1, g, 1, 1]).eq_tensor(&branch.view([1, 1, 1, g]));
    let mut own = key.le_tensor(&time).logical_and(&same); // [T, G, S, G]
    let place = Tensor::arange(p, options).view([1, 1, p]);
    let mut shared = match pad {
        Some(pad) => place.ge_tensor(&Tensor::from_slice(pad).to_device(device).view([-1, 1, 1])), // [N, 1, P]
        None => place.ge(0),
    };
    if let Some(window) = window.filter(|&window| p + s > window) {
        own = own.logical_and(&(&time - &key).lt(window));
        shared = shared.logical_and(&(time.view([1, t, 1]) + p - &place).lt(window));
    }
    let n = shared.size()[0];
    let shared = shared.unsqueeze(2).expand([n, t, g, p], false);
    let own = own.view([1, t, g, s * g]).expand([n, t, g, s * g], false);
    let seen = Tensor::cat(&[shared, own], -1).unsqueeze(3).expand([n, t, g, repeats, p + s * g], false);
    let seen = seen.reshape([n, 1, t * g * repeats, p + s * g]);
    Tensor::zeros(seen.size().as_slice(), (kind, device)).masked_fill(&seen.logical_not(), f64::NEG_INFINITY)
}

/// Attention of G branches that share a prefix: q `[N, G, T, Hq, D]`, k and v `[N, Hkv, P + S * G, D]` with the mask of
/// [`branch_mask`] → `[N, G, T, Hq * D]`. The heads that share keys are queries of one head, so that no key is copied.
pub fn branches(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Tensor {
    let [n, g, t, hq, d] = <[i64; 5]>::try_from(q.size()).unwrap_or_default();
    let hkv = k.size()[1];
    let q = q.reshape([n, g, t, hkv, hq / hkv, d]).permute([0, 3, 2, 1, 4, 5]).reshape([n, hkv, -1, d]);
    let mixed = Tensor::scaled_dot_product_attention(&q, k, v, Some(mask), 0.0, false, None::<f64>, false);
    mixed.reshape([n, hkv, t, g, hq / hkv, d]).permute([0, 3, 2, 1, 4, 5]).reshape([n, g, t, hq * d])
}
