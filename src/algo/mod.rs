//! Policy gradient, pure: advantages, losses and dual ascent over numbers that a rollout recorded. Never runs a model.

mod advantage;
mod credit;
mod dual;
mod loss;

pub use advantage::{Advantages, MovingBaseline, advantages, self_imitation};
pub use credit::{BLOCK, per_action};
pub use dual::Lambda;
pub use loss::{LossOutput, TokenBatch, loss};
