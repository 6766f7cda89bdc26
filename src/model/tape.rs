//! The tape of activation checkpointing ([`crate::model::checkpointing`]): the forward passes noted for backward, and the
//! dropout that a block repeats when it is computed again.

use crate::model::site::{KeyValue, PassSite};
use crate::rng::{self, Stream};
use std::cell::{Cell, RefCell};
use tch::{Device, Kind, Tensor};

/// Dropout of one activation of an adapter, seeded block by block.
pub struct Dropout {
    /// Probability that an activation is dropped.
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

    /// The number of a forward pass that begins.
    pub(super) fn begin_pass(&self) -> u64 {
        self.passes.replace(self.passes.get() + 1)
    }

    /// Seeds libtorch's generator for block `block` of a pass, or for what follows its last (`usize::MAX`).
    pub(super) fn seed(&self, pass: u64, block: usize) {
        rng::seed_torch(self.seed, Stream::Dropout, pass, block as u64);
    }
}

/// The forward passes of one update of an adapter, as backward needs them.
#[derive(Default)]
pub struct Tape {
    passes: RefCell<Vec<NotedPass>>,
    leaves: RefCell<Vec<Leaf>>,
}

/// One forward pass.
pub(super) struct NotedPass {
    /// Token ids, `[N, T]` or `[N, G, T]`.
    pub ids: Tensor,
    pub site: PassSite,
    /// Number of the pass, which seeds dropout.
    pub number: u64,
    /// Input of every block, and of the last norm.
    pub inputs: Vec<Tensor>,
    /// Keys and values of every block that branches read.
    pub kept: Vec<KeyValue>,
    /// Hidden states after the last norm.
    pub out: Tensor,
}

/// A view of the parameters, and the leaf that stands for it.
pub(super) struct Leaf {
    pub view: Tensor,
    pub leaf: Tensor,
}

impl Tape {
    /// Notes a pass, its output and what it keeps replaced by leaves; returns handles on those.
    pub(super) fn note(&self, pass: NotedPass) -> (Tensor, Vec<KeyValue>) {
        let out = leaf_of(&pass.out);
        let kept: Vec<KeyValue> =
            pass.kept.iter().map(|own| KeyValue { k: leaf_of(&own.k), v: leaf_of(&own.v) }).collect();
        let given = (out.shallow_clone(), kept.iter().map(KeyValue::handles).collect());
        self.passes.borrow_mut().push(NotedPass { kept, out, ..pass });
        given
    }

    /// A leaf that stands for a view of the parameters.
    pub(super) fn leaf(&self, view: Tensor) -> Tensor {
        let leaf = leaf_of(&view);
        self.leaves.borrow_mut().push(Leaf { view, leaf: leaf.shallow_clone() });
        leaf
    }

    /// The passes noted so far, which it forgets.
    pub(super) fn take_passes(&self) -> Vec<NotedPass> {
        self.passes.take()
    }

    /// The leaves of parameters made so far, which it forgets.
    pub(super) fn take_leaves(&self) -> Vec<Leaf> {
        self.leaves.take()
    }
}

/// The values of `xs` as a leaf that gathers a gradient.
pub(super) fn leaf_of(xs: &Tensor) -> Tensor {
    xs.detach().set_requires_grad(true)
}
