//! Projections of a block, joined: those that read the same input are one matrix, so that the input is read once and a
//! processor makes one product of several small ones.

use crate::config::parts::Projection;
use std::ops::Index;

/// Projections of a block that read the same input, their rows one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    /// Queries, keys, values.
    Qkv,
    /// Output of attention.
    O,
    /// Both inputs of the SwiGLU.
    GateUp,
    /// Output of the SwiGLU.
    Down,
}

impl Joint {
    /// All matrices of a block, in forward order.
    pub const ALL: [Joint; 4] = [Joint::Qkv, Joint::O, Joint::GateUp, Joint::Down];

    /// Its projections, in the order of their rows.
    pub fn parts(self) -> &'static [Projection] {
        match self {
            Joint::Qkv => &[Projection::Q, Projection::K, Projection::V],
            Joint::O => &[Projection::O],
            Joint::GateUp => &[Projection::Gate, Projection::Up],
            Joint::Down => &[Projection::Down],
        }
    }
}

/// A value for every [`Joint`], which is also its index.
pub struct Joints<T>([T; Joint::ALL.len()]);

impl<T> Joints<T> {
    /// Makes a value for each matrix, in forward order, up to the first error.
    pub fn try_from_fn<E>(mut make: impl FnMut(Joint) -> Result<T, E>) -> Result<Self, E> {
        let [qkv, o, gate_up, down] = Joint::ALL;
        Ok(Self([make(qkv)?, make(o)?, make(gate_up)?, make(down)?]))
    }
}

impl<T> Index<Joint> for Joints<T> {
    type Output = T;

    fn index(&self, joint: Joint) -> &T {
        &self.0[joint as usize]
    }
}
