//! Gates that say whether a device computes rightly, run on what ships: checkpoints against the recorded answers of
//! transformers and peft ([`checkpoints`]), and what training leans on: controls of the distortion, log-probabilities and
//! gradients ([`roles`]). Each is one figure and the most it may be.

pub mod checkpoints;
mod gate;
pub mod roles;

use crate::error::Result;
pub use gate::{Gate, GatePlace, far, logits};

/// All gates, for this place.
pub fn all(place: GatePlace) -> Result<Vec<Gate>> {
    let mut gates = checkpoints::gates(place)?;
    gates.extend(roles::gates(place)?);
    Ok(gates)
}
