//! Everything over the vocabulary, in chunks of tokens: log-probabilities, entropies, KL divergences, cross-entropy. No
//! `[N, V]` tensor of all tokens ever exists, however large the vocabulary: a chunk is bounded in bytes; for training, each
//! chunk's logits are computed again and its backward run at once into detached leaves, and a surrogate scalar carries the
//! collected gradients into the graph: Σ (hidden · ∂L/∂hidden), whose gradient is exactly ∂L. (libtorch's `backward` takes
//! no seed gradient.)

use crate::error::{Error, Result};
use crate::model::copy_head::CopyHead;
use crate::model::kernels::Weight;
use crate::tensor::{narrowed_gradient, to_vec, widened};
use tch::{Device, Kind, Tensor};

/// Output head: the weights that turn hidden states into logits over actions.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Output rows of the base vocabulary `[V, H]`.
    pub weight: &'a Weight,
    /// Output row of end-of-gist `[1, H]`: the action `V`.
    pub end: Option<&'a Tensor>,
    /// Additive mask over actions `[V]` or `[V + 1]`: −∞ where an action is not allowed.
    pub bias: Option<&'a Tensor>,
    /// Copy head, whose payments are added to the logits.
    pub copy: Option<CopyHead<'a>>,
}

impl<'a> Head<'a> {
    /// The base vocabulary alone.
    pub fn base(weight: &'a Weight) -> Self {
        Self { weight, end: None, bias: None, copy: None }
    }

    /// Logits in f32: `[N, V]`, or `[N, V + 1]` with an end row.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        let mut logits = widened(&self.weight.apply(hidden, None));
        if let Some(end) = self.end {
            let last = widened(&hidden.linear(end, None::<Tensor>));
            logits = Tensor::cat(&[logits, last], -1);
        }
        if let Some(bias) = self.bias {
            logits = logits + bias;
        }
        if let Some(copy) = self.copy {
            logits = copy.pay(hidden, &logits);
        }
        logits
    }

    /// This head for the tokens from number `first` on.
    pub(super) fn at(self, first: i64) -> Self {
        Self { copy: self.copy.map(|copy| CopyHead { first, ..copy }), ..self }
    }

    /// This head with other tensors: weight, end row, rows of the copy head.
    fn with(self, weight: &'a Weight, end: Option<&'a Tensor>, rows: Option<&'a Tensor>) -> Self {
        let copy = self.copy.zip(rows).map(|(copy, rows)| CopyHead { rows, ..copy });
        Self { weight, end, copy, ..self }
    }
}

/// The additive mask over `actions` that bars those in `forbidden`.
pub fn barred(actions: i64, forbidden: &[u32], device: Device) -> Tensor {
    let mut bias = vec![0f32; actions as usize];
    for &id in forbidden.iter().filter(|&&id| i64::from(id) < actions) {
        bias[id as usize] = f32::NEG_INFINITY;
    }
    Tensor::from_slice(&bias).to_device(device)
}

/// Most tokens of a chunk.
pub const CHUNK: i64 = 1024;
/// Most bytes of the f32 logits of a chunk, of which a loss needs about ten copies.
const CHUNK_BYTES: i64 = 64 << 20;

/// Tokens of a chunk over a vocabulary of `v`.
pub fn chunk_tokens(v: i64) -> i64 {
    (CHUNK_BYTES / (4 * v)).clamp(1, CHUNK)
}

/// Per-token figures of a policy, each `[N]` f32 without gradient.
pub struct TokenStats {
    /// log π(target).
    pub logprob: Tensor,
    /// Entropy of π in nats.
    pub entropy: Tensor,
    /// KL(π ‖ reference) in nats, when a reference was given.
    pub kl_reference: Option<Tensor>,
}

/// Gradients of a loss with respect to the per-token figures, each `[N]`.
pub struct TokenGrads {
    /// ∂L / ∂ log π(target).
    pub logprob: Tensor,
    /// ∂L / ∂ entropy.
    pub entropy: Option<Tensor>,
    /// ∂L / ∂ KL(π ‖ reference).
    pub kl_reference: Option<Tensor>,
}

/// Hidden states of another model on the same tokens, with its head.
#[derive(Clone, Copy)]
pub struct Other<'a> {
    /// `[N, H]`.
    pub hidden: &'a Tensor,
    /// Output head of that model.
    pub head: Head<'a>,
}

/// Start and length of each chunk of `n` tokens; one empty chunk for none.
fn chunks(n: i64, head: &Head) -> impl Iterator<Item = (i64, i64)> {
    let size = chunk_tokens(head.weight.size()[0]);
    (0..n.max(1)).step_by(size as usize).map(move |start| (start, size.min(n - start)))
}

fn check_rows(what: &str, xs: &Tensor, n: i64) -> Result<()> {
    if xs.size().first() != Some(&n) {
        return Err(Error::shape(what, format!("{n} rows"), format!("{:?}", xs.size())));
    }
    Ok(())
}

