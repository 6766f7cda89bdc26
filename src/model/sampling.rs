//! Sampling by inverse CDF with one uniform a row, drawn by our own seeded generator: libtorch's `multinomial` takes no
//! generator. Training samples at temperature 1 with nothing truncated; the rest is for use.

use crate::config::parts::Sampling;
use crate::error::Result;
use crate::model::vocab::{Head, chunk_tokens};
use crate::tensor::check_shape;
use tch::{Device, Kind, Tensor};

/// The first `steps` numbers of N rows as `[steps, N]` f64 on the device: all draws of a loop in one transfer.
pub fn by_step(rows: &[Vec<f64>], steps: usize, device: Device) -> Tensor {
    let numbers: Vec<f64> = (0..steps).flat_map(|t| rows.iter().map(move |row| row[t])).collect();
    Tensor::from_slice(&numbers).view([steps as i64, rows.len() as i64]).to_device(device)
}

/// Rows of a draw at once over a vocabulary of `v`: a draw holds several times as many copies of its logits as a loss.
pub fn rows_at_once(v: i64) -> i64 {
    (chunk_tokens(v) / 4).max(1)
}

/// One action for each of N rows.
#[derive(Debug)]
pub struct Picked {
    /// Index of the action, `[N]` int64.
    pub action: Tensor,
    /// Log-probability of the action, `[N]` f32: under the distribution sampled from, or the model's own if it is greedy.
    pub logprob: Tensor,
    /// Entropy of that distribution, nats, `[N]` f32.
    pub entropy: Tensor,
}

/// Like [`sample`], for hidden states `[N, H]` and the head that makes logits of them.
pub fn draw(hidden: &Tensor, head: Head, how: &Sampling, uniforms: &Tensor) -> Result<Picked> {
    let n = hidden.size()[0];
    check_shape("uniforms", uniforms, &[n])?;
    let (mut actions, mut logprobs, mut entropies) = (Vec::new(), Vec::new(), Vec::new());
    let size = rows_at_once(head.weight.size()[0]);
    for start in (0..n).step_by(size as usize) {
        let len = size.min(n - start);
        let logits = head.at(start).logits(&hidden.narrow(0, start, len));
        let Picked { action, logprob, entropy } = sample(&logits, how, &uniforms.narrow(0, start, len))?;
        actions.push(action);
        logprobs.push(logprob);
        entropies.push(entropy);
    }
    let all = |parts: &[Tensor]| Tensor::cat(parts, 0);
    Ok(Picked { action: all(&actions), logprob: all(&logprobs), entropy: all(&entropies) })
}

/// Picks one action a row from logits `[N, A]` with uniforms `[N]` f64.
pub fn sample(logits: &Tensor, how: &Sampling, uniforms: &Tensor) -> Result<Picked> {
    let (n, actions) = logits.size2()?;
    check_shape("uniforms", uniforms, &[n])?;
    let greedy = how.temperature == 0.0;
    let mut logp = if greedy { logits.shallow_clone() } else { logits / how.temperature };
    logp = logp.log_softmax(-1, Kind::Float);
    if !greedy && !how.is_plain() {
        logp = truncate(&logp, how).log_softmax(-1, Kind::Float);
    }
    let action = if greedy {
        logp.argmax(-1, false)
    } else {
        let cdf = logp.to_kind(Kind::Double).exp().cumsum(-1, Kind::Double);
        let total = cdf.narrow(-1, actions - 1, 1);
        let threshold = uniforms.unsqueeze(-1) * total;
        cdf.le_tensor(&threshold).sum_dim_intlist([-1i64].as_slice(), false, Kind::Int64).clamp_max(actions - 1)
    };
    let logprob = logp.gather(-1, &action.unsqueeze(-1), false).squeeze_dim(-1);
    let entropy = -(logp.exp() * logp.clamp_min(-1e4)).sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
    Ok(Picked { action, logprob, entropy })
}

fn truncate(logp: &Tensor, how: &Sampling) -> Tensor {
    let mut logp = logp.shallow_clone();
    let actions = logp.size()[1];
    if let Some(k) = how.top_k
        && k < actions
    {
        let (top, _) = logp.topk(k, -1, true, true);
        logp = logp.masked_fill(&logp.lt_tensor(&top.narrow(-1, k - 1, 1)), f64::NEG_INFINITY);
    }
    if how.min_p > 0.0 {
        let floor = logp.amax([-1i64].as_slice(), true) + how.min_p.ln();
        logp = logp.masked_fill(&logp.lt_tensor(&floor), f64::NEG_INFINITY);
    }
    if how.top_p < 1.0 {
        let (sorted, order) = logp.sort(-1, true);
        let before = sorted.softmax(-1, Kind::Float).cumsum(-1, Kind::Float) - sorted.softmax(-1, Kind::Float);
        let cut = before.ge(how.top_p);
        let dropped = cut.zeros_like().scatter(-1, &order, &cut);
        logp = logp.masked_fill(&dropped, f64::NEG_INFINITY);
    }
    logp
}
