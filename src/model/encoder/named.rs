//! Weights taken by name out of a checkpoint, and the affine maps made of them. A map may have low-rank weights beside its own
//! ([`LORA`]).

use crate::error::{Error, Result};
use crate::model::kernels::Weight;
use std::collections::BTreeMap;
use tch::Tensor;

/// Ends of the names of low-rank weights: the map down `[r, in]` and the map up `[out, r]`, times α / r.
pub(in crate::model) const LORA: [&str; 2] = ["lora_A.weight", "lora_B.weight"];

/// Weights to be taken by name.
pub(in crate::model) struct NamedWeights(pub BTreeMap<String, Tensor>);

impl NamedWeights {
    /// The tensor of this name.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor> {
        self.0.remove(name).ok_or_else(|| Error::shape("encoder weights", format!("`{name}`"), "none"))
    }

    /// Weight and, where there is to be one, bias.
    pub fn affine(&mut self, name: &str, bias: bool) -> Result<Affine> {
        let bias = bias.then(|| self.tensor(&format!("{name}.bias"))).transpose()?;
        let [down, up] = LORA.map(|end| self.0.remove(&format!("{name}.{end}")));
        Ok(Affine { weight: self.tensor(&format!("{name}.weight"))?.into(), bias, low_rank: down.zip(up) })
    }
}

/// Weight and bias of a projection or a norm.
pub(in crate::model) struct Affine {
    weight: Weight,
    bias: Option<Tensor>,
    low_rank: Option<(Tensor, Tensor)>,
}

impl Affine {
    /// `xs` `[.., in]` → `[.., out]`.
    pub fn linear(&self, xs: &Tensor) -> Tensor {
        let own = self.weight.apply(xs, self.bias.as_ref());
        match &self.low_rank {
            Some((down, up)) => own + xs.linear(down, None::<Tensor>).linear(up, None::<Tensor>),
            None => own,
        }
    }

    /// Layer norm of `xs` `[.., H]` with these as scale and shift.
    pub fn norm(&self, xs: &Tensor, eps: f64) -> Tensor {
        xs.layer_norm([xs.size()[xs.dim() - 1]].as_slice(), Some(&*self.weight), self.bias.as_ref(), eps, false)
    }
}
