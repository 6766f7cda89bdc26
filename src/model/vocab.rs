//! Everything over the vocabulary, in chunks of tokens: log-probabilities, entropies, KL divergences, cross-entropy. No
//! `[N, V]` tensor of all tokens ever exists, however large the vocabulary: a chunk is bounded in bytes. For training, each
//! chunk's logits are computed again and their gradient is written down rather than found by libtorch, which would keep more
//! of `[N, V]`; a surrogate scalar carries it into the graph: Σ (hidden · ∂L/∂hidden), whose gradient is exactly ∂L.
//! (libtorch's `backward` takes no seed gradient.)

use crate::error::{Error, Result};
use crate::model::copy_head::CopyHead;
use crate::tensor::{narrowed_gradient, to_vec, widened};
use tch::{Device, Kind, Tensor};

/// Output head: the weights that turn hidden states into logits over actions.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// Output rows of the base vocabulary `[V, H]`.
    pub weight: &'a Tensor,
    /// Output row of end-of-gist `[1, H]`: the action `V`.
    pub end: Option<&'a Tensor>,
    /// Additive mask over actions `[V]` or `[V + 1]`: [`BARRED`] where an action is not allowed, otherwise 0.
    pub bias: Option<&'a Tensor>,
    /// Copy head, whose payments are added to the logits.
    pub copy: Option<CopyHead<'a>>,
}

impl<'a> Head<'a> {
    /// The base vocabulary alone.
    pub fn base(weight: &'a Tensor) -> Self {
        Self { weight, end: None, bias: None, copy: None }
    }

    /// Logits in f32: `[N, V]`, or `[N, V + 1]` with an end row.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        let mut logits = widened(&hidden.linear(self.weight, None::<Tensor>));
        if let Some(end) = self.end {
            let last = widened(&hidden.linear(end, None::<Tensor>));
            logits = Tensor::cat(&[logits, last], -1);
        }
        // In place: each would be a pass over all of them.
        if let Some(bias) = self.bias {
            logits = logits.g_add_(bias);
        }
        match self.copy {
            Some(copy) => copy.add_to(logits, &copy.payments(hidden)),
            None => logits,
        }
    }

    /// Log-probabilities in f32 of the actions, as [`Head::logits`] has them.
    fn log_probs(&self, hidden: &Tensor) -> Tensor {
        self.logits(hidden).log_softmax(-1, Kind::Float)
    }

    /// This head for the tokens from number `first` on.
    pub(super) fn at(self, first: i64) -> Self {
        Self { copy: self.copy.map(|copy| CopyHead { first, ..copy }), ..self }
    }
}

/// Logit of an action that is not allowed. Finite, so that p · log p is 0 where p is 0.
pub const BARRED: f32 = -1e30;

