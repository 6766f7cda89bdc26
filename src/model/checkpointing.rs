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
use crate::model::passes::Beside;
use crate::model::tape::{NotedPass, leaf_of};
use tch::{Kind, Tensor};

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
        let mut passes = tape.take_passes();
        let last = passes.last().map(|pass| pass.number);
        while let Some(pass) = passes.pop() {
            self.replay(pass, adapter)?;
        }
        let leaves = tape.take_leaves();
        pull(&leaves.iter().map(|own| (&own.view, own.leaf.grad())).collect::<Vec<_>>())?;
        // Whatever is drawn next is what would be drawn without checkpointing.
        last.iter().for_each(|&number| adapter.seed_dropout(number, usize::MAX));
        Ok(())
    }

    fn replay(&self, pass: NotedPass, adapter: &ActiveAdapter) -> Result<()> {
        let NotedPass { ids, site, number, mut inputs, kept, out } = pass;
        let mut grad = out.grad();
        if let Some(input) = inputs.pop() {
            let xs = leaf_of(&input);
            pull(&[(&self.norm(&xs, &self.norm), grad)])?;
            grad = xs.grad();
        }
        while let Some(input) = inputs.pop() {
            let (i, xs) = (inputs.len(), leaf_of(&input));
            adapter.seed_dropout(number, i);
            let (ys, own) = self.block(&site, i, &xs, Some(adapter), Beside::default());
            let read = kept.get(i).map(|leaves| [(&own.k, leaves.k.grad()), (&own.v, leaves.v.grad())]);
            pull(&std::iter::once((&ys, grad)).chain(read.into_iter().flatten()).collect::<Vec<_>>())?;
            grad = xs.grad();
        }
        let xs = self.embed(&ids, Some(adapter))?;
        if xs.requires_grad() { pull(&[(&xs, grad)]) } else { Ok(()) }
    }
}
