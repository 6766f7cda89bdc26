//! Trainable parameters as one flat leaf with named views, so that an optimiser step is a few large operations and its
//! state is a few tensors to save.

use crate::error::{Error, Result};
use crate::tensor::narrowed;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Named tensors cut from one leaf of shape `[total]`.
pub struct FlatParams {
    leaf: Tensor,
    specs: Vec<(String, Vec<i64>)>,
}

impl FlatParams {
    /// Packs copies of `named` tensors into one f32 leaf that requires gradients.
    pub fn pack(named: &[(String, Tensor)], device: Device) -> Result<Self> {
        if named.is_empty() {
            return Err(Error::shape("parameters", "at least one tensor", 0));
        }
        let flat: Vec<Tensor> =
            named.iter().map(|(_, t)| t.detach().to_device(device).to_kind(Kind::Float).reshape([-1])).collect();
        let leaf = Tensor::cat(&flat, 0).set_requires_grad(true);
        Ok(Self { leaf, specs: named.iter().map(|(n, t)| (n.clone(), t.size())).collect() })
    }

    /// The flat leaf `[total]`.
    pub fn leaf(&self) -> &Tensor {
        &self.leaf
    }

    /// Names and shapes, in order of storage.
    pub fn specs(&self) -> &[(String, Vec<i64>)] {
        &self.specs
    }

    /// Number of parameters.
    pub fn numel(&self) -> i64 {
        self.leaf.size()[0]
    }

    fn sizes(&self) -> Vec<i64> {
        self.specs.iter().map(|(_, shape)| shape.iter().product()).collect()
    }

    /// Differentiable views by name, cut afresh: one split, so that backward is one concatenation.
    pub fn views(&self) -> BTreeMap<String, Tensor> {
        self.views_in(Kind::Float)
    }

    /// Differentiable views by name, as [`FlatParams::views`], but of the leaf cast to `kind`.
    pub fn views_in(&self, kind: Kind) -> BTreeMap<String, Tensor> {
        let parts = narrowed(&self.leaf, kind).split_with_sizes(self.sizes(), 0);
        self.specs.iter().zip(parts).map(|((name, shape), part)| (name.clone(), part.view(shape.as_slice()))).collect()
    }

    /// Detached copies by name, for saving.
    pub fn named(&self) -> Vec<(String, Tensor)> {
        let parts = self.leaf.detach().split_with_sizes(self.sizes(), 0);
        self.specs.iter().zip(parts).map(|((n, shape), part)| (n.clone(), part.view(shape.as_slice()).copy())).collect()
    }

    /// Overwrites every value from `named`; names and shapes must match exactly.
    pub fn load(&mut self, named: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut flat = Vec::with_capacity(self.specs.len());
        for (name, shape) in &self.specs {
            let tensor = named.get(name).ok_or_else(|| Error::shape(name, format!("a tensor {shape:?}"), "none"))?;
            crate::tensor::check_shape(name, tensor, shape)?;
            flat.push(tensor.to_device(self.leaf.device()).to_kind(Kind::Float).reshape([-1]));
        }
        if let Some(extra) = named.keys().find(|name| self.specs.iter().all(|(known, _)| known != *name)) {
            return Err(Error::shape(extra, "no such tensor", "one"));
        }
        tch::no_grad(|| self.leaf.copy_(&Tensor::cat(&flat, 0)));
        Ok(())
    }

    /// For each parameter: name, offset into the leaf, shape.
    pub fn layout(&self) -> Vec<(String, i64, Vec<i64>)> {
        let mut offset = 0;
        let mut all = Vec::with_capacity(self.specs.len());
        for (name, shape) in &self.specs {
            all.push((name.clone(), offset, shape.clone()));
            offset += shape.iter().product::<i64>();
        }
        all
    }

    /// Moves every value a `share` of the way towards `other`'s.
    pub fn average_towards(&mut self, other: &FlatParams, share: f64) {
        let _guard = tch::no_grad_guard();
        let _ = self.leaf.lerp_(other.leaf(), share);
    }

    /// An independent copy of the same values (its own leaf).
    pub fn duplicate(&self) -> Self {
        Self { leaf: self.leaf.detach().copy().set_requires_grad(true), specs: self.specs.clone() }
    }
}
