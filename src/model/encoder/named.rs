//! Weights taken by name out of a checkpoint, and the affine maps made of them.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

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
        Ok(Affine { weight: self.tensor(&format!("{name}.weight"))?, bias })
    }
}

/// Weight and bias of a projection or a norm.
pub(in crate::model) struct Affine {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Affine {
    /// `xs` `[.., in]` → `[.., out]`.
    pub fn linear(&self, xs: &Tensor) -> Tensor {
        xs.linear(&self.weight, self.bias.as_ref())
    }

    /// Layer norm of `xs` `[.., H]` with these as scale and shift.
    pub fn norm(&self, xs: &Tensor, eps: f64) -> Tensor {
        xs.layer_norm([xs.size()[xs.dim() - 1]].as_slice(), Some(&self.weight), self.bias.as_ref(), eps, false)
    }
}
