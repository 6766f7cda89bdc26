//! Head over an encoder that reads a question and a text in one row: a logit for each token as the first of the answer, and one
//! as its last (Devlin et al. 2019, arXiv 1810.04805, §4.2). The first token of the row stands for "not in this text" (§4.3).

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Standard deviation of fresh weights.
const SPREAD: f64 = 0.02;

/// Names and shapes of the head's weights over hidden states of width `h`.
pub fn parameters(h: i64) -> Vec<(String, Vec<i64>)> {
    vec![("weight".into(), vec![2, h]), ("bias".into(), vec![2])]
}

/// Fresh weights, drawn from libtorch's generator (seed it first).
pub fn initial(h: i64) -> Vec<(String, Tensor)> {
    let draw = |(name, shape): (String, Vec<i64>)| {
        let mut zeros = Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu));
        let value = if name == "weight" { zeros.normal_(0.0, SPREAD) } else { zeros };
        (name, value)
    };
    parameters(h).into_iter().map(draw).collect()
}

/// The head over views of its weights.
pub struct AnswerHead {
    weight: Tensor,
    bias: Tensor,
}

impl AnswerHead {
    /// Head with these tensors as weights, which may require gradients.
    pub fn from_named(mut named: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut take = |name: &str| {
            named.remove(name).ok_or_else(|| Error::shape("weights of the head", format!("`{name}`"), "none"))
        };
        Ok(Self { weight: take("weight")?, bias: take("bias")? })
    }

    /// Logits `[N, T, 2]`, first and last token of the answer, of hidden states `[N, T, H]` f32.
    pub fn logits(&self, hidden: &Tensor) -> Tensor {
        hidden.linear(&self.weight, Some(&self.bias))
    }
}
