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

/// Additive mask `[1, 1, repeats * T, P]` of T branch tokens, `past` of them behind the prefix, over a prefix whose last
/// tokens stand at the end of its P places: −∞ at `window` tokens away and farther.
pub fn far_prefix(t: i64, p: i64, past: i64, window: i64, repeats: i64, device: Device) -> Tensor {
    let options = (Kind::Int64, device);
    let away = Tensor::arange(t, options).unsqueeze(1) + past + p - Tensor::arange(p, options).unsqueeze(0);
    let bias = Tensor::zeros([t, p], (Kind::Float, device)).masked_fill(&away.ge(window), f64::NEG_INFINITY);
    bias.unsqueeze(0).expand([repeats, t, p], false).reshape([1, 1, repeats * t, p])
}

/// Attention of a row to itself, where `mask` allows it, or, without one, to what comes before if it is `causal` and to all
/// otherwise: q `[N, Hq, T, D]`, k and v `[N, Hkv, T, D]` → `[N, Hq, T, D]`.
pub fn within(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
    if q.kind() == Kind::BFloat16 && q.device() == Device::Cpu && q.size()[2] <= LONGEST_EXPLICIT {
        return explicit(q, k, v, mask, causal);
    }
    let gqa = q.size()[1] != k.size()[1];
    Tensor::scaled_dot_product_attention(q, k, v, mask, 0.0, causal && mask.is_none(), None::<f64>, gqa)
}

/// Longest row whose attention weights are written out on a processor with bfloat16: there two matrix products are faster
/// than libtorch's fused kernel, forward and backward (docs/results.md), and the weights are small.
const LONGEST_EXPLICIT: i64 = 1024;

/// [`within`] with its weights written out. The heads that share a key are rows of one product.
fn explicit(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool) -> Tensor {
    let [n, hq, t, d] = <[i64; 4]>::try_from(q.size()).unwrap_or_default();
    let (hkv, rep, kind) = (k.size()[1], hq / k.size()[1], q.kind());
    let q = (q * (1.0 / (d as f64).sqrt())).reshape([n, hkv, rep * t, d]);
    let scores = q.matmul(&k.transpose(-1, -2)).view([n, hkv, rep, t, t]);
    let hidden = match mask {
        Some(mask) => Some(mask.logical_not().unsqueeze(1)),
        None if causal => Some(Tensor::ones([t, t], (Kind::Bool, q.device())).triu(1)),
        None => None,
    };
    let scores = match &hidden {
        Some(hidden) => scores.masked_fill(hidden, f64::NEG_INFINITY),
        None => scores,
    };
    scores.softmax(-1, kind).view([n, hkv, rep * t, t]).matmul(v).view([n, hq, t, d])
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

/// Keys and values of one layer for the shared prefix: `[N, Hkv, P, D]` each.
pub struct PrefixKeys<'a> {
    /// Rotated keys.
    pub k: &'a Tensor,
    /// Values.
    pub v: &'a Tensor,
    /// Additive mask over the prefix `[N, 1, 1 or rep*G*T, P]` when rows are padded or the window ends within it.
    pub bias: Option<&'a Tensor>,
}

/// Attention of G branches that share a prefix: q `[N, G, T, Hq, D]`; own keys and values `[N, G, Hkv, S, D]`, of which
/// the last T belong to the queries, and of which those `window` tokens away and farther are not seen →
/// `[N, G, T, Hq * D]`.
pub fn branches(q: &Tensor, prefix: &PrefixKeys, own_k: &Tensor, own_v: &Tensor, window: Option<i64>) -> Tensor {
    let [n, g, t, hq, d] = <[i64; 5]>::try_from(q.size()).unwrap_or_default();
    let (hkv, s) = (own_k.size()[2], own_k.size()[3]);
    let (rep, p) = (hq / hkv, prefix.k.size()[2]);
    let scale = 1.0 / (d as f64).sqrt();
    let q = q.view([n, g, t, hkv, rep, d]) * scale;
    let shared_q = q.permute([0, 3, 4, 1, 2, 5]).reshape([n, hkv, rep * g * t, d]);
    let mut shared = shared_q.matmul(&prefix.k.transpose(-1, -2)); // [N, Hkv, rep*G*T, P]
    if let Some(bias) = prefix.bias {
        shared = shared + bias;
    }
    let own_q = q.permute([0, 1, 3, 4, 2, 5]).reshape([n, g, hkv, rep * t, d]);
    let mut own = own_q.matmul(&own_k.transpose(-1, -2)).view([n, g, hkv, rep, t, s]);
    if t > 1 {
        let future = Tensor::ones([t, s], (Kind::Bool, q.device())).triu(s - t + 1);
        own = own.masked_fill(&future, f64::NEG_INFINITY);
    }
    if let Some(window) = window.filter(|&window| window < s) {
        let far = Tensor::ones([t, s], (Kind::Bool, q.device())).tril(s - t - window);
        own = own.masked_fill(&far, f64::NEG_INFINITY);
    }
    let own = own.permute([0, 2, 3, 1, 4, 5]).reshape([n, hkv, rep * g * t, s]);
    let weights = Tensor::cat(&[shared, own], -1).softmax(-1, Kind::Float).to_kind(q.kind());
    let parts = weights.split_with_sizes([p, s], -1);
    let from_prefix = parts[0].matmul(prefix.v).view([n, hkv, rep, g, t, d]).permute([0, 3, 4, 1, 2, 5]);
    let own_w = parts[1].view([n, hkv, rep, g, t, s]).permute([0, 3, 1, 2, 4, 5]).reshape([n, g, hkv, rep * t, s]);
    let from_own = own_w.matmul(own_v).view([n, g, hkv, rep, t, d]).permute([0, 1, 4, 2, 3, 5]);
    (from_prefix + from_own).reshape([n, g, t, hq * d])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Attention and the gradients of its three inputs, for a loss that weighs every output differently.
    fn with_gradients(attend: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor) -> Vec<Tensor> {
        let drawn = |heads: i64, first: i64| {
            let numbers = Tensor::arange_start(first, first + 2 * heads * 28, (Kind::Float, Device::Cpu));
            (numbers * 1.7).sin().view([2, heads, 7, 4])
        };
        let input = |heads, first| drawn(heads, first).set_requires_grad(true);
        let (q, k, v) = (input(6, 0), input(2, 400), input(2, 600));
        let out = attend(&q, &k, &v);
        (&out * drawn(6, 900)).sum(Kind::Float).backward();
        vec![out.detach(), q.grad(), k.grad(), v.grad()]
    }

    #[test]
    fn weights_that_are_written_out_are_those_of_the_fused_kernel() {
        let padded = padded_causal_mask(&[0, 3], 7, Device::Cpu).unwrap();
        for (mask, causal) in [(None, true), (None, false), (Some(&padded), true)] {
            let fused = with_gradients(|q, k, v| within(q, k, v, mask, causal));
            let written = with_gradients(|q, k, v| explicit(q, k, v, mask, causal));
            for (fused, written) in fused.iter().zip(&written) {
                let far = (fused - written).abs().max().double_value(&[]);
                assert!(far < 1e-5, "{far} with {} mask, causal {causal}", if mask.is_some() { "a" } else { "no" });
            }
        }
    }
}