/// The additive mask over `actions` that bars those in `forbidden`.
pub fn barred(actions: i64, forbidden: &[u32], device: Device) -> Tensor {
    let mut bias = vec![0f32; actions as usize];
    for &id in forbidden.iter().filter(|&&id| i64::from(id) < actions) {
        bias[id as usize] = BARRED;
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

/// Σ over the actions of every row, `[N]`, of the products of two `[N, A]`.
fn row_products(a: &Tensor, b: &Tensor) -> Tensor {
    a.unsqueeze(1).matmul(&b.unsqueeze(-1)).view([-1])
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
        let logp = head.at(start).log_probs(&hidden.narrow(0, start, len));
        logprobs.push(gather(&logp, &targets.narrow(0, start, len)));
        let p = logp.exp();
        let negative_entropy = row_products(&p, &logp);
        if let Some(other) = reference {
            let logq = other.head.at(start).log_probs(&other.hidden.narrow(0, start, len));
            kls.push(&negative_entropy - row_products(&p, &logq));
        }
        entropies.push(-negative_entropy);
    }
    Ok(TokenStats {
        logprob: Tensor::cat(&logprobs, 0),
        entropy: Tensor::cat(&entropies, 0),
        kl_reference: reference.is_some().then(|| Tensor::cat(&kls, 0)),
    })
}

/// ∂L/∂logits `[N, A]` of a chunk of tokens with log-probabilities `logp`, and `logq` of the reference, for the gradients of a
/// loss with respect to their figures:
///
/// ```text
/// log π(t)     1[a = t] − p(a)
/// entropy H    −p(a) · (log p(a) + H)
/// KL           p(a) · (log p(a) − log q(a) − KL)
/// ```
fn slope(logp: &Tensor, logq: Option<&Tensor>, targets: &Tensor, grads: &TokenGrads) -> Tensor {
    let column = |xs: &Tensor| xs.unsqueeze(-1);
    let (p, own) = (logp.exp(), column(&grads.logprob));
    let mut slope = match (&grads.entropy, &grads.kl_reference) {
        (None, None) => p * -&own,
        (entropy, kl) => {
            let mut factor = -&own;
            if let Some(weight) = entropy {
                let negative_entropy = row_products(&p, logp);
                factor = factor - (logp - column(&negative_entropy)) * column(weight);
            }
            if let (Some(weight), Some(logq)) = (kl, logq) {
                let difference = logp - logq;
                let kl = row_products(&p, &difference);
                factor = factor + (difference - column(&kl)) * column(weight);
            }
            p * factor
        }
    };
    slope.scatter_add_(1, &column(targets), &own)
}

/// A scalar whose backward gives ∂L/∂hidden, and what reaches the head's own rows, for a loss with the given per-token
/// gradients.
pub fn token_surrogate(
    hidden: &Tensor,
    targets: &Tensor,
    head: Head,
    grads: &TokenGrads,
    reference: Option<Other>,
) -> Result<Tensor> {
    Ok(surrogate(hidden, targets, head, grads, reference)?.0)
}

/// [`token_surrogate`], and log π(target) of every token.
fn surrogate(
    hidden: &Tensor,
    targets: &Tensor,
    head: Head,
    grads: &TokenGrads,
    reference: Option<Other>,
) -> Result<(Tensor, Tensor)> {
    check_rows("targets", targets, hidden.size()[0])?;
    check_rows("gradients", &grads.logprob, hidden.size()[0])?;
    let (fixed, v, kind) = (hidden.detach(), head.weight.size()[0], hidden.kind());
    let (mut logprobs, mut of_hidden) = (Vec::new(), Vec::new());
    let mut of_weight: Option<Tensor> = None;
    let mut total = Tensor::zeros([], (Kind::Float, hidden.device()));
    for (start, len) in chunks(hidden.size()[0], &head) {
        let own = |xs: &Tensor| xs.narrow(0, start, len);
        let grads = TokenGrads {
            logprob: own(&grads.logprob),
            entropy: grads.entropy.as_ref().map(own),
            kl_reference: grads.kl_reference.as_ref().filter(|_| reference.is_some()).map(own),
        };
        let (head, fixed) = (head.at(start), own(&fixed));
        let slope = tch::no_grad(|| {
            let other = |other: Other| other.head.at(start).log_probs(&own(other.hidden));
            let logq = reference.filter(|_| grads.kl_reference.is_some()).map(other);
            let logp = head.log_probs(&fixed);
            logprobs.push(gather(&logp, &own(targets)));
            slope(&logp, logq.as_ref(), &own(targets), &grads)
        });
        let words = tch::no_grad(|| narrowed_gradient(&slope.narrow(1, 0, v), kind));
        of_hidden.push(tch::no_grad(|| words.matmul(head.weight)));
        if head.weight.requires_grad() {
            let own = tch::no_grad(|| words.tr().matmul(&fixed));
            of_weight = Some(of_weight.map_or_else(|| own.shallow_clone(), |sum| sum + &own));
        }
        // What the end row and the copy head add to logits is little: libtorch carries their gradients on.
        let live = own(hidden);
        if let Some(end) = head.end {
            total = total + (widened(&live.linear(end, None::<Tensor>)) * slope.narrow(1, v, 1)).sum(Kind::Float);
        }
        if let Some(copy) = head.copy {
            total = total + (copy.payments(&live) * copy.picked(&slope)).sum(Kind::Float);
        }
    }
    if hidden.requires_grad() {
        total = total + (hidden * Tensor::cat(&of_hidden, 0)).sum(Kind::Float);
    }
    if let Some(gradient) = of_weight {
        total = total + (head.weight * gradient).sum(Kind::Float);
    }
    Ok((total, Tensor::cat(&logprobs, 0)))
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
        let p = teacher.head.log_probs(&teacher.hidden.narrow(0, start, len)); // [T', V]
        let own = hidden.narrow(1, start, len).transpose(0, 1).reshape([-1, h]);
        let q = reader.head.log_probs(&own).view([len, g, -1]); // [T', G, V]
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
/// its value, and a surrogate whose backward reaches the reader's hidden states. ∂KL/∂logits = softmax(logits) − p.
pub fn kl_surrogate(weight: &Tensor, teacher: &Tensor, reader: &Tensor, weights: &Tensor) -> Result<(f64, Tensor)> {
    let n = reader.size()[0];
    check_rows("teacher", teacher, n)?;
    check_rows("weights", weights, n)?;
    let (fixed, head) = (reader.detach(), Head::base(weight));
    let guard = tch::no_grad_guard();
    let (mut values, mut grads) = (Vec::new(), Vec::new());
    for (start, len) in chunks(n, &head) {
        let log_probs = |hidden: &Tensor| head.log_probs(&hidden.narrow(0, start, len));
        let (log_p, mut q) = (log_probs(teacher), log_probs(&fixed));
        let (p, weights) = (log_p.exp(), weights.narrow(0, start, len).unsqueeze(-1));
        let cross = |log: &Tensor| p.unsqueeze(1).matmul(&log.unsqueeze(-1)).squeeze_dim(-1); // [N', 1]
        values.push(((cross(&log_p) - cross(&q)) * &weights).sum(Kind::Float));
        let slope = q.exp_().g_sub_(&p).multiply_(&weights);
        grads.push(narrowed_gradient(&slope, reader.kind()).matmul(weight));
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
    check_rows("weights", weights, hidden.size()[0])?;
    let grads = TokenGrads { logprob: -weights, entropy: None, kl_reference: None };
    let (surrogate, logprob) = surrogate(hidden, targets, head, &grads, None)?;
    Ok((-(logprob * weights).sum(Kind::Double).double_value(&[]), surrogate))
}

/// The sum of scalars, read all at once.
fn total(values: &[Tensor]) -> Result<f64> {
    Ok(to_vec(&Tensor::stack(values, 0))?.iter().sum())
}
