//! Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): an update keeps the input of every block and computes
//! the rest again in backward, one block at a time, for about one more forward pass. libtorch's own lives in Python, so a
//! tape is kept by hand:
//!
//! ```text
//! forward   no gradient; noted: ids, the input of each block, keys and values that branches read, the output
//! loss      on the output, a leaf                                                          ──► gradient of the output
//! backward  last pass first, last block first: block again from its input, a leaf, and
//!           (ys · gradient of ys).sum().backward(), keys and values that branches read too ──► gradient of the input
//! adapter   its weights are leaves as well; what gathers there goes to the parameters at the end, once
//! ```
//! Dropout is seeded block by block, so that a block computed again drops the same.

use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::model::lora::ActiveAdapter;
use crate::model::passes::{Beside, Keys, Site};
use crate::rng::{self, Stream};
use std::cell::{Cell, RefCell};
use tch::{Device, Kind, Tensor};

/// Dropout of one activation of an adapter.
pub struct Dropout {
    /// Probability.
    pub p: f64,
    seed: u64,
    passes: Cell<u64>,
}

impl Dropout {
    /// Seeded by libtorch's generator.
    pub(super) fn drawn(p: f64) -> Self {
        let seed = Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]) as u64;
        Self { p, seed, passes: Cell::new(0) }
    }
}

impl ActiveAdapter {
    /// The number of a forward pass that begins.
    pub(super) fn begin_pass(&self) -> u64 {
        self.dropout.as_ref().map_or(0, |dropout| dropout.passes.replace(dropout.passes.get() + 1))
    }

    /// Seeds what block `block` of that pass drops, or what comes behind its last.
    pub(super) fn seed_dropout(&self, pass: u64, block: usize) {
        if let Some(dropout) = &self.dropout {
            rng::seed_torch(dropout.seed, Stream::Dropout, pass, block as u64);
        }
    }
}

/// What the forward passes of one update of an adapter leave for backward.
#[derive(Default)]
pub struct Tape {
    passes: RefCell<Vec<Noted>>,
    /// Views of the parameters, and the leaves that stand for them.
    leaves: RefCell<Vec<(Tensor, Tensor)>>,
}

/// One pass.
struct Noted {
    ids: Tensor,
    site: Site,
    number: u64,
    /// Of every block, and of the last norm.
    inputs: Vec<Tensor>,
    /// What branches read of each block, leaves.
    kept: Vec<Keys>,
    /// A leaf.
    out: Tensor,
}

impl Tape {
    /// Notes a pass; gives leaves in place of its output and of what it keeps.
    pub(super) fn note(
        &self,
        ids: &Tensor,
        site: Site,
        number: u64,
        inputs: Vec<Tensor>,
        (hidden, kept): (&Tensor, Vec<Keys>),
    ) -> (Tensor, Vec<Keys>) {
        let out = leaf_of(hidden);
        let kept: Vec<Keys> = kept.iter().map(|(k, v)| (leaf_of(k), leaf_of(v))).collect();
        let given = kept.iter().map(|(k, v)| (k.shallow_clone(), v.shallow_clone())).collect();
        let ids = ids.shallow_clone();
        self.passes.borrow_mut().push(Noted { ids, site, number, inputs, kept, out: out.shallow_clone() });
        (out, given)
    }

    /// A leaf that stands for a view of the parameters.
    pub(super) fn leaf(&self, view: Tensor) -> Tensor {
        let leaf = leaf_of(&view);
        self.leaves.borrow_mut().push((view, leaf.shallow_clone()));
        leaf
    }
}

/// The same values as a leaf that gathers a gradient.
fn leaf_of(xs: &Tensor) -> Tensor {
    xs.detach().set_requires_grad(true)
}

/// Backward from these tensors, each with the gradient beside it; those without one count for nothing.
fn pull(pairs: &[(&Tensor, Tensor)]) -> Result<()> {
    let one = |(ys, grad): &(&Tensor, Tensor)| grad.defined().then(|| (*ys * grad).sum(Kind::Float));
    match pairs.iter().filter_map(one).reduce(|a, b| a + b) {
        Some(sum) => Ok(sum.f_backward()?),
        None => Ok(()),
    }
}

impl Decoder {
    /// Sends the gradient of `loss` into the parameters of `adapter`, with which every pass below it was made.
    pub fn backward(&self, loss: &Tensor, adapter: &ActiveAdapter) -> Result<()> {
        loss.f_backward()?;
        let Some(tape) = &adapter.tape else { return Ok(()) };
        let mut passes = tape.passes.take();
        let last = passes.last().map(|pass| pass.number);
        while let Some(pass) = passes.pop() {
            self.replay(pass, adapter)?;
        }
        let leaves = tape.leaves.take();
        pull(&leaves.iter().map(|(view, leaf)| (view, leaf.grad())).collect::<Vec<_>>())?;
        // Whatever is drawn next is what would be drawn without checkpointing.
        last.iter().for_each(|&number| adapter.seed_dropout(number, usize::MAX));
        Ok(())
    }

    fn replay(&self, pass: Noted, adapter: &ActiveAdapter) -> Result<()> {
        let Noted { ids, site, number, mut inputs, kept, out } = pass;
        let mut grad = out.grad();
        if let Some(input) = inputs.pop() {
            let xs = leaf_of(&input);
            pull(&[(&self.norm(&xs, &self.norm), grad)])?;
            grad = xs.grad();
        }
        while let Some(input) = inputs.pop() {
            let (i, xs) = (inputs.len(), leaf_of(&input));
            adapter.seed_dropout(number, i);
            let (ys, (k, v)) = self.block(&site, i, &xs, Some(adapter), Beside::default());
            let read = kept.get(i).map(|(k_leaf, v_leaf)| [(&k, k_leaf.grad()), (&v, v_leaf.grad())]);
            pull(&std::iter::once((&ys, grad)).chain(read.into_iter().flatten()).collect::<Vec<_>>())?;
            grad = xs.grad();
        }
        let xs = self.embed(&ids, Some(adapter))?;
        if xs.requires_grad() { pull(&[(&xs, grad)]) } else { Ok(()) }
    }
}