fn entropy(logp: &Tensor) -> Tensor {
    // p·log p is 0 where p is 0, also for a forbidden action, whose log-probability is −∞.
    -(logp.exp() * logp.clamp_min(-1e4)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
}

fn kl_rows(p: &Tensor, q: &Tensor) -> Tensor {
    (p.exp() * (p.clamp_min(-1e4) - q.clamp_min(-1e4))).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)
}

fn gather(logp: &Tensor, targets: &Tensor) -> Tensor {
    logp.gather(-1, &targets.unsqueeze(-1), false).squeeze_dim(-1)
}

/// log π(target), entropy and KL to a reference for hidden `[N, H]` and targets `[N]`; no gradient.
pub fn token_stats(hidden: &Tensor, targets: &Tensor, head: Head, reference: Option<Other>) -> Result<TokenStats> {
    let _guard = tch::no_grad_guard();
    let n = hidden.size()[0];
    check_rows("targets", targets, n)?;
    let (mut logprobs, mut entropies, mut kls) = (Vec::new(), Vec::new(), Vec::new());
    for (start, len) in chunks(n, &head) {
        let logp = head.at(start).logits(&hidden.narrow(0, start, len)).log_softmax(-1, Kind::Float);
        logprobs.push(gather(&logp, &targets.narrow(0, start, len)));
        entropies.push(entropy(&logp));
        if let Some(other) = reference {
            let logq = other.head.at(start).logits(&other.hidden.narrow(0, start, len)).log_softmax(-1, Kind::Float);
            kls.push(kl_rows(&logp, &logq));
        }
    }
    Ok(TokenStats {
        logprob: Tensor::cat(&logprobs, 0),
        entropy: Tensor::cat(&entropies, 0),
        kl_reference: reference.is_some().then(|| Tensor::cat(&kls, 0)),
    })
}

/// A scalar whose backward gives ∂L/∂hidden (and into the head's own rows) for a loss with the given per-token gradients.
pub fn token_surrogate(
    hidden: &Tensor,
    targets: &Tensor,
    head: Head,
    grads: &TokenGrads,
    reference: Option<Other>,
) -> Result<Tensor> {
    check_rows("gradients", &grads.logprob, hidden.size()[0])?;
    surrogate(hidden, head, |h, head, start, len| {
        let logp = head.logits(h).log_softmax(-1, Kind::Float);
        let mut loss = (gather(&logp, &targets.narrow(0, start, len)) * grads.logprob.narrow(0, start, len)).sum(None);
        if let Some(weights) = &grads.entropy {
            loss = loss + (entropy(&logp) * weights.narrow(0, start, len)).sum(None);
        }
        if let (Some(weights), Some(other)) = (&grads.kl_reference, reference) {
            let hidden = other.hidden.narrow(0, start, len);
            let logq = tch::no_grad(|| other.head.at(start).logits(&hidden).log_softmax(-1, Kind::Float));
            loss = loss + (kl_rows(&logp, &logq) * weights.narrow(0, start, len)).sum(None);
        }
        loss
    })
}

/// Comparison of readers with the teacher on the same tokens, each `[G * T]`, no gradient.
pub struct Distortion {
    /// KL(teacher ‖ reader) over the base vocabulary, nats.
    pub kl: Tensor,
    /// log p_reader(target).
    pub logprob: Tensor,
    /// 1 where both put the same token first.
    pub agree: Tensor,
}

/// KL(teacher ‖ reader), log p_reader(target) and agreement of G readings `[G * T, H]`, reading after reading, with one
/// teacher `[T, H]`, whose distributions are computed once; targets `[T]`. Heads without forbidden actions.
pub fn distortion(teacher: Other, reader: Other, targets: &Tensor) -> Result<Distortion> {
    let _guard = tch::no_grad_guard();
    let (rows, h) = reader.hidden.size2()?;
    let t = teacher.hidden.size()[0];
    check_rows("targets", targets, t)?;
    if t == 0 || rows % t != 0 {
        return Err(Error::shape("reader", format!("a multiple of the teacher's {t} rows"), rows));
    }
    let g = rows / t;
    let hidden = reader.hidden.view([g, t, h]);
    let (mut kl, mut logprob, mut agree) = (Vec::new(), Vec::new(), Vec::new());
    let size = (chunk_tokens(teacher.head.weight.size()[0]) / g).max(1);
    for start in (0..t).step_by(size as usize) {
        let len = size.min(t - start);
        let p = teacher.head.logits(&teacher.hidden.narrow(0, start, len)).log_softmax(-1, Kind::Float); // [T', V]
        let own = hidden.narrow(1, start, len).transpose(0, 1).reshape([-1, h]);
        let q = reader.head.logits(&own).log_softmax(-1, Kind::Float).view([len, g, -1]); // [T', G, V]
        let expected = p.exp();
        let certainty = (&expected * &p).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float); // [T']
        kl.push(certainty.unsqueeze(-1) - q.matmul(&expected.unsqueeze(-1)).squeeze_dim(-1));
        let targets = targets.narrow(0, start, len).view([len, 1, 1]).expand([len, g, 1], false);
        logprob.push(q.gather(-1, &targets, false).squeeze_dim(-1));
        agree.push(q.argmax(-1, false).eq_tensor(&p.argmax(-1, true)).to_kind(Kind::Float));
    }
    let all = |parts: &[Tensor]| Tensor::cat(parts, 0).transpose(0, 1).reshape([-1]);
    Ok(Distortion { kl: all(&kl), logprob: all(&logprob), agree: all(&agree) })
}

