//! Head over an encoder that says how well a unit answers a question: a weighted sum of terms that need no training, plus a
//! learned term of the unit's mean hidden state. The last layer of the learned term starts at zero, so that training starts
//! from the sum.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const WIDTH: i64 = 128;
/// Weights of the terms before training: cosine, BM25, cosine of the passage.
pub const TERMS: [f32; 3] = [1.0, 0.5, 0.5];
/// Name of these weights.
pub(super) const WEIGHTS: &str = "terms";

/// Names and shapes of the head's weights over hidden states of width `h`.
pub fn parameters(h: i64) -> Vec<(String, Vec<i64>)> {
    let named = |name: &str, shape: Vec<i64>| (name.to_string(), shape);
    vec![
        named("0.weight", vec![WIDTH, h]),
        named("0.bias", vec![WIDTH]),
        named("2.weight", vec![1, WIDTH]),
        named("2.bias", vec![1]),
        named(WEIGHTS, vec![TERMS.len() as i64]),
    ]
}

/// Fresh weights: the first layer drawn from libtorch's generator (seed it first), the last one zero, the terms at [`TERMS`].
pub fn initial(h: i64) -> Vec<(String, Tensor)> {
    let bound = 1.0 / (h as f64).sqrt();
    let draw = |(name, shape): (String, Vec<i64>)| {
        let mut zeros = Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu));
        let value = match name.as_str() {
            WEIGHTS => Tensor::from_slice(&TERMS),
            first if first.starts_with("0.") => zeros.uniform_(-bound, bound),
            _ => zeros,
        };
        (name, value)
    };
    parameters(h).into_iter().map(draw).collect()
}

/// The head over views of its weights.
pub struct EvidenceHead {
    first: [Tensor; 2],
    last: [Tensor; 2],
    terms: Tensor,
}

impl EvidenceHead {
    /// Head with these tensors as weights, which may require gradients.
    pub fn from_named(mut named: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut take = |name: &str| {
            named.remove(name).ok_or_else(|| Error::shape("weights of the head", format!("`{name}`"), "none"))
        };
        let first = [take("0.weight")?, take("0.bias")?];
        let last = [take("2.weight")?, take("2.bias")?];
        Ok(Self { first, last, terms: take(WEIGHTS)? })
    }

    /// Scores `[U]` of units with these mean hidden states `[U, H]` and terms `[U, 3]`.
    pub fn scores(&self, hidden: &Tensor, terms: &Tensor) -> Tensor {
        let ([first, first_bias], [last, last_bias]) = (&self.first, &self.last);
        let learned = hidden.linear(first, Some(first_bias)).gelu("none").linear(last, Some(last_bias));
        learned.squeeze_dim(-1) + terms.matmul(&self.terms)
    }
}
