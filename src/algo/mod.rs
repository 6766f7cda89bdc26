//! Policy gradient, pure: advantages, losses and dual ascent over numbers that a rollout recorded. Never runs a model.

mod advantage;
mod credit;
mod dual;
mod loss;

pub use advantage::{AdvantageUnit, Advantages, MovingBaseline, advantages, self_imitation};
pub use credit::{BLOCK, in_units, per_action};
pub use dual::Lambda;
pub use loss::{LossOutput, MISMATCH_KL, TokenBatch, loss};