/// Σ weights · KL(teacher ‖ reader) over the base vocabulary, hidden states `[N, H]` of both under one frozen head `[V, H]`:
/// its value, and a surrogate whose backward reaches the reader's hidden states. Their gradient, ∂KL/∂logits =
/// softmax(logits) − p, is written down rather than found by libtorch, which would keep more of `[N, V]`.
pub fn kl_surrogate(weight: &Weight, teacher: &Tensor, reader: &Tensor, weights: &Tensor) -> Result<(f64, Tensor)> {
    let n = reader.size()[0];
    check_rows("teacher", teacher, n)?;
    check_rows("weights", weights, n)?;
    let (fixed, head) = (reader.detach(), Head::base(weight));
    let guard = tch::no_grad_guard();
    let (mut values, mut grads) = (Vec::new(), Vec::new());
    for (start, len) in chunks(n, &head) {
        let log_probs = |hidden: &Tensor| head.logits(&hidden.narrow(0, start, len)).log_softmax(-1, Kind::Float);
        let (log_p, mut q) = (log_probs(teacher), log_probs(&fixed));
        let (p, weights) = (log_p.exp(), weights.narrow(0, start, len).unsqueeze(-1));
        let cross = |log: &Tensor| p.unsqueeze(1).matmul(&log.unsqueeze(-1)).squeeze_dim(-1); // [N', 1]
        values.push(((cross(&log_p) - cross(&q)) * &weights).sum(Kind::Float));
        let slope = q.exp_().g_sub_(&p).multiply_(&weights);
        grads.push(weight.apply_transposed(&narrowed_gradient(&slope, reader.kind())));
    }
    drop(guard);
    let surrogate = (reader * Tensor::cat(&grads, 0)).sum(Kind::Float);
    Ok((total(&values)?, surrogate))
}

/// Σ weights · −log p(target): its value, and a surrogate whose backward reaches hidden states and head.
pub fn cross_entropy_surrogate(
    hidden: &Tensor,
    targets: &Tensor,
    head: Head,
    weights: &Tensor,
) -> Result<(f64, Tensor)> {
    check_rows("targets", targets, hidden.size()[0])?;
    let mut values = Vec::new();
    let surrogate = surrogate(hidden, head, |h, head, start, len| {
        let logp = head.logits(h).log_softmax(-1, Kind::Float);
        let loss = -(gather(&logp, &targets.narrow(0, start, len)) * weights.narrow(0, start, len)).sum(None);
        values.push(loss.detach());
        loss
    })?;
    Ok((total(&values)?, surrogate))
}

/// The sum of scalars, read all at once.
fn total(values: &[Tensor]) -> Result<f64> {
    Ok(to_vec(&Tensor::stack(values, 0))?.iter().sum())
}

fn leaf_of(xs: &Tensor) -> Tensor {
    let leaf = xs.detach();
    if xs.requires_grad() { leaf.set_requires_grad(true) } else { leaf }
}

fn surrogate(
    hidden: &Tensor,
    head: Head,
    mut chunk_loss: impl FnMut(&Tensor, Head, i64, i64) -> Tensor,
) -> Result<Tensor> {
    let trained = head.weight.requires_grad().then(|| Weight::from(leaf_of(head.weight)));
    let weight = trained.as_ref().unwrap_or(head.weight);
    let end = head.end.map(leaf_of);
    let rows = head.copy.map(|copy| leaf_of(copy.rows));
    let mut grads = Vec::new();
    for (start, len) in chunks(hidden.size()[0], &head) {
        let leaf = leaf_of(&hidden.narrow(0, start, len));
        let loss = chunk_loss(&leaf, head.at(start).with(weight, end.as_ref(), rows.as_ref()), start, len);
        loss.f_backward()?;
        grads.push(leaf.grad());
    }
    let mut total = Tensor::zeros([], (Kind::Float, hidden.device()));
    if hidden.requires_grad() {
        total = total + (hidden * Tensor::cat(&grads, 0)).sum(Kind::Float);
    }
    if let Some(weight) = &trained {
        total = total + (&**head.weight * weight.grad()).sum(Kind::Float);
    }
    for (row, leaf) in [(head.end, &end), (head.copy.map(|copy| copy.rows), &rows)] {
        if let (Some(row), Some(leaf)) = (row, leaf)
            && row.requires_grad()
        {
            total = total + (row * leaf.grad()).sum(Kind::Float);
        }
    }
    Ok(total)
}
